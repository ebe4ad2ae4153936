use longlived_api::{protos, v1};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::Message;

fn message() -> impl Strategy<Value = Message> {
    (
        prop::collection::vec(any::<u8>(), 0..300),
        "[a-z]{0,20}",
        prop::collection::btree_map("[a-z]{0,9}", ".{0,20}", 0..4),
        any::<bool>(),
    )
        .prop_map(|(payload, key, headers, deleted)| Message {
            key,
            headers,
            deleted,
            ..Message::new(TopicName::parse("orders.eu").unwrap(), payload)
        })
}

fn decode(frame: &[u8]) -> v1::Event {
    assert_eq!(frame[0], 0, "not compressed");
    let len = u32::from_be_bytes(frame[1..5].try_into().unwrap()) as usize;
    assert_eq!(len, frame.len() - PREFIX_BYTES);
    match v1::SubscribeResponse::decode(&frame[5..]).unwrap().frame {
        Some(v1::subscribe_response::Frame::Event(event)) => event,
        other => panic!("not an event: {other:?}"),
    }
}

proptest! {
    #[test]
    fn the_written_bytes_are_those_of_the_generated_type(
        message in message(), sequence in 1u64.., previous in any::<u64>(), time in 0i64..,
    ) {
        let mut writer = EventWriter::new(1, 0);
        writer.push(&message, 3, sequence, previous, time);
        let frames = writer.finish();
        let event = decode(&frames.bytes);
        prop_assert_eq!(&event.topic, "orders.eu");
        prop_assert_eq!(event.sequence, sequence);
        prop_assert_eq!(event.previous_sequence, previous);
        prop_assert_eq!(&event.payload, &message.payload);
        prop_assert_eq!(&event.key, &message.key);
        prop_assert_eq!(&event.headers, &message.headers);
        prop_assert_eq!(event.deleted, message.deleted);
        let published = event.publish_time.unwrap();
        prop_assert_eq!(published.seconds * 1_000_000_000 + i64::from(published.nanos), time);
        prop_assert!(event.encoded_len() <= event_len_max(&message));

        let whole = v1::SubscribeResponse { frame: Some(v1::subscribe_response::Frame::Event(event)) };
        prop_assert_eq!(&encode(&whole), &frames.bytes, "prost writes the same bytes");
    }

    #[test]
    fn a_message_is_above_a_limit_exactly_when_the_received_one_is(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6),
        limit in 20_u32..900,
    ) {
        let mut writer = EventWriter::new(payloads.len(), 0);
        for (index, payload) in payloads.iter().enumerate() {
            let message = Message::new(TopicName::parse("t").unwrap(), payload.clone());
            writer.push(&message, 0, index as u64 + 1, index as u64, 1);
        }
        let slice = Slice::new(writer.finish(), 0, payloads.len());
        for encoding in [Encoding::V1, Encoding::Legacy] {
            let mut bytes = slice.encoded(encoding);
            let mut sizes = Vec::new();
            while let Some(prefix) = bytes.get(1..PREFIX_BYTES) {
                let size = u32::from_be_bytes(prefix.try_into().unwrap());
                sizes.push(size);
                bytes = bytes.slice(PREFIX_BYTES + size as usize..);
            }
            let above = sizes.iter().position(|&size| size > limit);
            prop_assert_eq!(slice.first_above(limit, encoding), above);
            if slice.all_within(limit, encoding) {
                prop_assert_eq!(above, None);
            }
        }
    }

    #[test]
    fn a_selection_keeps_each_chosen_frame_and_no_other(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..20),
        picks in prop::collection::vec(any::<bool>(), 20),
        share in any::<bool>(),
    ) {
        let mut writer = EventWriter::new(payloads.len(), 0);
        for (index, payload) in payloads.iter().enumerate() {
            let message = Message::new(TopicName::parse("t").unwrap(), payload.clone());
            writer.push(&message, 0, index as u64 + 1, index as u64, 1);
        }
        let frames = writer.finish();
        let chosen: Vec<u32> = (0..payloads.len() as u32).filter(|&i| picks[i as usize]).collect();
        prop_assume!(!chosen.is_empty());
        let selected = frames.select(&chosen, share);
        let slice = Slice::new(selected.clone(), 0, chosen.len());
        prop_assert_eq!(slice.len_bytes(), selected.len_bytes());
        for (entry, &index) in selected.entries().iter().zip(&chosen) {
            let event = decode(&selected.bytes[entry.offset as usize..entry.end()]);
            prop_assert_eq!(event.sequence, u64::from(index) + 1);
            prop_assert_eq!(&event.payload, &payloads[index as usize]);
        }

        // The frozen contract: the payloads as text, cut at any place.
        let legacy = join(&[slice], Encoding::Legacy);
        let expected: Vec<u8> = chosen.iter().flat_map(|&index| {
            let data = String::from_utf8_lossy(&payloads[index as usize]).into_owned();
            encode(&protos::Response { data }).to_vec()
        }).collect();
        prop_assert_eq!(&legacy[..], &expected[..]);
    }
}

#[test]
fn events_of_one_batch_have_their_own_times() {
    let message = Message::new(TopicName::parse("t").unwrap(), "x");
    let times = [7, 7, 5_000_000_000, 0, 1_000_000_001, 0, i64::MAX];
    let mut writer = EventWriter::new(times.len(), 0);
    for (sequence, &time) in (1..).zip(&times) {
        writer.push(&message, 0, sequence, 0, time);
    }
    let frames = writer.finish();
    for (entry, time) in frames.entries().iter().zip(times) {
        let event = decode(&frames.bytes[entry.offset as usize..entry.end()]);
        let published = event.publish_time.unwrap();
        let nanos = published.seconds * 1_000_000_000 + i64::from(published.nanos);
        assert_eq!(nanos, time);
    }
}
