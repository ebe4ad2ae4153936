//! One live call of a subscriber: what others may know of it and ask of it.
//!
//! The body ([`body`]) owns the cursor and does the talking; a [`Session`] is the handle that the registry,
//! the generator and the drain hold. They never wait for it: they leave an order and raise its signal.

mod body;
mod closing;
mod maintenance;
mod opening;
mod pace;
mod requests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use longlived_broker::{Cursor, Environment, Interest, Sequence, Signal};
use longlived_topic::TopicName;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::layers::CallRecord;

use pace::{Behind, Pace};

pub(crate) use body::SessionBody;
pub(crate) use closing::Closing;
pub(crate) use maintenance::Maintenance;
pub(crate) use opening::{OpenError, Opening, Plan, open};
pub(crate) use requests::Requests as SessionRequests;

/// Which contract a session speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contract {
    /// `longlived.v1`.
    V1,
    /// `protos.Longlived`, frozen.
    Legacy,
}

impl Contract {
    /// Of the method with this path.
    pub(crate) fn of(path: &str) -> Self {
        if path.starts_with("/protos.Longlived/") {
            Self::Legacy
        } else {
            Self::V1
        }
    }
}

/// Which run of which program a stream belongs to, and which of its attempts it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// 0 = unknown, and then equal to no other.
    pub instance: u64,
    /// Rises with each stream of an instance.
    pub number: u64,
}

impl Attempt {
    /// Whether both belong to one run of one program.
    pub(crate) fn same_instance(self, other: Self) -> bool {
        self.instance != 0 && self.instance == other.instance
    }
}

/// Why the server ends a stream on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The node goes away; the client comes back after this wait.
    Draining {
        /// This client's turn.
        reconnect_after: Duration,
    },
    /// Somebody called Unsubscribe.
    Unsubscribed,
    /// A newer attempt of the same instance is current.
    Replaced,
    /// Another instance has the id now.
    TakenOver,
    /// The reader took nothing for too long; the client comes back after this wait.
    Slow {
        /// Long enough for whatever made it slow to pass.
        reconnect_after: Duration,
    },
}

/// How long a client that was too slow stays away: coming back at once would only have it catch up at full speed.
/// What made one slow often made many slow, so each waits for a time of its own.
const SLOW_RECONNECT_MIN: Duration = Duration::from_secs(1);
const SLOW_RECONNECT_SPREAD: Duration = Duration::from_secs(4);

impl CloseReason {
    /// The reader was too slow.
    pub(crate) fn slow(environment: &Environment) -> Self {
        let spread = SLOW_RECONNECT_SPREAD.as_nanos() as u64;
        Self::Slow {
            reconnect_after: SLOW_RECONNECT_MIN
                + Duration::from_nanos(environment.random_below(spread)),
        }
    }

    /// Whether the client should come back.
    pub(crate) fn retryable(self) -> bool {
        match self {
            Self::Draining { .. } | Self::Slow { .. } => true,
            // Whoever was replaced is here already, by its newer stream.
            Self::Unsubscribed | Self::Replaced | Self::TakenOver => false,
        }
    }

    /// For the log line of the call.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Draining { .. } => "server draining",
            Self::Unsubscribed => "unsubscribed",
            Self::Replaced => "replaced by a newer attempt",
            Self::TakenOver => "taken over by another instance",
            Self::Slow { .. } => "slow subscriber",
        }
    }
}

/// The handle of one live call.
pub(crate) struct Session {
    /// Who subscribes.
    pub subscriber: Arc<str>,
    /// Tells the sessions of one subscriber apart, so that a late leaver never removes its successor.
    pub generation: u64,
    /// Which run and attempt.
    pub attempt: Attempt,
    /// Which contract it speaks.
    pub contract: Contract,
    signal: Arc<Signal>,
    record: Arc<CallRecord>,
    closing: Arc<Closing>,
    state: Mutex<State>,
    // Written by the body, read by the generator.
    follows_inbox: AtomicBool,
    // Written by the registry: its id is fought over, so its lines are summed up.
    contested: AtomicBool,
    // Written by the body, read by the registry: all that it had to say, its end too, is with the connection.
    told: AtomicBool,
    // Only of a reader that asked to be disconnected when slow.
    pace: Option<Box<Pace>>,
}

#[derive(Default)]
struct State {
    // Written by whoever wants it closed, first one wins; read by the body.
    close: Option<Box<CloseReason>>,
    // Who reads for it, while it has nothing to say of its own. Written by the body, read by whoever asks where it is.
    reader: Option<Arc<Signal>>,
}

impl Session {
    /// Asks the stream to end; the first reason holds.
    pub(crate) fn close(self: &Arc<Self>, reason: CloseReason) {
        let first = {
            let close = &mut self.state.lock().close;
            let first = close.is_none();
            close.get_or_insert_with(|| Box::new(reason));
            first
        };
        if first {
            self.closing.note(self);
        }
        self.signal.raise(Interest::Control);
    }

    /// Its id is fought over.
    pub(crate) fn set_contested(&self) {
        self.contested.store(true, Ordering::Relaxed);
    }

    fn is_contested(&self) -> bool {
        self.contested.load(Ordering::Relaxed)
    }

    /// The line of its end is one of many, which are summed up.
    pub(crate) fn set_quiet(&self) {
        self.record.set_quiet();
    }

    fn set_told(&self) {
        self.told.store(true, Ordering::Release);
    }

    /// Whether it was unsubscribed and has not heard of it.
    pub(crate) fn is_unaware(&self) -> bool {
        self.closing() == Some(CloseReason::Unsubscribed) && !self.told.load(Ordering::Acquire)
    }

    /// Whether its client comes back when it has ended, as far as is known.
    pub(crate) fn comes_back(&self) -> bool {
        self.closing().is_none_or(CloseReason::retryable)
    }

    /// Why it was asked to end, if it was.
    pub(crate) fn closing(&self) -> Option<CloseReason> {
        self.state.lock().close.as_deref().copied()
    }

    /// Resets the stream, for a reader that takes nothing and so cannot be told anything.
    fn reset(&self) {
        self.record.set_end(match self.closing() {
            Some(reason) => format!("{}; reset, the reader takes nothing", reason.as_str()),
            None => "reset".to_owned(),
        });
        self.record.abort();
    }

    /// The inbox, if the subscriber has one and follows it.
    pub(crate) fn followed_inbox(&self) -> Option<TopicName> {
        let follows = self.follows_inbox.load(Ordering::Relaxed);
        follows.then(|| TopicName::inbox(&self.subscriber))?
    }

    /// The last sequence handed to the connection, or passed.
    pub(crate) fn sequence(&self) -> Sequence {
        let state = self.state.lock();
        let read = state.reader.as_ref().map_or(0, |reader| reader.sequence());
        read.max(self.signal.sequence())
    }

    fn set_reader(&self, reader: Option<Arc<Signal>>) {
        self.state.lock().reader = reader;
    }

    /// The filters of its cursor are these now.
    fn set_filters(&self, cursor: &Cursor) {
        // Made when it is asked for: it costs as much as the id, and few ask.
        let inbox = TopicName::inbox(&self.subscriber);
        let follows = inbox.is_some_and(|inbox| {
            let mut filters = cursor.filters();
            filters.any(|filter| filter.as_str() == inbox.as_str())
        });
        self.follows_inbox.store(follows, Ordering::Relaxed);
        if let Some(pace) = &self.pace {
            pace.set_tails(cursor);
        }
    }

    /// Its body was polled, and had nothing to say if `at_rest`.
    fn polled(&self, at_rest: bool) {
        if let Some(pace) = &self.pace {
            pace.polled(Instant::now(), at_rest);
        }
    }

    fn set_current(&self) {
        if let Some(pace) = &self.pace {
            pace.set_current();
        }
    }

    /// How its reader falls behind, if that matters to anybody.
    fn behind(&self) -> Option<Behind> {
        self.pace.as_ref()?.behind(&self.signal)
    }
}

#[cfg(test)]
impl Session {
    /// One without a stream.
    pub(crate) fn of(subscriber: &str, generation: u64, attempt: Attempt) -> Arc<Self> {
        let of_node = Arc::new(crate::layers::OfNode {
            drain: crate::lifecycle::Drain::new(),
            sums: crate::layers::Sums::default(),
        });
        Arc::new(Self {
            subscriber: subscriber.into(),
            generation,
            attempt,
            contract: Contract::V1,
            signal: Arc::default(),
            record: Arc::new(CallRecord::new("/test", None, None, of_node)),
            state: Mutex::default(),
            follows_inbox: AtomicBool::new(false),
            closing: Arc::default(),
            contested: AtomicBool::new(false),
            told: AtomicBool::new(false),
            pace: None,
        })
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("subscriber", &self.subscriber)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}
