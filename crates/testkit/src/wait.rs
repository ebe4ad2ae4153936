//! Waiting in tests: for a condition, with one patience for all.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// The longest any step of a test may take, on a machine that is ten times slower and busy with other things. Tests
/// wait for conditions, so a condition that holds at once costs no time.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// Between two questions.
const ASKED_EVERY: Duration = Duration::from_millis(5);

/// The outcome of a future; the test fails when it does not come.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let Ok(output) = timeout(PATIENCE, future).await else {
        panic!("not within {PATIENCE:?}: {what}");
    };
    output
}

/// Waits until a condition gives a value; it is asked again and again.
pub async fn until<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    until_after(Duration::ZERO, what, condition).await
}

/// The same for a condition that cannot hold before some time has passed.
pub async fn until_after<T>(
    time: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let patience = time + PATIENCE;
    let found = timeout(patience, async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            sleep(ASKED_EVERY).await;
        }
    });
    let Ok(found) = found.await else {
        panic!("not within {patience:?}: {what}");
    };
    found
}

/// Waits until a condition holds.
pub async fn until_so(what: &str, condition: impl Fn() -> bool) {
    until(what, async || condition().then_some(())).await;
}

/// Turns of all tasks after time has passed: those that a timer wakes wake others.
#[cfg(feature = "clock")]
const TURNS: usize = 16;

/// Lets time pass at once: its waiters have their turn, as if the machine had been idle for that time. For tests on one
/// thread whose clock is not paused.
#[cfg(feature = "clock")]
pub async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
    tokio::time::resume();
}

/// A task that ends with the runtime of its test.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    tokio::spawn(future)
}
