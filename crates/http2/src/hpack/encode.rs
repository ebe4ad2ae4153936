//! The encoder. It uses the static table and literals, and no dynamic table.
//!
//! The first block on a connection begins with [`TABLE_SIZE_ZERO`]. Some peers refuse every other size and all indices
//! of a dynamic table. A field that never changes can be encoded once and sent again and again: its octets depend on
//! nothing that was sent before.

use super::{huffman, integer, static_table};

/// A dynamic table size update to 0 (RFC 7541, 6.3).
pub const TABLE_SIZE_ZERO: u8 = 0x20;

/// A literal field without indexing, with a name of the static table or a new one (RFC 7541, 6.2.2).
const WITHOUT_INDEXING: u8 = 0x00;
/// A literal field that must stay literal at every hop (RFC 7541, 6.2.3).
const NEVER_INDEXED: u8 = 0x10;
/// An indexed field (RFC 7541, 6.1).
const INDEXED: u8 = 0x80;
/// A string that is Huffman encoded (RFC 7541, 5.2).
const HUFFMAN: u8 = 0x80;

/// Writes a field to the end of `out`. Its name is in lower case (RFC 9113, 8.2).
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let named = static_table::index_of_name(name);
    match named.and_then(|first| static_table::index_of_value(first, value)) {
        Some(index) => integer::encode(out, INDEXED, 7, index),
        None => literal(out, named, name, value),
    }
}

/// Writes a field that no hop may put into a table, because its value is a secret or never comes again
/// (RFC 7541, 7.1.3). Its name is in lower case. Its strings are plain: encoding what is sent once costs more than it saves.
pub fn never_indexed(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if let Some(index) = static_table::index_of_name(name) {
        integer::encode(out, NEVER_INDEXED, 4, index);
    } else {
        out.push(NEVER_INDEXED);
        plain(out, name);
    }
    plain(out, value);
}

/// A literal, with the name of the static field at `named` or a new one.
fn literal(out: &mut Vec<u8>, named: Option<usize>, name: &[u8], value: &[u8]) {
    if let Some(index) = named {
        integer::encode(out, WITHOUT_INDEXING, 4, index);
    } else {
        out.push(WITHOUT_INDEXING);
        string(out, name);
    }
    string(out, value);
}

/// A string literal: Huffman encoded only where that is shorter (RFC 7541, 5.2).
fn string(out: &mut Vec<u8>, string: &[u8]) {
    let huffman_len = huffman::encoded_len(string);
    if huffman_len < string.len() {
        integer::encode(out, HUFFMAN, 7, huffman_len);
        huffman::encode(out, string);
    } else {
        plain(out, string);
    }
}

/// A string literal as it is.
fn plain(out: &mut Vec<u8>, string: &[u8]) {
    integer::encode(out, 0, 7, string.len());
    out.extend_from_slice(string);
}
