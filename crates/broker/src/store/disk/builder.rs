//! Writes a sealed file: gathers events into blocks, then adds the footer and syncs.

use std::{io, path::PathBuf, sync::Arc};

use bytes::{BufMut as _, BytesMut};
use longlived_topic::TopicName;
use prost::Message as _;
use rustc_hash::FxHashMap;

use super::{
    files::{File, Files, OpenMode},
    format::{
        BLOCK_EVENTS_MAX, BLOCKS_MAX, Block, Postings, Summary, TopicPostings, TopicSummary, place,
    },
    record::{self, Beside, Mark},
    sealed::{Footer, Part, Sealed, SealedTopic, Trailer},
};
use crate::{
    frame::{Entry, Frames, TopicId},
    position::Sequence,
    store::clock::Stamp,
};

/// Size at which a block is written. It is large enough that the cost of reading on is small beside that of the bytes.
/// It is small enough that one event far from all others costs little more than itself.
const BLOCK_BYTES: usize = 32 << 10;

/// A sealed file being written.
pub(super) struct Builder {
    path: PathBuf,
    file: Arc<dyn File>,
    class: String,
    record_secret: u64,
    at: u64,
    locals: FxHashMap<TopicId, u32>,
    topics: Vec<SealedTopic>,
    postings: Postings,
    blocks: Vec<Block>,
    open: OpenBlock,
    last: Sequence,
    last_stamp: Stamp,
}

#[derive(Default)]
struct OpenBlock {
    bytes: BytesMut,
    entries: Vec<Entry>,
    stamp: Stamp,
    marks: Vec<Mark>,
}

impl Builder {
    /// Begins the file. It counts when it is finished and `STATE` names it.
    pub(super) fn create(
        files: &dyn Files,
        path: PathBuf,
        class: String,
        record_secret: u64,
    ) -> io::Result<Self> {
        Ok(Self {
            file: files.open(&path, OpenMode::Create)?,
            path,
            class,
            record_secret,
            at: 0,
            locals: FxHashMap::default(),
            topics: Vec::new(),
            postings: Postings::default(),
            blocks: Vec::new(),
            open: OpenBlock::default(),
            last: 0,
            last_stamp: Stamp::default(),
        })
    }

    /// Whether another event can be taken.
    pub(super) fn has_space(&self) -> bool {
        self.blocks.len() + 1 < BLOCKS_MAX
    }

    /// Adds an event. Sequences and times rise.
    pub(super) fn push(
        &mut self,
        name: &TopicName,
        entry: &Entry,
        frame: &[u8],
        stamp: Stamp,
    ) -> io::Result<()> {
        let local = *self.locals.entry(entry.topic).or_insert_with(|| {
            self.topics.push(SealedTopic {
                name: name.clone(),
                id: entry.topic,
                events: 0,
                bytes: 0,
                last: 0,
            });
            self.postings.topics.push(TopicPostings::default());
            (self.topics.len() - 1) as u32
        });
        let open = &mut self.open;
        if open.entries.is_empty() {
            open.stamp = stamp;
        } else if stamp != self.last_stamp {
            open.marks.push(Mark {
                entry: open.entries.len() as u32,
                stamp,
            });
        }
        self.postings.topics[local as usize]
            .places
            .push(place(self.blocks.len(), open.entries.len()));
        let topic = &mut self.topics[local as usize];
        topic.events += 1;
        topic.bytes += u64::from(entry.len);
        topic.last = entry.sequence;
        open.entries.push(Entry {
            sequence: entry.sequence,
            topic: local,
            offset: open.bytes.len() as u32,
            len: entry.len,
        });
        open.bytes.put_slice(frame);
        self.last_stamp = stamp;
        if open.bytes.len() >= BLOCK_BYTES || open.entries.len() == BLOCK_EVENTS_MAX {
            self.write_block()?;
        }
        Ok(())
    }

    fn write_block(&mut self) -> io::Result<()> {
        let open = std::mem::take(&mut self.open);
        let Some(frames) = Frames::from_parts(open.bytes.freeze(), open.entries) else {
            return Ok(());
        };
        let encoded = record::encode(
            &frames,
            open.stamp,
            Beside::Marks(&open.marks),
            self.last,
            self.record_secret,
            |local| local,
        );
        self.file
            .write_all_at(&encoded.parts(frames.bytes()), self.at)?;
        let record_bytes = encoded.header.record_bytes();
        self.blocks.push(Block {
            offset: self.at,
            record_bytes: record_bytes as u32,
            events: frames.entries().len() as u32,
            first: frames.first(),
            last: frames.last(),
            time: open.stamp.published,
            taken: Some(open.stamp.taken),
        });
        self.last = frames.last();
        self.at += record_bytes as u64;
        Ok(())
    }

    /// Writes the footer and syncs.
    pub(super) fn finish(mut self, id: u64) -> io::Result<Sealed> {
        self.write_block()?;
        let summary = Summary {
            class: self.class.clone(),
            topics: self
                .topics
                .iter()
                .map(|topic| TopicSummary {
                    name: topic.name.as_str().to_owned(),
                    events: topic.events,
                    bytes: topic.bytes,
                    last: topic.last,
                })
                .collect(),
            blocks: std::mem::take(&mut self.blocks),
            last_time: self.last_stamp.published,
        };
        let postings = self.write_part(&self.postings.encode_to_vec())?;
        let summary_part = self.write_part(&summary.encode_to_vec())?;
        let trailer = Trailer {
            summary: summary_part,
            postings,
        };
        self.file.write_all_at(&[&trailer.encode()], self.at)?;
        self.file.sync()?;
        Ok(Sealed::new(
            id,
            self.path,
            self.file,
            Footer {
                topics: self.topics,
                blocks: summary.blocks,
                last_time: summary.last_time,
                postings,
            },
            self.record_secret,
        ))
    }

    fn write_part(&mut self, content: &[u8]) -> io::Result<Part> {
        self.file.write_all_at(&[content], self.at)?;
        let part = Part {
            offset: self.at,
            len: content.len() as u32,
            crc: crc32c::crc32c(content),
        };
        self.at += content.len() as u64;
        Ok(part)
    }
}
