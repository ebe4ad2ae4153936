//! Replays the blocks that `tests/hpack/in_step.py` kept, with what nghttp2, Python's hpack and ours made of them.

use std::str::Lines;

use longlived_http2::hpack::Decoder;

use super::{Owned, decode, decode_fragments, octets, table_size};

/// Words and octets: `tests/hpack/corpus.py` writes them.
const CORPUS: &str = include_str!("../../corpus/hpack/blocks.txt");

/// `=` and a string, whose octets that are not printable are written as `\xHH`.
fn string(text: &str) -> Vec<u8> {
    let text = text.strip_prefix('=').expect("a string begins with =");
    let mut parts = text.split("\\x");
    let mut string = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (octet, rest) = part.split_at(2);
        string.extend(octets(octet));
        string.extend_from_slice(rest.as_bytes());
    }
    string
}

/// The next lines that begin with one of these words and have a name and a value.
fn pairs(lines: &mut Lines<'_>, words: [&str; 2]) -> Vec<Owned> {
    let mut pairs = Vec::new();
    loop {
        let mut ahead = lines.clone();
        let line: Vec<_> = ahead.next().unwrap_or_default().split(' ').collect();
        let &[word, name, value] = &line[..] else {
            return pairs;
        };
        if !words.contains(&word) {
            return pairs;
        }
        pairs.push(Owned {
            name: string(name),
            value: string(value),
            never_indexed: word == "never",
        });
        *lines = ahead;
    }
}

/// Replays it, with blocks that come whole or octet by octet, and says how many there were.
fn replay(decode: impl Fn(&mut Decoder, &[u8]) -> Result<Vec<Owned>, String>) -> usize {
    let mut decoder = Decoder::new(4096);
    let mut outcome = Ok(Vec::new());
    let (mut blocks, mut lines) = (0, CORPUS.lines());
    while let Some(line) = lines.next() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "connection" => decoder = Decoder::new(4096),
            "limit" => decoder.set_table_size_max(rest.parse().expect("a number")),
            "block" => {
                outcome = decode(&mut decoder, &octets(rest));
                blocks += 1;
            }
            "fields" => assert_eq!(outcome, Ok(pairs(&mut lines, ["field", "never"]))),
            "error" => assert_eq!(outcome, Err(rest.to_owned())),
            "table" => {
                assert_eq!(table_size(&decoder).to_string(), rest);
                let entries = pairs(&mut lines, ["entry"; 2]);
                let entries = entries.iter().map(|it| (&it.name[..], &it.value[..]));
                assert!(decoder.table().eq(entries), "the table of {rest} octets");
            }
            other => panic!("no line begins with {other}"),
        }
    }
    blocks
}

#[test]
fn the_kept_blocks_are_decoded_as_others_do() {
    let whole = replay(|decoder, block| decode(decoder, block).map_err(|it| format!("{it:?}")));
    assert!(whole >= 300, "{whole} blocks");
}

#[test]
fn the_kept_blocks_are_decoded_octet_by_octet() {
    replay(|decoder, block| {
        let octets: Vec<_> = block.chunks(1).collect();
        decode_fragments(decoder, &octets).map_err(|it| format!("{it:?}"))
    });
}
