//! The only writer of the log: takes the queue as one batch, has the store number and keep it, appends it to the
//! live tails that match, raises `visible`, answers the publishers and wakes the readers.
//!
//! While the store works on a batch, new filters are linked, events of other nodes are shown, idle live tails are
//! unlinked and the order to stop is heard. Publishers wait: their messages become the next batch.
//!
//! Holds: a frame reaches a live tail only after `Store::append` returned; `visible` rises only after a batch is
//! in all its live tails; no live tail is linked or unlinked while a batch is being shown. So a live tail begins after
//! `visible`, and gets all events that are shown later. Among them is the batch that is being stored when the live tail
//! is linked. Does not: know subscribers.

mod batch;
mod elsewhere;
mod inbox;
mod sweep;

use std::{
    collections::VecDeque,
    future::ready,
    pin::pin,
    sync::{Arc, atomic::Ordering},
};

use futures_util::future::{Fuse, FusedFuture as _, FutureExt as _};
use longlived_topic::TopicFilter;
use slab::Slab;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

pub(super) use self::inbox::Queues;
use self::{
    batch::{Batch, answer},
    elsewhere::Elsewhere,
    inbox::{Inbox, Incoming},
};
use super::{
    AttachError, Link, LogConfig, Shared,
    dedupe::Dedupe,
    matcher::{LiveTailKey, Matcher},
    warnings::Warnings,
};
use crate::{
    faults::{Fault, planted},
    frame::Frames,
    live_tail::LiveTail,
    store::{AppendError, Appended, NewMessage, Store},
};

/// The writer of one log. [`Sequencer::run`] is its life.
pub struct Sequencer {
    shared: Arc<Shared>,
    inbox: Inbox,
    config: LogConfig,
    matcher: Matcher,
    live_tails: Slab<Linked>,
    dedupe: Dedupe,
    // Every chunk in a tail, oldest first, over all live tails.
    tails: VecDeque<TailChunk>,
    tail_bytes: usize,
    sweep_from: usize,
    // Since the start, for the line at the end.
    commits: u64,
    messages: u64,
    secret: [u64; 2],
    // The store has more to let go of than it could last time.
    trim_more: bool,
    // A sweep came while the store was busy.
    sweep_store_next: bool,
    warnings: Warnings,
    // Why the log ends as soon as the append in flight has ended.
    ending: Option<AppendError>,
}

struct Linked {
    tail: Arc<LiveTail>,
    // Matching entries of the batch that is being shown; empty otherwise.
    matching: Vec<u32>,
}

struct TailChunk {
    tail: Arc<LiveTail>,
    bytes: usize,
    since: Instant,
}

impl Sequencer {
    pub(super) fn new(shared: Arc<Shared>, queues: Queues, config: LogConfig) -> Self {
        Self {
            secret: shared.store.message_key_secret(),
            trim_more: false,
            sweep_store_next: false,
            inbox: Inbox::new(queues, Elsewhere::new(shared.clone())),
            shared,
            dedupe: Dedupe::new(config.dedupe),
            config,
            matcher: Matcher::default(),
            live_tails: Slab::new(),
            tails: VecDeque::new(),
            tail_bytes: 0,
            sweep_from: 0,
            commits: 0,
            messages: 0,
            warnings: Warnings::default(),
            ending: None,
        }
    }

    /// Runs until `stop`; messages that were queued before are still stored and answered. Ends with an error when the
    /// store can be trusted no more: at once, or when the append in flight has ended and its publishers are answered.
    /// Events of the store beyond `visible` may not be durable, so nothing is acknowledged after that.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), AppendError> {
        self.dedupe.restore(self.shared.store.recent_ids());
        let mut sweep = tokio::time::interval(self.config.sweep_interval);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let store = self.shared.store.clone();
        let mut stopped = pin!(stop.cancelled().fuse());
        let mut storing = pin!(Fuse::terminated());
        loop {
            let is_storing = !storing.is_terminated();
            let trim_now = self.trim_more && !is_storing;
            tokio::select! {
                biased;
                (batch, stored) = &mut storing => self.end_append(batch, stored)?,
                () = &mut stopped => self.inbox.close(),
                _ = sweep.tick() => self.sweep(is_storing)?,
                incoming = self.inbox.next(is_storing) => match incoming {
                    Ok(Incoming::Link(link)) => self.link(link),
                    Ok(Incoming::Elsewhere(frames)) => {
                        let shown = self.show_others(&frames);
                        shown.or_else(|broken| self.end(broken, is_storing))?;
                    }
                    Ok(Incoming::Publish(first)) => match self.gather(first) {
                        Some(batch) => storing.set(append(&*store, batch).fuse()),
                        None => self.sweep_after_append(),
                    },
                    Ok(Incoming::Closed) => break,
                    Err(broken) => self.end(broken, is_storing)?,
                },
                () = ready(()), if trim_now => {
                    self.trim();
                    // Other tasks of the thread have a turn between two of them.
                    tokio::task::yield_now().await;
                }
            }
        }
        // How well publishers share a commit is the first question to a slow disk.
        tracing::info!(
            commits = self.commits,
            messages = self.messages,
            "log closed"
        );
        Ok(())
    }

    /// The log ends with this error. An append in flight comes to its end before: its messages are stored, and their
    /// publishers are told so.
    fn end(&mut self, broken: AppendError, storing: bool) -> Result<(), AppendError> {
        self.note_writable(Err(broken.clone()));
        if !storing {
            return Err(broken);
        }
        self.inbox.end_elsewhere();
        self.ending.get_or_insert(broken);
        Ok(())
    }

    /// The append of a batch has ended.
    fn end_append(
        &mut self,
        batch: Batch,
        stored: Result<Appended, AppendError>,
    ) -> Result<(), AppendError> {
        let now = Instant::now();
        // The outcomes of single messages say nothing of the next batch, unless the store is broken.
        let writable = match stored.and_then(|appended| self.show_own(&batch, appended, now)) {
            Ok((appended, touched)) => {
                let failure = appended.failure().cloned();
                self.commit(batch, &appended, &touched, now);
                match failure {
                    None => Some(Ok(())),
                    Some(broken @ AppendError::Broken(_)) => Some(Err(broken)),
                    Some(_) => None,
                }
            }
            Err(error) => {
                if planted(Fault::FailedIdRemembered) {
                    for (key, (_, principal)) in &batch.keys {
                        self.dedupe.insert(*key, principal, 1, Instant::now());
                    }
                }
                answer(batch.requests, Err(&error));
                Some(Err(error))
            }
        };
        if let Some(writable) = self.ending.take().map(Err).or(writable) {
            self.note_writable(writable.clone());
            if let Err(broken @ AppendError::Broken(_)) = writable {
                return Err(broken);
            }
        }
        self.sweep_after_append();
        Ok(())
    }

    /// Tells the watchers of the log when publishing begins or ceases to be possible.
    fn note_writable(&self, writable: Result<(), AppendError>) {
        self.shared.writable.send_if_modified(|known| {
            let changed = known.is_ok() != writable.is_ok();
            match &writable {
                Ok(()) if changed => tracing::info!("publishing is possible again"),
                Err(error) if changed => tracing::error!(%error, "publishing has stopped"),
                _ => {}
            }
            *known = writable;
            changed
        });
    }

    /// Shows the stored part of the batch. Returns the live tails whose readers are to be woken.
    fn show_own(
        &mut self,
        batch: &Batch,
        appended: Appended,
        now: Instant,
    ) -> Result<(Appended, Vec<LiveTailKey>), AppendError> {
        let messages = &batch.messages;
        let Some(stored) = appended.stored_of(messages.len()) else {
            let text = "the store does not tell the outcome of each message of a batch";
            return Err(contradiction(text));
        };
        let known: &[NewMessage] = if appended.is_own() { messages } else { &[] };
        let touched = match appended.frames() {
            Some(frames) => self.show(known, frames, now)?,
            None => Vec::new(),
        };
        self.messages += stored as u64;
        Ok((appended, touched))
    }

    /// The publishers of the stored messages are answered, and their readers are woken.
    fn commit(&mut self, batch: Batch, appended: &Appended, touched: &[LiveTailKey], now: Instant) {
        self.commits += 1;
        for (key, (index, principal)) in batch.keys {
            if let Ok((sequence, _)) = appended.outcome(index) {
                self.dedupe.insert(key, &principal, sequence, now);
            }
        }
        let pushed_out = self.dedupe.pushed_out();
        self.shared
            .ids_pushed_out
            .store(pushed_out, Ordering::Relaxed);
        answer(batch.requests, Ok(appended));
        // Last: a runtime runs the task first that was woken last, and a subscriber should not wait for a publisher's
        // answer.
        self.wake(touched);
        self.trim_tails(now);
    }

    /// Shows the events that other nodes have appended.
    fn show_others(&mut self, frames: &Arc<Frames>) -> Result<(), AppendError> {
        let now = Instant::now();
        let touched = self.show(&[], frames, now)?;
        self.wake(&touched);
        self.trim_tails(now);
        Ok(())
    }

    fn wake(&self, touched: &[LiveTailKey]) {
        for &key in touched {
            self.live_tails[key].tail.wake();
        }
    }

    /// Appends stored events to their live tails and makes them visible. Returns the live tails whose readers are to be
    /// woken. `messages` are those of the frames, one to one, or none when they come from elsewhere. No event at or
    /// below `visible` is shown: a store that hands one out can be trusted no more.
    fn show(
        &mut self,
        messages: &[NewMessage],
        frames: &Arc<Frames>,
        now: Instant,
    ) -> Result<Vec<LiveTailKey>, AppendError> {
        let visible = self.shared.visible.load(Ordering::Relaxed);
        if frames.first() <= visible && !planted(Fault::VisibleBeforeStored) {
            return Err(contradiction(&format!(
                "the store hands out event {} after event {visible}",
                frames.first()
            )));
        }
        let touched = self.route(messages, frames);
        for &key in &touched {
            let linked = &mut self.live_tails[key];
            // A small view would keep the whole batch in memory for as long as the tail has it.
            let bytes = linked
                .matching
                .iter()
                .map(|&index| frames.entries()[index as usize].len);
            let share = bytes.map(|len| len as usize).sum::<usize>() * 4 >= frames.len_bytes();
            let chunk = frames.select(&linked.matching, share);
            linked.matching = Vec::new();
            self.tail_bytes += chunk.len_bytes();
            self.tails.push_back(TailChunk {
                tail: linked.tail.clone(),
                bytes: chunk.len_bytes(),
                since: now,
            });
            linked.tail.append(chunk);
        }
        self.shared.visible.store(frames.last(), Ordering::Release);
        Ok(touched)
    }

    /// Notes for each live tail which entries it gets; the live tails that get any.
    fn route(&mut self, messages: &[NewMessage], frames: &Frames) -> Vec<LiveTailKey> {
        let mut touched = Vec::new();
        let entries = frames.entries();
        let mut begin = 0;
        // Consecutive entries of one topic go the same way.
        for run in entries.chunk_by(|one, next| one.topic == next.topic) {
            let end = begin + run.len();
            let parsed;
            let topic = if let Some(new) = messages.get(begin) {
                &new.message.topic
            } else if let Some(topic) = frames.topic(begin) {
                parsed = topic;
                &parsed
            } else {
                // A frame that names no topic can have come only from a log that others write; no live tail wants it.
                begin = end;
                continue;
            };
            for &key in self.matcher.live_tails_of(run[0].topic, topic).iter() {
                let matching = &mut self.live_tails[key].matching;
                if matching.is_empty() {
                    touched.push(key);
                }
                matching.extend(begin as u32..end as u32);
            }
            begin = end;
        }
        touched
    }

    fn trim_tails(&mut self, now: Instant) {
        while let Some(oldest) = self.tails.front()
            && (self.tail_bytes > self.config.tail_bytes_max
                || now.duration_since(oldest.since) > self.config.tail_age_max)
        {
            oldest.tail.drop_oldest();
            self.tail_bytes -= oldest.bytes;
            self.tails.pop_front();
        }
    }

    fn link(&mut self, link: Link) {
        let known = self
            .shared
            .live_tails
            .get(&link.filter)
            .map(|entry| entry.value().clone());
        let tail = match known {
            Some(tail) => Ok(tail),
            None if self.live_tails.len() >= self.config.channels_max => {
                self.shared
                    .live_tails_refused
                    .fetch_add(1, Ordering::Relaxed);
                let limit = self.config.channels_max;
                Err(AttachError::ChannelsExhausted { limit })
            }
            None => Ok(self.link_new(link.filter)),
        };
        link.reply.send(tail).ok();
    }

    fn link_new(&mut self, filter: TopicFilter) -> Arc<LiveTail> {
        // All events shown from here on come to the live tail, also the batch that is being stored now.
        let mut complete_after = self.shared.visible.load(Ordering::Acquire);
        if planted(Fault::SeamLoses) {
            complete_after = complete_after.saturating_sub(1);
        }
        let tail = Arc::new(LiveTail::new(filter.clone(), complete_after));
        let key = self.live_tails.insert(Linked {
            tail: tail.clone(),
            matching: Vec::new(),
        });
        self.matcher.link(&tail, key);
        if filter.has_wildcard() {
            let mut wildcards = self.shared.wildcards.write();
            wildcards.insert(&filter, tail.clone());
        }
        self.shared.live_tails.insert(filter, tail.clone());
        tail
    }
}

/// The store breaks its contract: a line for the operators, and the end of the log.
#[cold]
fn contradiction(text: &str) -> AppendError {
    tracing::error!("{text}: the log ends");
    AppendError::Broken(text.to_owned())
}

/// An append with the batch that it is about.
async fn append(store: &dyn Store, batch: Batch) -> (Batch, Result<Appended, AppendError>) {
    let stored = store.append(&batch.messages).await;
    (batch, stored)
}
