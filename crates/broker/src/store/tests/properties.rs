//! The properties of a store that the log relies on: each event is handed out once and in order, every message has its
//! outcome, and reading gives the events of a `Vec`. Each store's tests run it.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration, time::SystemTime};

use longlived_topic::{TopicFilter, TopicName};
use proptest::prelude::*;

use super::many::{OneOfMany, REFUSED, SharedLog};
use crate::{
    Environment, Message, Principal,
    frame::{self, Encoding, Frames, Slice},
    message::MessageKey,
    position::Sequence,
    store::{
        Appended, DiskConfig, DiskStore, FilterFrom, HistoryClass, Limits, MemoryFiles,
        MemoryStore, NewMessage, Query, RetentionConfig, Store,
    },
};

const TOPICS: [&str; 12] = [
    "a.1", "a.2", "a.3", "a.4", "a.5", "a.6", "b.1", "b.2", "b.3", "b.4", "c", "inbox.1",
];
const FILTERS: [&str; 7] = ["a.1", "a.*", "*.2", ">", "b.>", "inbox.1", "c"];
/// Ids of messages where the log itself remembers them.
const IDS: usize = 40;
/// One message in this number is not taken, by a store that refuses single messages.
const REFUSED_ONE_IN: usize = 16;
const TOPICS_MAX: usize = 1_000;
/// The limit of an inbox by default.
const INBOX_EVENTS: u64 = 200_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    /// Over files in memory.
    Disk,
    /// One of two nodes of a log that numbers at append.
    OneOfMany,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Topics of this node's messages, each with a number for its kind, and of those that another node appends
    /// meanwhile.
    Append(Vec<(usize, usize)>, Vec<usize>),
    /// The process ends and another one begins, where history survives that.
    Reopen,
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let own = prop::collection::vec((0..TOPICS.len(), any::<usize>()), 1..30);
    let others = prop::collection::vec(0..TOPICS.len(), 0..5);
    let step = prop_oneof![
        8 => (own, others).prop_map(|(own, others)| Step::Append(own, others)),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

/// The limits, and the queries.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    keep: (u64, u64),
    filters: Vec<(&'static str, Sequence)>,
    after: Sequence,
    bytes_max: usize,
}

pub(crate) fn reading() -> impl Strategy<Value = Reading> {
    let filter = (prop::sample::select(FILTERS.to_vec()), 0..500u64);
    (
        (1..200u64, 1..600u64),
        prop::collection::vec(filter, 1..4),
        0..500u64,
        prop::sample::select(vec![1usize, 100, 5_000, 1 << 20]),
    )
        .prop_map(|(keep, filters, after, bytes_max)| Reading {
            keep,
            filters,
            after,
            bytes_max,
        })
}

/// The whole of it, for one kind of store.
pub(crate) fn hold(kind: Kind, steps: Vec<Step>, reading: &Reading) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut subject = Subject::new(kind, reading.keep);
        for step in steps {
            match step {
                Step::Append(own, others) => subject.append(&own, &others).await?,
                Step::Reopen => subject.reopen()?,
            }
        }
        subject.reads(reading).await?;
        subject.lists().await?;
        subject.finds_times().await
    })
}

struct Subject {
    kind: Kind,
    environment: Environment,
    retention: RetentionConfig,
    keep: (u64, u64),
    files: MemoryFiles,
    store: Arc<dyn Store>,
    other: Option<Arc<OneOfMany>>,
    // The events that the store has handed out, in that order: topic and publish time.
    log: Vec<(&'static str, i64)>,
    // Ids where the log itself remembers them.
    ids: HashMap<usize, Sequence>,
    messages: usize,
}

impl Subject {
    fn new(kind: Kind, keep: (u64, u64)) -> Self {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let environment = Environment::seeded(1, start);
        let class = |(filter, events)| HistoryClass {
            filter: TopicFilter::parse(filter).unwrap(),
            limits: Limits {
                events,
                bytes: u64::MAX,
                age: None,
            },
        };
        let classes = [("a.>", keep.0), (">", keep.1)].map(class);
        let retention = RetentionConfig::new(classes.to_vec());
        let in_memory = || MemoryStore::new(environment.clone(), retention.clone(), TOPICS_MAX);
        let files = MemoryFiles::new();
        let (store, other): (Arc<dyn Store>, _) = match kind {
            Kind::Memory => (Arc::new(in_memory()), None),
            Kind::Disk => (on_disk(&files, &environment, &retention), None),
            Kind::OneOfMany => {
                let shared = SharedLog::new(in_memory());
                (shared.node(), Some(shared.node()))
            }
        };
        Self {
            kind,
            environment,
            retention,
            keep,
            files,
            store,
            other,
            log: Vec::new(),
            ids: HashMap::new(),
            messages: 0,
        }
    }

    fn reopen(&mut self) -> Result<(), TestCaseError> {
        if self.kind != Kind::Disk {
            return Ok(());
        }
        let (epoch, secret) = (self.store.epoch(), self.store.message_key_secret());
        self.files.kill();
        self.store = on_disk(&self.files, &self.environment, &self.retention);
        prop_assert_eq!(self.store.last_sequence(), self.last_sequence());
        prop_assert_eq!(self.store.epoch(), epoch);
        prop_assert_eq!(self.store.message_key_secret(), secret);
        Ok(())
    }

    fn last_sequence(&self) -> Sequence {
        self.log.len() as Sequence
    }

    /// A message whose payload is `text`.
    fn message(&self, topic: usize, id: &str, text: String) -> NewMessage {
        let name = TopicName::parse(TOPICS[topic]).unwrap();
        let message = Message {
            message_id: id.to_owned(),
            ..Message::new(name.clone(), text)
        };
        let secret = self.store.message_key_secret();
        NewMessage {
            topic: self.store.topic_id(&name).unwrap(),
            message_key: MessageKey::of(&message, &Principal::anonymous(), secret),
            message,
        }
    }

    /// Both nodes append at a time, and each listens for the other's events meanwhile, as the sequencer does.
    async fn append(
        &mut self,
        own: &[(usize, usize)],
        others: &[usize],
    ) -> Result<(), TestCaseError> {
        tokio::time::advance(Duration::from_secs(1)).await;
        let is_many = self.kind == Kind::OneOfMany;
        let mut messages: Vec<NewMessage> = Vec::new();
        let mut ids = Vec::new();
        for &(topic, special) in own {
            // Nobody but the log itself may find the same id twice.
            let id = if is_many {
                special % IDS
            } else {
                self.messages
            };
            self.messages += 1;
            let refused = special % REFUSED_ONE_IN == 0;
            let text = if refused {
                REFUSED.to_owned()
            } else {
                id.to_string()
            };
            // The same id on another topic is another message.
            messages.push(self.message(topic, &id.to_string(), text));
            ids.push((id * TOPICS.len() + topic, refused && is_many));
        }
        let theirs = others
            .iter()
            .map(|&topic| self.message(topic, "", "theirs".to_owned()));
        let theirs: Vec<_> = theirs.collect();
        let other = self.other.clone();
        let elsewhere = async {
            if let Some(other) = &other
                && !theirs.is_empty()
            {
                other.append(&theirs).await.unwrap();
            }
        };
        let store = self.store.clone();
        let (appended, ()) = tokio::join!(self.append_and_hear(&*store, &messages), elsewhere);
        let appended = appended?;
        for (index, (id, refused)) in ids.into_iter().enumerate() {
            let outcome = appended.outcome(index);
            let before = self.ids.get(&id).copied().filter(|_| is_many);
            prop_assert_eq!(outcome.is_err(), refused && before.is_none());
            let Ok((sequence, duplicate)) = outcome else {
                continue;
            };
            prop_assert_eq!(duplicate, before.is_some());
            prop_assert_eq!(before.unwrap_or(sequence), sequence);
            let topic = messages[index].message.topic.as_str();
            prop_assert_eq!(self.log[sequence as usize - 1].0, topic);
            self.ids.insert(id, sequence);
        }
        while let Some(frames) = self.hears_more().await {
            self.hand_out(&frames)?;
        }
        prop_assert_eq!(self.store.last_sequence(), self.last_sequence());
        self.store.trim();
        Ok(())
    }

    async fn append_and_hear(
        &mut self,
        store: &dyn Store,
        messages: &[NewMessage],
    ) -> Result<Appended, TestCaseError> {
        let mut append = pin!(store.append(messages));
        let appended = loop {
            tokio::select! {
                biased;
                appended = &mut append => break appended.unwrap(),
                others = store.appended_elsewhere() => self.hand_out(&others.unwrap())?,
            }
        };
        if let Some(frames) = appended.frames() {
            self.hand_out(frames)?;
        }
        Ok(appended)
    }

    /// Events of others behind this node's own; none ever comes where there are no others.
    async fn hears_more(&self) -> Option<Arc<Frames>> {
        self.other.as_ref()?;
        let heard = tokio::time::timeout(Duration::from_secs(1), self.store.appended_elsewhere());
        heard.await.ok().map(|frames| frames.unwrap())
    }

    /// Each event once, one after the other.
    fn hand_out(&mut self, frames: &Frames) -> Result<(), TestCaseError> {
        let events: Vec<_> = frame::events(frames.bytes().clone()).collect();
        prop_assert_eq!(events.len(), frames.entries().len());
        for (entry, (len, event)) in frames.entries().iter().zip(events) {
            prop_assert_eq!(entry.len as usize, len);
            prop_assert_eq!(entry.sequence, event.sequence);
            prop_assert_eq!(event.sequence, self.last_sequence() + 1);
            let topic = TOPICS.iter().find(|topic| **topic == event.topic);
            let time = event.publish_time.unwrap();
            let time = time.seconds * 1_000_000_000 + i64::from(time.nanos);
            let topic = *topic.expect("one of those that are published to");
            let before = self.log.iter().rposition(|(earlier, _)| *earlier == topic);
            let before = before.map_or(0, |index| index as Sequence + 1);
            prop_assert_eq!(event.previous_sequence, before);
            prop_assert!(self.log.last().is_none_or(|&(_, earlier)| earlier <= time));
            self.log.push((topic, time));
        }
        Ok(())
    }

    /// Which events retention has left: each class keeps its newest.
    fn kept(&self) -> Vec<bool> {
        let mut left = [self.keep.0, INBOX_EVENTS, self.keep.1];
        let mut kept: Vec<bool> = (self.log.iter().rev())
            .map(|(topic, _)| {
                let class = match *topic {
                    topic if topic.starts_with("a.") => 0,
                    "inbox.1" => 1,
                    _ => 2,
                };
                let keeps = left[class] > 0;
                left[class] = left[class].saturating_sub(1);
                keeps
            })
            .collect();
        kept.reverse();
        kept
    }

    /// Page by page: the events of a filter over a `Vec`.
    async fn reads(&self, reading: &Reading) -> Result<(), TestCaseError> {
        let (after, filters) = (reading.after, &reading.filters);
        let wanted = |index: usize| {
            let sequence = index as Sequence + 1;
            let matches = |&(filter, from): &(&str, Sequence)| {
                let filter = TopicFilter::parse(filter).unwrap();
                sequence > from && filter.matches(self.log[index].0)
            };
            sequence > after && filters.iter().any(matches)
        };
        let kept = self.kept();
        let all = || (0..self.log.len()).filter(|&index| wanted(index));
        let sequence = |index| index as Sequence + 1;
        let expected: Vec<_> = all().filter(|&index| kept[index]).map(sequence).collect();
        let trimmed = all().filter(|&index| !kept[index]).map(sequence).max();
        let mut found = Vec::new();
        let mut at = after;
        while at < self.last_sequence() {
            let from = |&(filter, after): &(&str, Sequence)| FilterFrom {
                filter: TopicFilter::parse(filter).unwrap(),
                after,
            };
            let query = Query {
                filters: filters.iter().map(from).collect(),
                after: at,
                through: self.last_sequence(),
                bytes_max: reading.bytes_max,
            };
            let page = self.store.read(query).await.unwrap();
            if at == after {
                let gone = trimmed.unwrap_or(0);
                prop_assert_eq!(page.trimmed_through, gone, "exactly the removed events");
            }
            prop_assert!(page.damaged.is_empty());
            prop_assert!(page.through > at, "each page makes progress");
            at = page.through;
            let slices: Vec<_> = page.slices.into_iter().collect();
            let entries = slices.iter().flat_map(Slice::entries);
            let sequences: Vec<_> = entries.map(|entry| entry.sequence).collect();
            let events = frame::events(frame::join(&slices, Encoding::V1));
            for ((_, event), &sequence) in events.zip(&sequences) {
                prop_assert_eq!(event.sequence, sequence);
                prop_assert_eq!(&event.topic, self.log[sequence as usize - 1].0);
            }
            found.extend(sequences);
        }
        prop_assert_eq!(found, expected);
        Ok(())
    }

    /// The summary of each topic is true.
    async fn lists(&self) -> Result<(), TestCaseError> {
        let kept = self.kept();
        let infos = self
            .store
            .topics(TopicFilter::parse(">").unwrap(), None, 100);
        for info in infos.await.unwrap() {
            let name = info.topic.as_str();
            let all = || (0..self.log.len()).filter(|&index| self.log[index].0 == name);
            let number = |index: Option<usize>| index.map_or(0, |index| index as Sequence + 1);
            let first = all().find(|&index| kept[index]);
            prop_assert_eq!(info.first, number(first));
            prop_assert_eq!(info.last, number(all().next_back()));
            let events = all().filter(|&index| kept[index]).count();
            prop_assert_eq!(info.events, events as u64);
        }
        Ok(())
    }

    /// Nothing that is kept and was published at or after a time lies before the place where the time begins.
    async fn finds_times(&self) -> Result<(), TestCaseError> {
        let kept = self.kept();
        let step = (self.log.len() / 10).max(1);
        for &(_, time) in self.log.iter().step_by(step) {
            for time in [time, time + 1] {
                let before = self.store.before_time(time).await.unwrap();
                let is_later = |&index: &usize| kept[index] && self.log[index].1 >= time;
                let first = (0..self.log.len()).find(is_later);
                let first = first.map_or(self.last_sequence() + 1, |index| index as Sequence + 1);
                prop_assert!(before < first, "{} of {}: {}", time, first, before);
            }
        }
        Ok(())
    }
}

fn on_disk(
    files: &MemoryFiles,
    environment: &Environment,
    retention: &RetentionConfig,
) -> Arc<dyn Store> {
    let config = DiskConfig {
        segment_bytes: 4 << 10,
        segment_begin_bytes: 4 << 10,
        reserve_bytes: 0,
        inline: true,
        ..DiskConfig::new("/data".into())
    };
    let opened = DiskStore::open_with(
        Arc::new(files.clone()),
        config,
        environment.clone(),
        retention.clone(),
        TOPICS_MAX,
    );
    Arc::new(opened.unwrap())
}

proptest! {
    #[test]
    fn one_of_many_nodes_hands_out_and_reads_the_events_of_all(
        steps in steps(), reading in reading(),
    ) {
        hold(Kind::OneOfMany, steps, &reading)?;
    }
}
