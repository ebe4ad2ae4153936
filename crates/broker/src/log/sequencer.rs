//! The only writer of the log: takes what is queued as one batch, has the store number and keeps it, appends
//! it to the channels that match, raises `visible`, wakes the readers and answers the publishers.
//!
//! Holds: a frame reaches a channel only after `Store::append` returned; `visible` rises only after a batch is
//! in all its channels; channels are linked and unlinked between batches.
//! Does not: know who subscribes.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rustc_hash::FxHashMap;
use slab::Slab;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{
    Link, LogConfig, PublishError, PublishReply, Published, Shared,
    dedupe::{Dedupe, MessageKey},
    matcher::{ChannelKey, Matcher},
    publish::PublishRequest,
};
use crate::{channel::Channel, frame::Frames, store::Admitted, topic::TopicFilter};

/// One batch takes no further requests past this many messages or bytes: it bounds how long the first of
/// them waits, and what a reader that stops in the middle of one keeps in memory.
const BATCH_MESSAGES_MAX: usize = 4_096;
const BATCH_BYTES_MAX: usize = 256 << 10;
/// How often channels, message ids and history are swept.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Channels looked at in one sweep.
const SWEEP_CHANNELS_MAX: usize = 50_000;

/// What comes in.
pub(super) struct Inbox {
    pub(super) publish: mpsc::Receiver<PublishRequest>,
    pub(super) background: mpsc::Receiver<PublishRequest>,
    pub(super) links: mpsc::Receiver<Link>,
}

/// The writer of one log. [`Sequencer::run`] is its life.
pub struct Sequencer {
    shared: Arc<Shared>,
    inbox: Inbox,
    config: LogConfig,
    matcher: Matcher,
    channels: Slab<Linked>,
    dedupe: Dedupe,
    // Every chunk in a tail, oldest first, over all channels.
    tails: VecDeque<TailChunk>,
    tail_bytes: usize,
    sweep_from: usize,
}

struct Linked {
    channel: Arc<Channel>,
    // Entries of the current batch that match; empty between batches.
    due: Vec<u32>,
}

struct TailChunk {
    channel: Arc<Channel>,
    bytes: usize,
    since: Instant,
}

/// A request on its way through one batch.
struct Pending {
    request: PublishRequest,
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

/// What the sequencer does next.
enum Due {
    Sweep,
    Link(Link),
    Batch(PublishRequest),
}

/// The messages of one batch.
#[derive(Default)]
struct Batch {
    messages: Vec<Admitted>,
    bytes: usize,
    keys: FxHashMap<MessageKey, usize>,
    requests: Vec<Pending>,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.messages.len() >= BATCH_MESSAGES_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}

impl Sequencer {
    pub(super) fn new(shared: Arc<Shared>, inbox: Inbox, config: LogConfig) -> Self {
        Self {
            shared,
            inbox,
            dedupe: Dedupe::new(config.dedupe),
            config,
            matcher: Matcher::default(),
            channels: Slab::new(),
            tails: VecDeque::new(),
            tail_bytes: 0,
            sweep_from: 0,
        }
    }

    /// Runs until `stop`; what was queued before is still stored and answered.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Links and messages have the first turn alternately, so that neither a storm of new filters nor one of
        // messages keeps the other waiting. Not left to chance: a replay takes the same turns.
        let mut links_first = true;
        loop {
            let inbox = &mut self.inbox;
            let due = if links_first {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    _ = sweep.tick() => Due::Sweep,
                    Some(link) = inbox.links.recv() => Due::Link(link),
                    Some(request) = inbox.publish.recv() => Due::Batch(request),
                    Some(request) = inbox.background.recv() => Due::Batch(request),
                }
            } else {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    _ = sweep.tick() => Due::Sweep,
                    Some(request) = inbox.publish.recv() => Due::Batch(request),
                    Some(link) = inbox.links.recv() => Due::Link(link),
                    Some(request) = inbox.background.recv() => Due::Batch(request),
                }
            };
            match due {
                Due::Sweep => self.sweep(),
                Due::Link(link) => {
                    links_first = false;
                    self.link(link);
                }
                Due::Batch(first) => {
                    links_first = true;
                    self.batch(first).await;
                }
            }
        }
        self.inbox.publish.close();
        self.inbox.background.close();
        while let Ok(request) = self
            .inbox
            .publish
            .try_recv()
            .or_else(|_| self.inbox.background.try_recv())
        {
            self.batch(request).await;
        }
    }

    async fn batch(&mut self, first: PublishRequest) {
        let mut batch = Batch::default();
        self.admit(first, &mut batch);
        while !batch.is_full() {
            match self.inbox.publish.try_recv() {
                Ok(request) => self.admit(request, &mut batch),
                Err(_) => break,
            }
        }
        // Background work rides along only where publishers left room.
        while !batch.is_full() {
            match self.inbox.background.try_recv() {
                Ok(request) => self.admit(request, &mut batch),
                Err(_) => break,
            }
        }
        if batch.messages.is_empty() {
            answer(batch.requests, None);
            return;
        }
        match self.shared.store.append(&batch.messages).await {
            Ok(frames) => self.commit(batch, &frames),
            Err(error) => {
                tracing::error!(%error, messages = batch.messages.len(), "batch not stored");
                let error = PublishError::Store(error.to_string());
                for pending in batch.requests {
                    pending.request.stop_stream();
                    let reply = PublishReply {
                        refused: Some(error.clone()),
                        ..PublishReply::default()
                    };
                    pending.request.reply.send(reply).ok();
                }
            }
        }
    }

    /// Decides about each message of a request, in order, up to the first refusal.
    fn admit(&mut self, mut request: PublishRequest, batch: &mut Batch) {
        let mut refused = request.refusal(Instant::now());
        let mut outcomes = Vec::with_capacity(request.messages.len());
        let messages = std::mem::take(&mut request.messages);
        for message in messages {
            if refused.is_some() {
                break;
            }
            let key = MessageKey::of(&message, &request.options.principal);
            if let Some(key) = &key {
                if let Some(sequence) = self.dedupe.find(key) {
                    outcomes.push(Outcome::Duplicate(sequence));
                    continue;
                }
                if let Some(&index) = batch.keys.get(key) {
                    outcomes.push(Outcome::SameAs(index));
                    continue;
                }
            }
            match self.shared.store.admit(&message.topic) {
                Ok(topic) => {
                    let index = batch.messages.len();
                    if let Some(key) = key {
                        batch.keys.insert(key, index);
                    }
                    batch.bytes += message.queued_bytes();
                    outcomes.push(Outcome::New(index));
                    batch.messages.push(Admitted { topic, message });
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

    /// The batch is stored: show it and say so.
    fn commit(&mut self, batch: Batch, frames: &Arc<Frames>) {
        let now = Instant::now();
        let touched = self.route(&batch.messages, frames);
        for &key in &touched {
            let linked = &mut self.channels[key];
            // A small view would keep the whole batch in memory for as long as the tail has it.
            let bytes = linked
                .due
                .iter()
                .map(|&index| frames.entries()[index as usize].len);
            let share = bytes.map(|len| len as usize).sum::<usize>() * 4 >= frames.len_bytes();
            let chunk = frames.select(&linked.due, share);
            linked.due = Vec::new();
            self.tail_bytes += chunk.len_bytes();
            self.tails.push_back(TailChunk {
                channel: linked.channel.clone(),
                bytes: chunk.len_bytes(),
                since: now,
            });
            linked.channel.append(chunk);
        }
        self.shared.visible.store(frames.last(), Ordering::Release);
        for key in touched {
            self.channels[key].channel.wake();
        }
        for (key, index) in batch.keys {
            self.dedupe
                .insert(key, frames.entries()[index].sequence, now);
        }
        answer(batch.requests, Some(frames));
        self.trim_tails(now);
    }

    /// Notes for each channel which entries it gets; the channels that get any.
    fn route(&mut self, messages: &[Admitted], frames: &Frames) -> Vec<ChannelKey> {
        let mut touched = Vec::new();
        for (index, (admitted, entry)) in messages.iter().zip(frames.entries()).enumerate() {
            let topic = &admitted.message.topic;
            for &key in self.matcher.channels_of(entry.topic, topic).iter() {
                let due = &mut self.channels[key].due;
                if due.is_empty() {
                    touched.push(key);
                }
                due.push(index as u32);
            }
        }
        touched
    }

    fn trim_tails(&mut self, now: Instant) {
        while let Some(oldest) = self.tails.front()
            && (self.tail_bytes > self.config.tail_bytes_max
                || now.duration_since(oldest.since) > self.config.tail_age_max)
        {
            oldest.channel.drop_oldest();
            self.tail_bytes -= oldest.bytes;
            self.tails.pop_front();
        }
    }

    fn link(&mut self, link: Link) {
        let known = self
            .shared
            .channels
            .get(&link.filter)
            .map(|entry| entry.value().clone());
        let channel = known.unwrap_or_else(|| self.link_new(link.filter));
        link.reply.send(channel).ok();
    }

    fn link_new(&mut self, filter: TopicFilter) -> Arc<Channel> {
        // Between batches the visible position is the head: nothing is on its way.
        let complete_after = self.shared.visible.load(Ordering::Acquire);
        let channel = Arc::new(Channel::new(filter.clone(), complete_after));
        let key = self.channels.insert(Linked {
            channel: channel.clone(),
            due: Vec::new(),
        });
        self.matcher.link(&channel, key);
        self.shared.channels.insert(filter, channel.clone());
        channel
    }

    fn sweep(&mut self) {
        let now = Instant::now();
        self.trim_tails(now);
        self.dedupe.expire(now);
        for id in self.shared.store.trim() {
            self.matcher.forget(id);
        }
        self.unlink_idle(now);
    }

    /// Unlinks channels that nobody has read for a while, a bounded number of candidates at a time.
    fn unlink_idle(&mut self, now: Instant) {
        let Some(idle_before) = now.checked_sub(self.config.channel_linger) else {
            return;
        };
        let slots = self.channels.capacity();
        for _ in 0..slots.min(SWEEP_CHANNELS_MAX) {
            self.sweep_from = (self.sweep_from + 1) % slots;
            let Some(linked) = self.channels.get(self.sweep_from) else {
                continue;
            };
            if linked.channel.close_if_idle(idle_before) {
                let filter = linked.channel.filter().clone();
                self.matcher.unlink(&filter);
                self.shared.channels.remove(&filter);
                self.channels.remove(self.sweep_from);
            }
        }
    }
}

/// Answers the publishers of a batch. Without frames no message of it was new.
fn answer(requests: Vec<Pending>, frames: Option<&Arc<Frames>>) {
    for pending in requests {
        let sequence = |index: usize| frames.map_or(0, |frames| frames.entries()[index].sequence);
        let published = pending
            .outcomes
            .iter()
            .map(|outcome| match *outcome {
                Outcome::New(index) => (sequence(index), false),
                Outcome::SameAs(index) => (sequence(index), true),
                Outcome::Duplicate(sequence) => (sequence, true),
            })
            .map(|(sequence, duplicate)| Published {
                sequence,
                duplicate,
            })
            .collect();
        let reply = PublishReply {
            published,
            refused: pending.refused,
        };
        // A publisher that has gone needs no answer.
        pending.request.reply.send(reply).ok();
    }
}
