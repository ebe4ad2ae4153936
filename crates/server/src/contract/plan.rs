//! The request of a subscriber.

use std::{sync::Arc, time::Duration};

use longlived_broker::{Begin, ReadOptions};
use longlived_topic::TopicFilter;

use super::{Caller, Contract};

/// The checked request of a subscriber.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The caller.
    pub caller: Arc<Caller>,
    /// The id of the subscriber.
    pub subscriber: Arc<str>,
    /// Each at most once, at least one.
    pub filters: Vec<TopicFilter>,
    /// Where it begins.
    pub begin: Begin,
    /// How it reads.
    pub options: ReadOptions,
    /// Which run of which program.
    pub attempt: Attempt,
    /// Which contract.
    pub contract: Contract,
    /// The quiet it was promised.
    pub max_silence: Duration,
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
