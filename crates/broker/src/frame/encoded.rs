//! The frames of a batch in the messages of another contract, made of those of version 1 when they are first read.
//!
//! Holds: one batch is encoded at most once in each encoding, and all its readers share the outcome.
//! Does not: know the messages of any contract; the caller passes the function that writes them.

use std::{ops::Range, sync::OnceLock};

use bytes::{Bytes, BytesMut};

use super::{Encoding, Frames};

/// Writes the event of a frame as a frame of another encoding.
pub(super) type Write = fn(frame: &[u8], into: &mut BytesMut);

/// The frames of a batch in one encoding, and where each ends.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) bytes: Bytes,
    ends: Box<[u32]>,
    pub(super) largest_frame: u32,
}

impl Encoded {
    fn of(frames: &Frames, write: Write) -> Self {
        let mut bytes = BytesMut::with_capacity(frames.bytes.len());
        let mut largest_frame = 0;
        let ends = frames
            .entries
            .iter()
            .map(|entry| {
                let begin = bytes.len();
                let frame = &frames.bytes[entry.offset as usize..entry.end()];
                write(frame, &mut bytes);
                largest_frame = largest_frame.max(bytes.len() - begin);
                bytes.len() as u32
            })
            .collect();
        Self {
            bytes: bytes.freeze(),
            ends,
            largest_frame: largest_frame as u32,
        }
    }

    /// Where the frame of an entry stands.
    pub(super) fn place(&self, index: usize) -> Range<usize> {
        let begin = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        begin as usize..self.ends[index] as usize
    }
}

/// A batch by encoding: a list, since a batch is seldom read in more than one beside its own.
#[derive(Debug, Default)]
pub(super) struct Encodings(OnceLock<Box<Kept>>);

#[derive(Debug)]
struct Kept {
    encoding: Encoding,
    encoded: Encoded,
    next: Encodings,
}

impl Encodings {
    /// The batch in this encoding. It is written when it is first asked for.
    // Apart, so that reading frames as they are pays nothing for the walk.
    #[cold]
    #[inline(never)]
    pub(super) fn get(&self, encoding: Encoding, frames: &Frames, write: Write) -> &Encoded {
        let mut at = self;
        loop {
            let kept = at.0.get_or_init(|| {
                Box::new(Kept {
                    encoding,
                    encoded: Encoded::of(frames, write),
                    next: Self::default(),
                })
            });
            if kept.encoding == encoding {
                return &kept.encoded;
            }
            at = &kept.next;
        }
    }
}
