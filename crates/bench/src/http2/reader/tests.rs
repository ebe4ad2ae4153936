use proptest::prelude::*;

use super::*;
use crate::http2::stream_id;

const WINDOWS: Windows = Windows {
    stream_bytes: 1 << 20,
    connection_bytes: 1 << 24,
};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    /// Without the head, whose length may depend on the reads; its first byte does not.
    Message {
        stream: u32,
        length: u32,
        first: Option<u8>,
    },
    Ended {
        stream: u32,
        end: StreamEnd,
    },
    Setting {
        id: u16,
        value: u32,
    },
    WindowUpdate {
        stream: Option<u32>,
        increment: u32,
    },
    GoingAway {
        code: u32,
    },
}

impl Sink for Vec<Seen> {
    fn message(&mut self, stream: u32, length: u32, head: &[u8]) {
        assert!(head.len() <= length as usize);
        self.push(Seen::Message {
            stream,
            length,
            first: head.first().copied(),
        });
    }

    fn stream_ended(&mut self, stream: u32, end: StreamEnd) {
        self.push(Seen::Ended { stream, end });
    }

    fn setting(&mut self, id: u16, value: u32) {
        self.push(Seen::Setting { id, value });
    }

    fn window_update(&mut self, stream: Option<u32>, increment: u32) {
        self.push(Seen::WindowUpdate { stream, increment });
    }

    fn going_away(&mut self, code: u32) {
        self.push(Seen::GoingAway { code });
    }
}

fn frame(kind: u8, flags: u8, stream_id: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    request::frame_header(&mut out, body.len(), kind, flags, stream_id);
    out.extend_from_slice(body);
    out
}

fn grpc(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    request::grpc_prefix(&mut out, message.len());
    out.extend_from_slice(message);
    out
}

fn padded(body: &[u8], padding: u8) -> Vec<u8> {
    let mut out = vec![padding];
    out.extend_from_slice(body);
    out.resize(out.len() + usize::from(padding), 0);
    out
}

/// Everything a server may say, with messages that cross frames and streams that interleave.
fn conversation() -> Vec<u8> {
    let long = grpc(&[b'l'; 300]);
    let mut two = grpc(b"ab");
    two.extend(grpc(b""));
    two.extend(&grpc(b"third")[..7]);
    [
        frame(
            kind::SETTINGS,
            0,
            0,
            &[0, 3, 0, 0, 0, 100, 0, 4, 0, 1, 0, 0],
        ),
        frame(kind::SETTINGS, flag::ACK, 0, &[]),
        frame(kind::HEADERS, flag::END_HEADERS, stream_id(0), &[0x88]),
        frame(kind::DATA, 0, stream_id(0), &long[..3]),
        frame(kind::DATA, 0, stream_id(1), &two),
        frame(kind::PING, 0, 0, b"12345678"),
        frame(kind::DATA, 0, stream_id(0), &long[3..100]),
        frame(kind::DATA, flag::PADDED, stream_id(1), &padded(b"ird", 5)),
        frame(kind::DATA, 0, stream_id(0), &[]),
        frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]),
        frame(kind::WINDOW_UPDATE, 0, stream_id(1), &[0, 0, 0, 7]),
        frame(
            kind::DATA,
            flag::PADDED,
            stream_id(0),
            &padded(&long[100..], 0),
        ),
        frame(0xbe, 0xff, 0, b"a frame of a type that nobody knows"),
        frame(kind::RST_STREAM, 0, stream_id(1), &[0, 0, 0, 7]),
        frame(kind::GOAWAY, 0, 0, b"\0\0\0\x03\0\0\0\x0bbye"),
        frame(
            kind::HEADERS,
            flag::END_HEADERS | flag::END_STREAM,
            stream_id(0),
            b"\0\x0bgrpc-status\x0214",
        ),
    ]
    .concat()
}

fn expected() -> Vec<Seen> {
    let message = |stream, length, first: Option<u8>| Seen::Message {
        stream,
        length,
        first,
    };
    vec![
        Seen::Setting { id: 3, value: 100 },
        Seen::Setting {
            id: 4,
            value: 65_536,
        },
        message(1, 2, Some(b'a')),
        message(1, 0, None),
        message(1, 5, Some(b't')),
        message(0, 300, Some(b'l')),
        Seen::WindowUpdate {
            stream: None,
            increment: 256,
        },
        Seen::WindowUpdate {
            stream: Some(1),
            increment: 7,
        },
        Seen::Ended {
            stream: 1,
            end: StreamEnd::Reset { code: 7 },
        },
        Seen::GoingAway { code: 11 },
        Seen::Ended {
            stream: 0,
            end: StreamEnd::Finished {
                grpc_status: Some(14),
            },
        },
    ]
}

fn read_in_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Seen>, Vec<u8>) {
    let mut reader = Reader::new(2, WINDOWS);
    let (mut seen, mut reply) = (Vec::new(), Vec::new());
    for part in parts {
        reader.read(part, &mut seen, &mut reply).unwrap();
    }
    (seen, reply)
}

fn replies() -> Vec<u8> {
    [
        frame(kind::SETTINGS, flag::ACK, 0, &[]),
        frame(kind::PING, flag::ACK, 0, b"12345678"),
    ]
    .concat()
}

#[test]
fn every_split_in_two_reads_reports_the_same() {
    let bytes = conversation();
    for at in 0..=bytes.len() {
        let (first, second) = bytes.split_at(at);
        assert_eq!(
            read_in_parts([first, second]),
            (expected(), replies()),
            "split at {at}"
        );
    }
}

#[test]
fn byte_by_byte_reports_the_same() {
    assert_eq!(
        read_in_parts(conversation().chunks(1)),
        (expected(), replies())
    );
}

proptest! {
    #[test]
    fn any_split_of_any_messages_over_frames_and_reads_counts_them(
        lengths in prop::collection::vec((0_u32..3, 0_usize..700), 1..60),
        frame_lengths in prop::collection::vec(1_usize..400, 1..20),
        read_lengths in prop::collection::vec(1_usize..900, 1..20),
    ) {
        // The bytes of each stream, cut into frames in turn.
        let mut streams = vec![Vec::new(); 3];
        let mut counts = [(0_u32, 0_u64); 3];
        for (stream, length) in &lengths {
            streams[*stream as usize].extend(grpc(&vec![b'x'; *length]));
            counts[*stream as usize].0 += 1;
            counts[*stream as usize].1 += *length as u64;
        }
        let mut wire = frame(kind::SETTINGS, 0, 0, &[]);
        let mut rests: Vec<&[u8]> = streams.iter().map(Vec::as_slice).collect();
        let mut next_length = frame_lengths.iter().cycle();
        while rests.iter().any(|rest| !rest.is_empty()) {
            for (index, rest) in (0..).zip(&mut rests) {
                let length = rest.len().min(*next_length.next().unwrap());
                let (body, behind) = rest.split_at(length);
                wire.extend(frame(kind::DATA, 0, stream_id(index), body));
                *rest = behind;
            }
        }

        let mut reader = Reader::new(3, WINDOWS);
        let (mut seen, mut reply) = (Vec::new(), Vec::new());
        let mut rest = wire.as_slice();
        for length in read_lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, behind) = rest.split_at(rest.len().min(*length));
            reader.read(part, &mut seen, &mut reply).unwrap();
            rest = behind;
        }

        let mut seen_counts = [(0_u32, 0_u64); 3];
        for one in seen {
            match one {
                Seen::Message { stream, length, first } => {
                    prop_assert_eq!(first.is_some(), length > 0);
                    seen_counts[stream as usize].0 += 1;
                    seen_counts[stream as usize].1 += u64::from(length);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(seen_counts, counts);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), settings_first: bool) {
        let mut wire = if settings_first { frame(kind::SETTINGS, 0, 0, &[]) } else { Vec::new() };
        wire.extend(bytes);
        let _ = Reader::new(2, WINDOWS).read(&wire, &mut Vec::new(), &mut Vec::new());
    }
}

#[test]
fn windows_are_credited_when_half_is_used() {
    let windows = Windows {
        stream_bytes: 1000,
        connection_bytes: 1500,
    };
    let mut reader = Reader::new(2, windows);
    let mut reply = Vec::new();
    let mut say = |bytes: &[u8]| {
        reply.clear();
        reader.read(bytes, &mut Vec::new(), &mut reply).unwrap();
        reply.clone()
    };
    say(&frame(kind::SETTINGS, 0, 0, &[]));
    assert_eq!(
        say(&frame(kind::DATA, 0, stream_id(0), &grpc(&[0; 495]))),
        Vec::<u8>::new()
    );
    assert_eq!(
        say(&frame(kind::DATA, 0, stream_id(0), &grpc(b""))),
        frame(kind::WINDOW_UPDATE, 0, stream_id(0), &505_u32.to_be_bytes())
    );
    assert_eq!(
        say(&frame(kind::DATA, 0, stream_id(1), &grpc(&[0; 395]))),
        frame(kind::WINDOW_UPDATE, 0, 0, &905_u32.to_be_bytes())
    );
}

#[test]
fn a_reader_that_stopped_crediting_sends_no_window_updates_and_still_answers_pings() {
    let windows = Windows {
        stream_bytes: 1000,
        connection_bytes: 1500,
    };
    let mut reader = Reader::new(1, windows);
    reader.stop_crediting();
    let mut reply = Vec::new();
    let mut bytes = frame(kind::SETTINGS, flag::ACK, 0, &[]);
    bytes.extend(frame(kind::DATA, 0, stream_id(0), &grpc(&[0; 995])));
    bytes.extend(frame(kind::PING, 0, 0, &[7; 8]));
    reader.read(&bytes, &mut Vec::new(), &mut reply).unwrap();
    assert_eq!(reply, frame(kind::PING, flag::ACK, 0, &[7; 8]));
}

#[test]
fn an_answer_that_is_not_http2_is_recognised() {
    let mut reader = Reader::new(1, WINDOWS);
    let result = reader.read(
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &mut Vec::new(),
        &mut Vec::new(),
    );
    assert_eq!(result, Err(ReadError::NotHttp2));
}

#[test]
fn a_stream_that_was_never_opened_is_an_error() {
    let mut reader = Reader::new(1, WINDOWS);
    let wire = [
        frame(kind::SETTINGS, 0, 0, &[]),
        frame(kind::DATA, 0, stream_id(1), b""),
    ]
    .concat();
    assert_eq!(
        reader.read(&wire, &mut Vec::new(), &mut Vec::new()),
        Err(ReadError::UnknownStream(3))
    );
}

#[test]
fn a_stream_ends_once_even_if_a_reset_follows() {
    let wire = [
        frame(kind::SETTINGS, 0, 0, &[]),
        frame(kind::DATA, flag::END_STREAM, stream_id(0), b""),
        frame(kind::RST_STREAM, 0, stream_id(0), &[0; 4]),
    ]
    .concat();
    let (seen, _) = read_in_parts([wire.as_slice()]);
    assert_eq!(
        seen,
        [Seen::Ended {
            stream: 0,
            end: StreamEnd::Finished { grpc_status: None }
        }]
    );
}
