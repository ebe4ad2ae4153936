//! The connections to one server: some for subscribers, as many for streams that publish, one for single calls, each
//! dialled when it is needed. A connection takes a limited number of streams at a time, and further calls on it wait.
//! So publishing shares no connection with subscribers.
//!
//! Holds: callers that wait for the same dial share its outcome. A caller that returns to a connection whose dial has
//! just failed for another one waits for the next dial. So a server that is away is dialled a few times a second, and
//! not by each of a hundred subscribers. A connection that was reported broken, or whose server has said that it takes no
//! more streams (GOAWAY), is never handed out again; streams that still run on it go on.
//! Does not: retry. A caller that gets no connection waits by its own backoff.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};
use tonic::transport::Endpoint;

use crate::client::UrlError;
use crate::connector::Connector;
use crate::preface::Preface;
use crate::subscriber::Lost;
use crate::target::Target;
use crate::tls::{Tls, TlsOptions};
use crate::wire::Wire;

/// Time from a failed dial to the next one, for a caller that did not ask for the first. It is short beside the first
/// wait of a backoff (up to 1 s), because it adds to it. A subscriber that is alone on its connection never waits for
/// it.
const DIAL_SPACING: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolOptions {
    pub(crate) connections: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) keepalive_interval: Duration,
    pub(crate) keepalive_timeout: Duration,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            connections: 1,
            connect_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Pool {
    url: String,
    endpoint: Endpoint,
    options: PoolOptions,
    connector: Option<Connector>,
    tls: Option<Tls>,
    streams: Vec<Slot>,
    #[cfg(feature = "legacy")]
    legacy: Vec<Slot>,
    publishing: Vec<Slot>,
    unary: Slot,
    next: AtomicUsize,
}

/// Which connection of the pool a caller uses; kept for the life of a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Streams(usize),
    /// As `Streams`, without HTTP/2 pings: servers of the frozen contract may be of other makes, and some end
    /// a connection that pings more than once in five minutes. TCP's keepalive finds dead peers there.
    #[cfg(feature = "legacy")]
    Legacy(usize),
    /// For a stream of messages to publish.
    Publishing(usize),
    Unary,
}

/// A connection as it was handed out. Streams keep it, so that one that was retired stays open under them.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) wire: Wire,
    /// When it was made.
    pub(crate) connected: Instant,
    lane: Lane,
    generation: u64,
}

/// One connection and its successors.
#[derive(Debug, Default)]
struct Slot {
    /// Locked while dialling: callers that wait here share the dial.
    state: Mutex<State>,
    /// Number of finished dials. It tells callers that waited for a dial from callers that came after it.
    dials: AtomicU64,
    /// The youngest generation that was reported broken.
    broken: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    generation: u64,
    /// With the moment when it was made.
    wire: Option<(Wire, Instant)>,
    failure: Option<Lost>,
    /// When that was.
    failed_at: Option<Instant>,
}

impl Pool {
    /// Dials by `connector`, or when there is none as the address says.
    pub(crate) fn new(
        url: String,
        options: PoolOptions,
        connector: Option<Connector>,
        tls: Option<TlsOptions>,
    ) -> Result<Self, UrlError> {
        let Target {
            endpoint,
            unix,
            tls,
        } = match Target::of(&url, options, tls) {
            Ok(target) => target,
            Err(reason) => return Err(UrlError { url, reason }),
        };
        let connector = connector.or_else(|| unix.map(Connector::unix));
        Ok(Self {
            endpoint,
            streams: slots(options.connections),
            #[cfg(feature = "legacy")]
            legacy: slots(options.connections),
            publishing: slots(options.connections),
            unary: Slot::default(),
            next: AtomicUsize::new(0),
            options,
            connector,
            tls,
            url,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The connection a new subscriber shall use: in turn.
    pub(crate) fn assign(&self) -> Lane {
        Lane::Streams(self.turn())
    }

    /// The connection a new subscriber of the frozen contract shall use: in turn.
    #[cfg(feature = "legacy")]
    pub(crate) fn assign_legacy(&self) -> Lane {
        Lane::Legacy(self.turn())
    }

    /// The connection a new stream of messages shall use: in turn.
    pub(crate) fn assign_publishing(&self) -> Lane {
        Lane::Publishing(self.turn())
    }

    fn turn(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.streams.len()
    }

    /// The connection of this lane, dialled if there is none.
    pub(crate) async fn lease(&self, lane: Lane) -> Result<Lease, Lost> {
        self.lease_again(lane, Instant::now()).await
    }

    /// The same for a single call. A program makes one after the other, and each would dial: soon after a dial has failed
    /// nothing is dialled.
    pub(crate) async fn lease_for_call(&self, lane: Lane) -> Result<Lease, Lost> {
        self.lease_after(lane, None).await
    }

    /// The same for a caller that had this connection and saw it fail at `since`. A later failure is that of another
    /// caller's dial, and soon after it nothing is dialled.
    pub(crate) async fn lease_again(&self, lane: Lane, since: Instant) -> Result<Lease, Lost> {
        self.lease_after(lane, Some(since)).await
    }

    /// Dials at once where the last failure is not later than `since`.
    async fn lease_after(&self, lane: Lane, since: Option<Instant>) -> Result<Lease, Lost> {
        let slot = self.slot(lane);
        let dials_before = slot.dials.load(Ordering::Acquire);
        let mut state = slot.state.lock().await;
        let goes_away = |(wire, _): &(Wire, Instant)| wire.goes_away();
        if state.generation <= slot.broken.load(Ordering::Acquire)
            || state.wire.as_ref().is_some_and(goes_away)
        {
            state.wire = None;
        }
        if state.wire.is_none() {
            if slot.dials.load(Ordering::Acquire) != dials_before
                && let Some(failure) = &state.failure
            {
                return Err(failure.clone());
            }
            if let Some(failed_at) = state.failed_at.filter(|at| since < Some(*at)) {
                // Under the lock, so that callers that come meanwhile share the dial that follows.
                sleep_until(failed_at + DIAL_SPACING).await;
            }
            // In a box of its own: inline, it would make every attempt to open a stream three kilobytes larger.
            let dialled = Box::pin(self.dial(lane)).await;
            slot.dials.fetch_add(1, Ordering::AcqRel);
            match dialled {
                Ok(wire) => {
                    state.generation += 1;
                    state.wire = Some((wire, Instant::now()));
                    state.failure = None;
                    state.failed_at = None;
                }
                Err(failure) => {
                    state.failure = Some(failure.clone());
                    state.failed_at = Some(Instant::now());
                    return Err(failure);
                }
            }
        }
        let wire = state.wire.clone();
        let (wire, connected) = wire.expect("it was there, or it was dialled");
        Ok(Lease {
            wire,
            connected,
            lane,
            generation: state.generation,
        })
    }

    /// This connection is broken or about to end: it is not handed out any more. Streams on it are left alone.
    pub(crate) fn retire(&self, lease: &Lease) {
        self.slot(lease.lane)
            .broken
            .fetch_max(lease.generation, Ordering::AcqRel);
    }

    fn slot(&self, lane: Lane) -> &Slot {
        match lane {
            Lane::Streams(index) => &self.streams[index],
            #[cfg(feature = "legacy")]
            Lane::Legacy(index) => &self.legacy[index],
            Lane::Publishing(index) => &self.publishing[index],
            Lane::Unary => &self.unary,
        }
    }

    async fn dial(&self, lane: Lane) -> Result<Wire, Lost> {
        let endpoint = match lane {
            #[cfg(feature = "legacy")]
            Lane::Legacy(_) => self.endpoint.clone(),
            Lane::Streams(_) | Lane::Publishing(_) | Lane::Unary => self
                .endpoint
                .clone()
                .http2_keep_alive_interval(self.options.keepalive_interval)
                .keep_alive_timeout(self.options.keepalive_timeout)
                // Only while streams are open: an idle connection that dies is dialled when it is needed.
                .keep_alive_while_idle(false),
        };
        let preface = Preface::default();
        // The first bytes of a server are those that TLS gives.
        let dialled = match (&self.connector, &self.tls) {
            (Some(connector), None) => {
                let watched = preface.watching(connector.clone());
                endpoint.connect_with_connector(watched).await
            }
            (Some(connector), Some(tls)) => {
                let watched = preface.watching(tls.over(connector.clone()));
                endpoint.connect_with_connector(watched).await
            }
            (None, None) => {
                let watched = preface.watching(self.tcp());
                endpoint.connect_with_connector(watched).await
            }
            (None, Some(tls)) => {
                let watched = preface.watching(tls.over(self.tcp()));
                endpoint.connect_with_connector(watched).await
            }
        };
        match dialled {
            Ok(channel) => Ok(Wire::new(channel, preface)),
            Err(error) => {
                let mut cause: &dyn std::error::Error = &error;
                while let Some(source) = cause.source() {
                    cause = source;
                }
                Err(Lost::Connect(cause.to_string()))
            }
        }
    }

    fn tcp(&self) -> HttpConnector {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(self.options.connect_timeout));
        connector.set_keepalive(Some(self.options.keepalive_interval));
        connector.set_keepalive_interval(Some(self.options.keepalive_timeout));
        connector.set_keepalive_retries(Some(2));
        // Without it a peer that vanished holds the socket and its unsent bytes for a quarter of an hour.
        #[cfg(target_os = "linux")]
        connector.set_tcp_user_timeout(Some(
            self.options.keepalive_interval + self.options.keepalive_timeout,
        ));
        connector
    }
}

fn slots(connections: usize) -> Vec<Slot> {
    (0..connections.max(1)).map(|_| Slot::default()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::net::TcpListener;

    use super::*;

    fn pool(url: String, connections: usize) -> Pool {
        let options = PoolOptions {
            connections,
            ..PoolOptions::default()
        };
        Pool::new(url, options, None, None).unwrap()
    }

    #[test]
    fn subscribers_are_spread_over_the_connections_in_turn() {
        let pool = pool("http://127.0.0.1:1".to_owned(), 2);
        let lanes: Vec<Lane> = (0..4).map(|_| pool.assign()).collect();
        assert_eq!(
            lanes,
            [
                Lane::Streams(0),
                Lane::Streams(1),
                Lane::Streams(0),
                Lane::Streams(1)
            ]
        );
    }

    #[tokio::test]
    async fn callers_that_wait_share_one_dial() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pool = pool(format!("http://{}", listener.local_addr().unwrap()), 1);
        let leases =
            futures_util::future::join_all((0..50).map(|_| pool.lease(Lane::Streams(0)))).await;
        assert!(
            leases
                .iter()
                .all(|lease| lease.as_ref().unwrap().generation == 1)
        );
        let _first = listener.accept().await.unwrap();
        let second = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(second.is_err(), "one connection, not fifty");
    }

    #[tokio::test]
    async fn a_broken_connection_is_not_handed_out_again_and_a_late_report_harms_no_successor() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pool = pool(format!("http://{}", listener.local_addr().unwrap()), 1);
        let first = pool.lease(Lane::Streams(0)).await.unwrap();
        pool.retire(&first);
        let second = pool.lease(Lane::Streams(0)).await.unwrap();
        assert_eq!(second.generation, 2);
        pool.retire(&first);
        assert_eq!(pool.lease(Lane::Streams(0)).await.unwrap().generation, 2);
    }

    /// A pool whose every dial is counted and refused.
    fn refused() -> (Pool, Arc<AtomicUsize>) {
        let dials = Arc::new(AtomicUsize::new(0));
        let counted = dials.clone();
        let connector = Connector::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Err::<tokio::net::TcpStream, _>(
                std::io::ErrorKind::ConnectionRefused.into(),
            ))
        });
        let url = "http://127.0.0.1:1".to_owned();
        let pool = Pool::new(url, PoolOptions::default(), Some(connector), None).unwrap();
        (pool, dials)
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_subscribers_that_come_back_at_their_own_times_do_not_dial_a_hundred_times() {
        let (pool, dials) = refused();
        let lost = Instant::now();
        let each = (1..=100).map(|number| {
            let pool = &pool;
            async move {
                sleep_until(lost + Duration::from_millis(10 * number)).await;
                pool.lease_again(Lane::Streams(0), lost).await.unwrap_err();
            }
        });
        futures_util::future::join_all(each).await;
        // One at once, then one in each quarter of the second.
        assert_eq!(dials.load(Ordering::Relaxed), 5);
        assert!(lost.elapsed() < Duration::from_secs(1) + DIAL_SPACING);
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscriber_alone_on_a_connection_dials_whenever_its_own_wait_is_over() {
        let (pool, dials) = refused();
        let began = Instant::now();
        for _ in 0..10 {
            let failed = Instant::now();
            tokio::time::sleep(Duration::from_millis(3)).await;
            pool.lease_again(Lane::Streams(0), failed)
                .await
                .unwrap_err();
        }
        assert_eq!(dials.load(Ordering::Relaxed), 10);
        assert_eq!(began.elapsed(), Duration::from_millis(30));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_come_one_after_the_other_dial_a_few_times_a_second() {
        let (pool, dials) = refused();
        let began = Instant::now();
        let calls = (0..250).map(|index| async move {
            tokio::time::sleep(Duration::from_millis(index * 20)).await;
        });
        let calls = calls.map(|wait| async {
            wait.await;
            pool.lease_for_call(Lane::Unary).await.unwrap_err();
        });
        futures_util::future::join_all(calls).await;
        // 5 s of calls.
        let most = began.elapsed().as_millis() / DIAL_SPACING.as_millis() + 1;
        let dials = dials.load(Ordering::Relaxed) as u128;
        assert!((10..=most).contains(&dials), "{dials} of {most}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_gives_up_waiting_for_a_dial_leaves_it_to_the_next() {
        let (pool, dials) = refused();
        let lost = Instant::now();
        tokio::time::sleep(Duration::from_millis(1)).await;
        pool.lease_again(Lane::Streams(0), lost).await.unwrap_err();
        let first = pool.lease_again(Lane::Streams(0), lost);
        let short = tokio::time::timeout(Duration::from_millis(100), first).await;
        assert!(short.is_err(), "it waits for the next dial");
        pool.lease_again(Lane::Streams(0), lost).await.unwrap_err();
        assert_eq!(dials.load(Ordering::Relaxed), 2);
        assert_eq!(lost.elapsed(), Duration::from_millis(1) + DIAL_SPACING);
    }

    #[tokio::test]
    async fn a_failed_dial_is_told_to_all_waiting_callers_and_tried_again_by_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let pool = pool(format!("http://{address}"), 1);
        let leases = futures_util::future::join_all((0..50).map(|_| pool.lease(Lane::Unary))).await;
        assert!(
            leases
                .iter()
                .all(|lease| matches!(lease, Err(Lost::Connect(_))))
        );
        assert!(
            pool.unary.dials.load(Ordering::Relaxed) < 50,
            "dials are shared"
        );
        let _listener = TcpListener::bind(address).await.unwrap();
        assert!(pool.lease(Lane::Unary).await.is_ok());
    }
}
