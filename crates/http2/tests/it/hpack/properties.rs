//! What holds for any fields and any octets.

use std::collections::VecDeque;

use longlived_http2::hpack::{Decoder, encode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::blocks::{added, added_with_name_of, compressed, integer, plain, size_update};
use super::{Owned, decode, decode_fragments, table_size};

/// A part of a block. Indices and sizes may be wrong.
#[derive(Clone, Debug)]
enum Part {
    Indexed(usize),
    Literal {
        pattern: u8,
        name: Vec<u8>,
        value: Vec<u8>,
    },
    Added(Vec<u8>, Vec<u8>),
    AddedWithNameOf(usize, Vec<u8>),
    SizeUpdate(usize),
    Noise(Vec<u8>),
}

impl Part {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Indexed(index) => integer(out, 0x80, 7, *index),
            Self::Literal {
                pattern,
                name,
                value,
            } => {
                out.push(*pattern);
                plain(out, name);
                compressed(out, value);
            }
            Self::Added(name, value) => added(out, name, value),
            Self::AddedWithNameOf(index, value) => added_with_name_of(out, *index, value),
            Self::SizeUpdate(size) => size_update(out, *size),
            Self::Noise(octets) => out.extend_from_slice(octets),
        }
    }
}

fn string() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "[a-z0-9 :/.-]{0,20}".prop_map(String::into_bytes),
        2 => vec(any::<u8>(), 0..20),
        // Longer than what is decoded at once.
        1 => (vec(any::<u8>(), 1..20), 1..400_usize).prop_map(|(some, times)| some.repeat(times)),
        1 => (any::<u8>(), 0..3000_usize).prop_map(|(octet, len)| vec![octet; len]),
    ]
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        4 => (0..70_usize).prop_map(Part::Indexed),
        2 => (select(vec![0x00, 0x10]), string(), string())
            .prop_map(|(pattern, name, value)| Part::Literal { pattern, name, value }),
        4 => (string(), string()).prop_map(|(name, value)| Part::Added(name, value)),
        4 => (1..68_usize, string()).prop_map(|(index, value)| Part::AddedWithNameOf(index, value)),
        1 => (0..5000_usize).prop_map(Part::SizeUpdate),
        1 => vec(any::<u8>(), 1..6).prop_map(Part::Noise),
    ]
}

fn block(parts: &[Part]) -> Vec<u8> {
    let mut block = Vec::new();
    for part in parts {
        part.write(&mut block);
    }
    block
}

/// The most heap that a table with this limit may have: its strings, and 8 bytes for each entry that fits.
fn held_max(limit: usize) -> usize {
    limit + 8 * (limit / 32).next_power_of_two().max(4)
}

fn field(name: &[u8], value: &[u8], never_indexed: bool) -> Owned {
    Owned {
        name: name.to_vec(),
        value: value.to_vec(),
        never_indexed,
    }
}

/// A dynamic table as the RFC says it (2.3.2, 4), and the fields of a block.
struct Model {
    entries: VecDeque<(Vec<u8>, Vec<u8>)>,
    limit: usize,
}

impl Model {
    fn evict(&mut self, limit: usize) {
        let size = |(name, value): &(Vec<u8>, Vec<u8>)| name.len() + value.len() + 32;
        while self.entries.iter().map(size).sum::<usize>() > limit {
            self.entries.pop_back();
        }
    }

    fn add(&mut self, name: Vec<u8>, value: Vec<u8>) {
        match self.limit.checked_sub(name.len() + value.len() + 32) {
            Some(limit) => {
                self.evict(limit);
                self.entries.push_front((name, value));
            }
            None => self.entries.clear(),
        }
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        fields in vec((string(), string(), any::<bool>()), 0..20),
        known in vec((0..6_usize, any::<bool>()), 0..6),
    ) {
        let names = [":method", ":status", "content-type", "grpc-status", "www-authenticate", "cookie"];
        let values = ["GET", "200", "application/grpc", "0", "", "a=b"];
        let mut expected: Vec<_> = fields
            .iter()
            .map(|(name, value, never)| field(name, value, *never))
            .collect();
        expected.extend(known.iter().map(|&(at, never)| field(names[at].as_bytes(), values[at].as_bytes(), never)));
        let mut block = vec![encode::TABLE_SIZE_ZERO];
        for Owned { name, value, never_indexed } in &expected {
            if *never_indexed {
                encode::never_indexed(&mut block, name, value);
            } else {
                encode::field(&mut block, name, value);
            }
        }
        let mut decoder = Decoder::new(4096);
        prop_assert_eq!(decode(&mut decoder, &block), Ok(expected));
        prop_assert_eq!(decoder.table().count(), 0);
    }

    #[test]
    fn a_block_gives_the_same_however_it_is_cut(
        blocks in vec(vec(part(), 0..8), 1..4),
        cuts in vec(any::<Index>(), 0..6),
        limit in select(vec![0, 40, 100, 4096]),
    ) {
        let (mut whole, mut in_parts) = (Decoder::new(limit), Decoder::new(limit));
        let mut by_octets = Decoder::new(limit);
        for parts in &blocks {
            let block = block(parts);
            let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(block.len() + 1)).collect();
            ends.push(block.len());
            ends.sort_unstable();
            let mut begin = 0;
            let fragments: Vec<_> = ends
                .into_iter()
                .map(|end| &block[std::mem::replace(&mut begin, end)..end])
                .collect();
            let expected = decode(&mut whole, &block);
            prop_assert_eq!(&decode_fragments(&mut in_parts, &fragments), &expected);
            // A long block octet by octet takes too long.
            let octets: Vec<_> = block.chunks(1 + block.len() / 300).collect();
            prop_assert_eq!(&decode_fragments(&mut by_octets, &octets), &expected);
            prop_assert!(whole.table().eq(in_parts.table()));
            if expected.is_err() {
                break;
            }
        }
    }

    #[test]
    fn any_octets_are_decoded_or_refused_and_hold_no_more_than_the_limit(
        blocks in vec(prop_oneof![
            vec(any::<u8>(), 0..200),
            vec(part(), 0..12).prop_map(|parts| block(&parts)),
        ], 1..12),
        limits in vec(select(vec![0, 32, 33, 100, 1000, 4096, 65_535]), 12),
    ) {
        let mut decoder = Decoder::new(4096);
        let mut scratch = Vec::new();
        let mut limit_max = 4096;
        for (block, limit) in blocks.iter().zip(limits) {
            decoder.begin_block();
            // A connection that goes on after an error is no worse for us.
            let taken = decoder.decode(block, &mut scratch, &mut |_| {}).unwrap_or(block.len());
            let _ = decoder.end_block(&block[taken..]);
            prop_assert!(decoder.held_bytes() <= held_max(limit_max));
            prop_assert!(table_size(&decoder) <= limit_max);
            decoder.set_table_size_max(limit);
            limit_max = limit as usize;
            prop_assert!(decoder.held_bytes() <= held_max(limit_max));
        }
        let longest = blocks.iter().map(Vec::len).max().unwrap_or(0);
        prop_assert!(scratch.len() <= longest * 8 / 5 + 2);
    }

    #[test]
    fn the_dynamic_table_is_that_of_a_simple_model(
        limit in select(vec![0, 31, 32, 64, 200, 1000, 4096]),
        blocks in vec((any::<bool>(), any::<Index>(), vec((any::<Index>(), string(), string()), 0..10)), 1..12),
    ) {
        let mut decoder = Decoder::new(limit);
        let mut model = Model { entries: VecDeque::new(), limit: limit as usize };
        for (is_resized, size, additions) in blocks {
            let (mut block, mut expected) = (Vec::new(), Vec::new());
            if is_resized {
                model.limit = size.index(limit as usize + 1);
                model.evict(model.limit);
                size_update(&mut block, model.limit);
            }
            for (index, new_name, value) in additions {
                // As often as there is one, an entry of the table gives the name.
                let choices = model.entries.len() * 2 + 1;
                let name = if let Some((name, _)) = model.entries.get(index.index(choices)) {
                    added_with_name_of(&mut block, 62 + index.index(choices), &value);
                    name.clone()
                } else {
                    added(&mut block, &new_name, &value);
                    new_name
                };
                expected.push(field(&name, &value, false));
                model.add(name, value);
            }
            prop_assert_eq!(decode(&mut decoder, &block), Ok(expected));
            let entries = model.entries.iter().map(|(name, value)| (&name[..], &value[..]));
            prop_assert!(decoder.table().eq(entries));
            prop_assert!(decoder.held_bytes() <= held_max(model.limit));
        }
    }
}
