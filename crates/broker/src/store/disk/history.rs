//! The store's index in memory: topics, classes with their sealed files and floors, and the log's segments with their
//! index.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use longlived_topic::{TopicFilter, TopicName};

use super::{
    DiskConfig,
    floors::Former,
    format::{FileRef, Hole, IDS_PART_MAX, Ids, State, TopicState},
    sealed::Sealed,
    segment::{Record, Segment, SegmentFile},
};
use crate::{
    faults::{Fault, planted},
    frame::{Entry, TopicId},
    message::MessageKey,
    position::Sequence,
    store::{
        Limits, RecentId, RetentionConfig, TopicsExhausted,
        clock::{Ages, Stamp},
        topics::Topics,
    },
};

#[derive(Debug)]
pub(super) struct History {
    pub(super) retention: RetentionConfig,
    pub(super) topics: Topics,
    // The configured classes by their index, then those that are not configured any more and still have files.
    pub(super) classes: Vec<Class>,
    configured: usize,
    /// Everything up to here is in sealed files or gone; the log has the rest.
    pub(super) sealed_through: Sequence,
    pub(super) sealed_time: i64,
    // All but the last are full and never change.
    pub(super) log: VecDeque<Arc<Segment>>,
    pub(super) holes: Vec<Hole>,
    pub(super) recent: VecDeque<Recent>,
    pub(super) version: u64,
    /// The segments of the process before this one, while its log is taken over.
    pub(super) former: Option<Former>,
    /// Times of the last event.
    pub(super) last: Stamp,
}

/// A retention class.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) identity: String,
    pub(super) limits: Limits,
    /// Oldest first; a reader takes the list and reads on, even if it changes here.
    pub(super) files: Arc<Vec<Arc<Sealed>>>,
    /// Nothing of the class up to here is kept.
    pub(super) floor: Sequence,
    pub(super) floor_time: i64,
    pub(super) events: u64,
    pub(super) bytes: u64,
    /// No kept event was taken before, so age need not be looked at.
    pub(super) oldest_taken: i64,
}

/// A message id that was stored lately.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recent {
    pub(super) key: MessageKey,
    pub(super) sequence: Sequence,
    pub(super) taken: i64,
}

impl Class {
    pub(super) fn new(identity: String, limits: Limits) -> Self {
        Self {
            identity,
            limits,
            files: Arc::default(),
            floor: 0,
            floor_time: i64::MIN,
            events: 0,
            bytes: 0,
            oldest_taken: i64::MIN,
        }
    }

    /// Whether its oldest event, which was taken then, has to go.
    pub(super) fn is_over(&self, taken: i64, ages: &Ages) -> bool {
        self.events > self.limits.events
            || self.bytes > self.limits.bytes
            || self.limits.outlived(taken, ages)
    }
}

impl History {
    pub(super) fn new(retention: RetentionConfig, topics_max: usize) -> Self {
        let classes: Vec<_> = retention
            .identities()
            .zip(retention.limits())
            .map(|(identity, limits)| Class::new(identity, limits))
            .collect();
        let mut topics = Topics::new(topics_max);
        // Until something is sealed the log may name any of them.
        topics.reusable_through(0);
        Self {
            configured: classes.len(),
            retention,
            topics,
            classes,
            sealed_through: 0,
            sealed_time: 0,
            log: VecDeque::new(),
            holes: Vec::new(),
            recent: VecDeque::new(),
            version: 0,
            former: None,
            last: Stamp::default(),
        }
    }

    pub(super) fn topic_id(&mut self, topic: &TopicName) -> Result<TopicId, TopicsExhausted> {
        let class = self.retention.class_of(topic);
        self.topics.add(topic.clone(), class)
    }

    /// The id of a topic that is on the disk.
    pub(super) fn known(&mut self, topic: &TopicName) -> TopicId {
        let class = self.retention.class_of(topic);
        self.topics.known(topic, class)
    }

    /// The class of sealed files; one that is not configured any more goes on, under limits that its files give it.
    pub(super) fn class_of_files(&mut self, identity: &str) -> usize {
        let known = self
            .classes
            .iter()
            .position(|class| class.identity == identity);
        known.unwrap_or_else(|| {
            let none = Limits {
                events: 0,
                bytes: 0,
                age: Some(Duration::ZERO),
            };
            self.classes.push(Class::new(identity.to_owned(), none));
            self.classes.len() - 1
        })
    }

    /// The classes whose files may hold matching events of a filter.
    pub(super) fn classes_for(&self, filter: &TopicFilter) -> impl Iterator<Item = &Class> {
        let configured = self.retention.classes_for(filter);
        configured
            .chain(self.configured..self.classes.len())
            .map(|index| &self.classes[index])
    }

    /// The highest floor of the classes that a filter may concern.
    pub(super) fn floor_for(&self, filter: &TopicFilter) -> Sequence {
        let floors = self.classes_for(filter).map(|class| class.floor);
        floors.max().unwrap_or(0)
    }

    /// Puts a batch into the log; the new segment is the one before when the file is the same. Whether a segment has
    /// become full.
    pub(super) fn keep(&mut self, file: &Arc<SegmentFile>, record: Record) -> bool {
        let last = self.log.back().map(|segment| segment.file.number);
        if last != Some(file.number) {
            self.log.push_back(Arc::new(Segment::new(file.clone())));
        }
        for entry in record.entries.iter() {
            let topic = self.topics.get(entry.topic);
            let former = self.former_floor(&topic.name);
            let class = &mut self.classes[topic.class];
            // A log that is read back may hold events that retention had removed already.
            if entry.sequence > class.floor.max(former) {
                if class.events == 0 {
                    class.oldest_taken = record.stamp.taken;
                }
                class.events += 1;
                class.bytes += u64::from(entry.len);
                self.topics.kept(entry);
            } else {
                // Its topic may have come from a class that kept it.
                let sequence = entry.sequence;
                self.topics.recall(entry.topic, sequence, sequence);
            }
        }
        self.saw(record.stamp);
        // No reader has the last segment: it is lent out only when it is full.
        let segment = self.log.back_mut().and_then(Arc::get_mut);
        segment
            .expect("the last segment is lent to nobody")
            .push(record);
        last != Some(file.number) && last.is_some()
    }

    /// A subscriber may have seen an event with these times: no later event is older.
    pub(super) fn saw(&mut self, stamp: Stamp) {
        self.last.published = self.last.published.max(stamp.published);
        self.last.taken = self.last.taken.max(stamp.taken);
    }

    /// Nothing of a topic up to here was kept by the process whose log is taken over.
    pub(super) fn former_floor(&self, topic: &TopicName) -> Sequence {
        self.former
            .as_ref()
            .map_or(0, |former| former.floor_of(topic))
    }

    /// Remembers message ids.
    pub(super) fn remember(
        &mut self,
        ids: impl IntoIterator<Item = Recent>,
        config: &DiskConfig,
        ages: &Ages,
    ) {
        // Ids of a segment that was being sealed are read twice.
        let last = self.recent.back().map_or(0, |recent| recent.sequence);
        self.recent
            .extend(ids.into_iter().filter(|id| id.sequence > last));
        while let Some(first) = self.recent.front()
            && (self.recent.len() > config.ids_max || ages.of(first.taken) > config.ids_age_max)
        {
            self.recent.pop_front();
        }
    }

    pub(super) fn recent_ids(&self, ages: &Ages) -> Vec<RecentId> {
        let ids = self.recent.iter().map(|recent| RecentId {
            key: recent.key,
            sequence: recent.sequence,
            age: ages.of(recent.taken),
        });
        ids.collect()
    }

    /// The message ids of everything that is sealed when `through` is, in at least one part.
    pub(super) fn ids_through(&self, through: Sequence) -> Vec<Ids> {
        let sealed = self.recent.iter().filter(|id| id.sequence <= through);
        let part = || Ids {
            through,
            ..Ids::default()
        };
        let mut parts = vec![part()];
        for recent in sealed {
            if parts[parts.len() - 1].sequence.len() == IDS_PART_MAX {
                parts.push(part());
            }
            if let Some(ids) = parts.last_mut() {
                ids.key_low.push(recent.key.0 as u64);
                ids.key_high.push((recent.key.0 >> 64) as u64);
                ids.sequence.push(recent.sequence);
                ids.taken.push(recent.taken);
            }
        }
        let count = parts.len() as u32;
        for ids in &mut parts {
            ids.parts = count;
        }
        parts
    }

    /// The last event that is in a sealed file.
    pub(super) fn last_sealed(&self) -> Sequence {
        let last = self.classes.iter().filter_map(|class| class.files.last());
        last.map(|file| file.last()).max().unwrap_or(0)
    }

    /// Adds sealed files to their classes.
    pub(super) fn add_files(&mut self, files: Vec<(usize, Arc<Sealed>)>) {
        for (class, file) in files {
            Arc::make_mut(&mut self.classes[class].files).push(file);
        }
    }

    /// Counts the kept events of a sealed file, and gives the file to its class.
    pub(super) fn count_sealed(&mut self, class: &str, sealed: &Arc<Sealed>) {
        let class = self.class_of_files(class);
        if class >= self.configured {
            // The limits of its topics, the largest of each: a new name for the same class loses nothing.
            for topic in &sealed.topics {
                let like = self.retention.class_of(&topic.name);
                let limits = self.classes[like].limits;
                self.classes[class].limits = self.classes[class].limits.or(limits);
            }
        }
        for topic in &sealed.topics {
            let (events, bytes) = (u64::from(topic.events), topic.bytes);
            self.topics.recall(topic.id, topic.last, 0);
            self.topics.kept_many(topic.id, events, bytes);
            self.classes[class].events += events;
            self.classes[class].bytes += bytes;
        }
        let floor = self.classes[class].floor;
        self.add_files(vec![(class, sealed.clone())]);
        // Retention was in the middle of this file: take out the events that it had removed.
        for (number, block) in sealed.blocks.iter().enumerate() {
            if block.first > floor {
                break;
            }
            // Damage is met, and counted, where it is read.
            let Ok(Some(index)) = sealed.load_index(number) else {
                continue;
            };
            for entry in index.entries.iter().filter(|entry| entry.sequence <= floor) {
                if let Some(topic) = sealed.topics.get(entry.topic as usize) {
                    let bytes = u64::from(entry.len);
                    self.topics.let_go_before(topic.id, bytes);
                    self.topics.recall(topic.id, 0, entry.sequence);
                    let class = &mut self.classes[class];
                    class.events = class.events.saturating_sub(1);
                    class.bytes = class.bytes.saturating_sub(bytes);
                }
            }
        }
    }

    /// Of the `STATE` that is written next.
    pub(super) fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// The next content of `STATE`, but for the topics.
    pub(super) fn next_state(&mut self, next_file: u64) -> State {
        let mut refs: BTreeMap<Sequence, FileRef> = BTreeMap::new();
        for class in &self.classes {
            for file in class.files.iter() {
                let named = FileRef {
                    first: file.first(),
                    last: file.last(),
                    number: file.id,
                    class: class.identity.clone(),
                };
                refs.insert(file.first(), named);
            }
        }
        State {
            version: self.next_version(),
            sealed_through: self.sealed_through,
            sealed_time: self.sealed_time,
            files: refs.into_values().collect(),
            classes: self.class_states(),
            topics: Vec::new(),
            forgotten_through: self.topics.forgotten_through(),
            holes: self.holes.clone(),
            next_file,
            clock: None,
            has_head: true,
        }
    }

    /// The topics of `STATE`, from one id on, up to a number; and where to go on.
    pub(super) fn topic_states(
        &self,
        from: usize,
        limit: usize,
        states: &mut Vec<TopicState>,
    ) -> Option<usize> {
        let topics = self.topics.from(from);
        let remembered = topics
            .iter()
            .take(limit)
            .filter(|topic| topic.trimmed_through > 0 || (topic.events == 0 && topic.last > 0));
        states.extend(remembered.map(|topic| TopicState {
            name: topic.name.as_str().to_owned(),
            last: topic.last,
            trimmed_through: topic.trimmed_through,
        }));
        (topics.len() > limit).then(|| from + limit)
    }

    /// Takes over the content of `STATE`, but for the files.
    pub(super) fn recall(&mut self, state: &State) {
        self.topics.reusable_through(state.sealed_through);
        self.version = state.version;
        self.sealed_through = state.sealed_through;
        self.sealed_time = state.sealed_time;
        let clock = state.clock.as_ref();
        self.last = Stamp {
            published: state.sealed_time,
            taken: clock.map_or(state.sealed_time, |clock| clock.last),
        };
        if !planted(Fault::DamageForgottenAtRestart) {
            self.holes.clone_from(&state.holes);
        }
        for known in &state.topics {
            if let Ok(name) = TopicName::parse(&known.name) {
                let id = self.known(&name);
                // Its entries about the log were not certain when they were written; the log itself has them again.
                let sealed = known.last <= state.sealed_through;
                let last = if sealed { known.last } else { 0 };
                self.topics.recall(id, last, known.trimmed_through);
            }
        }
        self.topics.recall_forgotten(state.forgotten_through);
    }

    /// Notes that events were lost to damage.
    pub(super) fn add_hole(&mut self, after: Sequence, through: Sequence) {
        self.holes.push(Hole { after, through });
        self.holes.sort_unstable_by_key(|hole| hole.after);
        let mut merged: Vec<Hole> = Vec::with_capacity(self.holes.len());
        for hole in self.holes.drain(..) {
            match merged.last_mut() {
                Some(last) if hole.after <= last.through => {
                    last.through = last.through.max(hole.through);
                }
                _ => merged.push(hole),
            }
        }
        self.holes = merged;
    }

    /// Takes an event that was lost to damage out of the kept ones.
    pub(super) fn forget_damaged(&mut self, entry: &Entry) {
        let class = &mut self.classes[self.topics.get(entry.topic).class];
        if entry.sequence > class.floor {
            let bytes = u64::from(entry.len);
            class.events = class.events.saturating_sub(1);
            class.bytes = class.bytes.saturating_sub(bytes);
            self.topics.let_go_before(entry.topic, bytes);
        }
    }
}
