//! The heart of longlived: the log with its stores, live channels, and the cursors that
//! read them.
//!
//! The path of a message: [`Log::publish`] queues it, the [`Sequencer`] appends it to the [`store`], cuts the
//! batch into chunks for the [`channel`]s whose filter matches, raises `visible` and wakes the
//! [`Cursor`]s, which hand out wire-ready bytes.
//!
//! Does not: know gRPC services, connections or statuses; the one module that touches the wire contract
//! is [`frame`].

pub mod channel;
mod cursor;
pub mod environment;
#[doc(hidden)]
pub mod faults;
pub mod frame;
mod log;
mod message;
mod position;
mod signal;
pub mod store;
mod sync;

pub use cursor::{
    Attached, Attacher, Begin, Cursor, CursorError, Delivery, Gap, GapPolicy, GapReason, Missing,
    NotShareable, Opened, Outcome, ReadOptions, SharedDelivery, SlowPolicy, Tail, TailReader,
    Tails,
};
pub use environment::Environment;
pub use frame::{Compression, CompressionCounts, Encoding};
pub use log::{
    AttachError, DedupeConfig, ListedTopic, Log, LogConfig, PublishError, PublishOptions,
    PublishReply, Published, Sequencer, TopicsPage,
};
pub use message::{Message, MessageError, MessageKey, Principal};
pub use position::{Epoch, Position, SEQUENCE_MAX, Sequence};
pub use signal::{Interest, Signal};
