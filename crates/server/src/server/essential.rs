//! Tasks without which a node cannot serve: the node hears of the first that ends.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Watches over the tasks without which a node would look alive and serve nobody.
#[derive(Default)]
pub(super) struct Essential {
    ended: CancellationToken,
    name: Arc<OnceLock<&'static str>>,
}

impl Essential {
    /// The task, and the news of its end, a panic's too.
    pub(super) fn task<F: Future<Output = ()>>(
        &self,
        name: &'static str,
        task: F,
    ) -> impl Future<Output = ()> + use<F> {
        let ended = self.ended.clone().drop_guard();
        let names = self.name.clone();
        async move {
            let _ended = ended;
            let _name = Named(names, name);
            task.await;
        }
    }

    /// The name of the first that ended.
    pub(super) async fn ended(&self) -> &'static str {
        self.ended.cancelled().await;
        self.name.get().copied().unwrap_or("unknown")
    }
}

/// Leaves its name when it is dropped.
struct Named(Arc<OnceLock<&'static str>>, &'static str);

impl Drop for Named {
    fn drop(&mut self) {
        self.0.set(self.1).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Tasks;

    #[tokio::test]
    async fn the_first_essential_task_that_ends_is_named_also_when_it_panics() {
        let essential = Essential::default();
        let tasks = Tasks::new();
        tasks.spawn("goes on", essential.task("goes on", std::future::pending()));
        let stall_watch = async { panic!("on purpose") };
        tasks.spawn("maintenance", essential.task("maintenance", stall_watch));
        assert_eq!(essential.ended().await, "maintenance");
        tasks.abort_all();
    }
}
