//! One message in, the same message compressed out: gzip and zstd. Their workspaces are kept between two messages,
//! since making one anew costs more than a small message does.
//!
//! Does not: know which messages are worth it, or keep the output.

use flate2::{Crc, FlushCompress, Status};
use parking_lot::Mutex;

/// How the messages of a stream that are large enough are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    #[default]
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// Its name in `grpc-encoding`, `grpc-accept-encoding` and `longlived-compression`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The fastest level of gzip: 28 us for 4 KiB of JSON, which becomes 30 % of itself. The next takes half as much
/// again and saves a twentieth; level 6 takes twice to six times as long for an eighth.
const GZIP_LEVEL: u32 = 1;

/// The fastest level of zstd proper: 9 us for 4 KiB of JSON, which becomes 24 % of itself. Higher levels up to 5 give
/// nothing more for messages of this size.
const ZSTD_LEVEL: i32 = 1;

/// Workspaces that are kept for the next message, a megabyte each at most; a thread that finds none makes one.
const SPARE_MAX: usize = 16;

/// Room for output that is kept with a workspace; the memory of a larger message is given back.
const SPARE_OUTPUT_BYTES_MAX: usize = 128 << 10;

/// Both compressors, for all threads.
#[derive(Default)]
pub(super) struct Codecs {
    gzip: Spare<Gzip>,
    zstd: Spare<Zstd>,
}

impl Codecs {
    /// The compressed message, which is smaller than `message`, handed to `take`; `None` when it would not be.
    pub(super) fn compress<R>(
        &self,
        message: &[u8],
        compression: Compression,
        take: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        match compression {
            Compression::Identity => None,
            Compression::Gzip => self.gzip.compress(message, take),
            Compression::Zstd => self.zstd.compress(message, take),
        }
    }
}

/// Compresses one message after the other.
trait Codec: Sized {
    fn new() -> Option<Self>;

    /// Appends the compressed message to `output` without making it larger; whether it fitted.
    fn append(&mut self, message: &[u8], output: &mut Vec<u8>) -> bool;
}

/// Workspaces that are not in use. Each is used outside the lock.
struct Spare<C>(Mutex<Vec<(C, Vec<u8>)>>);

impl<C> Default for Spare<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C: Codec> Spare<C> {
    fn compress<R>(&self, message: &[u8], take: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let spare = self.0.lock().pop();
        let (mut codec, mut output) = match spare {
            Some(spare) => spare,
            None => (C::new()?, Vec::new()),
        };
        output.clear();
        output.reserve(message.len());
        let smaller = codec.append(message, &mut output) && output.len() < message.len();
        let taken = smaller.then(|| take(&output));
        if output.capacity() > SPARE_OUTPUT_BYTES_MAX {
            output = Vec::new();
        }
        let mut spares = self.0.lock();
        if spares.len() < SPARE_MAX {
            spares.push((codec, output));
        }
        taken
    }
}

/// Deflate, within the header and trailer that make it gzip.
struct Gzip(flate2::Compress);

impl Codec for Gzip {
    fn new() -> Option<Self> {
        let level = flate2::Compression::new(GZIP_LEVEL);
        Some(Self(flate2::Compress::new(level, false)))
    }

    fn append(&mut self, message: &[u8], output: &mut Vec<u8>) -> bool {
        // Magic number, deflate, no flags, no time, the fastest level, an operating system that is not told.
        const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];
        const TRAILER_BYTES: usize = 8;

        if output.capacity() < HEADER.len() + TRAILER_BYTES {
            return false;
        }
        output.extend_from_slice(&HEADER);
        self.0.reset();
        let finished = self
            .0
            .compress_vec(message, output, FlushCompress::Finish)
            .is_ok_and(|status| status == Status::StreamEnd);
        if !finished || output.capacity() - output.len() < TRAILER_BYTES {
            return false;
        }
        let mut crc = Crc::new();
        crc.update(message);
        output.extend_from_slice(&crc.sum().to_le_bytes());
        output.extend_from_slice(&crc.amount().to_le_bytes());
        true
    }
}

struct Zstd(zstd::bulk::Compressor<'static>);

impl Codec for Zstd {
    fn new() -> Option<Self> {
        // It fails only where memory does, and a message that is not compressed is right as well.
        zstd::bulk::Compressor::new(ZSTD_LEVEL).ok().map(Self)
    }

    fn append(&mut self, message: &[u8], output: &mut Vec<u8>) -> bool {
        self.0.compress_to_buffer(message, output).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    fn decompressed(bytes: &[u8], compression: Compression) -> Vec<u8> {
        let mut message = Vec::new();
        match compression {
            Compression::Identity => message.extend_from_slice(bytes),
            Compression::Gzip => {
                let mut decoder = flate2::read::GzDecoder::new(bytes);
                decoder.read_to_end(&mut message).unwrap();
            }
            Compression::Zstd => message = zstd::stream::decode_all(bytes).unwrap(),
        }
        message
    }

    proptest! {
        #[test]
        fn a_compressed_message_is_smaller_and_reads_back_after_any_other(
            messages in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..5_000),
                    prop::collection::vec(0..4_u8, 0..5_000),
                    (any::<u8>(), 0..400_000_usize).prop_map(|(byte, count)| vec![byte; count]),
                ],
                1..6,
            ),
        ) {
            let codecs = Codecs::default();
            for message in &messages {
                for compression in [Compression::Gzip, Compression::Zstd] {
                    let compressed = codecs.compress(message, compression, <[u8]>::to_vec);
                    let Some(compressed) = compressed else { continue };
                    prop_assert!(compressed.len() < message.len());
                    prop_assert_eq!(&decompressed(&compressed, compression), message);
                }
            }
        }
    }

    #[test]
    fn repetitive_bytes_are_compressed_and_noise_is_not() {
        let codecs = Codecs::default();
        let text = b"the same again and again; ".repeat(100);
        let mut state = 1_u64;
        let noise = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        });
        let noise: Vec<u8> = noise.take(2_600).collect();
        for compression in [Compression::Gzip, Compression::Zstd] {
            let length = codecs.compress(&text, compression, <[u8]>::len);
            assert!(length.is_some_and(|length| length < 200), "{length:?}");
            assert_eq!(codecs.compress(&noise, compression, <[u8]>::len), None);
        }
        assert_eq!(
            codecs.compress(&text, Compression::Identity, <[u8]>::len),
            None
        );
    }

    #[test]
    fn workspaces_are_kept_and_the_memory_of_a_large_message_is_not() {
        let codecs = Codecs::default();
        let large = vec![b'x'; 2 << 20];
        assert!(codecs.compress(&large, Compression::Zstd, |_| ()).is_some());
        let spares = codecs.zstd.0.lock();
        assert_eq!(spares.len(), 1);
        assert!(spares[0].1.capacity() <= SPARE_OUTPUT_BYTES_MAX);
    }
}
