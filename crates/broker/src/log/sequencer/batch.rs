//! The messages that are appended together, and the answers to their publishers.
//!
//! Holds: every message of a request is decided about in order, up to the first refusal; an answer tells of each message
//! up to the first that is not stored.
//! Does not: append, or show anything to readers.

use std::sync::atomic::Ordering;

use longlived_topic::TopicName;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::Sequencer;
use crate::{
    faults::{Fault, planted},
    frame::TopicId,
    log::{PublishError, PublishReply, Published, publish::Submission},
    message::{MessageKey, Principal},
    store::{AppendError, Appended, NewMessage, TopicsExhausted},
};

/// One batch takes no further requests past this many messages or bytes: it bounds the wait of the first of them, and
/// the memory of a reader that stops in the middle of one.
const BATCH_MESSAGES_MAX: usize = 4_096;
const BATCH_BYTES_MAX: usize = 256 << 10;

/// The messages of one batch.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) messages: Vec<NewMessage>,
    pub(super) bytes: usize,
    pub(super) keys: FxHashMap<MessageKey, (usize, Principal)>,
    pub(super) requests: Vec<Pending>,
    // No topic can be forgotten for another any more.
    topics_are_full: bool,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.messages.len() >= BATCH_MESSAGES_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}

/// A request on its way through one batch.
pub(super) struct Pending {
    request: Submission,
    outcomes: Vec<Outcome>,
    refused: Option<PublishError>,
}

enum Outcome {
    /// Index into the batch.
    New(usize),
    /// Same message id as an entry of this batch.
    SameAs(usize),
    Duplicate(u64),
}

impl Outcome {
    /// The place of the message in the log, when it is there.
    fn published<'a>(
        &self,
        stored: Result<&'a Appended, &'a AppendError>,
    ) -> Result<Published, &'a AppendError> {
        let appended = |index| stored.and_then(|appended| appended.outcome(index));
        let (sequence, duplicate) = match *self {
            Self::New(index) => appended(index)?,
            Self::SameAs(index) => (appended(index)?.0, true),
            Self::Duplicate(sequence) => (sequence, true),
        };
        Ok(Published {
            sequence,
            duplicate,
        })
    }
}

impl Sequencer {
    /// Takes a request and the queue behind it as one batch. `None` when none of the messages is new: their publishers
    /// have been answered.
    pub(super) fn gather(&mut self, first: Submission) -> Option<Batch> {
        let mut batch = Batch::default();
        self.add(first, &mut batch);
        while !batch.is_full()
            && let Some(request) = self.inbox.queued()
        {
            self.add(request, &mut batch);
        }
        if batch.messages.is_empty() {
            answer(batch.requests, Ok(&Appended::nothing()));
            return None;
        }
        if planted(Fault::VisibleBeforeStored) {
            self.shared.visible.fetch_add(1, Ordering::Release);
        }
        Some(batch)
    }

    /// Decides about each message of a request, in order, up to the first refusal.
    fn add(&mut self, mut request: Submission, batch: &mut Batch) {
        let mut refused = request.refusal(Instant::now());
        let mut outcomes = Vec::with_capacity(request.messages.len());
        let messages = std::mem::take(&mut request.messages);
        batch.messages.reserve(messages.len());
        batch.bytes += request.bytes;
        for message in messages {
            if refused.is_some() {
                break;
            }
            let key = MessageKey::of(&message, &request.options.principal, self.secret);
            if let Some(key) = key {
                if let Some(sequence) = self.dedupe.find(key) {
                    outcomes.push(Outcome::Duplicate(sequence));
                    continue;
                }
                if let Some(&(index, _)) = batch.keys.get(&key) {
                    outcomes.push(Outcome::SameAs(index));
                    continue;
                }
            }
            // Most messages follow one of the same topic, and no topic is forgotten within a batch.
            let before = batch.messages.last();
            let topic = match before.filter(|before| before.message.topic.ptr_eq(&message.topic)) {
                Some(before) => Ok(before.topic),
                None => self.topic(&message.topic, batch),
            };
            match topic {
                Ok(topic) => {
                    let index = batch.messages.len();
                    if let Some(key) = key {
                        let principal = request.options.principal.clone();
                        batch.keys.insert(key, (index, principal));
                    }
                    outcomes.push(Outcome::New(index));
                    batch.messages.push(NewMessage {
                        topic,
                        message,
                        message_key: key,
                    });
                }
                Err(error) => refused = Some(error.into()),
            }
        }
        if refused.is_some() {
            request.stop_stream();
        }
        batch.requests.push(Pending {
            request,
            outcomes,
            refused,
        });
    }

    /// The id of a topic. A new one takes the place of one that keeps no event when it has to.
    fn topic(&mut self, topic: &TopicName, batch: &mut Batch) -> Result<TopicId, TopicsExhausted> {
        let id = self.shared.store.topic_id(topic);
        if id.is_ok() || batch.topics_are_full {
            return id;
        }
        let forgotten = self.shared.store.evict_topics(&batch.messages);
        batch.topics_are_full = forgotten.is_empty();
        for id in forgotten {
            self.matcher.forget(id);
        }
        self.shared.store.topic_id(topic)
    }
}

/// Answers the publishers of a batch, each up to its first message that is not stored.
pub(super) fn answer(requests: Vec<Pending>, stored: Result<&Appended, &AppendError>) {
    for pending in requests {
        let mut refused = pending.refused;
        let mut partly = false;
        let mut published = SmallVec::with_capacity(pending.outcomes.len());
        for outcome in &pending.outcomes {
            match outcome.published(stored) {
                Ok(place) => published.push(place),
                Err(error) => {
                    refused = Some(PublishError::Append(error.clone()));
                    partly = stored.is_ok();
                    pending.request.stop_stream();
                    break;
                }
            }
        }
        let reply = PublishReply {
            published,
            refused,
            partly,
        };
        // A publisher that has gone needs no answer.
        pending.request.reply.send(reply).ok();
    }
}
