//! Header compression, from outside.

mod appendix_c;
mod blocks;
mod corpus;
mod encoder;
mod properties;
mod traps;

use longlived_http2::hpack::{DecodeError, Decoder};

/// A field that outlives its block.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    name: Vec<u8>,
    value: Vec<u8>,
    never_indexed: bool,
}

/// The octets that these hexadecimal digits stand for.
fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.bytes().filter(|c| !c.is_ascii_whitespace()).collect();
    let digit = |c: u8| char::from(c).to_digit(16).expect("a digit") as u8;
    digits
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// Decodes a block that comes in one fragment.
fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Owned>, DecodeError> {
    decode_fragments(decoder, &[block])
}

/// Decodes a block as a connection does: what was not taken of a fragment stands before the next.
fn decode_fragments(decoder: &mut Decoder, fragments: &[&[u8]]) -> Result<Vec<Owned>, DecodeError> {
    let mut fields = Vec::new();
    let mut scratch = Vec::new();
    let mut kept = Vec::new();
    decoder.begin_block();
    for fragment in fragments {
        kept.extend_from_slice(fragment);
        let taken = decoder.decode(&kept, &mut scratch, &mut |field| {
            fields.push(Owned {
                name: field.name.to_vec(),
                value: field.value.to_vec(),
                never_indexed: field.never_indexed,
            });
        })?;
        kept.drain(..taken);
    }
    decoder.end_block(&kept)?;
    Ok(fields)
}

/// Names and values of fields that may be indexed.
fn pairs(fields: &[(&str, &str)]) -> Vec<Owned> {
    let field = |(name, value): &(&str, &str)| Owned {
        name: name.as_bytes().to_vec(),
        value: value.as_bytes().to_vec(),
        never_indexed: false,
    };
    fields.iter().map(field).collect()
}

/// The size of the dynamic table: RFC 7541, 4.1.
fn table_size(decoder: &Decoder) -> usize {
    let sizes = decoder
        .table()
        .map(|(name, value)| name.len() + value.len() + 32);
    sizes.sum()
}
