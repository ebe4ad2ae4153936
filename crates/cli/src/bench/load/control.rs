//! The lines between the conducting process and a load process.
//!
//! Holds: all times are nanoseconds of the host's monotonic clock, so that "from here to there" means the same
//! in every process and no command has to arrive punctually.

use std::net::SocketAddr;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::bench::args::{PayloadKind, Topics};
use crate::bench::storm::Retries;
use crate::compression_args::CompressionFlag;

/// The topic that all follow when they share one.
pub(in crate::bench) const SHARED_TOPIC: &str = "bench.fanout";

/// First line: which part of the load this process is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::bench) struct Plan {
    pub(in crate::bench) server: SocketAddr,
    pub(in crate::bench) connections: u32,
    /// Subscribers on each connection.
    pub(in crate::bench) streams: u32,
    /// Number of this process's first subscriber; its id is `bench-<number>`.
    pub(in crate::bench) subscriber_first: u64,
    /// Subscribers of all load processes, for who gets what of the inboxes.
    pub(in crate::bench) subscribers_total: u64,
    pub(in crate::bench) topics: Topics,
    pub(in crate::bench) stream_window_bytes: u32,
    pub(in crate::bench) connection_window_bytes: u32,
    /// One latency in this many events; at least 1.
    pub(in crate::bench) sample_every: u32,
    pub(in crate::bench) protocol: Protocol,
    /// What the subscribers accept, where the protocol knows such a thing.
    pub(in crate::bench) compression: CompressionFlag,
    /// What is published, over our own contract.
    pub(in crate::bench) payload_kind: PayloadKind,
}

/// How the server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::bench) enum Protocol {
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
pub(in crate::bench) enum Command {
    /// Open everything now; answered by `Connected` when all is decided, or then.
    Connect { deadline_ns: u64 },
    /// From now on nobody reads; the connections stand.
    Stall(Stall),
    /// Count deliveries and take latencies from here to there.
    Window { start_ns: u64, end_ns: u64 },
    /// Publish from here to there; answered by `Published`.
    Publish(PublishPlan),
    /// Say when what was published is here; answered by `Arrived`, then or when that time is up.
    Await {
        published: Published,
        deadline_ns: u64,
    },
    /// From now on a connection that ends is opened again; answered by `Ready` at once and by `Returned` later.
    Return(Return),
    /// Wait until what was published is here, or nothing comes any more; answered by `Finished`, the last word.
    Finish {
        published: Published,
        quiet_ns: u64,
        deadline_ns: u64,
    },
}

/// How a subscriber stops reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::bench) enum Stall {
    /// It gives back no room in its windows, as a program does that waits elsewhere.
    Window,
    /// Nothing is read from the socket, as of a process that is stopped.
    Socket,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in crate::bench) struct PublishPlan {
    pub(in crate::bench) begin_ns: u64,
    pub(in crate::bench) end_ns: u64,
    /// Messages a second; 0 = as fast as they are acknowledged.
    pub(in crate::bench) rate: u64,
    /// Messages leave at multiples of this after the begin, those that are due by then together; 0 = each when it is due.
    pub(in crate::bench) interval_ns: u64,
    pub(in crate::bench) payload_bytes: u32,
    pub(in crate::bench) in_flight_max: u64,
}

/// The server is about to be killed and started again.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in crate::bench) struct Return {
    /// Times of the answer count from here.
    pub(in crate::bench) from_ns: u64,
    /// The answer comes when every subscriber is back, or then.
    pub(in crate::bench) deadline_ns: u64,
    /// Epoch and sequence that every subscriber has reached.
    pub(in crate::bench) resume_after: Option<(u64, u64)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::bench) enum Report {
    /// The plan was understood, or the command to return.
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
pub(in crate::bench) struct Connected {
    /// Subscribers that hold their Welcome.
    pub(in crate::bench) welcomed: u64,
    /// Subscribers whose stream or connection ended before that.
    pub(in crate::bench) refused: u64,
    pub(in crate::bench) last_welcome_ns: u64,
    /// The first thing that went wrong, in words.
    pub(in crate::bench) trouble: Option<String>,
}

/// Many times, with three digits.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::bench) struct Times {
    /// As (nanoseconds, how many).
    pub(in crate::bench) counts: Vec<(u64, u64)>,
    /// To the nanosecond.
    pub(in crate::bench) first_ns: Option<u64>,
    pub(in crate::bench) last_ns: Option<u64>,
}

impl Times {
    pub(in crate::bench) fn of(times: impl Iterator<Item = u64>) -> Self {
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

    pub(in crate::bench) fn add(&mut self, other: Self) {
        self.counts.extend(other.counts);
        let firsts = [self.first_ns, other.first_ns];
        self.first_ns = firsts.into_iter().flatten().min();
        self.last_ns = self.last_ns.max(other.last_ns);
    }
}

/// How the subscribers of this process came back.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::bench) struct Returned {
    /// Subscribers that are back.
    pub(in crate::bench) back: u64,
    /// When they were.
    pub(in crate::bench) times: Times,
    /// Welcomes that said that nothing was missed.
    pub(in crate::bench) resumed: u64,
    /// Welcomes that said that something was.
    pub(in crate::bench) resets: u64,
    /// Dials that nobody answered, or subscribers that were told of such a dial.
    pub(in crate::bench) refused_dials: u64,
    /// Connections that were lost when their subscribers were back; of the client library, streams that ended and
    /// attempts that failed although somebody listened.
    pub(in crate::bench) lost_again: u64,
    /// The first thing that went wrong, in words.
    pub(in crate::bench) trouble: Option<String>,
    /// The waits of the client library.
    pub(in crate::bench) retries: Option<Retries>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::bench) struct Published {
    pub(in crate::bench) sent: u64,
    pub(in crate::bench) acknowledged: u64,
    pub(in crate::bench) trouble: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::bench) struct Finished {
    /// Events received inside the window.
    pub(in crate::bench) delivered_in_window: u64,
    pub(in crate::bench) delivered: u64,
    /// Acknowledged, due to a subscriber of this process, and never received.
    pub(in crate::bench) lost: u64,
    /// Received beyond all that was sent.
    pub(in crate::bench) repeated: u64,
    pub(in crate::bench) gaps: u64,
    /// Streams that ended after their Welcome.
    pub(in crate::bench) ended: u64,
    pub(in crate::bench) trouble: Option<String>,
    /// Latencies of the window as (nanoseconds, how many).
    pub(in crate::bench) latencies: Vec<(u64, u64)>,
}
