//! What each header means, and what is wrong with each that is refused.

use super::*;

fn whole(bytes: &[u8]) -> Result<(Option<String>, usize), HeaderError> {
    match read(bytes)? {
        Progress::Read(Header { client, bytes }) => Ok((client.map(|it| it.to_string()), bytes)),
        Progress::Unfinished(more) => panic!("{more} more of {bytes:?}"),
    }
}

/// Of version 2, with this many bytes of length and these behind it.
fn second(version_and_command: u8, family: u8, length: u16, rest: &[u8]) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    let fixed = [version_and_command, family, high, low];
    [V2, &fixed, rest].concat()
}

/// Two addresses of IPv4, and two ports.
const FOUR: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0xb2, 0x6e, 0x1b, 0x9e];

/// The same of IPv6.
fn six() -> Vec<u8> {
    let addresses = ["2001:db8::7", "fd00::1"].map(|it| it.parse::<Ipv6Addr>().unwrap().octets());
    [addresses.as_flattened(), &FOUR[8..]].concat()
}

#[test]
fn a_line_names_its_client() {
    for (line, client) in [
        (
            "TCP4 192.0.2.7 10.0.0.1 45678 7070",
            Some("192.0.2.7:45678"),
        ),
        (
            "TCP4 255.255.255.255 0.0.0.0 65535 0",
            Some("255.255.255.255:65535"),
        ),
        (
            "TCP6 2001:db8::7 fd00::1 45678 7070",
            Some("[2001:db8::7]:45678"),
        ),
        ("TCP6 2001:DB8::7 ::1 1 2", Some("[2001:db8::7]:1")),
        (
            "TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535",
            Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
        ),
        // HAProxy at `[::]` for a client of IPv4.
        (
            "TCP6 ::ffff:192.0.2.7 ::ffff:10.0.0.1 1 2",
            Some("192.0.2.7:1"),
        ),
        ("UNKNOWN", None),
        ("UNKNOWN ", None),
        ("UNKNOWN fe80::1 what \r it \n likes \0\u{e9}", None),
        (
            "UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535",
            None,
        ),
    ] {
        let header = format!("PROXY {line}\r\n");
        assert!(header.len() <= V1_BYTES_MAX, "{line}");
        let read = (client.map(ToOwned::to_owned), header.len());
        assert_eq!(whole(header.as_bytes()), Ok(read.clone()), "{line}");
        // What stands behind is not its own.
        let with_more = header + "PRI * HTTP/2.0\r\n";
        assert_eq!(whole(with_more.as_bytes()), Ok(read), "{line}");
    }
}

#[test]
fn a_line_with_a_mistake_is_told_which() {
    use End::{Destination, Source};
    use HeaderError::{Address, EndlessLine, Fields, Missing, Port, Protocol};
    for (line, error) in [
        ("PROXY \r\n", Protocol),
        ("PROXY TCP\r\n", Protocol),
        ("PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n", Protocol),
        ("PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n", Protocol),
        ("PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n", Protocol),
        ("PROXY UNKNOWNX 1.2.3.4\r\n", Protocol),
        ("PROXY TCP4\r\n", Fields),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", Fields),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", Fields),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n", Fields),
        ("PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n", Fields),
        ("PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n", Address(Source, "IPv4")),
        (
            "PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
            Address(Source, "IPv4"),
        ),
        (
            "PROXY TCP4 256.2.3.4 5.6.7.8 1 2\r\n",
            Address(Source, "IPv4"),
        ),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", Address(Source, "IPv4")),
        (
            "PROXY TCP4 1.2.3.4 \t 1 2\r\n",
            Address(Destination, "IPv4"),
        ),
        ("PROXY TCP6 1.2.3.4 ::1 1 2\r\n", Address(Source, "IPv6")),
        (
            "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
            Address(Source, "IPv6"),
        ),
        ("PROXY TCP6 [::1] ::1 1 2\r\n", Address(Source, "IPv6")),
        ("PROXY TCP6 ::1 ::x 1 2\r\n", Address(Destination, "IPv6")),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n", Port(Source)),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n", Port(Source)),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", Port(Source)),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 -2\r\n", Port(Destination)),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n\r\n", Port(Destination)),
        ("PROXY\t", Missing),
        ("PROXYTCP4", Missing),
        ("proxy TCP4", Missing),
        ("PRI * HTTP/2.0", Missing),
        ("POST / HTTP/1.1", Missing),
        ("\u{16}\u{3}\u{1}", Missing),
        (" PROXY TCP4", Missing),
    ] {
        assert_eq!(whole(line.as_bytes()), Err(error), "{line:?}");
    }
    let endless = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
    assert_eq!(endless.len(), V1_BYTES_MAX + 1);
    assert_eq!(whole(endless.as_bytes()), Err(EndlessLine));
}

#[test]
fn a_header_of_version_2_names_its_client() {
    let of_unix = [0x2f; 216];
    for (header, client) in [
        (second(0x21, 0x11, 12, &FOUR), Some("192.0.2.7:45678")),
        (second(0x21, 0x21, 36, &six()), Some("[2001:db8::7]:45678")),
        // With fields that are not looked at, and need not be there yet.
        (second(0x21, 0x11, 12 + 300, &FOUR), Some("192.0.2.7:45678")),
        (
            second(0x21, 0x21, 4_080, &six()),
            Some("[2001:db8::7]:45678"),
        ),
        // A proxy's own connection, whatever else it says.
        (second(0x20, 0x00, 0, &[]), None),
        (second(0x20, 0x11, 0, &[]), None),
        (second(0x20, 0x11, 12, &FOUR), None),
        (second(0x20, 0xff, 4_080, &[]), None),
        // A client without an address of TCP.
        (second(0x21, 0x00, 0, &[]), None),
        (second(0x21, 0x00, 7, &[0; 7]), None),
        (second(0x21, 0x12, 12, &FOUR), None),
        (second(0x21, 0x22, 36, &six()), None),
        (second(0x21, 0x31, 216, &of_unix), None),
        (second(0x21, 0x32, 220, &of_unix), None),
    ] {
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        let read = (client.map(ToOwned::to_owned), V2_FIXED_BYTES + length);
        assert_eq!(whole(&header), Ok(read.clone()), "{header:?}");
        let with_more = [&header, &b"PRI"[..]].concat();
        assert_eq!(whole(&with_more), Ok(read), "{header:?}");
    }
    let mut mapped = six();
    mapped[..16].copy_from_slice(&Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().octets());
    let client = whole(&second(0x21, 0x21, 36, &mapped)).unwrap().0;
    assert_eq!(client.as_deref(), Some("192.0.2.7:45678"));
}

#[test]
fn a_header_of_version_2_with_a_mistake_is_told_which() {
    use HeaderError::{Command, Family, Long, Missing, Short, Version};
    let short = |length, needed| Short { length, needed };
    for (header, error) in [
        (second(0x11, 0x11, 12, &FOUR), Version(1)),
        (second(0x31, 0x11, 12, &FOUR), Version(3)),
        (second(0x01, 0x11, 12, &FOUR), Version(0)),
        (second(0x22, 0x11, 12, &FOUR), Command(2)),
        (second(0x2f, 0x11, 12, &FOUR), Command(15)),
        (second(0x21, 0x01, 12, &FOUR), Family(0x01)),
        (second(0x21, 0x10, 12, &FOUR), Family(0x10)),
        (second(0x21, 0x13, 12, &FOUR), Family(0x13)),
        (second(0x21, 0x41, 12, &FOUR), Family(0x41)),
        (second(0x21, 0xff, 12, &FOUR), Family(0xff)),
        (second(0x21, 0x11, 11, &FOUR), short(11, 12)),
        (second(0x21, 0x11, 0, &FOUR), short(0, 12)),
        (second(0x21, 0x12, 11, &FOUR), short(11, 12)),
        (second(0x21, 0x21, 35, &six()), short(35, 36)),
        (second(0x21, 0x31, 215, &[0; 215]), short(215, 216)),
        (second(0x21, 0x11, 4_081, &FOUR), Long(4_097)),
        (second(0x20, 0x00, 65_535, &[]), Long(65_551)),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), Missing),
        (b"\r\n\r\nGET / HTTP/1.1\r\n".to_vec(), Missing),
    ] {
        assert_eq!(whole(&header), Err(error), "{header:?}");
    }
}

#[test]
fn an_error_names_the_mistake_and_the_limit() {
    for (error, says) in [
        (
            HeaderError::EndlessLine,
            "its PROXY line has no end within 107 bytes",
        ),
        (
            HeaderError::Address(End::Source, "IPv4"),
            "the source of its PROXY line is not an address of IPv4",
        ),
        (
            HeaderError::Long(65_551),
            "its PROXY header has 65551 bytes; at most 4096",
        ),
        (
            HeaderError::Family(0x1),
            "the family of its PROXY header is 0x01, which the protocol does not know",
        ),
    ] {
        assert_eq!(error.to_string(), says);
    }
}
