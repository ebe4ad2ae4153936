//! The lines between the conducting process and a load process.
//!
//! Holds: all times are nanoseconds of the host's monotonic clock, so that "from here to there" means the same
//! in every process and no command has to arrive punctually.

use std::net::SocketAddr;

use hdrhistogram::Histogram;
use longlived_console::CompressionFlag;
use serde::{Deserialize, Serialize};

use crate::args::{PayloadKind, Topics};
use crate::retries::Retries;
use crate::room::LocalAddresses;
use crate::tokens::TokenPlan;

/// The topic that all follow when they share one.
pub(crate) const SHARED_TOPIC: &str = "bench.fanout";

/// The id of a subscriber, which is also the `sub` of its token.
pub(crate) fn subscriber_id(number: u64) -> String {
    format!("bench-{number}")
}

/// First line: which part of the load this process is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) server: SocketAddr,
    pub(crate) connections: u32,
    /// Where they come from; `None` leaves it to the kernel.
    pub(crate) local_addresses: Option<LocalAddresses>,
    /// Subscribers on each connection.
    pub(crate) streams: u32,
    /// Number of this process's first subscriber; its id is `bench-<number>`.
    pub(crate) subscriber_first: u64,
    /// Subscribers of all load processes, for the inbox of each.
    pub(crate) subscribers_total: u64,
    pub(crate) topics: Topics,
    pub(crate) stream_window_bytes: u32,
    pub(crate) connection_window_bytes: u32,
    /// One latency in this many events; at least 1.
    pub(crate) sample_every: u32,
    pub(crate) protocol: Protocol,
    /// The encodings that the subscribers accept, where the protocol has them.
    pub(crate) compression: CompressionFlag,
    /// The messages to publish, over our own contract.
    pub(crate) payload_kind: PayloadKind,
    /// `None` for a server that is reached in the clear.
    pub(crate) tls: Option<TlsPlan>,
    /// What its callers bring; `None` where nobody asks.
    pub(crate) tokens: Option<TokenPlan>,
}

/// How the load knows a server with TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TlsPlan {
    pub(crate) trust: Trust,
    /// The name in its certificate, a DNS name or an IP address.
    pub(crate) server_name: String,
    /// The server says a line in the clear before the handshake, as that of NATS does.
    pub(crate) after_line: bool,
    /// A connection that is opened after `Close` takes a ticket that one before was given, and resumes its session.
    pub(crate) tickets: bool,
}

/// Whose certificates are taken, in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Trust {
    /// This very certificate, whose signatures are not checked: the server was started by the bench, and two checks a
    /// handshake would make the load slower than the server.
    Certificate(String),
    /// Certificates of these authorities, checked as by every client.
    Authorities(String),
}

impl Trust {
    pub(crate) fn pem(&self) -> &str {
        match self {
            Self::Certificate(pem) | Self::Authorities(pem) => pem,
        }
    }
}

/// How the server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Protocol {
    /// Our own contract.
    Grpc,
    /// Redis.
    Resp,
    Nats,
    /// The bare sender, whose records have this length.
    Records {
        bytes: u32,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    /// Open everything now; answered by `Connected` when all is decided, or then.
    Connect { deadline_ns: u64 },
    /// Close everything, and count from the beginning; answered by `Ready`, and followed by another `Connect`.
    Close,
    /// From now on the subscribers do not read; the connections stand.
    Stall(Stall),
    /// Count deliveries and take latencies from here to there.
    Window { start_ns: u64, end_ns: u64 },
    /// Publish from here to there; answered by `Published`.
    Publish(PublishPlan),
    /// Say when all published messages are here; answered by `Arrived`, then or when that time is up.
    Await {
        published: Published,
        deadline_ns: u64,
    },
    /// From now on a connection that ends is opened again; answered by `Ready` at once and by `Returned` later.
    Return(Return),
    /// Wait until all published messages are here, or nothing comes any more; answered by `Finished`, the last line.
    Finish {
        published: Published,
        quiet_ns: u64,
        deadline_ns: u64,
    },
}

/// How a subscriber stops reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stall {
    /// It sends no WINDOW_UPDATEs, as a program does that waits elsewhere.
    Window,
    /// Nothing is read from the socket, as of a process that is stopped.
    Socket,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct PublishPlan {
    pub(crate) begin_ns: u64,
    pub(crate) end_ns: u64,
    /// Messages a second; 0 = as fast as they are acknowledged.
    pub(crate) rate: u64,
    /// Messages leave at multiples of this after the begin, those scheduled by then together; 0 = each at its own time.
    pub(crate) interval_ns: u64,
    pub(crate) payload_bytes: u32,
    pub(crate) in_flight_max: u64,
}

/// The server is about to be killed and started again.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Return {
    /// Times of the answer count from here.
    pub(crate) from_ns: u64,
    /// The answer comes when every subscriber is back, or then.
    pub(crate) deadline_ns: u64,
    /// Epoch and sequence that every subscriber has reached.
    pub(crate) resume_after: Option<(u64, u64)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// The plan was understood, or the command to return or to close.
    Ready,
    Connected(Connected),
    Arrived {
        delivered: u64,
    },
    Returned(Returned),
    Published(Published),
    Finished(Finished),
}

/// Where the subscribers of this process stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connected {
    /// Subscribers that hold their Welcome.
    pub(crate) welcomed: u64,
    /// Subscribers whose stream or connection ended before that.
    pub(crate) refused: u64,
    pub(crate) last_welcome_ns: u64,
    /// Connections that resumed a TLS session.
    pub(crate) sessions_resumed: u64,
    /// The first thing that went wrong, in words.
    pub(crate) trouble: Option<String>,
}

/// Many times, with three digits.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Times {
    /// As (nanoseconds, how many).
    pub(crate) counts: Vec<(u64, u64)>,
    /// To the nanosecond.
    pub(crate) first_ns: Option<u64>,
    pub(crate) last_ns: Option<u64>,
}

impl Times {
    pub(crate) fn of(times: impl Iterator<Item = u64>) -> Self {
        let mut histogram = Histogram::<u64>::new(3).expect("three digits are possible");
        let (mut first_ns, mut last_ns) = (None, None);
        for time in times {
            histogram
                .record(time)
                .expect("a histogram that grows takes every time");
            first_ns = Some(first_ns.map_or(time, |first: u64| first.min(time)));
            last_ns = last_ns.max(Some(time));
        }
        let recorded = histogram.iter_recorded();
        let counts = recorded.map(|value| (value.value_iterated_to(), value.count_at_value()));
        Self {
            counts: counts.collect(),
            first_ns,
            last_ns,
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.counts.extend(other.counts);
        let firsts = [self.first_ns, other.first_ns];
        self.first_ns = firsts.into_iter().flatten().min();
        self.last_ns = self.last_ns.max(other.last_ns);
    }
}

/// How the subscribers of this process came back.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Returned {
    /// Subscribers that are back.
    pub(crate) back: u64,
    /// When they were.
    pub(crate) times: Times,
    /// Welcomes that said that nothing was missed.
    pub(crate) resumed: u64,
    /// Welcomes that said that something was.
    pub(crate) resets: u64,
    /// Refused dials, or subscribers that were told of such a dial.
    pub(crate) refused_dials: u64,
    /// Connections that were lost when their subscribers were back; of the client library, streams that ended and
    /// attempts that failed although the server listened.
    pub(crate) lost_again: u64,
    /// The first thing that went wrong, in words.
    pub(crate) trouble: Option<String>,
    /// The waits of the client library.
    pub(crate) retries: Option<Retries>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) trouble: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Finished {
    /// Events received inside the window.
    pub(crate) delivered_in_window: u64,
    pub(crate) delivered: u64,
    /// Acknowledged, due to a subscriber of this process, and never received.
    pub(crate) lost: u64,
    /// Received beyond all that was sent.
    pub(crate) repeated: u64,
    pub(crate) gaps: u64,
    /// Streams that ended after their Welcome.
    pub(crate) ended: u64,
    pub(crate) trouble: Option<String>,
    /// Latencies of the window as (nanoseconds, how many).
    pub(crate) latencies: Vec<(u64, u64)>,
}
