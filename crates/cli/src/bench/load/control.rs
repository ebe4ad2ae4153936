//! The lines between the conducting process and a load process.
//!
//! Holds: all times are nanoseconds of the host's monotonic clock, so that "from here to there" means the same
//! in every process and no command has to arrive punctually.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::bench::args::{PayloadKind, Topics};
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
    pub(in crate::bench) payload_bytes: u32,
    pub(in crate::bench) in_flight_max: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::bench) enum Report {
    /// The plan was understood.
    Ready,
    Connected(Connected),
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
