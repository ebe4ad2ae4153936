//! The topics of the log as they may be shown: the kept events of each, and the number of streams that read it now.
//!
//! Holds: no number of a page lies beyond the `visible` it names; a stream counts once for a topic, however
//! many of its filters match.
//! Does not: link live tails, or ask the sequencer for anything.

use std::{sync::Arc, time::Duration};

use longlived_topic::{TopicFilter, TopicName};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::time::{Instant, sleep};

use super::{Log, Shared};
use crate::{
    live_tail::LiveTail,
    position::{Position, Sequence},
    store::{ReadError, TopicInfo},
};

/// Readers of several live tails that one page tells apart: about ten milliseconds of work. A page ends with the
/// topic that reaches it.
const READERS_MAX: usize = 100_000;
/// How long a page waits for a batch that the store has and that is not visible yet; a disk syncs within it.
const VISIBLE_WAIT: Duration = Duration::from_millis(100);
/// How often it looks.
const VISIBLE_LOOK: Duration = Duration::from_millis(1);

/// A topic, and the number of its subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTopic {
    /// The store's view of it.
    pub info: TopicInfo,
    /// Streams that have a filter that matches.
    pub readers: usize,
}

/// Some topics, in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicsPage {
    /// The topics.
    pub topics: Vec<ListedTopic>,
    /// The name to go on after; `None` when there are no more.
    pub next: Option<TopicName>,
    /// The visible sequence.
    pub visible: Sequence,
}

impl Log {
    /// The topics that a filter matches after a name, at most `limit` of them (at least 1).
    pub async fn topics(
        &self,
        filter: &TopicFilter,
        after: Option<&TopicName>,
        limit: usize,
    ) -> Result<TopicsPage, ReadError> {
        // One more shows whether there are more.
        let asked = limit.saturating_add(1);
        let topics = self.store().topics(filter.clone(), after.cloned(), asked);
        let mut infos = topics.await?;
        let mut more = infos.len() > limit;
        infos.truncate(limit);
        let visible = self.visible_at(&infos).await;
        let mut counting = Counting::default();
        let mut topics = Vec::with_capacity(infos.len());
        let all = infos.len();
        for info in infos {
            let readers = counting.readers(self, &info.topic);
            topics.push(ListedTopic {
                info: shown(info, visible),
                readers,
            });
            if counting.looked_at >= READERS_MAX {
                break;
            }
        }
        more |= topics.len() < all;
        let last = topics.last().filter(|_| more);
        Ok(TopicsPage {
            next: last.map(|last| last.info.topic.clone()),
            topics,
            visible,
        })
    }

    /// The visible sequence, after waiting until it covers all that the store reported. The store reports a batch as soon
    /// as the batch has numbers, a moment before it is visible.
    async fn visible_at(&self, infos: &[TopicInfo]) -> Sequence {
        let last = infos.iter().map(|info| info.last).max().unwrap_or(0);
        let deadline = Instant::now() + VISIBLE_WAIT;
        while self.visible() < last && Instant::now() < deadline {
            sleep(VISIBLE_LOOK).await;
        }
        self.visible()
    }

    /// Whether the live tails of all these filters have the events after a position, even if history has let some of
    /// them go.
    pub fn tails_reach(&self, filters: &[TopicFilter], position: Position) -> bool {
        let reaches = |filter: &TopicFilter| {
            let tail = self.shared.live_tails.get(filter);
            let tail = tail.map(|entry| entry.value().clone());
            tail.is_some_and(|tail| tail.reaches(position.sequence))
        };
        position.epoch == self.epoch()
            && position.sequence <= self.visible()
            && filters.iter().all(reaches)
    }
}

impl Shared {
    /// The live tails that a topic's events go to.
    pub(super) fn live_tails_of(&self, topic: &TopicName) -> Vec<Arc<LiveTail>> {
        let mut live_tails = self.wildcards.read().matching(topic);
        let literal = topic.to_filter();
        let literal = self.live_tails.get(&literal);
        live_tails.extend(literal.map(|entry| entry.value().clone()));
        live_tails
    }
}

/// The part of a topic that may be shown while an invisible batch is being stored.
fn shown(info: TopicInfo, visible: Sequence) -> TopicInfo {
    if info.first > visible {
        return TopicInfo {
            first: 0,
            last: 0,
            events: 0,
            bytes: 0,
            ..info
        };
    }
    TopicInfo {
        last: info.last.min(visible),
        ..info
    }
}

/// Counts the readers of one page's topics.
#[derive(Default)]
struct Counting {
    // Neighbours in the order of names are most often followed by the same filters.
    known: FxHashMap<Vec<*const LiveTail>, usize>,
    looked_at: usize,
}

// Only compared, never followed.
impl Counting {
    fn readers(&mut self, log: &Log, topic: &TopicName) -> usize {
        let live_tails = log.shared.live_tails_of(topic);
        match live_tails.as_slice() {
            [] => 0,
            [one] => one.reader_count(),
            several => {
                let key = several.iter().map(Arc::as_ptr).collect();
                let looked_at = &mut self.looked_at;
                *self.known.entry(key).or_insert_with(|| {
                    let mut readers = FxHashSet::default();
                    for tail in several {
                        let signals = tail.readers();
                        *looked_at += signals.len();
                        readers.extend(signals);
                    }
                    readers.len()
                })
            }
        }
    }
}
