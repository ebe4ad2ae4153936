//! The bytes of a delivery for readers that asked for compression: each event that is large enough is compressed once
//! for each contract and encoding, and all its readers share the result.
//!
//! Events stand in many batches (the live tails of several filters, chunks that were merged, history, blocks read from
//! disk), so compressed events are kept by sequence and not with any of them. They live in a cache with one limit in
//! bytes, for all messages and all encodings. An event that was evicted is compressed again when it is read.
//!
//! Holds: a thread that compresses holds only the lock of that one event, for which only its other readers wait.

use std::{
    convert::Infallible,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::{BufMut, Bytes, BytesMut};
use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};
use smallvec::SmallVec;

use super::{
    Compression, Encoding, FRAME_OVERHEAD_BYTES, PREFIX_BYTES, Slice, compression::Codecs, join,
};
use crate::position::Sequence;

/// Encoded messages below this are sent as they are: headers and a packet cost more than they would save, and readers
/// would have to decompress them.
pub(crate) const COMPRESSED_MESSAGE_BYTES_MIN: usize = 1 << 10;

/// Encoded messages above this are sent as they are: compressing 1 MiB holds up a connection for 2 ms (zstd) or 4 ms
/// (gzip), and this is the largest event unless the operator allows larger ones.
pub(crate) const COMPRESSED_MESSAGE_BYTES_MAX: usize = (1 << 20) + FRAME_OVERHEAD_BYTES;

/// The least a cache of compressed events may have: space for a few of the largest in each of its parts. 16 MiB, a
/// number that an operator can write down.
pub(crate) const COMPRESSED_BYTES_MIN: usize = CACHE_PARTS * (4 << 20);

/// Parts of the cache, each with a lock of its own and its share of the bytes.
const CACHE_PARTS: usize = 4;

/// The cost of one kept event beside its bytes.
const KEPT_OVERHEAD_BYTES: usize = 128;

/// For how many events the cache remembers that they were there.
const REMEMBERED_EVENTS: usize = 16_384;

/// The compressed events since the start, and the kept ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompressionCounts {
    /// Events compressed with gzip, those among them that did not get smaller included.
    pub gzip: u64,
    /// The same with zstd.
    pub zstd: u64,
    /// Bytes of compressed events that are kept now.
    pub kept_bytes: u64,
}

/// Compresses events when they are first read so, and keeps the results.
pub(crate) struct Compressor {
    codecs: Codecs,
    kept: Cache<Key, Form, ByBytes>,
    gzip: AtomicU64,
    zstd: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    sequence: Sequence,
    encoding: Encoding,
    compression: Compression,
}

/// The result for an event.
#[derive(Clone)]
enum Form {
    /// The whole frame, its prefix with the flag.
    Smaller(Bytes),
    /// It is sent as it is.
    NotSmaller,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Form> for ByBytes {
    fn weight(&self, _: &Key, form: &Form) -> u64 {
        let bytes = match form {
            Form::Smaller(frame) => frame.len(),
            Form::NotSmaller => 0,
        };
        (bytes + KEPT_OVERHEAD_BYTES) as u64
    }
}

/// Part of a delivery.
enum Piece<'a> {
    Plain(&'a [u8]),
    Compressed(Bytes),
}

impl Piece<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Compressed(bytes) => bytes,
        }
    }
}

impl Compressor {
    /// A compressor that keeps this many bytes, and at least [`COMPRESSED_BYTES_MIN`].
    pub(crate) fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.max(COMPRESSED_BYTES_MIN);
        let options = OptionsBuilder::new()
            .shards(CACHE_PARTS)
            .estimated_items_capacity(REMEMBERED_EVENTS)
            .weight_capacity(bytes_max as u64)
            // Readers of live events come within moments of each other and never again. An entry that was read twice is
            // worth less here than a new one.
            .hot_allocation(0.5)
            .build()
            .expect("the options that must be set are");
        Self {
            codecs: Codecs::default(),
            kept: Cache::with_options(
                options,
                ByBytes,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            gzip: AtomicU64::new(0),
            zstd: AtomicU64::new(0),
        }
    }

    pub(crate) fn counts(&self) -> CompressionCounts {
        CompressionCounts {
            gzip: self.gzip.load(Ordering::Relaxed),
            zstd: self.zstd.load(Ordering::Relaxed),
            kept_bytes: self.kept.weight(),
        }
    }

    /// The bytes of several slices as one, like [`join`], with those events compressed for which it is worth it.
    #[inline]
    pub(crate) fn join(
        &self,
        slices: &[Slice],
        encoding: Encoding,
        compression: Compression,
    ) -> Bytes {
        if compression == Compression::Identity {
            return join(slices, encoding);
        }
        self.join_compressed(slices, encoding, compression)
    }

    fn join_compressed(
        &self,
        slices: &[Slice],
        encoding: Encoding,
        compression: Compression,
    ) -> Bytes {
        let large = |slice: &Slice| slice.frames.largest(encoding) >= MIN_FRAME;
        if !slices.iter().any(large) {
            return join(slices, encoding);
        }
        let mut pieces: SmallVec<[Piece<'_>; 8]> = SmallVec::new();
        for slice in slices {
            self.cut(slice, encoding, compression, &mut pieces);
        }
        if let [Piece::Compressed(frame)] = &pieces[..] {
            return frame.clone();
        }
        if !pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Compressed(_)))
        {
            return join(slices, encoding);
        }
        let size = pieces.iter().map(|piece| piece.bytes().len()).sum();
        let mut joined = BytesMut::with_capacity(size);
        for piece in &pieces {
            joined.put_slice(piece.bytes());
        }
        joined.freeze()
    }

    /// Cuts a slice into runs that are sent as they are, and compressed frames.
    fn cut<'a>(
        &self,
        slice: &'a Slice,
        encoding: Encoding,
        compression: Compression,
        pieces: &mut SmallVec<[Piece<'a>; 8]>,
    ) {
        let bytes = slice.frames.encoded(encoding);
        let run = slice.begin as usize..slice.end as usize;
        let mut plain_from = slice.frames.place(run.start, encoding).start;
        for index in run.clone() {
            let place: Range<usize> = slice.frames.place(index, encoding);
            let frame = &bytes[place.clone()];
            if !(MIN_FRAME..=MAX_FRAME).contains(&frame.len()) {
                continue;
            }
            let key = Key {
                sequence: slice.frames.entries[index].sequence,
                encoding,
                compression,
            };
            if let Form::Smaller(compressed) = self.form(key, frame) {
                if plain_from < place.start {
                    pieces.push(Piece::Plain(&bytes[plain_from..place.start]));
                }
                pieces.push(Piece::Compressed(compressed));
                plain_from = place.end;
            }
        }
        let end = slice.frames.place(run.end - 1, encoding).end;
        if plain_from < end {
            pieces.push(Piece::Plain(&bytes[plain_from..end]));
        }
    }

    fn form(&self, key: Key, frame: &[u8]) -> Form {
        let compress = || Ok::<_, Infallible>(self.compress(key.compression, frame));
        let Ok(form) = self.kept.get_or_insert_with(&key, compress);
        form
    }

    fn compress(&self, compression: Compression, frame: &[u8]) -> Form {
        let counter = match compression {
            Compression::Identity => return Form::NotSmaller,
            Compression::Gzip => &self.gzip,
            Compression::Zstd => &self.zstd,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let framed = |message: &[u8]| {
            let mut framed = Vec::with_capacity(PREFIX_BYTES + message.len());
            framed.put_u8(1);
            framed.put_u32(message.len() as u32);
            framed.put_slice(message);
            Bytes::from(framed)
        };
        let message = &frame[PREFIX_BYTES..];
        let compressed = self.codecs.compress(message, compression, framed);
        compressed.map_or(Form::NotSmaller, Form::Smaller)
    }
}

const MIN_FRAME: usize = PREFIX_BYTES + COMPRESSED_MESSAGE_BYTES_MIN;
const MAX_FRAME: usize = PREFIX_BYTES + COMPRESSED_MESSAGE_BYTES_MAX;

#[cfg(test)]
mod tests;
