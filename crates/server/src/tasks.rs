//! The owner of every task of the node, and the only caller of `tokio::spawn`.
//!
//! Holds: each task has a name and a span; a task lives until its future ends, or until `abort_all` drops it;
//! when `close_and_wait` returned, none is left.
//! Does not: restart anything, or know the work of a task.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// A handle to the node's tasks; clones are handles to the same ones.
#[derive(Clone, Default)]
pub struct Tasks {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    tracker: TaskTracker,
    stop: CancellationToken,
    running: Mutex<Running>,
}

/// The tasks that still run. Touched when a task starts and when it ends, never in between.
#[derive(Default)]
struct Running {
    next: u64,
    // In the order of their start, so that a replay drops them in the same one.
    handles: BTreeMap<u64, AbortHandle>,
    /// Set by `abort_all`: a task that is spawned later is dropped at once.
    aborted: bool,
}

impl Tasks {
    /// No task yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts `future` under `name`. It runs until it ends by itself or `abort_all` drops it.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let span = tracing::debug_span!(target: "longlived::task", "task", name);
        // Held over the spawn: a task that ends at once waits here before it removes itself.
        let mut running = self.inner.running.lock();
        if running.aborted {
            return;
        }
        let id = running.next;
        running.next += 1;
        let entry = Entry {
            inner: Arc::clone(&self.inner),
            id,
        };
        let task = Task { future, entry };
        let handle = self.spawn_tracked(task.instrument(span));
        running.handles.insert(id, handle);
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that spawns"
    )]
    fn spawn_tracked<F>(&self, future: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(self.inner.tracker.track_future(future)).abort_handle()
    }

    /// Cancelled by `stop`; tasks that loop watch it and end.
    pub fn cancel_token(&self) -> CancellationToken {
        self.inner.stop.clone()
    }

    /// Asks every task that watches `cancel_token` to end.
    pub fn stop(&self) {
        self.inner.stop.cancel();
    }

    /// How many tasks run.
    pub(crate) fn len(&self) -> usize {
        self.inner.tracker.len()
    }

    /// Returns when the last task has ended. Asks none of them to; call `stop` or `abort_all` for that.
    pub async fn close_and_wait(&self) {
        self.inner.tracker.close();
        self.inner.tracker.wait().await;
    }

    /// Drops every task at its next await, and each task that is spawned from now on before it starts.
    pub fn abort_all(&self) {
        self.inner.stop.cancel();
        let handles: Vec<_> = {
            let mut running = self.inner.running.lock();
            running.aborted = true;
            running.handles.values().cloned().collect()
        };
        for handle in handles {
            handle.abort();
        }
    }

    /// A guard for the owner of the server: when it is dropped, so is every task.
    pub fn abort_on_drop(&self) -> AbortOnDrop {
        AbortOnDrop(self.clone())
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks")
            .field("running", &self.len())
            .finish_non_exhaustive()
    }
}

/// Aborts every task when dropped, so that nothing outlives a server whose future was dropped.
#[derive(Debug)]
pub struct AbortOnDrop(Tasks);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort_all();
    }
}

pin_project! {
    /// A future and its entry. Not an async block: that would hold the future twice, and connections are many.
    struct Task<F> {
        #[pin]
        future: F,
        // Dropped last: when the entry is gone, so is all that the future held.
        entry: Entry,
    }
}

impl<F: Future<Output = ()>> Future for Task<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().future.poll(cx)
    }
}

/// Removes a task from the running ones, however it ended.
struct Entry {
    inner: Arc<Inner>,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.inner.running.lock().handles.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_task_that_ended_is_no_longer_counted() {
        let tasks = Tasks::new();
        tasks.spawn("short", async {});
        tasks.close_and_wait().await;
        assert_eq!(tasks.len(), 0);
        assert!(tasks.inner.running.lock().handles.is_empty());
    }

    #[tokio::test]
    async fn abort_all_drops_tasks_that_would_never_end() {
        let tasks = Tasks::new();
        let held = Arc::new(());
        for _ in 0..10 {
            let held = Arc::clone(&held);
            tasks.spawn("endless", async move {
                pending::<()>().await;
                drop(held);
            });
        }
        tokio::task::yield_now().await;
        tasks.abort_all();
        tasks.close_and_wait().await;
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(tasks.inner.running.lock().handles.is_empty());
    }

    #[tokio::test]
    async fn a_task_spawned_after_abort_all_never_starts() {
        let tasks = Tasks::new();
        tasks.abort_all();
        tasks.spawn("late", pending());
        tasks.close_and_wait().await;
    }

    #[tokio::test]
    async fn dropping_the_guard_ends_the_tasks() {
        let tasks = Tasks::new();
        let guard = tasks.abort_on_drop();
        tasks.spawn("endless", pending());
        drop(guard);
        tasks.close_and_wait().await;
    }

    #[tokio::test]
    async fn a_task_that_panics_is_removed() {
        let tasks = Tasks::new();
        tasks.spawn("panics", async { panic!("on purpose") });
        tasks.close_and_wait().await;
        assert!(tasks.inner.running.lock().handles.is_empty());
    }
}
