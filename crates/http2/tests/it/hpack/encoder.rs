//! Which representations the encoder chooses.

use longlived_http2::hpack::encode;

use super::octets;

fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::field(&mut out, name, value);
    out
}

fn never_indexed(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::never_indexed(&mut out, name, value);
    out
}

#[test]
fn a_field_of_the_static_table_is_its_index() {
    assert_eq!(field(b":status", b"200"), [0x88]);
    assert_eq!(field(b":status", b"500"), [0x8e]);
    assert_eq!(field(b"accept-encoding", b"gzip, deflate"), [0x90]);
    assert_eq!(field(b"www-authenticate", b""), [0x80 | 0x3d]);
}

#[test]
fn a_name_of_the_static_table_is_its_index_and_is_not_indexed_anew() {
    assert_eq!(field(b":status", b"!"), octets("08 01 21"));
    assert_eq!(field(b"content-type", b"!"), octets("0f 10 01 21"));
    assert_eq!(never_indexed(b":status", b"200"), octets("18 03 323030"));
    assert_eq!(never_indexed(b"set-cookie", b"!"), octets("1f 28 01 21"));
}

#[test]
fn a_new_name_is_a_literal() {
    assert_eq!(field(b"~", b""), octets("00 01 7e 00"));
    assert_eq!(never_indexed(b"~", b""), octets("10 01 7e 00"));
}

#[test]
fn strings_are_huffman_encoded_only_where_that_is_shorter() {
    // Two octets of 5 and 6 bits take as much, three of 5 bits one less.
    assert_eq!(field(b"~", b"0 "), octets("00 01 7e 02 3020"));
    assert_eq!(field(b"~", b"000"), octets("00 01 7e 82 0001"));
    assert_eq!(field(b"~", &[0xff; 3]), octets("00 01 7e 03 ffffff"));
}

#[test]
fn lengths_of_more_than_126_octets_are_written_whole() {
    let value = [0xff; 1337];
    let encoded = field(b"~", &value);
    assert_eq!(encoded[..6], octets("00 01 7e 7f ba 09"));
    assert_eq!(encoded[6..], value);
}
