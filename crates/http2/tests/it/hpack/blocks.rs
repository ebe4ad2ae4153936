//! Writes blocks that our encoder does not write: with entries of the dynamic table, size updates and mistakes.

use longlived_http2::hpack::encode;

/// An integer (RFC 7541, 5.1).
pub(super) fn integer(out: &mut Vec<u8>, pattern: u8, bits: u32, value: usize) {
    let prefix_max = (1 << bits) - 1;
    let Some(mut rest) = value.checked_sub(prefix_max) else {
        out.push(pattern | value as u8);
        return;
    };
    out.push(pattern | prefix_max as u8);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A string literal as it is.
pub(super) fn plain(out: &mut Vec<u8>, string: &[u8]) {
    integer(out, 0, 7, string.len());
    out.extend_from_slice(string);
}

/// A string literal, Huffman encoded where that is shorter.
pub(super) fn compressed(out: &mut Vec<u8>, string: &[u8]) {
    let mut field = Vec::new();
    encode::never_indexed(&mut field, b"", string);
    // Behind the two octets of a new, empty name.
    out.extend_from_slice(&field[2..]);
}

/// A string literal that says it is Huffman encoded.
pub(super) fn huffman(out: &mut Vec<u8>, encoded: &[u8]) {
    integer(out, 0x80, 7, encoded.len());
    out.extend_from_slice(encoded);
}

/// A literal field with a new name that is added to the table (6.2.1).
pub(super) fn added(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0x40);
    plain(out, name);
    compressed(out, value);
}

/// The same with the name of the field at `index`.
pub(super) fn added_with_name_of(out: &mut Vec<u8>, index: usize, value: &[u8]) {
    integer(out, 0x40, 6, index);
    compressed(out, value);
}

/// A dynamic table size update (6.3).
pub(super) fn size_update(out: &mut Vec<u8>, size: usize) {
    integer(out, 0x20, 5, size);
}
