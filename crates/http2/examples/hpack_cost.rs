//! Decodes one header block of 16 KiB of a costly kind, so that its instructions can be counted: docs/TESTING.md.
//!
//!     hpack_cost              names the kinds
//!     hpack_cost KIND         decodes such a block
//!
//! Only `counted` is to be counted. Its visitor adds up the size of the list, as a connection does that drops a list over
//! its limit.

#[path = "shared/strings.rs"]
mod strings;

use std::env;
use std::hint::black_box;
use std::process::ExitCode;

use longlived_http2::hpack::Decoder;

use strings::{huffman, string};

const BLOCK_LEN: usize = 16_384;
const TABLE_SIZE_MAX: u32 = 4_096;

/// A block, and one before it that is not counted.
struct Kind {
    name: &'static str,
    before: Vec<u8>,
    block: Vec<u8>,
}

fn kinds() -> Vec<Kind> {
    let kind = |name, before, block| Kind {
        name,
        before,
        block,
    };
    let filled = |name, octets: &[u8]| kind(name, vec![], repeated(octets));
    let after = |name, name_len, octets: &[u8]| kind(name, entry(name_len), repeated(octets));
    let huffman = |name, codes: &[_]| kind(name, vec![], huffman_literal(codes));
    vec![
        filled("indexed_static", &[0x82]),
        after("indexed_dynamic_4000", 4_000, &[0xbe]),
        after("indexed_dynamic_10", 10, &[0xbe]),
        huffman("huffman_5_bits", &[(0x0, 5)]),
        huffman("huffman_6_bits", &[(0x14, 6)]),
        huffman("huffman_7_bits", &[(0x5d, 7)]),
        huffman("huffman_8_bits", &[(0xf8, 8)]),
        huffman("huffman_13_bits", &[(0x1ffa, 13)]),
        huffman("huffman_15_bits", &[(0x7ffc, 15)]),
        huffman("huffman_19_bits", &[(0x7fff0, 19)]),
        huffman("huffman_24_bits", &[(0x00ff_ffea, 24)]),
        huffman("huffman_30_bits", &[(0x3fff_fffc, 30)]),
        huffman("huffman_5_and_13_bits", &[(0x0, 5), (0x1ffa, 13)]),
        kind("literals_460", vec![], [0x00, 1, b'a', 1, b'b'].repeat(460)),
        filled("literals_empty", &[0x00, 0, 0]),
        filled("literals_of_one", &[0x00, 1, b'a', 1, b'b']),
        filled("literals_of_one_huffman", &[0x00, 0x81, 0x1f, 0x81, 0x1f]),
        filled("added_static_name", &[0x41, 0]),
        filled("added_of_one", &[0x40, 1, b'a', 1, b'b']),
        after("added_name_of_4000", 4_000, &[0x7e, 0]),
        after("added_name_of_1000", 1_000, &[0x7e, 0]),
        after("added_name_of_100", 100, &[0x7e, 0]),
        after("added_name_of_10", 10, &[0x7e, 0]),
    ]
}

/// As often these octets as a block takes.
fn repeated(octets: &[u8]) -> Vec<u8> {
    octets.repeat(BLOCK_LEN / octets.len())
}

/// Adds an entry with a name of this length and an empty value.
fn entry(name_len: usize) -> Vec<u8> {
    let mut block = vec![0x40];
    string(&mut block, 0x00, &vec![b'n'; name_len]);
    block.push(0);
    block
}

/// A literal whose value is these codes and their lengths, as often as a block takes.
fn huffman_literal(codes: &[(u64, u32)]) -> Vec<u8> {
    let mut block = vec![0x00, 0];
    string(&mut block, 0x80, &huffman(codes, BLOCK_LEN - 99));
    block
}

#[inline(never)]
fn counted(decoder: &mut Decoder, block: &[u8], scratch: &mut Vec<u8>) -> (usize, usize) {
    let (mut fields, mut size) = (0, 0);
    decoder.begin_block();
    let taken = decoder.decode(block, scratch, &mut |field| {
        fields += 1;
        size += field.name.len() + field.value.len() + 32;
    });
    let taken = taken.expect("the block has no error");
    decoder
        .end_block(&block[taken..])
        .expect("the block is whole");
    (fields, size)
}

fn main() -> ExitCode {
    let mut kinds = kinds();
    let Some(name) = env::args().nth(1) else {
        for kind in kinds {
            println!("{}", kind.name);
        }
        return ExitCode::SUCCESS;
    };
    kinds.retain(|kind| kind.name == name);
    let Some(kind) = kinds.pop() else {
        eprintln!("there is no kind {name}");
        return ExitCode::FAILURE;
    };
    let mut decoder = Decoder::new(TABLE_SIZE_MAX);
    let mut scratch = vec![0; 2 * BLOCK_LEN];
    decoder.begin_block();
    decoder
        .decode(&kind.before, &mut scratch, &mut |_| {})
        .expect("the block has no error");
    let (fields, size) = counted(&mut decoder, black_box(&kind.block), &mut scratch);
    println!(
        "{name}: {} octets, {fields} fields, a list of {size}, {} bytes held",
        kind.block.len(),
        decoder.held_bytes()
    );
    ExitCode::SUCCESS
}
