use std::{io::Read as _, sync::Arc};

use longlived_api::{protos, v1};
use longlived_topic::TopicName;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{
    frame::{EventWriter, Frames},
    message::Message,
};

const BOTH: [Compression; 2] = [Compression::Gzip, Compression::Zstd];

fn frames(first: Sequence, payloads: &[Vec<u8>]) -> Arc<Frames> {
    let mut writer = EventWriter::new(payloads.len(), 0);
    for (sequence, payload) in (first..).zip(payloads) {
        let topic = TopicName::parse("orders.eu").unwrap();
        writer.push(
            &Message::new(topic, payload.clone()),
            0,
            sequence,
            sequence - 1,
            1,
        );
    }
    writer.finish()
}

fn whole(frames: &Arc<Frames>) -> Slice {
    Slice::new(frames.clone(), 0, frames.entries().len())
}

/// The flag and the message of each frame, decompressed.
fn messages(mut bytes: &[u8], compression: Compression) -> Vec<(u8, Vec<u8>)> {
    let mut messages = Vec::new();
    while let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() {
        let [flag, length @ ..] = *prefix;
        let (message, rest) = rest.split_at(u32::from_be_bytes(length) as usize);
        bytes = rest;
        let message = match (flag, compression) {
            (0, _) => message.to_vec(),
            (1, Compression::Gzip) => {
                let mut plain = Vec::new();
                let mut decoder = flate2::read::GzDecoder::new(message);
                decoder.read_to_end(&mut plain).unwrap();
                plain
            }
            (1, Compression::Zstd) => zstd::stream::decode_all(message).unwrap(),
            other => panic!("a frame with {other:?}"),
        };
        messages.push((flag, message));
    }
    assert!(bytes.is_empty(), "whole frames");
    messages
}

fn sequences(bytes: &[u8], compression: Compression) -> Vec<u64> {
    let sequence =
        |message: Vec<u8>| match v1::SubscribeResponse::decode(&message[..]).unwrap().frame {
            Some(v1::subscribe_response::Frame::Event(event)) => event.sequence,
            other => panic!("not an event: {other:?}"),
        };
    let messages = messages(bytes, compression).into_iter();
    messages.map(|(_, message)| sequence(message)).collect()
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..100),
        2 => prop::collection::vec(any::<u8>(), 0..3_000),
        // Lossy text of it is three times as long.
        1 => prop::collection::vec(0x80..0xc0_u8, 300..600),
        3 => (any::<u8>(), 900..9_000_usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

proptest! {
    #[test]
    fn any_mix_of_sizes_slices_and_encodings_says_the_same_as_without_compression(
        batches in prop::collection::vec(prop::collection::vec(payload(), 1..12), 1..5),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 5),
    ) {
        let compressor = Compressor::new(0);
        let mut slices = Vec::new();
        let mut first = 1;
        for (payloads, (begin, end)) in batches.iter().zip(&cuts) {
            let begin = begin.index(payloads.len());
            let end = begin + 1 + end.index(payloads.len() - begin);
            slices.push(Slice::new(frames(first, payloads), begin, end));
            first += payloads.len() as u64;
        }
        for encoding in [Encoding::V1, Encoding::Legacy] {
            let plain = messages(&join(&slices, encoding), Compression::Identity);
            for compression in BOTH {
                // The second time from the cache.
                for _ in 0..2 {
                    let joined = compressor.join(&slices, encoding, compression);
                    let said = messages(&joined, compression);
                    prop_assert_eq!(said.len(), plain.len());
                    for ((flag, message), (_, expected)) in said.iter().zip(&plain) {
                        prop_assert_eq!(message, expected);
                        prop_assert!(*flag == 0 || message.len() >= COMPRESSED_MESSAGE_BYTES_MIN);
                    }
                }
            }
            let identity = compressor.join(&slices, encoding, Compression::Identity);
            prop_assert_eq!(identity, join(&slices, encoding));
        }
    }
}

/// A batch of one event whose encoded message has this number of bytes.
fn of_size(bytes: usize) -> Arc<Frames> {
    let payload = (0..=bytes).rev().find_map(|length| {
        let frames = frames(1, &[vec![b'x'; length]]);
        (frames.len_bytes() == PREFIX_BYTES + bytes).then_some(frames)
    });
    payload.unwrap()
}

#[test]
fn the_least_and_the_largest_that_are_compressed_are_those_that_the_limits_name() {
    for (bytes, expected) in [
        (COMPRESSED_MESSAGE_BYTES_MIN - 1, 0),
        (COMPRESSED_MESSAGE_BYTES_MIN, 1),
        (COMPRESSED_MESSAGE_BYTES_MAX, 1),
        (COMPRESSED_MESSAGE_BYTES_MAX + 1, 0),
    ] {
        let slice = whole(&of_size(bytes));
        for compression in BOTH {
            // Each size is the same event here: none may find the cached bytes of another.
            let compressor = Compressor::new(0);
            let joined = compressor.join(std::slice::from_ref(&slice), Encoding::V1, compression);
            assert_eq!(joined[0], expected, "{bytes} bytes with {compression:?}");
            assert_eq!(messages(&joined, compression)[0].1.len(), bytes);
        }
    }
}

#[test]
fn an_event_that_does_not_get_smaller_is_sent_as_it_is_and_tried_once() {
    let compressor = Compressor::new(0);
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    });
    let slice = whole(&frames(1, &[noise.take(4_096).collect()]));
    for _ in 0..3 {
        for compression in BOTH {
            let joined = compressor.join(std::slice::from_ref(&slice), Encoding::V1, compression);
            // The very bytes of the batch.
            assert_eq!(joined.as_ptr(), slice.encoded(Encoding::V1).as_ptr());
        }
    }
    let counts = compressor.counts();
    assert_eq!((counts.gzip, counts.zstd), (1, 1));
}

#[test]
fn an_event_is_compressed_once_in_every_batch_and_for_every_reader() {
    let compressor = Compressor::new(0);
    let large = vec![b'x'; 4_096];
    let one = frames(1, &[large.clone(), b"small".to_vec(), large.clone()]);
    let two = frames(4, std::slice::from_ref(&large));
    // As another live tail has it, as a merge makes it, and as history reads it back.
    let picked = one.select(&[0, 2], false);
    let merged = Frames::concat(&[one.clone(), two.clone()]);
    let read = Frames::from_parts(merged.bytes().clone(), merged.entries().to_vec()).unwrap();
    for compression in BOTH {
        let join = |frames: &Arc<Frames>| {
            let joined = compressor.join(&[whole(frames)], Encoding::V1, compression);
            sequences(&joined, compression)
        };
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    assert_eq!(join(&merged), [1, 2, 3, 4]);
                    assert_eq!(join(&one), [1, 2, 3]);
                    assert_eq!(join(&picked), [1, 3]);
                    assert_eq!(join(&two), [4]);
                    assert_eq!(join(&read), [1, 2, 3, 4]);
                });
            }
        });
        let [first, again] = [&two, &read.select(&[3], false)]
            .map(|frames| compressor.join(&[whole(frames)], Encoding::V1, compression));
        assert_eq!(first.as_ptr(), again.as_ptr(), "one frame for all");
    }
    let counts = compressor.counts();
    assert_eq!((counts.gzip, counts.zstd), (3, 3));

    // The other contract has messages of its own.
    let joined = compressor.join(&[whole(&two)], Encoding::Legacy, Compression::Zstd);
    let (flag, message) = messages(&joined, Compression::Zstd).remove(0);
    let response = protos::Response::decode(&message[..]).unwrap();
    assert_eq!((flag, response.data.as_bytes()), (1, &large[..]));
    assert_eq!(compressor.counts().zstd, 4);
}

#[test]
fn the_cache_never_exceeds_its_bound_and_has_the_newest_event() {
    let compressor = Compressor::new(0);
    // Digits in no order: less than half of it remains.
    let mut state = 1_u64;
    let digits = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        b'0' + (state >> 33) as u8 % 10
    });
    let payload: Vec<u8> = digits.take(512 << 10).collect();
    let mut made = 0;
    for sequence in 1..=120 {
        let frames = frames(sequence, std::slice::from_ref(&payload));
        for _ in 0..2 {
            let joined = compressor.join(&[whole(&frames)], Encoding::V1, Compression::Zstd);
            made += joined.len();
        }
        let counts = compressor.counts();
        assert_eq!(counts.zstd, sequence, "the second reader finds it");
        assert!(counts.kept_bytes <= COMPRESSED_BYTES_MIN as u64);
    }
    assert!(
        made / 2 > COMPRESSED_BYTES_MIN,
        "more was made than is kept"
    );
}
