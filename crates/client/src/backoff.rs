//! The wait before a reconnect, from the time that the client has been away.
//!
//! Holds, of an outage that lasts T from the loss, with the numbers of [`BackoffOptions::default`]:
//!
//! - The next try begins at a random moment between now and the later of two: 1 s from now, or 1.75 times as long
//!   after the loss as the try that failed had begun; never later than 120 s from now. A try that fails begins
//!   within T, so the last one begins within 1.75 T, or 1 s after it has failed. The rest of the time until 2 T, or
//!   until T + 2 s, is for the tries themselves. Short draws only make more tries, they put nothing off.
//! - The moments are spread over the whole range, the first included (full jitter), so that ten thousand clients of one
//!   killed server do not return in step.
//! - The tries of one client rise with the logarithm of T, and linearly only above the ceiling.
//! - A stream that is cut soon after it was opened changes nothing: the client counts as away since the loss
//!   before. That ends only with a stream that has lived as long as the longest wait that could have been drawn before
//!   it, or 10 s. An end that the server has announced is not such a loss.
//!
//! Does not: draw a wait that the server names. That wait is used as it is, and [`Backoff::named`] is told of it.

use std::time::Duration;

use rand::{Rng, RngExt as _};
use tokio::time::Instant;

/// A stream that lived so long was a good one, however long the waits before it were.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// The numbers that the waits of a client are drawn by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BackoffOptions {
    /// The first wait is at most this, and no later one is drawn from less.
    pub initial: Duration,
    /// The next try begins at the latest this many times as long after the loss as the last try began. Below 2, the
    /// rest of twice the outage is the time that a try may take. 1 or less: every wait is drawn from `initial`.
    pub multiplier: f64,
    /// No wait is longer.
    pub max: Duration,
}

impl Default for BackoffOptions {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            multiplier: 1.75,
            max: Duration::from_secs(120),
        }
    }
}

/// The jittered waits of one client.
#[derive(Clone, Debug)]
pub struct Backoff {
    options: BackoffOptions,
    /// When the client was last known to be well served; `None` while it is.
    lost: Option<Instant>,
    /// When the try under way, or the next one, begins.
    tried: Option<Instant>,
    /// When the stream that is open was.
    opened: Option<Instant>,
    /// The range that the last wait was drawn from.
    ceiling: Duration,
    /// The server has ended a stream that had hardly begun, by announcement.
    dismissed_early: bool,
}

impl Backoff {
    /// A backoff of a client that has not lost anything yet.
    pub fn new(options: BackoffOptions) -> Self {
        Self {
            options,
            lost: None,
            tried: None,
            opened: None,
            ceiling: options.initial.min(options.max),
            dismissed_early: false,
        }
    }

    /// A stream was opened. It is not a healthy one yet.
    pub fn opened(&mut self, now: Instant) {
        self.opened = Some(now);
    }

    /// A stream was lost, or the try to open one failed: how long to wait for the next.
    pub fn next_wait(&mut self, now: Instant, rng: &mut impl Rng) -> Duration {
        self.stream_ended(now);
        self.dismissed_early = false;
        let lost = *self.lost.get_or_insert(now);
        self.ceiling = self.ceiling_at(now, lost);
        let wait = self.ceiling.mul_f64(rng.random::<f64>());
        self.tried = Some(now + wait);
        wait
    }

    /// A stream was lost in a way that the next try may well mend. The next try begins at once if the stream was a
    /// healthy one or the first try, else as after any loss.
    pub fn at_once(&mut self, now: Instant, rng: &mut impl Rng) -> Duration {
        self.stream_ended(now);
        if self.lost.is_some() {
            return self.next_wait(now, rng);
        }
        self.lost = Some(now);
        self.tried = Some(now);
        Duration::ZERO
    }

    /// A stream was lost, or a try refused, and the server has named the wait.
    pub fn named(&mut self, now: Instant, wait: Duration) {
        self.stream_ended(now);
        self.lost.get_or_insert(now);
        self.tried = now.checked_add(wait);
    }

    /// The server has announced the end of a stream, and when its successor is to be opened. Returns that wait. The
    /// client counts as away from then on, not from now.
    ///
    /// If a server does so again as soon as a stream is open, and names no wait, the wait is drawn, from no more than
    /// after a first loss.
    pub fn announced(&mut self, now: Instant, named: Duration, rng: &mut impl Rng) -> Duration {
        let early = self
            .opened
            .take()
            .is_some_and(|opened| now.saturating_duration_since(opened) < self.options.initial);
        let first = self.options.initial.min(self.options.max);
        let wait = if early && self.dismissed_early {
            named.max(first.mul_f64(rng.random::<f64>()))
        } else {
            named
        };
        self.dismissed_early = early;
        self.ceiling = first;
        self.lost = now.checked_add(wait);
        self.tried = self.lost;
        wait
    }

    /// If one was open, it shows now whether it was healthy.
    fn stream_ended(&mut self, now: Instant) {
        let Some(opened) = self.opened.take() else {
            return;
        };
        if now.saturating_duration_since(opened) >= self.ceiling.min(HEALTHY_AFTER) {
            self.lost = None;
            self.tried = None;
            self.dismissed_early = false;
        }
    }

    /// The longest wait from `now` on.
    fn ceiling_at(&self, now: Instant, lost: Instant) -> Duration {
        let tried = self.tried.unwrap_or(lost);
        let seconds = |until: Instant| until.saturating_duration_since(lost).as_secs_f64();
        // Negative where the try took long.
        let latest = seconds(tried) * self.options.multiplier - seconds(now);
        Duration::try_from_secs_f64(latest.min(self.options.max.as_secs_f64()))
            .unwrap_or(Duration::ZERO)
            .max(self.options.initial)
            .min(self.options.max)
    }
}

#[cfg(test)]
mod tests;
