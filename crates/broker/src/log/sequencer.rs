//! The only writer of the log: takes what is queued as one batch, has the store number and keeps it, appends
//! it to the channels that match, raises `visible`, answers the publishers and wakes the readers.
//!
//! Holds: a frame reaches a channel only after `Store::append` returned; `visible` rises only after a batch is
//! in all its channels; channels are linked and unlinked between batches.
//! Does not: know who subscribes.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use longlived_topic::{TopicFilter, TopicName};
use rustc_hash::FxHashMap;
use slab::Slab;
use smallvec::SmallVec;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{
    AttachError, Link, LogConfig, PublishError, PublishReply, Published, Shared,
    dedupe::Dedupe,
    matcher::{ChannelKey, Matcher},
    publish::PublishRequest,
    warnings::Warnings,
};
use crate::{
    channel::Channel,
    faults::{Fault, planted},
    frame::{Frames, TopicId},
    message::MessageKey,
    store::{Admitted, AppendError, Appended, TopicsExhausted},
};

/// One batch takes no further requests past this many messages or bytes: it bounds how long the first of
/// them waits, and what a reader that stops in the middle of one keeps in memory.
const BATCH_MESSAGES_MAX: usize = 4_096;
const BATCH_BYTES_MAX: usize = 256 << 10;
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
    // Since the start, for the line at the end.
    commits: u64,
    messages: u64,
    secret: [u64; 2],
    // The store has more to let go of than it could last time.
    trim_more: bool,
    warnings: Warnings,
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
    Trim,
    Elsewhere(Arc<Frames>),
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
    // No topic can be forgotten for another any more.
    topics_are_full: bool,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.messages.len() >= BATCH_MESSAGES_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}

impl Sequencer {
    pub(super) fn new(shared: Arc<Shared>, inbox: Inbox, config: LogConfig) -> Self {
        Self {
            secret: shared.store.message_key_secret(),
            trim_more: false,
            shared,
            inbox,
            dedupe: Dedupe::new(config.dedupe),
            config,
            matcher: Matcher::default(),
            channels: Slab::new(),
            tails: VecDeque::new(),
            tail_bytes: 0,
            sweep_from: 0,
            commits: 0,
            messages: 0,
            warnings: Warnings::default(),
        }
    }

    /// Runs until `stop`; what was queued before is still stored and answered. Ends with an error at once when the
    /// store can be trusted no more: what it holds beyond `visible` may not be durable, so nothing is acknowledged
    /// after that.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), AppendError> {
        if !planted(Fault::DedupeForgottenAtRestart) {
            self.dedupe.restore(self.shared.store.recent_ids());
        }
        let mut sweep = tokio::time::interval(self.config.sweep_interval);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Links and messages have the first turn alternately, so that neither a storm of new filters nor one of
        // messages keeps the other waiting. Not left to chance: a replay takes the same turns.
        let mut links_first = true;
        let mut elsewhere = self.shared.store.appended_elsewhere();
        loop {
            let trim_more = self.trim_more;
            let inbox = &mut self.inbox;
            let due = if links_first {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    _ = sweep.tick() => Due::Sweep,
                    others = &mut elsewhere => Due::Elsewhere(others?),
                    Some(link) = inbox.links.recv() => Due::Link(link),
                    Some(request) = inbox.publish.recv() => Due::Batch(request),
                    Some(request) = inbox.background.recv() => Due::Batch(request),
                    () = std::future::ready(()), if trim_more => Due::Trim,
                }
            } else {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    _ = sweep.tick() => Due::Sweep,
                    others = &mut elsewhere => Due::Elsewhere(others?),
                    Some(request) = inbox.publish.recv() => Due::Batch(request),
                    Some(link) = inbox.links.recv() => Due::Link(link),
                    Some(request) = inbox.background.recv() => Due::Batch(request),
                    () = std::future::ready(()), if trim_more => Due::Trim,
                }
            };
            match due {
                Due::Sweep => self.sweep()?,
                Due::Trim => {
                    self.trim();
                    // Whoever else shares the thread has a turn between two of them.
                    tokio::task::yield_now().await;
                }
                Due::Elsewhere(frames) => {
                    let now = Instant::now();
                    let touched = self.show(&[], &frames, now);
                    self.wake(&touched);
                    self.trim_tails(now);
                    elsewhere = self.shared.store.appended_elsewhere();
                }
                Due::Link(link) => {
                    links_first = false;
                    self.link(link);
                }
                Due::Batch(first) => {
                    links_first = true;
                    self.batch(first).await?;
                    // However busy the log is, what has to go goes: a little after each batch.
                    if self.trim_more {
                        self.trim();
                    }
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
            self.batch(request).await?;
        }
        // How well publishers share a commit is the first question to a slow disk.
        tracing::info!(
            commits = self.commits,
            messages = self.messages,
            "log closed"
        );
        Ok(())
    }

    async fn batch(&mut self, first: PublishRequest) -> Result<(), AppendError> {
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
            return Ok(());
        }
        if planted(Fault::VisibleBeforeStored) {
            self.shared.visible.fetch_add(1, Ordering::Release);
        }
        match self.shared.store.append(&batch.messages).await {
            Ok(appended) => {
                self.note_room(Ok(()));
                self.commit(batch, &appended);
                Ok(())
            }
            Err(error) => {
                if planted(Fault::FailedIdRemembered) {
                    let ids = batch.keys.keys();
                    ids.for_each(|&key| self.dedupe.insert(key, 1, Instant::now()));
                }
                refuse(batch.requests, &error);
                match &error {
                    AppendError::Full { .. }
                    | AppendError::Unavailable(_)
                    | AppendError::Unknown(_) => {
                        self.note_room(Err(error));
                        Ok(())
                    }
                    AppendError::Broken(_) => {
                        self.note_room(Err(error.clone()));
                        Err(error)
                    }
                }
            }
        }
    }

    /// Tells whoever watches when publishing begins or ceases to be possible.
    fn note_room(&self, room: Result<(), AppendError>) {
        self.shared.room.send_if_modified(|known| {
            let changed = known.is_ok() != room.is_ok();
            match &room {
                Ok(()) if changed => tracing::info!("publishing is possible again"),
                Err(error) if changed => tracing::error!(%error, "publishing has stopped"),
                _ => {}
            }
            *known = room;
            changed
        });
    }

    /// Decides about each message of a request, in order, up to the first refusal.
    fn admit(&mut self, mut request: PublishRequest, batch: &mut Batch) {
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
                if let Some(sequence) = self.dedupe.find(key)
                    && !planted(Fault::DuplicateGetsNewNumber)
                {
                    outcomes.push(Outcome::Duplicate(sequence));
                    continue;
                }
                if let Some(&index) = batch.keys.get(&key) {
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
                        batch.keys.insert(key, index);
                    }
                    outcomes.push(Outcome::New(index));
                    batch.messages.push(Admitted {
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
        let admitted = self.shared.store.admit(topic);
        if admitted.is_ok() || batch.topics_are_full {
            return admitted;
        }
        let forgotten = self.shared.store.make_room(&batch.messages);
        batch.topics_are_full = forgotten.is_empty();
        for id in forgotten {
            self.matcher.forget(id);
        }
        self.shared.store.admit(topic)
    }

    /// The batch is stored: show it and say so.
    fn commit(&mut self, batch: Batch, appended: &Appended) {
        let now = Instant::now();
        self.commits += 1;
        self.messages += batch.messages.len() as u64;
        let known: &[Admitted] = if appended.is_own() {
            &batch.messages
        } else {
            &[]
        };
        let frames = appended.frames();
        let touched = frames.map(|frames| self.show(known, frames, now));
        for (key, index) in batch.keys {
            self.dedupe.insert(key, appended.outcome(index).0, now);
        }
        let pushed_out = self.dedupe.pushed_out();
        self.shared
            .ids_pushed_out
            .store(pushed_out, Ordering::Relaxed);
        answer(batch.requests, Some(appended));
        // Last: a runtime runs first what was woken last, and a subscriber should not wait for a publisher's answer.
        self.wake(&touched.unwrap_or_default());
        self.trim_tails(now);
    }

    fn wake(&self, touched: &[ChannelKey]) {
        for &key in touched {
            self.channels[key].channel.wake();
        }
    }

    /// What is stored goes to its channels and becomes visible; the channels, whose readers are to be woken. `messages`
    /// are those of the frames, one to one, or none when they come from elsewhere.
    fn show(
        &mut self,
        messages: &[Admitted],
        frames: &Arc<Frames>,
        now: Instant,
    ) -> Vec<ChannelKey> {
        let touched = self.route(messages, frames);
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
        touched
    }

    /// Notes for each channel which entries it gets; the channels that get any.
    fn route(&mut self, messages: &[Admitted], frames: &Frames) -> Vec<ChannelKey> {
        let mut touched = Vec::new();
        let entries = frames.entries();
        let mut begin = 0;
        // Consecutive entries of one topic go the same way.
        for run in entries.chunk_by(|one, next| one.topic == next.topic) {
            let end = begin + run.len();
            let parsed;
            let topic = if let Some(admitted) = messages.get(begin) {
                &admitted.message.topic
            } else if let Some(topic) = frames.topic(begin) {
                parsed = topic;
                &parsed
            } else {
                // A frame that names no topic can have come only from a log that others write; nobody wants it.
                begin = end;
                continue;
            };
            for &key in self.matcher.channels_of(run[0].topic, topic).iter() {
                let due = &mut self.channels[key].due;
                if due.is_empty() {
                    touched.push(key);
                }
                due.extend(begin as u32..end as u32);
            }
            begin = end;
        }
        touched
    }

    fn trim_tails(&mut self, now: Instant) {
        while let Some(oldest) = self.tails.front()
            && ((self.tail_bytes > self.config.tail_bytes_max && !planted(Fault::TailsGrow))
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
        let channel = match known {
            Some(channel) => Ok(channel),
            None if self.channels.len() >= self.config.channels_max => {
                self.shared.channels_refused.fetch_add(1, Ordering::Relaxed);
                let limit = self.config.channels_max;
                Err(AttachError::ChannelsExhausted { limit })
            }
            None => Ok(self.link_new(link.filter)),
        };
        link.reply.send(channel).ok();
    }

    fn link_new(&mut self, filter: TopicFilter) -> Arc<Channel> {
        // Between batches the visible position is the head: nothing is on its way.
        let mut complete_after = self.shared.visible.load(Ordering::Acquire);
        if planted(Fault::SeamLoses) {
            complete_after = complete_after.saturating_sub(1);
        }
        let channel = Arc::new(Channel::new(filter.clone(), complete_after));
        let key = self.channels.insert(Linked {
            channel: channel.clone(),
            due: Vec::new(),
        });
        self.matcher.link(&channel, key);
        if filter.has_wildcard() {
            let mut wildcards = self.shared.wildcards.write();
            wildcards.insert(&filter, channel.clone());
        }
        self.shared.channels.insert(filter, channel.clone());
        channel
    }

    fn sweep(&mut self) -> Result<(), AppendError> {
        let now = Instant::now();
        self.trim_tails(now);
        self.dedupe.expire(now);
        self.trim();
        self.forget_unused();
        let (pushed_out, ids_max) = (self.dedupe.pushed_out(), self.dedupe.ids_max());
        self.warnings.ids_pushed_out(pushed_out, ids_max, now);
        let ahead = self.shared.store.publish_time_ahead();
        self.warnings.publish_time_ahead(ahead, now);
        let room = self.shared.store.room();
        self.note_room(room.clone());
        if let Err(broken @ AppendError::Broken(_)) = room {
            return Err(broken);
        }
        self.unlink_idle(now);
        Ok(())
    }

    /// Lets the store work for about a millisecond on what it does not keep.
    fn trim(&mut self) {
        let trimmed = self.shared.store.trim();
        for id in trimmed.forgotten {
            self.matcher.forget(id);
        }
        self.trim_more = trimmed.more;
    }

    /// Forgets topics that have kept nothing for long and have no reader.
    fn forget_unused(&mut self) {
        let unused = self.shared.store.unused_topics();
        if unused.is_empty() {
            return;
        }
        let is_followed = |topic: &TopicName| {
            let channels = self.shared.channels_of(topic);
            channels.iter().any(|channel| channel.reader_count() > 0)
        };
        let (followed, nobodys): (Vec<_>, Vec<_>) =
            (unused.into_iter()).partition(|(_, topic)| is_followed(topic));
        let ids = |topics: Vec<(TopicId, TopicName)>| {
            topics.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
        };
        let nobodys = ids(nobodys);
        self.shared.store.forget_topics(&nobodys, &ids(followed));
        for id in nobodys {
            self.matcher.forget(id);
        }
    }

    /// Unlinks channels that nobody has read for a while, a bounded number of candidates at a time.
    fn unlink_idle(&mut self, now: Instant) {
        let max = self.config.channels_max;
        let linger = if self.channels.len() > max - max.div_ceil(10) {
            Duration::ZERO
        } else {
            self.config.channel_linger
        };
        let Some(idle_before) = now.checked_sub(linger) else {
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
                if filter.has_wildcard() {
                    self.shared.wildcards.write().remove(&filter);
                }
                self.shared.channels.remove(&filter);
                self.channels.remove(self.sweep_from);
            }
        }
    }
}

/// Nothing new of the batch is stored. What was stored before it is answered as ever, up to the first message that was
/// not.
fn refuse(requests: Vec<Pending>, error: &AppendError) {
    for pending in requests {
        let known = |outcome: &Outcome| match *outcome {
            Outcome::Duplicate(sequence) => Some(Published {
                sequence,
                duplicate: true,
            }),
            Outcome::New(_) | Outcome::SameAs(_) => None,
        };
        let published: SmallVec<[Published; 1]> =
            pending.outcomes.iter().map_while(known).collect();
        let refused = if published.len() == pending.outcomes.len() {
            pending.refused
        } else {
            Some(PublishError::Append(error.clone()))
        };
        if refused.is_some() {
            pending.request.stop_stream();
        }
        let reply = PublishReply { published, refused };
        pending.request.reply.send(reply).ok();
    }
}

/// Answers the publishers of a batch. Without frames no message of it was new.
fn answer(requests: Vec<Pending>, appended: Option<&Appended>) {
    for pending in requests {
        let new = |index: usize| appended.map_or((0, false), |appended| appended.outcome(index));
        let published = pending
            .outcomes
            .iter()
            .map(|outcome| match *outcome {
                Outcome::New(index) => new(index),
                Outcome::SameAs(index) => (new(index).0, true),
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
