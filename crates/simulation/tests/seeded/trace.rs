//! The records of a run, in order, each with its time; and their digest.
//!
//! Holds: everything that a replay of the same seed must repeat is in the digest.
//! Does not: judge.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use longlived_client::{GapPolicy, Item, Notice, Position};
use parking_lot::Mutex;
use tokio::time::Instant;

/// One application that receives under one id, from its begin to its end.
pub(crate) type Incarnation = usize;

/// One record. Some fields are read by the digest and by people only.
#[derive(Debug)]
#[expect(dead_code, reason = "texts for the reader of a trace")]
pub(crate) enum Record {
    /// The store has it.
    Stored {
        /// Which start of the server appended it.
        life: u32,
        /// Otherwise it was written and not synced: it is stored if anybody has it later.
        certain: bool,
        position: Position,
        topic: String,
        message: String,
        /// Of the payload.
        bytes: usize,
    },
    /// A publisher is about to send it.
    Sent(Sent),
    /// The outcome that the publisher learned.
    Answered { message: String, answer: Answer },
    /// A subscriber begins to read.
    Began(Began),
    /// The item that it was handed.
    Got {
        incarnation: Incarnation,
        item: Item,
        /// Its own account of itself afterwards.
        position: Option<Position>,
    },
    /// It reads no more.
    Ended { incarnation: Incarnation, how: End },
    /// Something was broken on purpose, or mended.
    Fault(String),
    /// A server started or ended.
    Server(String),
    /// All faults are mended.
    Calm,
    /// All live subscribers have everything.
    Settled,
}

/// A message as its publisher has it.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) name: String,
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    /// Its name is its message id.
    pub(crate) id: bool,
}

/// The request of a subscriber.
#[derive(Debug)]
pub(crate) struct Began {
    pub(crate) incarnation: Incarnation,
    pub(crate) subscriber: String,
    pub(crate) filters: Vec<String>,
    pub(crate) after: Option<Position>,
    /// Without a position, with everything that is kept.
    pub(crate) earliest: bool,
    pub(crate) gap_policy: GapPolicy,
    pub(crate) event_bytes_max: Option<u32>,
}

/// The outcome of a message after all its attempts.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Stored {
        position: Position,
        duplicate: bool,
    },
    /// It is stored, at a place it was not told.
    StoredInBulk,
    NotStored(String),
    #[expect(dead_code, reason = "for the reader of a trace")]
    Unknown(String),
}

/// How a subscriber ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By the run itself.
    Stopped,
    /// Another instance has the id.
    TakenOver,
    /// It cannot continue where it was, and wanted to be told.
    OutOfRange,
    /// By unsubscribing.
    Left,
    /// Anything else.
    Failed(String),
}

/// The trace of a run; clones are the same one.
#[derive(Clone)]
pub(crate) struct Trace {
    inner: Arc<Mutex<Vec<(Duration, Record)>>>,
    begin: Instant,
}

impl Trace {
    /// Time counts from here.
    pub(crate) fn new() -> Self {
        Self {
            inner: Arc::default(),
            begin: Instant::now(),
        }
    }

    pub(crate) fn add(&self, record: Record) {
        let at = self.begin.elapsed();
        self.inner.lock().push((at, record));
    }

    /// Topics and sequences of the events in an epoch, in order.
    pub(crate) fn stored(&self, epoch: u64) -> Vec<(String, u64)> {
        let inner = self.inner.lock();
        let stored = inner.iter().filter_map(|(_, record)| match record {
            Record::Stored {
                position,
                topic,
                certain: true,
                ..
            } if position.epoch == epoch => Some((topic.clone(), position.sequence)),
            _ => None,
        });
        stored.collect()
    }

    /// Everything so far; the trace is empty afterwards.
    pub(crate) fn take(&self) -> Vec<(Duration, Record)> {
        std::mem::take(&mut *self.inner.lock())
    }
}

/// The subscriber that a record tells of a lost stream.
fn lost_stream(record: &Record) -> Option<Incarnation> {
    match record {
        Record::Got {
            incarnation,
            item: Item::Notice(Notice::Disconnected { .. }),
            ..
        } => Some(*incarnation),
        _ => None,
    }
}

/// FNV-1a over the text of all records. Streams that are lost at one instant, with their connection, count in the order of
/// their subscribers: the client's HTTP/2 library ends them in an order that depends on the machine's clock, by which it
/// forgets streams that it has reset one second ago.
pub(crate) fn digest(records: &[(Duration, Record)]) -> u64 {
    struct Hash(u64);
    impl fmt::Write for Hash {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for byte in text.bytes() {
                self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
            Ok(())
        }
    }
    let mut hash = Hash(0xcbf2_9ce4_8422_2325);
    let mut ordered: Vec<&(Duration, Record)> = records.iter().collect();
    let together = |one: &&(Duration, Record), next: &&(Duration, Record)| {
        one.0 == next.0 && lost_stream(&one.1).is_some() && lost_stream(&next.1).is_some()
    };
    for lost in ordered.chunk_by_mut(together) {
        lost.sort_by_key(|(_, record)| lost_stream(record));
    }
    for record in ordered {
        fmt::write(&mut hash, format_args!("{record:?}\n")).expect("hashing does not fail");
    }
    hash.0
}
