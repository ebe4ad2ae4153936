//! What a decoder easily gets wrong.

use longlived_http2::hpack::{DecodeError, Decoder};

use super::blocks::{added, added_with_name_of, huffman, integer, plain, size_update};
use super::{Owned, decode, decode_fragments, octets, table_size};

/// The newest entry of the dynamic table.
const NEWEST: usize = 62;

fn block(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut block = Vec::new();
    write(&mut block);
    block
}

#[track_caller]
fn refuses(block: &[u8], error: DecodeError) {
    assert_eq!(decode(&mut Decoder::new(4096), block), Err(error));
    let octets: Vec<_> = block.chunks(1).collect();
    let again = decode_fragments(&mut Decoder::new(4096), &octets);
    assert_eq!(again, Err(error), "octet by octet");
}

/// A literal whose value is a Huffman string.
fn huffman_literal(encoded: &[u8]) -> Vec<u8> {
    block(|out| {
        out.push(0x00);
        plain(out, b"n");
        huffman(out, encoded);
    })
}

#[test]
fn an_entry_gives_its_name_to_the_one_that_evicts_it() {
    let mut decoder = Decoder::new(4096);
    let name = vec![b'n'; 2_000];
    decode(&mut decoder, &block(|out| added(out, &name, b"old"))).unwrap();
    for length in [1_999, 2_000, 2_064, 1] {
        let value = vec![b'v'; length];
        let fields = decode(
            &mut decoder,
            &block(|out| added_with_name_of(out, NEWEST, &value)),
        );
        let expected = Owned {
            name: name.clone(),
            value: value.clone(),
            never_indexed: false,
        };
        assert_eq!(fields, Ok(vec![expected]));
        let newest = decoder.table().next();
        assert_eq!(newest, Some((&name[..], &value[..])));
        assert!(table_size(&decoder) <= 4096);
    }
}

#[test]
fn the_oldest_of_many_entries_gives_its_name_to_the_one_that_evicts_it() {
    let mut decoder = Decoder::new(256);
    for name in [b"first", b"other", b"third"] {
        decode(&mut decoder, &block(|out| added(out, name, b"value"))).unwrap();
    }
    let value = [b'v'; 180];
    let evicting = block(|out| added_with_name_of(out, NEWEST + 2, &value));
    decode(&mut decoder, &evicting).unwrap();
    let table: Vec<_> = decoder.table().collect();
    assert_eq!(table, [(&b"first"[..], &value[..])]);
}

#[test]
fn a_name_that_entry_after_entry_takes_outlives_their_values() {
    let mut decoder = Decoder::new(4096);
    let name = vec![b'n'; 1_000];
    decode(&mut decoder, &block(|out| added(out, &name, b""))).unwrap();
    for round in 0..1_000_usize {
        let value = round.to_string().repeat(round % 9);
        let taking = block(|out| added_with_name_of(out, NEWEST, value.as_bytes()));
        decode(&mut decoder, &taking).unwrap();
        assert_eq!(decoder.table().next(), Some((&name[..], value.as_bytes())));
        assert!(decoder.table().all(|entry| entry.0 == name));
        assert!(decoder.held_bytes() <= 4096 * 5 / 4);
    }
}

#[test]
fn an_entry_that_is_larger_than_the_table_empties_it_and_is_no_error() {
    let mut decoder = Decoder::new(100);
    decode(&mut decoder, &block(|out| added(out, b"name", b"value"))).unwrap();
    assert_eq!(table_size(&decoder), 41);
    let value = [b'v'; 65];
    let fields = decode(&mut decoder, &block(|out| added(out, b"name", &value)));
    assert_eq!(fields.map(|fields| fields.len()), Ok(1));
    assert_eq!(table_size(&decoder), 0);
    assert_eq!(decoder.held_bytes(), 0);

    decode(&mut decoder, &block(|out| added(out, b"name", &value[1..]))).unwrap();
    assert_eq!(table_size(&decoder), 100);
    let beyond = block(|out| added_with_name_of(out, NEWEST, &value));
    let fields = decode(&mut decoder, &beyond);
    assert_eq!(
        fields.map(|fields| fields[0].name.clone()),
        Ok(b"name".to_vec())
    );
    assert_eq!(table_size(&decoder), 0);
}

#[test]
fn integers_end_after_five_octets() {
    for first in [
        "ff",
        "7f",
        "0f",
        "1f",
        "3f",
        "00 7f",
        "00 ff",
        "00 01 6e 7f",
    ] {
        let long = octets(&format!("{first} ff ff ff ff"));
        refuses(&long, DecodeError::IntegerTooLong);
        let zeros = octets(&format!("{first} 80 80 80 80 00"));
        refuses(&zeros, DecodeError::IntegerTooLong);
    }
    refuses(&octets("ff ff ff ff 7f"), DecodeError::IndexBeyondTable);
    refuses(&octets("3f ff ff ff 7f"), DecodeError::SizeUpdateTooLarge);
    refuses(&octets("00 7f ff ff ff 7f"), DecodeError::Truncated);
}

#[test]
fn zeros_that_say_nothing_are_taken_up_to_five_octets() {
    // Index 127, with three octets more than needed.
    let mut decoder = Decoder::new(4096);
    let many = block(|out| (0..66).for_each(|_| added(out, b"", b"")));
    decode(&mut decoder, &many).unwrap();
    let fields = decode(&mut decoder, &octets("ff 80 80 80 00"));
    assert_eq!(fields.map(|fields| fields.len()), Ok(1));
}

#[test]
fn indices_are_from_one_to_the_end_of_the_table() {
    refuses(&[0x80], DecodeError::IndexZero);
    refuses(&octets("be"), DecodeError::IndexBeyondTable);
    let name = block(|out| added_with_name_of(out, NEWEST, b"value"));
    refuses(&name, DecodeError::IndexBeyondTable);
    refuses(&[0x0f, 62 - 15, 0], DecodeError::IndexBeyondTable);

    let one = block(|out| added(out, b"name", b"value"));
    let last = [&one[..], &octets("be")].concat();
    assert!(decode(&mut Decoder::new(4096), &last).is_ok());
    let beyond = [&one[..], &octets("bf")].concat();
    refuses(&beyond, DecodeError::IndexBeyondTable);
}

#[test]
fn a_huffman_string_has_no_eos() {
    refuses(
        &huffman_literal(&octets("ffff ffff")),
        DecodeError::HuffmanEos,
    );
    // Behind a symbol of five bits, and at the very end of the string.
    refuses(
        &huffman_literal(&octets("07 ff ff ff ff")),
        DecodeError::HuffmanEos,
    );
    refuses(
        &huffman_literal(&octets("07 ff ff ff ff 00 00 00 00 00 00")),
        DecodeError::HuffmanEos,
    );
}

#[test]
fn the_padding_of_a_huffman_string_has_at_most_seven_bits() {
    refuses(
        &huffman_literal(&octets("ff")),
        DecodeError::HuffmanPaddingTooLong,
    );
    refuses(
        &huffman_literal(&octets("ff ff ff")),
        DecodeError::HuffmanPaddingTooLong,
    );
    // A symbol of five bits, then eleven ones.
    refuses(
        &huffman_literal(&octets("07 ff")),
        DecodeError::HuffmanPaddingTooLong,
    );
    // A symbol of eight bits, then none, and a symbol of five bits, then three.
    for (encoded, value) in [("f8", "&"), ("07", "0"), ("", "")] {
        let fields = decode(&mut Decoder::new(4096), &huffman_literal(&octets(encoded)));
        assert_eq!(
            fields.map(|fields| fields[0].value.clone()),
            Ok(value.into())
        );
    }
}

#[test]
fn the_padding_of_a_huffman_string_is_ones() {
    for encoded in ["06", "00", "07 fe", "f8 fe", "ff fe", "ff ff fc"] {
        let literal = huffman_literal(&octets(encoded));
        let error = decode(&mut Decoder::new(4096), &literal);
        let fails = matches!(error, Err(DecodeError::HuffmanPaddingNotOnes));
        assert!(fails, "{encoded}: {error:?}");
    }
}

#[test]
fn size_updates_come_first() {
    let late = block(|out| {
        out.push(0x82);
        size_update(out, 100);
    });
    refuses(&late, DecodeError::SizeUpdateNotFirst);
    let late = block(|out| {
        size_update(out, 100);
        added(out, b"name", b"value");
        size_update(out, 100);
    });
    refuses(&late, DecodeError::SizeUpdateNotFirst);
}

#[test]
fn a_block_has_two_size_updates_at_most() {
    let updates = |count| block(|out| (0..count).for_each(|_| size_update(out, 100)));
    let mut decoder = Decoder::new(4096);
    for _ in 0..3 {
        assert_eq!(decode(&mut decoder, &updates(2)), Ok(vec![]));
    }
    refuses(&updates(3), DecodeError::SizeUpdatesTooMany);
}

#[test]
fn size_updates_keep_to_the_limit_of_our_settings() {
    let update = |size| block(|out| size_update(out, size));
    refuses(&update(4097), DecodeError::SizeUpdateTooLarge);
    let mut decoder = Decoder::new(100);
    assert_eq!(decode(&mut decoder, &update(100)), Ok(vec![]));
    decoder.set_table_size_max(4096);
    assert_eq!(decode(&mut decoder, &update(4096)), Ok(vec![]));
    assert_eq!(
        decode(&mut decoder, &update(4097)),
        Err(DecodeError::SizeUpdateTooLarge)
    );
}

#[test]
fn a_size_update_evicts_what_does_not_fit_any_more() {
    let mut decoder = Decoder::new(4096);
    let two = block(|out| {
        added(out, b"old", &[b'v'; 900]);
        added(out, b"new", b"value");
    });
    decode(&mut decoder, &two).unwrap();
    decode(&mut decoder, &block(|out| size_update(out, 100))).unwrap();
    assert_eq!(table_size(&decoder), 40);
    assert!(decoder.held_bytes() <= 132, "{}", decoder.held_bytes());
    let many = block(|out| {
        size_update(out, 4096);
        (0..128).for_each(|_| added(out, b"", b""));
    });
    decode(&mut decoder, &many).unwrap();
    decode(&mut decoder, &block(|out| size_update(out, 100))).unwrap();
    assert_eq!(table_size(&decoder), 96);
    assert!(decoder.held_bytes() <= 132, "{}", decoder.held_bytes());
    let sizes = block(|out| {
        size_update(out, 0);
        size_update(out, 4096);
    });
    decode(&mut decoder, &sizes).unwrap();
    assert_eq!(table_size(&decoder), 0);
    assert_eq!(decoder.held_bytes(), 0);
}

#[test]
fn a_lower_limit_needs_a_size_update() {
    let update = |size| block(|out| size_update(out, size));
    let missing = Err(DecodeError::SizeUpdateMissing);
    let lowered = || {
        let mut decoder = Decoder::new(4096);
        decoder.set_table_size_max(100);
        decoder
    };
    assert_eq!(decode(&mut lowered(), &[0x82]), missing);
    assert_eq!(decode(&mut lowered(), &[]), missing);
    let too_large = Err(DecodeError::SizeUpdateTooLarge);
    assert_eq!(decode(&mut lowered(), &update(101)), too_large);
    for size in [100, 99, 0] {
        let mut decoder = lowered();
        assert_eq!(decode(&mut decoder, &update(size)), Ok(vec![]));
        assert_eq!(decode(&mut decoder, &[0x82]).map(|it| it.len()), Ok(1));
        // The table's own limit is not over this one.
        decoder.set_table_size_max(100);
        assert_eq!(decode(&mut decoder, &[0x82]).map(|it| it.len()), Ok(1));
    }
}

#[test]
fn the_lowest_limit_since_the_last_block_is_signalled_before_the_one_that_holds() {
    let decoder = || {
        let mut decoder = Decoder::new(4096);
        for limit in [1000, 100, 2000] {
            decoder.set_table_size_max(limit);
        }
        decoder
    };
    let updates = |sizes: &[usize]| block(|out| sizes.iter().for_each(|&it| size_update(out, it)));
    let missing = Err(DecodeError::SizeUpdateMissing);
    assert_eq!(decode(&mut decoder(), &updates(&[2000])), missing);
    assert_eq!(decode(&mut decoder(), &updates(&[101, 2000])), missing);
    assert_eq!(decode(&mut decoder(), &updates(&[100, 2000])), Ok(vec![]));
    assert_eq!(decode(&mut decoder(), &updates(&[100])), Ok(vec![]));
}

#[test]
fn a_limit_that_is_lowered_evicts_at_once() {
    let mut decoder = Decoder::new(4096);
    decode(&mut decoder, &block(|out| added(out, b"name", b"value"))).unwrap();
    assert_ne!(decoder.held_bytes(), 0);
    decoder.set_table_size_max(0);
    assert_eq!(decoder.held_bytes(), 0);
}

#[test]
fn a_block_ends_with_a_representation() {
    let fields = block(|out| {
        added(out, b"name", b"value");
        integer(out, 0x10, 4, 50);
        plain(out, b"other");
    });
    for end in 1..fields.len() {
        let cut = decode(&mut Decoder::new(4096), &fields[..end]);
        if end == fields.len() - 8 {
            assert_eq!(cut.map(|fields| fields.len()), Ok(1));
        } else {
            assert_eq!(cut, Err(DecodeError::Truncated), "{end}");
        }
    }
    refuses(&octets("3f"), DecodeError::Truncated);
    refuses(&octets("ff 80"), DecodeError::Truncated);
}

#[test]
fn a_decoder_whose_table_was_never_filled_has_no_heap() {
    let mut decoder = Decoder::new(4096);
    let fields = octets("20 3fe1 1f 82 00 01 61 01 62 10 81 1f 81 1f");
    decode(&mut decoder, &fields).unwrap();
    assert_eq!(decoder.held_bytes(), 0);
}

#[test]
fn a_huffman_string_is_decoded_once_it_is_whole() {
    let literal = huffman_literal(&octets("f1e3 c2e5 f23a 6ba0 ab90 f4ff"));
    let (mut decoder, mut scratch) = (Decoder::new(4096), Vec::new());
    decoder.begin_block();
    for len in 0..literal.len() {
        let taken = decoder.decode(&literal[..len], &mut scratch, &mut |_| panic!("a field"));
        assert_eq!(taken, Ok(0));
    }
    assert_eq!(scratch.capacity(), 0);
    let mut values = Vec::new();
    let taken = decoder.decode(&literal, &mut scratch, &mut |field| {
        values.push(field.value.to_vec());
    });
    assert_eq!(taken, Ok(literal.len()));
    assert_eq!(values, [b"www.example.com"]);
}

/// A Huffman string of this length, and what it stands for: symbols of 5, 13 and 30 bits.
fn long_string(len: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut bits, mut decoded) = (String::new(), Vec::new());
    while bits.len() < len * 8 {
        for (symbol, code) in [
            (b'0', "00000"),
            (b'$', "1111111111001"),
            (b'\n', "111111111111111111111111111100"),
            (b'&', "11111000"),
        ] {
            bits.push_str(code);
            decoded.push(symbol);
        }
    }
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    let octets = bits.as_bytes().chunks(8).map(|octet| {
        let octet = str::from_utf8(octet).expect("digits");
        u8::from_str_radix(octet, 2).expect("digits")
    });
    (octets.collect(), decoded)
}

#[test]
fn long_huffman_strings_are_decoded_as_short_ones() {
    let (short, long) = (long_string(100), long_string(5_000));
    for (name, value) in [(&long, &short), (&short, &long), (&long, &long)] {
        for pattern in [0x00, 0x10, 0x40] {
            let literal = block(|out| {
                out.push(pattern);
                huffman(out, &name.0);
                huffman(out, &value.0);
                out.push(0x82);
            });
            for size in [1, 7, 1_000, literal.len()] {
                let mut decoder = Decoder::new(65_535);
                let fragments: Vec<_> = literal.chunks(size).collect();
                let fields = decode_fragments(&mut decoder, &fragments).unwrap();
                assert_eq!(fields[0].name, name.1, "{size} octets a fragment");
                assert_eq!(fields[0].value, value.1, "{size} octets a fragment");
                assert_eq!(fields[0].never_indexed, pattern == 0x10);
                assert_eq!(fields.len(), 2);
                let newest = decoder.table().next();
                let expected = (pattern == 0x40).then_some((&name.1[..], &value.1[..]));
                assert_eq!(newest, expected);
            }
        }
    }
}

#[test]
fn a_long_huffman_string_has_names_of_both_tables() {
    let (encoded, decoded) = long_string(3_000);
    let literal = block(|out| {
        added(out, b"name", b"");
        for index in [62, 1] {
            integer(out, 0x00, 4, index);
            huffman(out, &encoded);
        }
    });
    let fields = decode(&mut Decoder::new(4096), &literal).unwrap();
    let names: Vec<_> = fields.iter().map(|it| &it.name[..]).collect();
    assert_eq!(names, [&b"name"[..], b"name", b":authority"]);
    assert!(fields[1..].iter().all(|it| it.value == decoded));
    let beyond = block(|out| {
        integer(out, 0x00, 4, 62);
        huffman(out, &encoded);
    });
    refuses(&beyond, DecodeError::IndexBeyondTable);
}

#[test]
fn a_long_huffman_string_is_refused_as_a_short_one() {
    let (encoded, _) = long_string(3_000);
    for (end, error) in [
        ("ff ff ff ff", DecodeError::HuffmanEos),
        ("ff ff", DecodeError::HuffmanPaddingTooLong),
        ("ff fe", DecodeError::HuffmanPaddingNotOnes),
    ] {
        let octets = [&encoded[..], &octets(end)].concat();
        refuses(&huffman_literal(&octets), error);
        let as_name = block(|out| {
            out.push(0x00);
            huffman(out, &octets);
            plain(out, b"");
        });
        refuses(&as_name, error);
    }
    // EOS is found as soon as it has come.
    let amid = [&octets("ff ff ff ff")[..], &encoded].concat();
    let literal = huffman_literal(&amid);
    let (mut decoder, mut scratch) = (Decoder::new(4096), Vec::new());
    decoder.begin_block();
    let outcome = decoder.decode(&literal[..12], &mut scratch, &mut |_| panic!("a field"));
    assert_eq!(outcome, Err(DecodeError::HuffmanEos));
    // It ends too early.
    let cut = huffman_literal(&encoded);
    for end in [1_000, cut.len() - 1] {
        refuses(&cut[..end], DecodeError::Truncated);
    }
    let without_value = block(|out| {
        out.push(0x00);
        huffman(out, &encoded);
    });
    refuses(&without_value, DecodeError::Truncated);
}

#[test]
fn a_block_after_one_that_ended_amid_a_long_string_begins_anew() {
    let literal = huffman_literal(&long_string(3_000).0);
    let mut decoder = Decoder::new(4096);
    let cut = decode(&mut decoder, &literal[..2_000]);
    assert_eq!(cut, Err(DecodeError::Truncated));
    assert_eq!(decode(&mut decoder, &[0x82]).map(|it| it.len()), Ok(1));
}
