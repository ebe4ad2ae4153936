//! The heart of longlived: the log with its stores, live tails, and the cursors that
//! read them.
//!
//! The path of a message: [`Log::publish`] queues it, the [`Sequencer`] appends it to the [`Store`], cuts the
//! batch into chunks for the live tails whose filter matches, raises `visible` and wakes the
//! [`Cursor`]s, which hand out wire-ready bytes.
//!
//! What stands here is what a node needs. The feature `storage` adds the module of that name for code that writes a
//! store or opens one by itself, the feature `testkit` another one for tests.
//!
//! Does not: know gRPC services, connections or statuses; the one module that touches the wire contract
//! is `frame`.

// What only the modules `storage` and `testkit` hand out is `pub`, and reachable only where their features are on.
#![cfg_attr(
    not(feature = "testkit"),
    allow(unreachable_pub, reason = "reachable with the features")
)]

mod cursor;
mod environment;
#[doc(hidden)]
pub mod faults;
mod frame;
mod live_tail;
mod log;
mod message;
mod position;
mod signal;
mod store;
mod sync;

pub use cursor::{
    Attached, Begin, Cursor, CursorError, Delivery, Gap, GapPolicy, GapReason, Missing, Opened,
    Outcome, ReadOptions, SharedDelivery, SlowPolicy, TailReader, TailSource, Tails,
};
pub use environment::Environment;
pub use frame::{Compression, CompressionCounts, Encoding, PREFIX_BYTES, encode, events};
pub use log::{
    AttachError, DedupeConfig, ListedTopic, Log, LogConfig, PublishError, PublishOptions,
    PublishReply, Published, Sequencer, TopicsPage,
};
pub use message::{Message, MessageError, Principal};
pub use position::{Epoch, Position, Sequence};
pub use signal::{Interest, Signal};
pub use store::{
    AppendError, DiskConfig, Durability, HistoryClass, Limits, OpenError, ReadError, Store,
    StoreConfig, StoreStats,
};

/// The contract of a [`Store`] and what a batch and a page are made of, the stores that there are, and their files.
#[cfg(feature = "storage")]
pub mod storage {
    pub use crate::{
        frame::{Entry, EventWriter, FRAME_OVERHEAD_BYTES, Frames, Slice, TopicId, event_len_max},
        message::MessageKey,
        store::{
            Appended, Damaged, DiskStore, ElsewhereError, EpochChange, File, Files, FilterFrom,
            Kept, Lock, LockError, MemoryStore, NewEpochError, NewMessage, OpenMode, Own, Page,
            Query, RecentId, Removed, RetentionConfig, SystemFiles, TOPIC_UNUSED_MAX, TopicInfo,
            TopicsExhausted, Trimmed,
        },
    };
}

/// A store in front of another one, files in memory that fail and forget when a test says so, and the bytes of a page.
#[cfg(feature = "testkit")]
pub mod testkit {
    pub use crate::{
        frame::join,
        store::{Delegate, Faults, MemoryFiles},
    };
}
