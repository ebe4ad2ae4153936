use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::transport::connection::windows::Spent;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn passed(inbound: &mut Inbound, windows: &mut Windows, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let rest = inbound.pass(bytes, windows, &mut |part| out.extend(part));
    assert!(rest.is_empty());
    out
}

fn after_preface() -> Inbound {
    let mut inbound = Inbound::new();
    passed(&mut inbound, &mut Windows::new(), &[0; PREFACE_BYTES]);
    inbound
}

#[test]
fn malformed_window_updates_pass() {
    let mut inbound = after_preface();
    let mut windows = Windows::new();
    for bytes in [
        frame(WINDOW_UPDATE, 0, 1, &[0; 4]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1]),
        frame(SETTINGS, 0, 0, &[0, 4, 255, 255, 255, 255]),
        frame(SETTINGS, 0, 0, &[0, 4, 0]),
        frame(SETTINGS, ACK, 0, &[]),
    ] {
        assert_eq!(passed(&mut inbound, &mut windows, &bytes), bytes);
    }
    let mut spent = Spent::default();
    assert_eq!(windows.capacity(1, &mut spent, 1 << 20), Ok(65_535));
}

#[test]
fn malformed_padding_passes() {
    let mut inbound = after_preface();
    let mut windows = Windows::new();
    passed(&mut inbound, &mut windows, &frame(HEADERS, 0, 1, b"head"));
    for bytes in [
        frame(DATA, PADDED, 1, &[]),
        frame(DATA, PADDED, 1, &[1]),
        frame(DATA, PADDED, 1, &[3, 0, 0]),
        frame(DATA, PADDED, 0, &[1, 0]),
        frame(DATA, 0, 0, &[]),
    ] {
        assert_eq!(passed(&mut inbound, &mut windows, &bytes), bytes);
    }
    assert!(windows.returned.is_empty());
}

#[test]
fn calls_beyond_a_turn_wait_until_those_before_are_taken_up() {
    let mut inbound = after_preface();
    let mut windows = Windows::new();
    let turn = limits::CONNECTION_TURN_CALLS as usize;
    let call = [frame(HEADERS, 0, 1, b"head"), frame(0, 1, 1, b"message")].concat();
    let bytes = call.repeat(turn + 1);
    let mut out = Vec::<u8>::new();
    let rest = inbound.pass(&bytes, &mut windows, &mut |part| out.extend(part));
    let head_bytes = FRAME_HEADER_BYTES + 4;
    assert_eq!(
        bytes.len() - rest.len(),
        call.len() * (turn - 1) + head_bytes
    );
    assert!(inbound.is_full());
    assert!(
        inbound
            .pass(rest, &mut windows, &mut |_| panic!("it is full"))
            .len()
            == rest.len()
    );
    assert!(inbound.calls_taken());
    let rest = inbound.pass(rest, &mut windows, &mut |part| out.extend(part));
    assert!(rest.is_empty());
    assert_eq!(out, bytes);
    assert!(!inbound.calls_taken(), "there was room for more");
}

#[derive(Clone, Debug)]
enum Sent {
    Update(u32, u32),
    Initial(u32),
    Data(Data),
    Other(u8, Vec<u8>),
}

#[derive(Clone, Debug)]
struct Data {
    stream: u32,
    payload: Vec<u8>,
    padding: Option<u8>,
    ends: bool,
}

impl Data {
    /// As the peer sends it.
    fn frame(&self) -> Vec<u8> {
        let ends = if self.ends { END_STREAM } else { 0 };
        match self.padding {
            None => frame(DATA, ends, self.stream, &self.payload),
            Some(padding) => {
                let mut payload = vec![padding];
                payload.extend(&self.payload);
                payload.resize(payload.len() + usize::from(padding), 0);
                frame(DATA, ends | PADDED, self.stream, &payload)
            }
        }
    }

    /// As HTTP/2 is to see it.
    fn without_padding(&self) -> Vec<u8> {
        let passes = self.ends || !self.payload.is_empty();
        let plain = Self {
            padding: None,
            ..self.clone()
        };
        if passes { plain.frame() } else { Vec::new() }
    }
}

/// On these streams there are calls; those of the first two were taken up.
const CALLED: [u32; 3] = [1, 3, 7];
/// It was taken up and is over.
const OVER: u32 = 5;
/// Nobody called on it.
const IDLE: u32 = 9;

fn data() -> impl Strategy<Value = Data> {
    let payload = prop::collection::vec(any::<u8>(), 0..40);
    let padding = prop::option::of(any::<u8>());
    (0_usize..5, payload, padding, any::<bool>()).prop_map(|(stream, payload, padding, ends)| {
        Data {
            stream: [CALLED[0], CALLED[1], CALLED[2], OVER, IDLE][stream],
            payload,
            padding,
            ends,
        }
    })
}

fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof![
        (0_usize..3, 1_u32..1_000)
            .prop_map(|(stream, bytes)| { Sent::Update([0, CALLED[0], CALLED[1]][stream], bytes) }),
        (0_u32..100_000).prop_map(Sent::Initial),
        data().prop_map(Sent::Data),
        (0_u8..10, prop::collection::vec(any::<u8>(), 0..40))
            .prop_filter("not one of the others", |(kind, _)| {
                ![DATA, HEADERS, SETTINGS, WINDOW_UPDATE].contains(kind)
            })
            .prop_map(|(kind, payload)| Sent::Other(kind, payload)),
    ]
}

proptest! {
    #[test]
    fn all_that_means_something_passes_wherever_reads_cut_it_and_windows_are_counted(
        frames in prop::collection::vec(sent(), 0..30),
        cuts in prop::collection::vec(1_usize..20, 1..20),
    ) {
        let mut bytes = vec![7; PREFACE_BYTES];
        let mut expected = bytes.clone();
        for stream in [1, 3, OVER, 7] {
            let call = frame(HEADERS, 0, stream, b"head");
            bytes.extend(&call);
            expected.extend(&call);
        }
        let (mut connection, mut initial, mut given) = (65_535_i64, 65_535_i64, [0_i64; 4]);
        let mut owed = BTreeMap::new();
        for one in &frames {
            match one {
                Sent::Update(stream, count) => {
                    bytes.extend(frame(WINDOW_UPDATE, 0, *stream, &count.to_be_bytes()));
                    if *stream == 0 {
                        connection += i64::from(*count);
                    } else {
                        given[*stream as usize] += i64::from(*count);
                    }
                }
                Sent::Initial(value) => {
                    let mut payload = vec![0, 1, 0, 0, 16, 0, 0, 4];
                    payload.extend(value.to_be_bytes());
                    let settings = frame(SETTINGS, 0, 0, &payload);
                    bytes.extend(&settings);
                    expected.extend(&settings);
                    initial = i64::from(*value);
                }
                Sent::Data(data) => {
                    let sent = data.frame();
                    let passes = match data.stream {
                        IDLE => sent.clone(),
                        OVER => Vec::new(),
                        _ => data.without_padding(),
                    };
                    bytes.extend(&sent);
                    expected.extend(&passes);
                    // Flow control does not count the frame header.
                    let counted = |frame: &[u8]| frame.len().saturating_sub(FRAME_HEADER_BYTES) as u32;
                    let gone = counted(&sent) - counted(&passes);
                    if gone > 0 {
                        *owed.entry(0).or_insert(0) += gone;
                    }
                    if gone > 0 && data.stream != OVER && !data.ends {
                        *owed.entry(data.stream).or_insert(0) += gone;
                    }
                }
                Sent::Other(kind, payload) => {
                    let other = frame(*kind, 0, IDLE, payload);
                    bytes.extend(&other);
                    expected.extend(&other);
                }
            }
        }
        let mut windows = Windows::new();
        for (slot, stream) in [1, 3, OVER].into_iter().enumerate() {
            windows.open(stream, slot as u32);
        }
        windows.close(OVER, Spent::default());
        let mut inbound = Inbound::new();
        let mut out = Vec::<u8>::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            let (piece, _) = rest.split_at((*cut).min(rest.len()));
            let left = inbound.pass(piece, &mut windows, &mut |part| out.extend(part));
            rest = &rest[piece.len() - left.len()..];
            inbound.calls_taken();
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(out, expected);
        let mut returned = BTreeMap::new();
        windows.returned.take(&mut |update| {
            let number = |at: usize| u32::from_be_bytes(update[at..at + 4].try_into().unwrap());
            returned.insert(number(5), number(FRAME_HEADER_BYTES));
        });
        prop_assert_eq!(returned, owed);
        for stream in [1_u32, 3] {
            let capacity = windows.capacity(stream, &mut Spent::default(), usize::MAX >> 1);
            let window = (initial + given[stream as usize]).min(connection);
            prop_assert_eq!(i64::try_from(capacity.unwrap_or(0)).unwrap(), window);
        }
    }
}
