//! What one peer may ask of a connection before it is cut: floods of frames that ask for nothing, of calls that are cancelled at once, and of
//! broken rules.
//!
//! Each kind has a level. A frame of the kind raises it, time and what we sent lower it, and a level over its limit ends the connection with
//! ENHANCE_YOUR_CALM. So an honest peer is never cut: WINDOW_UPDATE answers DATA, an ACK answers SETTINGS or PING, and a client that measures
//! its bandwidth sends PING beside DATA.
//!
//! Does not: judge single frames; `longlived_http2` does.

use longlived_http2::{ConnectionError, ErrorCode};
use tokio::time::{Duration, Instant};

use crate::limits;

/// A cancel of a call that is older than this costs its client as much as it costs us.
const YOUNG: Duration = Duration::from_millis(100);

/// The levels of one connection.
#[derive(Debug)]
pub(super) struct Policy {
    began: Instant,
    /// Frames that ask for nothing. Negative: credit.
    idle_frames: Level,
    /// DATA frames that we sent and that are not yet credit, and their bytes.
    sent_frames: u32,
    sent_bytes: u32,
    /// WINDOW_UPDATEs that may still come for what we sent, and are not counted among those.
    window_updates: u32,
    /// Empty DATA, beyond what comes with content.
    empty_data: Level,
    /// DATA of streams that are closed, beyond what the peer may have sent before it knew.
    late_data: Level,
    /// Calls that were cancelled before they were answered.
    cancels: Level,
    cancels_max: i32,
    /// Streams that the peer made us reset.
    faults: Level,
}

/// A count that falls with time.
#[derive(Debug, Default)]
struct Level {
    count: i32,
    /// When it last fell, in milliseconds since the connection began.
    fell_at: u32,
}

impl Level {
    /// One more, after it has fallen by `fall` for each second that passed.
    fn raise(&mut self, now: u32, fall: i32) -> i32 {
        let passed = now.wrapping_sub(self.fell_at);
        let falls = i64::from(fall) * i64::from(passed) / 1_000;
        if falls > 0 {
            self.fell_at = now;
            let falls = i32::try_from(falls).unwrap_or(i32::MAX);
            // Time takes away what was counted, and gives no credit.
            self.count = self.count.min(self.count.saturating_sub(falls).max(0));
        }
        self.count += 1;
        self.count
    }

    #[inline]
    fn credit(&mut self, frames: i32) {
        self.count = (self.count - frames).max(-limits::IDLE_FRAMES_CREDIT_MAX);
    }
}

impl Policy {
    /// For a connection that may have `streams_max` streams open at once.
    pub(super) fn new(streams_max: u32) -> Self {
        let cancels_max = streams_max.saturating_mul(limits::CANCELS_PER_STREAM_MAX);
        Self {
            began: Instant::now(),
            idle_frames: Level::default(),
            sent_frames: 0,
            sent_bytes: 0,
            window_updates: 0,
            empty_data: Level::default(),
            late_data: Level::default(),
            cancels: Level::default(),
            cancels_max: i32::try_from(cancels_max).unwrap_or(i32::MAX),
            faults: Level::default(),
        }
    }

    /// Milliseconds since the connection began.
    pub(super) fn clock(&self, now: Instant) -> u32 {
        // It wraps after 49 days, and only differences matter.
        now.duration_since(self.began).as_millis() as u32
    }

    /// We sent a DATA frame of this size: the peer may answer it with two WINDOW_UPDATEs and a PING, and once more for each 4 KiB that it
    /// reads, as Go's library does. It may also give back each message by itself, as gRPC's C library does.
    #[inline]
    pub(super) fn sent_data(&mut self, bytes: usize) {
        // Only summed up: it is done for each delivery.
        self.sent_frames = self.sent_frames.saturating_add(1);
        self.sent_bytes = self.sent_bytes.saturating_add(bytes as u32);
    }

    /// What was sent since the last look becomes credit.
    fn credit_for_data(&mut self) {
        let frames = u64::from(std::mem::take(&mut self.sent_frames));
        let bytes = std::mem::take(&mut self.sent_bytes);
        let updates = self
            .window_updates
            .saturating_add(bytes / limits::GIVEN_BACK_BYTES_MIN);
        self.window_updates = updates.min(limits::WINDOW_UPDATES_MAX);
        let reads = u64::from(bytes / 4_096);
        let credit = i32::try_from(3 * (frames + reads)).unwrap_or(i32::MAX);
        self.idle_frames
            .credit(credit.min(limits::IDLE_FRAMES_CREDIT_MAX));
    }

    /// DATA with content has come: a client may flush with an empty frame, and pad.
    pub(super) fn received_data(&mut self) {
        self.empty_data.credit(2);
    }

    /// Empty DATA.
    pub(super) fn received_empty_data(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let now = self.clock(now);
        let count = self.empty_data.raise(now, limits::IDLE_FRAMES_A_SECOND);
        within(count, limits::IDLE_FRAMES_MAX, "a flood of empty DATA")
    }

    /// We closed a stream whose request had not ended: the peer may have sent a window of small frames before it knows.
    pub(super) fn closed_early(&mut self) {
        self.late_data.credit(limits::LATE_FRAMES_PER_STREAM);
    }

    /// DATA of a closed stream.
    pub(super) fn received_late_data(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let now = self.clock(now);
        let count = self.late_data.raise(now, limits::IDLE_FRAMES_A_SECOND);
        within(
            count,
            limits::IDLE_FRAMES_MAX,
            "a flood of DATA for closed streams",
        )
    }

    /// A call has come: it may be accompanied by a few frames that ask for nothing.
    pub(super) fn called(&mut self) {
        self.idle_frames.credit(limits::IDLE_FRAMES_PER_CALL);
    }

    /// We asked for an answer.
    pub(super) fn asked(&mut self) {
        self.idle_frames.credit(1);
    }

    /// WINDOW_UPDATE.
    pub(super) fn window_update(&mut self, now: Instant) -> Result<(), ConnectionError> {
        self.credit_for_data();
        match self.window_updates.checked_sub(1) {
            Some(left) => self.window_updates = left,
            None => self.idle_frame(now)?,
        }
        Ok(())
    }

    /// A frame that asks for nothing.
    pub(super) fn idle_frame(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let now = self.clock(now);
        self.credit_for_data();
        let count = self.idle_frames.raise(now, limits::IDLE_FRAMES_A_SECOND);
        within(
            count,
            limits::IDLE_FRAMES_MAX,
            "a flood of frames that ask for nothing",
        )
    }

    /// The peer cancelled a call that came at `called_at` of [`Policy::clock`].
    pub(super) fn cancelled(
        &mut self,
        now: Instant,
        called_at: u32,
        answered: bool,
    ) -> Result<(), ConnectionError> {
        let now = self.clock(now);
        let age = Duration::from_millis(now.wrapping_sub(called_at).into());
        if answered || age > YOUNG {
            return Ok(());
        }
        self.refused(now)
    }

    /// A call came over the limit of open streams.
    pub(super) fn over_the_limit(&mut self, now: Instant) -> Result<(), ConnectionError> {
        self.refused(self.clock(now))
    }

    fn refused(&mut self, now: u32) -> Result<(), ConnectionError> {
        let count = self.cancels.raise(now, (self.cancels_max / 10).max(1));
        within(
            count,
            self.cancels_max,
            "a flood of calls that are cancelled at once",
        )
    }

    /// The peer broke a rule, and its stream was reset.
    pub(super) fn fault(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let now = self.clock(now);
        let max = i32::try_from(limits::LOCAL_ERROR_RESETS_MAX).unwrap_or(i32::MAX);
        let count = self.faults.raise(now, max / 10);
        within(count, max, "a flood of streams that break the rules")
    }
}

fn within(count: i32, max: i32, reason: &'static str) -> Result<(), ConnectionError> {
    if count <= max {
        return Ok(());
    }
    Err(ConnectionError {
        code: ErrorCode::ENHANCE_YOUR_CALM,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_ask_for_nothing_are_cut_beyond_their_limit_and_what_we_sent() {
        let mut policy = Policy::new(100);
        let now = Instant::now();
        for _ in 0..limits::IDLE_FRAMES_MAX {
            assert_eq!(policy.idle_frame(now), Ok(()));
        }
        let error = policy.idle_frame(now).expect_err("one too many");
        assert_eq!(error.code, ErrorCode::ENHANCE_YOUR_CALM);

        let mut policy = Policy::new(100);
        for _ in 0..1_000 {
            policy.sent_data(100);
        }
        // Three for each frame, and for each 4 KiB of them.
        let credit = 3 * (1_000 + 100_000 / 4_096);
        for _ in 0..limits::IDLE_FRAMES_MAX + credit {
            assert_eq!(policy.idle_frame(now), Ok(()));
        }
        assert!(policy.idle_frame(now).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_drip_of_such_frames_goes_on_for_ever() {
        let mut policy = Policy::new(100);
        let start = Instant::now();
        let every = 1_000 / u64::try_from(limits::IDLE_FRAMES_A_SECOND).expect("positive") + 1;
        for frame in 0..100_000 {
            assert_eq!(policy.idle_frame(after(start, frame * every)), Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn credit_has_an_end_and_time_adds_none() {
        let mut policy = Policy::new(100);
        for _ in 0..limits::IDLE_FRAMES_CREDIT_MAX {
            policy.sent_data(100);
        }
        let now = after(Instant::now(), 1_000_000);
        for _ in 0..limits::IDLE_FRAMES_CREDIT_MAX + limits::IDLE_FRAMES_MAX {
            assert_eq!(policy.idle_frame(now), Ok(()));
        }
        assert!(policy.idle_frame(now).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_we_sent_may_be_given_back_in_small_pieces_and_no_other_frame_takes_part() {
        let mut policy = Policy::new(100);
        policy.sent_data(16 << 10);
        let now = Instant::now();
        for _ in 0..limits::IDLE_FRAMES_MAX + 15 {
            assert_eq!(policy.idle_frame(now), Ok(()));
        }
        assert!(policy.idle_frame(now).is_err());
        for _ in 0..(16 << 10) / 5 {
            assert_eq!(policy.window_update(now), Ok(()));
        }
        assert!(policy.window_update(now).is_err());
        for _ in 0..1_000 {
            policy.sent_data(16 << 10);
        }
        for _ in 0..limits::WINDOW_UPDATES_MAX {
            assert_eq!(policy.window_update(now), Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_cancels_of_young_calls_without_an_answer_count() {
        let mut policy = Policy::new(10);
        let start = Instant::now();
        let now = after(start, 500);
        for _ in 0..1_000 {
            assert_eq!(policy.cancelled(now, 399, false), Ok(()), "it is old");
            assert_eq!(policy.cancelled(now, 499, true), Ok(()), "it was answered");
        }
        for _ in 0..40 {
            assert_eq!(policy.cancelled(now, 450, false), Ok(()));
        }
        assert!(policy.cancelled(now, 450, false).is_err());
        // Four for each stream in any ten seconds are free.
        let later = after(start, 11_000);
        let at = policy.clock(later);
        for _ in 0..40 {
            assert_eq!(policy.cancelled(later, at, false), Ok(()));
        }
    }
}
