//! Takes a batch: numbers and encodes it, has it made durable, then shows it to readers.

use std::sync::{Arc, atomic::Ordering};

use super::{
    BlockKey, Shared,
    history::Recent,
    read::log_key,
    record::{self, Beside},
    sealed::Loaded,
    segment::Record,
    writer::{Commits, Place},
};
use crate::{
    faults::{Fault, planted},
    frame::{self, EventWriter, FRAME_OVERHEAD_BYTES, Frames, TopicId},
    message::MessageKey,
    position::Sequence,
    store::{
        AppendError, NewMessage,
        clock::{Ages, Stamp},
    },
};

pub(super) async fn append(
    shared: &Shared,
    commits: &Commits,
    messages: &[NewMessage],
) -> Result<Arc<Frames>, AppendError> {
    shared.writable()?;
    let numbered = Numbered::new(shared, messages);
    let frames = numbered.encode(messages);
    let keys = keys(messages);
    let encoded = record::encode(
        &frames,
        numbered.stamp,
        Beside::Keys(&keys),
        numbered.first - 1,
        shared.record_secret,
        // Frames say their topics themselves; numbers would need a table that can be damaged.
        |_| 0,
    );
    let header = encoded.header;
    match commits.commit(encoded, frames.clone()).await {
        Ok(place) => {
            shared.keep(&frames, &header, &numbered, &place, &keys);
            Ok(frames)
        }
        Err(error) => {
            if !planted(Fault::NoRollback) {
                numbered.take_back(shared);
            }
            Err(error)
        }
    }
}

/// The numbers of a batch, given out and not yet certain.
struct Numbered {
    first: Sequence,
    stamp: Stamp,
    ages: Ages,
    // Topic and the sequence before, for each message.
    previous: Vec<(TopicId, Sequence)>,
    // Up to here any topic may have had events that are no longer known.
    lost_through: Sequence,
}

impl Numbered {
    fn new(shared: &Shared, messages: &[NewMessage]) -> Self {
        let first = shared.last.load(Ordering::Acquire) + 1;
        let now = shared.environment.unix_nanos();
        let ages = shared.clock.ages();
        let history = &mut *shared.history.write();
        if planted(Fault::TimeGoesBack) {
            history.last.published = 0;
        }
        let previous = (first..)
            .zip(messages)
            .map(|(sequence, new)| {
                let topic = new.topic;
                (topic, history.topics.advance(topic, sequence))
            })
            .collect();
        Self {
            first,
            stamp: Stamp {
                // Never lower than that of an earlier event.
                published: now.max(history.last.published),
                taken: ages.now(),
            },
            ages,
            previous,
            lost_through: history.holes.last().map_or(0, |hole| hole.through),
        }
    }

    fn encode(&self, messages: &[NewMessage]) -> Arc<Frames> {
        let frame_max = |m: &NewMessage| frame::event_len_max(&m.message) + FRAME_OVERHEAD_BYTES;
        let bytes = messages.iter().map(frame_max).sum();
        let mut writer = EventWriter::new(messages.len(), bytes);
        let numbers = (self.first..).zip(&self.previous);
        for (new, (sequence, &(topic, previous))) in messages.iter().zip(numbers) {
            // The event before may have been damaged: then it is not known.
            let previous = if previous > self.lost_through {
                previous
            } else {
                0
            };
            let published = self.stamp.published;
            writer.push(&new.message, topic, sequence, previous, published);
        }
        writer.finish()
    }

    /// Nothing of the batch is stored: its changes are undone.
    fn take_back(&self, shared: &Shared) {
        let history = &mut *shared.history.write();
        for &(topic, previous) in self.previous.iter().rev() {
            history.topics.take_back(topic, previous);
        }
    }
}

fn keys(messages: &[NewMessage]) -> Vec<(u32, MessageKey)> {
    (0..)
        .zip(messages)
        .filter_map(|(index, new)| Some((index, new.message_key?)))
        .collect()
}

impl Shared {
    fn keep(
        &self,
        frames: &Arc<Frames>,
        header: &record::Header,
        numbered: &Numbered,
        place: &Place,
        keys: &[(u32, MessageKey)],
    ) {
        let record = Record {
            frames_at: place.at + header.frames_at() as u64,
            frames_bytes: header.frames_bytes,
            frames_crc: header.frames_crc,
            stamp: numbered.stamp,
            entries: frames.entries().into(),
        };
        let recent = keys.iter().map(|&(entry, key)| Recent {
            key,
            sequence: frames.entries()[entry as usize].sequence,
            taken: numbered.stamp.taken,
        });
        let block = {
            let history = &mut *self.history.write();
            if history.keep(&place.file, record) {
                // One more that is full.
                self.bell.ring();
            }
            history.remember(recent, &self.config, &numbered.ages);
            let segment = history.log.back();
            segment.map_or(0, |segment| segment.records.len() - 1)
        };
        let key = BlockKey {
            file: log_key(place.file.number),
            block: block as u32,
        };
        self.blocks.insert(key, Loaded::Whole(frames.clone()));
        self.last.store(frames.last(), Ordering::Release);
    }
}
