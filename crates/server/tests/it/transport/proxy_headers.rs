//! Headers of the PROXY protocol however they are cut, and any bytes in their place: one meaning, and not a byte too many.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use longlived_fuzzing::{judge, taken};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// A lawful header, and the client that it names.
fn lawful() -> impl Strategy<Value = (Vec<u8>, Option<SocketAddr>)> {
    let four = (any::<[Ipv4Addr; 2]>(), any::<[u16; 2]>());
    let six = (any::<[Ipv6Addr; 2]>(), any::<[u16; 2]>());
    let fields = || vec(any::<u8>(), 0..200);
    prop_oneof![
        four.clone().prop_map(|([client, own], [port, at])| {
            let line = format!("PROXY TCP4 {client} {own} {port} {at}\r\n");
            (line.into_bytes(), Some((client, port).into()))
        }),
        six.clone().prop_map(|([client, own], [port, at])| {
            let line = format!("PROXY TCP6 {client} {own} {port} {at}\r\n");
            (line.into_bytes(), Some((client, port).into()))
        }),
        "[ -~]{0,91}".prop_map(|rest| {
            let line = format!("PROXY UNKNOWN {rest}\r\n");
            (line.into_bytes(), None)
        }),
        (four, fields()).prop_map(|(([client, own], [port, at]), fields)| {
            let addresses = [client.octets(), own.octets()].concat();
            let header = second(0x21, 0x11, &addresses, [port, at], &fields);
            (header, Some((client, port).into()))
        }),
        (six, fields()).prop_map(|(([client, own], [port, at]), fields)| {
            let addresses = [client.octets(), own.octets()].concat();
            let header = second(0x21, 0x21, &addresses, [port, at], &fields);
            (header, Some((client, port).into()))
        }),
        (any::<u8>(), fields())
            .prop_map(|(family, fields)| (second(0x20, family, &[], [0, 0], &fields), None)),
        fields().prop_map(|fields| (second(0x21, 0x00, &[], [0, 0], &fields), None)),
        (0x31..=0x32_u8, fields())
            .prop_map(|(family, fields)| (second(0x21, family, &[1; 212], [0, 0], &fields), None)),
    ]
}

fn second(command: u8, family: u8, addresses: &[u8], ports: [u16; 2], fields: &[u8]) -> Vec<u8> {
    let ports = ports.map(u16::to_be_bytes);
    let length = addresses.len() + ports.as_flattened().len() + fields.len();
    let length = u16::try_from(length).expect("a short one").to_be_bytes();
    let fixed = [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length].concat();
    [&fixed[..], addresses, ports.as_flattened(), fields].concat()
}

fn canonical(client: SocketAddr) -> SocketAddr {
    SocketAddr::new(client.ip().to_canonical(), client.port())
}

/// One mistake: another byte, bytes that are left out, or come twice, or are new.
fn mistake() -> impl Strategy<Value = (u8, Index, Index, Vec<u8>)> {
    let some = prop_oneof![
        vec(any::<u8>(), 0..6),
        Just(b" ".to_vec()),
        Just(b"\r\n".to_vec())
    ];
    (0..4_u8, any::<Index>(), any::<Index>(), some)
}

fn mistaken(bytes: &mut Vec<u8>, (kind, at, length, some): &(u8, Index, Index, Vec<u8>)) {
    if bytes.is_empty() {
        return;
    }
    let at = at.index(bytes.len());
    let end = (at + 1 + length.index(20)).min(bytes.len());
    match kind {
        0 => bytes[at] = some.first().copied().unwrap_or(0),
        1 => drop(bytes.drain(at..end)),
        2 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        _ => drop(bytes.splice(at..at, some.iter().copied())),
    }
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(1..40_usize, 1..8)
}

proptest! {
    #[test]
    fn a_header_has_one_meaning_however_it_is_cut_and_what_follows_is_left(
        (header, client) in lawful(),
        rest in vec(any::<u8>(), 0..50),
        sizes in sizes(),
    ) {
        let bytes = [&header[..], &rest].concat();
        let read = judge(&bytes, &sizes).expect("it is lawful");
        prop_assert_eq!(read.bytes, header.len());
        prop_assert_eq!(read.client, client.map(canonical));
        let cut = judge(&header[..header.len() - 1], &sizes);
        prop_assert_eq!(cut, None);
    }

    #[test]
    fn any_bytes_are_a_header_or_refused_within_the_limit(
        (mut bytes, _) in lawful(),
        mistakes in vec(mistake(), 0..4),
        noise in vec(any::<u8>(), 0..150),
        sizes in sizes(),
    ) {
        judge(&noise, &sizes);
        for one in &mistakes {
            mistaken(&mut bytes, one);
        }
        bytes.extend(noise);
        judge(&bytes, &sizes);
    }
}

/// The kept inputs: a line each, with what is read of it. `LONGLIVED_WRITE_CORPUS` writes what is read now.
#[test]
fn kept_inputs_are_read_as_before() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/proxy/headers.txt");
    let kept = std::fs::read_to_string(&file).expect("the corpus");
    let mut now = String::new();
    for line in kept.lines() {
        let Some((input, _)) = line.split_once(" => ") else {
            writeln!(now, "{line}").expect("text grows");
            continue;
        };
        let bytes = unescaped(input);
        for size in [1, 2, 3, 7, 16, 107, 5_000] {
            judge(&bytes, &[size]);
        }
        let said = match taken(&bytes, &[usize::MAX]) {
            (Ok(Some(client)), took) => format!("{client} in {took} bytes"),
            (Ok(None), took) => format!("nobody in {took} bytes"),
            (Err(refusal), _) => refusal.to_string(),
        };
        writeln!(now, "{input} => {said}").expect("text grows");
    }
    if std::env::var_os("LONGLIVED_WRITE_CORPUS").is_some() {
        std::fs::write(file, &now).expect("it can be written");
    }
    assert!(kept.lines().count() > 50);
    assert_eq!(now, kept);
}

/// As Rust writes bytes: `\r`, `\n`, `\xNN`; and `*N` behind a byte for N of it.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut left = text;
    while let Some(first) = left.chars().next() {
        let (byte, used) = match left.as_bytes() {
            [b'\\', b'r', ..] => (b'\r', 2),
            [b'\\', b'n', ..] => (b'\n', 2),
            [b'\\', b'x', ..] => (u8::from_str_radix(&left[2..4], 16).expect("two digits"), 4),
            _ => (u8::try_from(first).expect("ASCII"), 1),
        };
        left = &left[used..];
        let mut times = 1;
        if let Some(number) = left.strip_prefix('*') {
            let digits = number.bytes().take_while(u8::is_ascii_digit).count();
            times = number[..digits].parse().expect("a number");
            left = &number[digits..];
        }
        bytes.extend(std::iter::repeat_n(byte, times));
    }
    bytes
}
