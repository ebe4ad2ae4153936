//! One line of the log for many events of a kind.

use std::time::Duration;

use tokio::time::Instant;

/// Lets one event in a while through and counts the others.
#[derive(Debug)]
pub(crate) struct Seldom {
    interval: Duration,
    last: Option<Instant>,
    unlogged: u64,
}

impl Seldom {
    /// Nothing happened yet.
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            last: None,
            unlogged: 0,
        }
    }

    /// Some if this one is to be logged, with how many were not since the last.
    pub(crate) fn now(&mut self) -> Option<u64> {
        if self.last.is_some_and(|last| last.elapsed() < self.interval) {
            self.unlogged += 1;
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn trouble_is_logged_once_in_an_interval_with_the_count_of_the_rest() {
        let mut seldom = Seldom::new(Duration::from_secs(1));
        assert_eq!(seldom.now(), Some(0));
        assert_eq!(seldom.now(), None);
        assert_eq!(seldom.now(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(seldom.now(), Some(2));
    }
}
