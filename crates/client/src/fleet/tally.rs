//! The numbers of a running fleet: shared counters for the moment, one tally per client for the verdict.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::verdict::ClientVerdict;
use crate::event::Event;
use crate::position::Position;

/// Recoveries above this are counted as this long.
const RECOVER_MAX: Duration = Duration::from_secs(60 * 60);

/// The numbers of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Clients of this fleet.
    pub clients: u32,
    /// Clients with an open stream.
    pub connected: u32,
    /// Clients that had a stream and are coming back.
    pub reconnecting: u32,
    /// Clients that ended, on request or for good.
    pub ended: u32,
    /// Events delivered since the start, over all clients.
    pub delivered: u64,
    /// Gaps announced.
    pub gaps: u64,
    /// Streams opened after one was lost, over all clients.
    pub reconnects: u64,
    /// Continuity broken: something is missing that was not announced.
    pub lost: u64,
    /// Events that came again.
    pub repeated: u64,
    /// The longest way from publishing to here since the last snapshot, by both clocks; `None` when nothing
    /// with a time came.
    pub lag: Option<Duration>,
}

/// Written by every client task, read for snapshots.
#[derive(Debug)]
pub(super) struct Totals {
    clients: u32,
    connected: AtomicU32,
    reconnecting: AtomicU32,
    ended: AtomicU32,
    delivered: AtomicU64,
    gaps: AtomicU64,
    reconnects: AtomicU64,
    lost: AtomicU64,
    repeated: AtomicU64,
    /// Microseconds plus one; 0 when nothing came since the last snapshot.
    lag: AtomicU64,
    recovered: Mutex<Histogram<u64>>,
}

impl Totals {
    pub(super) fn new(clients: u32) -> Self {
        let highest = RECOVER_MAX.as_micros() as u64;
        let recovered = Histogram::new_with_bounds(1, highest, 3).expect("the bounds are in order");
        Self {
            clients,
            connected: AtomicU32::new(0),
            reconnecting: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            delivered: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            lag: AtomicU64::new(0),
            recovered: Mutex::new(recovered),
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let lag = self.lag.swap(0, Relaxed).checked_sub(1);
        Snapshot {
            clients: self.clients,
            connected: self.connected.load(Relaxed),
            reconnecting: self.reconnecting.load(Relaxed),
            ended: self.ended.load(Relaxed),
            delivered: self.delivered.load(Relaxed),
            gaps: self.gaps.load(Relaxed),
            reconnects: self.reconnects.load(Relaxed),
            lost: self.lost.load(Relaxed),
            repeated: self.repeated.load(Relaxed),
            lag: lag.map(Duration::from_micros),
        }
    }

    pub(super) fn recover_p50(&self) -> Option<Duration> {
        let recovered = self.recovered.lock();
        (!recovered.is_empty()).then(|| Duration::from_micros(recovered.value_at_quantile(0.5)))
    }

    fn recovered(&self, took: Duration) {
        let micros = took.min(RECOVER_MAX).as_micros() as u64;
        self.recovered.lock().saturating_record(micros.max(1));
    }
}

/// Where a client's stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Never,
    Open,
    Lost,
    Ended,
}

/// One client's numbers. Kept by its task; the sums over all clients are counted in [`Totals`] too.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    totals: &'a Totals,
    stream: Stream,
    /// When the last stream was lost, until the client has recovered.
    lost_at: Option<Instant>,
    last: Option<Position>,
    numbers: ClientVerdict,
}

impl<'a> Tally<'a> {
    /// `provable`: the contract lets loss and repetition be known.
    pub(super) fn new(totals: &'a Totals, client: u32, provable: bool) -> Self {
        Self {
            totals,
            stream: Stream::Never,
            lost_at: None,
            last: None,
            numbers: ClientVerdict {
                client,
                lost: provable.then_some(0),
                repeated: provable.then_some(0),
                ..ClientVerdict::default()
            },
        }
    }

    fn move_to(&mut self, stream: Stream) {
        let counter = |stream| match stream {
            Stream::Never => None,
            Stream::Open => Some(&self.totals.connected),
            Stream::Lost => Some(&self.totals.reconnecting),
            Stream::Ended => Some(&self.totals.ended),
        };
        if let Some(left) = counter(self.stream) {
            left.fetch_sub(1, Relaxed);
        }
        if let Some(entered) = counter(stream) {
            entered.fetch_add(1, Relaxed);
        }
        self.stream = stream;
    }

    /// A stream is open. Returns how long there was none, when it is not the first.
    pub(super) fn opened(&mut self) -> Option<Duration> {
        let before = self.stream;
        if before == Stream::Open {
            // Beside one that goes on, so nothing paused: what came before and after a loss is counted as it was.
            self.numbers.handovers += 1;
            return Some(Duration::ZERO);
        }
        let away = self.lost_at.map(|lost| lost.elapsed()).unwrap_or_default();
        self.move_to(Stream::Open);
        if before == Stream::Never {
            return None;
        }
        self.numbers.reconnects += 1;
        self.numbers.delivered_after = 0;
        self.totals.reconnects.fetch_add(1, Relaxed);
        Some(away)
    }

    /// There is no stream. Returns true when there was one until now.
    pub(super) fn lost(&mut self) -> bool {
        let had_stream = self.stream == Stream::Open;
        if had_stream {
            self.lost_at.get_or_insert_with(Instant::now);
            self.move_to(Stream::Lost);
        }
        had_stream
    }

    /// It has everything there is.
    pub(super) fn current(&mut self) {
        self.numbers.was_current = true;
        self.recovered();
    }

    /// It has the events that it missed, or a new one.
    pub(super) fn recovered(&mut self) {
        if let Some(lost) = self.lost_at.take() {
            let took = lost.elapsed();
            self.totals.recovered(took);
            self.numbers.recover_max = self.numbers.recover_max.max(Some(took));
        }
    }

    pub(super) fn event(&mut self, event: &Event) {
        // Counted here once more, as an application would see it: the subscriber promises that it cannot be.
        if self.last.is_some_and(|last| last.reaches(event.position)) {
            self.repeated();
        }
        self.last = Some(event.position);
        if let Some(lag) = event
            .publish_time
            .and_then(|time| SystemTime::now().duration_since(time).ok())
        {
            let micros = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX - 1);
            self.totals.lag.fetch_max(micros.saturating_add(1), Relaxed);
        }
        self.data();
    }

    pub(super) fn data(&mut self) {
        self.recovered();
        self.numbers.delivered += 1;
        if self.numbers.reconnects > 0 {
            self.numbers.delivered_after += 1;
        } else {
            self.numbers.delivered_before += 1;
        }
        self.totals.delivered.fetch_add(1, Relaxed);
    }

    pub(super) fn gap(&mut self) {
        self.numbers.gaps += 1;
        self.totals.gaps.fetch_add(1, Relaxed);
    }

    pub(super) fn missing(&mut self) {
        if let Some(lost) = &mut self.numbers.lost {
            *lost += 1;
            self.totals.lost.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn repeated(&mut self) {
        if let Some(repeated) = &mut self.numbers.repeated {
            *repeated += 1;
            self.totals.repeated.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn failed(&mut self, reason: String) {
        self.numbers.failed = Some(reason);
    }

    /// The client is done.
    pub(super) fn close(mut self, unsubscribed_ok: bool) -> ClientVerdict {
        self.move_to(Stream::Ended);
        self.numbers.unsubscribed_ok = unsubscribed_ok;
        self.numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(epoch: u64, sequence: u64) -> Event {
        let wire = longlived_api::v1::Event {
            sequence,
            ..Default::default()
        };
        Event::from_wire(epoch, wire)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_counted_before_and_after_it_was_away() {
        let totals = Totals::new(1);
        let mut tally = Tally::new(&totals, 1, true);
        assert_eq!(tally.opened(), None);
        tally.event(&event(7, 1));
        assert!(tally.lost());
        assert_eq!(
            (totals.snapshot().connected, totals.snapshot().reconnecting),
            (0, 1)
        );
        tokio::time::advance(Duration::from_millis(200)).await;
        assert!(!tally.lost(), "an attempt that fails loses no stream");
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(tally.opened(), Some(Duration::from_millis(300)));
        tokio::time::advance(Duration::from_millis(50)).await;
        tally.event(&event(7, 2));
        tally.event(&event(7, 3));
        assert_eq!(totals.snapshot().connected, 1);
        let p50 = totals.recover_p50().unwrap();
        assert!(
            p50.abs_diff(Duration::from_millis(350)) < Duration::from_millis(1),
            "{p50:?}"
        );
        let numbers = tally.close(true);
        assert_eq!(
            (
                numbers.delivered,
                numbers.delivered_before,
                numbers.delivered_after
            ),
            (3, 1, 2)
        );
        assert_eq!(numbers.reconnects, 1);
        assert_eq!(numbers.recover_max, Some(Duration::from_millis(350)));
        assert_eq!(numbers.repeated, Some(0));
        let snapshot = totals.snapshot();
        assert_eq!(
            (snapshot.connected, snapshot.reconnecting, snapshot.ended),
            (0, 0, 1)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_beside_one_that_goes_on_is_no_return() {
        let totals = Totals::new(1);
        let mut tally = Tally::new(&totals, 1, true);
        tally.opened();
        tally.event(&event(7, 1));
        assert_eq!(tally.opened(), Some(Duration::ZERO));
        tally.event(&event(7, 2));
        assert!(tally.lost());
        tokio::time::advance(Duration::from_millis(300)).await;
        assert_eq!(tally.opened(), Some(Duration::from_millis(300)));
        tally.event(&event(7, 3));
        assert_eq!(tally.opened(), Some(Duration::ZERO));
        assert_eq!(totals.snapshot().connected, 1);
        let numbers = tally.close(true);
        assert_eq!((numbers.reconnects, numbers.handovers), (1, 2));
        assert_eq!((numbers.delivered_before, numbers.delivered_after), (2, 1));
    }

    #[tokio::test]
    async fn an_event_that_reaches_the_application_twice_is_counted() {
        let totals = Totals::new(1);
        let mut tally = Tally::new(&totals, 1, true);
        tally.event(&event(7, 5));
        tally.event(&event(7, 5));
        tally.event(&event(8, 1));
        assert_eq!(totals.snapshot().repeated, 1);
        assert_eq!(tally.close(false).repeated, Some(1));
    }

    #[tokio::test]
    async fn without_a_proof_nothing_is_claimed() {
        let totals = Totals::new(1);
        let mut tally = Tally::new(&totals, 1, false);
        tally.missing();
        tally.repeated();
        let numbers = tally.close(true);
        assert_eq!((numbers.lost, numbers.repeated), (None, None));
    }
}
