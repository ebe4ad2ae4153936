//! The format of a recorded run: JSON Lines, a [`Header`] first, then one [`Record`] a line.
//!
//! The duties of a recorder, so that the rules judge the server and not the recording:
//!
//! - `at` is nanoseconds since the recording began, by one monotonic clock: all recorders in one process, or
//!   merged from processes of one machine that use its clock. A `publish_begun` and a `stream_opened` take it
//!   before anything is sent, everything else after it came in.
//! - The records of one stream stand in the order in which they came in, and each response is there, an event
//!   that was not handed to the application too. Between streams and publishers only `at` counts.
//! - A publish is recorded as begun before it is sent, and, where the recorder may be killed while others go on
//!   receiving, flushed before it is sent. What others publish on topics that subscribers receive stands in
//!   [`Header::foreign`].
//! - A publish is one message for the log. A publisher that sends it again without a `message_id` records another
//!   publish.
//! - A recorder that is killed leaves part of a line at the end; exactly that is accepted and reported.

mod data;
mod digest;
mod reader;
mod writer;

use serde::{Deserialize, Serialize};

pub use data::History;
pub(crate) use data::{Answer, Publish, Said, Step, StepGap, Stream, Texts, Told, Topic, TopicSet};
pub use digest::{Digest, digest};
pub use reader::{HistoryError, from_records, read, read_from};
pub use writer::Writer;

/// The value of [`Header::format`].
pub(crate) const FORMAT: &str = "longlived-history";
/// The version of this format.
pub(crate) const VERSION: u32 = 1;
/// A response with an event can be longer than [`PublishBegun::bytes`] by this: the event's sequence, the previous one
/// and the publish time, and its own tag and length, each at its longest.
pub(crate) const ENCODING_BYTES_MAX: u64 = 48;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// `longlived-history`.
    pub format: String,
    /// Of the format: 1.
    pub version: u32,
    /// Topic filters of the events that other publishers than the recorded ones publish: `$sys.>`, and `inbox.>` where
    /// the server's generator runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign: Vec<String>,
}

impl Header {
    /// A header of this version.
    pub fn new(foreign: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            foreign: foreign.into_iter().map(Into::into).collect(),
        }
    }
}

/// One line after the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// A message is about to be sent.
    PublishBegun(PublishBegun),
    /// What became of it.
    PublishEnded(PublishEnded),
    /// A call that receives is about to be made.
    StreamOpened(StreamOpened),
    /// The first response.
    Welcome(Welcome),
    /// An event came.
    Event(Event),
    /// Events that will not come.
    Gap(Gap),
    /// Everything up to a position was sent.
    Progress(Progress),
    /// The server follows one more filter.
    FilterAdded(FilterChange),
    /// The server follows one filter less.
    FilterRemoved(FilterChange),
    /// The server is about to end the stream.
    GoAway(GoAway),
    /// No more of this stream.
    StreamEnded(StreamEnded),
    /// Something was broken on purpose.
    Fault(FaultRecord),
    /// The last fault has ended; the last such record counts.
    FaultsOver(FaultsOver),
    /// The last sequence of the log, as the server said at the end.
    Head(Head),
    /// The retention of one topic, as the server said at the end.
    Trimmed(Trimmed),
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Identity of the history.
    pub epoch: u64,
    /// Number in it.
    pub sequence: u64,
}

/// A message is about to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishBegun {
    /// Before it is sent.
    pub at: u64,
    /// Who, by any name the recorder gives.
    pub publisher: String,
    /// Number of this publish, unique for the publisher.
    pub publish: u64,
    /// As whom; `message_id` is one's own.
    pub principal: String,
    /// Where to.
    pub topic: String,
    /// Of its content; [`digest()`].
    pub digest: Digest,
    /// Length of the encoded `Event` without sequence, previous sequence and publish time.
    pub bytes: u64,
    /// Absent = none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
}

/// The outcome of a publish. One that has no such record counts as [`PublishOutcome::Unknown`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishEnded {
    /// After the answer came.
    pub at: u64,
    /// As in [`PublishBegun`].
    pub publisher: String,
    /// As in [`PublishBegun`].
    pub publish: u64,
    /// The outcome that the publisher knows.
    pub outcome: PublishOutcome,
}

/// The outcome of a message, as its publisher knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PublishOutcome {
    /// It is stored.
    Acknowledged {
        /// Where.
        epoch: u64,
        /// Where.
        sequence: u64,
        /// How well.
        durability: Durability,
        /// It was already: the position is that of the first.
        #[serde(default)]
        duplicate: bool,
    },
    /// It is certainly not stored, by this publish.
    Refused {
        /// Name of the status.
        code: String,
    },
    /// It is stored, or not, or will be.
    Unknown,
}

/// How well an acknowledged message is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// A crash of the process loses it.
    Memory,
    /// Synced to disk.
    Disk,
    /// Acknowledged by the cluster's log.
    Replicated,
}

/// A call that receives is about to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamOpened {
    /// Before the request is sent.
    pub at: u64,
    /// The application that receives its events, over all its streams. An application that begins anew, without its
    /// state, is another subscriber.
    pub subscriber: String,
    /// Unique in the history.
    pub stream: u64,
    /// Topic filters.
    pub filters: Vec<String>,
    /// Absent = a new subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_after: Option<Position>,
    /// Absent = with the next event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// The request.
    #[serde(default)]
    pub gap_policy: GapPolicy,
    /// Absent = the contract's 4 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_event_bytes: Option<u64>,
}

/// Where a new subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With everything that is kept.
    Earliest,
    /// With the first event published at or after a time, in nanoseconds since 1970.
    TimeNanos(i64),
}

/// The policy for events that cannot be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapPolicy {
    /// A gap, then the events that are kept.
    #[default]
    Earliest,
    /// A gap, then live.
    Latest,
    /// Refused.
    Fail,
}

/// The first response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Welcome {
    /// When it came.
    pub at: u64,
    /// On which stream.
    pub stream: u64,
    /// The server's word on the beginning.
    pub outcome: WelcomeOutcome,
    /// Of the history the stream reads.
    pub epoch: u64,
    /// Everything after it that matches will follow, or is announced.
    pub sequence: u64,
    /// Epoch of `sequence`; absent = the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_epoch: Option<u64>,
}

/// How a stream began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WelcomeOutcome {
    /// Nothing was to be resumed.
    New,
    /// Nothing was missed.
    Resumed,
    /// Something was missed; a gap follows.
    Reset,
}

/// An event came. Its epoch is that of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When it came.
    pub at: u64,
    /// On which stream.
    pub stream: u64,
    /// Of the event.
    pub topic: String,
    /// Of the event.
    pub sequence: u64,
    /// As the server says; 0 = none or unknown.
    #[serde(default)]
    pub previous_sequence: u64,
    /// Of its content; [`digest()`].
    pub digest: Digest,
    /// Whether it was handed to the application.
    pub applied: bool,
}

/// Events that will not come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// When it came.
    pub at: u64,
    /// On which stream.
    pub stream: u64,
    /// Why.
    pub reason: GapReason,
    /// Exclusive, in the epoch asked for.
    pub after_sequence: u64,
    /// Inclusive.
    pub through_sequence: u64,
    /// How many; 0 = unknown.
    #[serde(default)]
    pub events: u64,
    /// Epoch of `through_sequence`; 0 or absent = unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through_epoch: Option<u64>,
}

/// Why events do not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// Retention removed them.
    Trimmed,
    /// Their history is gone.
    EpochChanged,
    /// The position asked for was never written.
    Future,
    /// One event whose response is above `max_event_bytes`.
    TooLarge,
    /// The store cannot read them any more.
    Damaged,
}

impl GapReason {
    /// As a history has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::EpochChanged => "epoch_changed",
            Self::Future => "future",
            Self::TooLarge => "too_large",
            Self::Damaged => "damaged",
        }
    }
}

/// Everything up to a position was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// When it came.
    pub at: u64,
    /// On which stream.
    pub stream: u64,
    /// Of the position.
    pub epoch: u64,
    /// Of the position.
    pub sequence: u64,
    /// Whether the subscriber was current.
    pub current: bool,
}

/// The answer to a filter that was added or removed; refusals are not recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterChange {
    /// When it came.
    pub at: u64,
    /// On which stream.
    pub stream: u64,
    /// The topic filter.
    pub filter: String,
    /// It holds for events after this sequence, in the epoch of the stream.
    pub after: u64,
}

/// The server is about to end the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoAway {
    /// When it came.
    pub at: u64,
    /// On which stream.
    pub stream: u64,
    /// The name of the reason, as in the contract, without its prefix.
    pub reason: String,
    /// Last position sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Whether to come back.
    pub reconnect: bool,
}

/// No more of this stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamEnded {
    /// When that was known.
    pub at: u64,
    /// Which.
    pub stream: u64,
    /// In a word: the status, or the client's reason.
    pub how: String,
    /// Whether the subscriber means to come back.
    pub returns: bool,
}

/// Something was broken on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRecord {
    /// When.
    pub at: u64,
    /// In a word; the summary counts them by it.
    pub what: String,
}

/// The last fault has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultsOver {
    /// When.
    pub at: u64,
}

/// The last sequence of the log, as the server said at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// When it said so.
    pub at: u64,
    /// Of the head.
    pub epoch: u64,
    /// The last event of the log.
    pub sequence: u64,
}

/// The retention of one topic, as the server said at the end: nothing up to `through` is kept, everything after it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trimmed {
    /// Of the positions.
    pub epoch: u64,
    /// Which topic.
    pub topic: String,
    /// The last event of the topic that is gone; 0 = none.
    pub through: u64,
}
