//! One timer for all streams of a connection that must not be silent for too long.
//!
//! A timer for each stream would cost more memory than the rest of an idle stream, and be moved by each event. So there
//! is one. It fires for the earliest stream, and then all are asked; a stream that sent meanwhile is asked later.
//!
//! Holds: no stream is asked later than `STEP` after the time that it named.
//! Does not: know the message that a stream sends then.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// How far apart two looks at all streams are at least. The promise to a client leaves more than that for the way.
const STEP: Duration = Duration::from_millis(50);

/// The timer of one connection; none until a stream needs one.
#[derive(Debug, Default)]
pub(super) struct Heartbeats(Option<Timer>);

#[derive(Debug)]
struct Timer {
    at: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Heartbeats {
    /// A stream wants to be asked then; whether the timer must be polled because that is earlier than all others.
    pub(super) fn wants(&mut self, at: Instant) -> bool {
        match &mut self.0 {
            Some(timer) if timer.at <= at => return false,
            Some(timer) => {
                timer.at = at;
                timer.sleep.as_mut().reset(at);
            }
            None => {
                let sleep = Box::pin(sleep_until(at));
                self.0 = Some(Timer { at, sleep });
            }
        }
        true
    }

    /// Ready when some stream may want to be asked. The next look is to be set by `again`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        match &mut self.0 {
            Some(timer) => timer.sleep.as_mut().poll(cx).map(|()| Instant::now()),
            None => Poll::Pending,
        }
    }

    /// All were asked, and this is the earliest that is left. To be polled after that.
    pub(super) fn again(&mut self, now: Instant, earliest: Option<Instant>) {
        match (&mut self.0, earliest) {
            (Some(timer), Some(earliest)) => {
                timer.at = earliest.max(now + STEP);
                timer.sleep.as_mut().reset(timer.at);
            }
            (timer, _) => *timer = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_timer_is_ready_for_the_earliest_and_no_sooner_than_a_step_after_the_last_look() {
        let mut cx = Context::from_waker(Waker::noop());
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut heartbeats = Heartbeats::default();
        assert!(heartbeats.poll(&mut cx).is_pending());
        assert!(heartbeats.wants(after(1_000)));
        assert!(!heartbeats.wants(after(2_000)));
        assert!(heartbeats.wants(after(500)));
        assert!(heartbeats.poll(&mut cx).is_pending());
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(heartbeats.poll(&mut cx), Poll::Ready(after(500)));
        heartbeats.again(after(500), Some(after(520)));
        tokio::time::advance(Duration::from_millis(49)).await;
        assert!(heartbeats.poll(&mut cx).is_pending());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(heartbeats.poll(&mut cx).is_ready());
        heartbeats.again(after(550), None);
        assert!(heartbeats.poll(&mut cx).is_pending());
    }
}
