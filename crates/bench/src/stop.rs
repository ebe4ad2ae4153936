//! Ends a measurement early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::bail;

use super::clock::monotonic_ns;

/// How often a wait looks whether it should end.
const POLL: Duration = Duration::from_millis(50);

/// Set when the measurement should end early; looked at by every wait.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.0.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Sleeps until then, in nanoseconds of the monotonic clock.
    pub(super) fn wait_until(&self, then_ns: u64) -> anyhow::Result<()> {
        loop {
            self.check()?;
            let left = then_ns.saturating_sub(monotonic_ns());
            if left == 0 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_nanos(left).min(POLL));
        }
    }

    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
