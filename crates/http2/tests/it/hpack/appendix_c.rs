//! The examples of RFC 7541, appendix C. Those of integers (C.1) stand beside the code of integers.

use longlived_http2::hpack::{Decoder, encode};

use super::{Owned, decode, octets, pairs, table_size};

/// A block, the fields in it, and the dynamic table after it with its size.
struct Example {
    block: &'static str,
    fields: &'static [(&'static str, &'static str)],
    table: &'static [(&'static str, &'static str)],
    size: usize,
}

fn table_of(decoder: &Decoder) -> Vec<Owned> {
    let entry = |(name, value): (&[u8], &[u8])| Owned {
        name: name.to_vec(),
        value: value.to_vec(),
        never_indexed: false,
    };
    decoder.table().map(entry).collect()
}

/// Blocks of one connection.
fn check(table_size_max: u32, examples: &[Example]) {
    let mut decoder = Decoder::new(table_size_max);
    for example in examples {
        let fields = decode(&mut decoder, &octets(example.block)).expect("a block of the RFC");
        assert_eq!(fields, pairs(example.fields));
        assert_eq!(table_of(&decoder), pairs(example.table));
        assert_eq!(table_size(&decoder), example.size);
    }
}

#[test]
fn c_2_1_literal_with_indexing() {
    check(
        4096,
        &[Example {
            block: "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            fields: &[("custom-key", "custom-header")],
            table: &[("custom-key", "custom-header")],
            size: 55,
        }],
    );
}

#[test]
fn c_2_2_literal_without_indexing() {
    let block = "040c 2f73 616d 706c 652f 7061 7468";
    check(
        4096,
        &[Example {
            block,
            fields: &[(":path", "/sample/path")],
            table: &[],
            size: 0,
        }],
    );
}

#[test]
fn c_2_3_literal_never_indexed() {
    let block = octets("1008 7061 7373 776f 7264 0673 6563 7265 74");
    let mut decoder = Decoder::new(4096);
    let expected = Owned {
        never_indexed: true,
        ..pairs(&[("password", "secret")]).remove(0)
    };
    assert_eq!(decode(&mut decoder, &block), Ok(vec![expected]));
    assert_eq!(table_of(&decoder), []);
}

#[test]
fn c_2_4_indexed() {
    check(
        4096,
        &[Example {
            block: "82",
            fields: &[(":method", "GET")],
            table: &[],
            size: 0,
        }],
    );
}

const AUTHORITY: (&str, &str) = (":authority", "www.example.com");
const NO_CACHE: (&str, &str) = ("cache-control", "no-cache");
const CUSTOM: (&str, &str) = ("custom-key", "custom-value");

/// C.3 and C.4 differ in their blocks only.
fn check_requests(blocks: [&'static str; 3]) {
    let [first, second, third] = blocks;
    check(
        4096,
        &[
            Example {
                block: first,
                fields: &[
                    (":method", "GET"),
                    (":scheme", "http"),
                    (":path", "/"),
                    AUTHORITY,
                ],
                table: &[AUTHORITY],
                size: 57,
            },
            Example {
                block: second,
                fields: &[
                    (":method", "GET"),
                    (":scheme", "http"),
                    (":path", "/"),
                    AUTHORITY,
                    NO_CACHE,
                ],
                table: &[NO_CACHE, AUTHORITY],
                size: 110,
            },
            Example {
                block: third,
                fields: &[
                    (":method", "GET"),
                    (":scheme", "https"),
                    (":path", "/index.html"),
                    AUTHORITY,
                    CUSTOM,
                ],
                table: &[CUSTOM, NO_CACHE, AUTHORITY],
                size: 164,
            },
        ],
    );
}

#[test]
fn c_3_requests_without_huffman() {
    check_requests([
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ]);
}

#[test]
fn c_4_requests_with_huffman() {
    check_requests([
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ]);
}

const STATUS_302: (&str, &str) = (":status", "302");
const STATUS_307: (&str, &str) = (":status", "307");
const PRIVATE: (&str, &str) = ("cache-control", "private");
const DATE_21: (&str, &str) = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
const DATE_22: (&str, &str) = ("date", "Mon, 21 Oct 2013 20:13:22 GMT");
const LOCATION: (&str, &str) = ("location", "https://www.example.com");
const GZIP: (&str, &str) = ("content-encoding", "gzip");
const COOKIE: (&str, &str) = (
    "set-cookie",
    "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
);

/// C.5 and C.6 differ in their blocks only. The limit of 256 makes each response evict entries of those before.
fn check_responses(blocks: [&'static str; 3]) {
    let [first, second, third] = blocks;
    check(
        256,
        &[
            Example {
                block: first,
                fields: &[STATUS_302, PRIVATE, DATE_21, LOCATION],
                table: &[LOCATION, DATE_21, PRIVATE, STATUS_302],
                size: 222,
            },
            Example {
                block: second,
                fields: &[STATUS_307, PRIVATE, DATE_21, LOCATION],
                table: &[STATUS_307, LOCATION, DATE_21, PRIVATE],
                size: 222,
            },
            Example {
                block: third,
                fields: &[(":status", "200"), PRIVATE, DATE_22, LOCATION, GZIP, COOKIE],
                table: &[COOKIE, GZIP, DATE_22],
                size: 215,
            },
        ],
    );
}

#[test]
fn c_5_responses_without_huffman() {
    check_responses([
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 \
         474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 \
         666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 \
         3630 303b 2076 6572 7369 6f6e 3d31",
    ]);
}

#[test]
fn c_6_responses_with_huffman() {
    check_responses([
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 \
         63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 \
         b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ]);
}

#[test]
fn the_encoder_writes_the_strings_of_c_4_and_c_6() {
    let encoded = |name: &str, value: &str| {
        let mut out = Vec::new();
        encode::field(&mut out, name.as_bytes(), value.as_bytes());
        out
    };
    let (name, value) = AUTHORITY;
    let expected = octets("01 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff");
    assert_eq!(encoded(name, value), expected);
    let (name, value) = CUSTOM;
    let expected = octets("00 8825 a849 e95b a97d 7f89 25a8 49e9 5bb8 e8b4 bf");
    assert_eq!(encoded(name, value), expected);
    let (name, value) = LOCATION;
    let expected = octets("0f1f 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3");
    assert_eq!(encoded(name, value), expected);
    assert_eq!(encoded(":method", "GET"), octets("82"));
}
