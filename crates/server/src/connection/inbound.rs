//! What the peer sends, on its way to HTTP/2: the room that it gives us is taken out here.
//!
//! We write DATA ourselves (see `io.rs`), so we keep the windows too, and HTTP/2 must not hear of room that it never
//! uses: its own count would overflow. All else passes as it came; what is malformed passes too, since HTTP/2 knows
//! the right answer to it.
//!
//! Holds: bytes that pass keep their order, wherever reads cut them; an incomplete head is held back until it is known
//! what it is.
//! Does not: answer, or check anything that HTTP/2 checks.

use smallvec::SmallVec;

use super::windows::{WINDOW_MAX, Windows};

/// Bytes that a client sends before its first frame (RFC 9113, 3.4).
const PREFACE_BYTES: usize = 24;
/// Length, type, flags and stream (RFC 9113, 4.1).
const HEAD_BYTES: usize = 9;
/// A WINDOW_UPDATE with its head.
const UPDATE_BYTES: usize = HEAD_BYTES + 4;
/// What may be held back until more comes.
pub(super) const HELD_BYTES_MAX: usize = UPDATE_BYTES;
/// One parameter of SETTINGS.
const PARAMETER_BYTES: usize = 6;

const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// Where in the peer's bytes we are.
#[derive(Debug)]
pub(super) struct Inbound {
    state: State,
    // Of a head, an update or a parameter that has not come whole. Only of the first two is it held back.
    part: SmallVec<[u8; UPDATE_BYTES]>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The next so many bytes pass.
    Passing(usize),
    Head,
    /// The rest of a WINDOW_UPDATE.
    Update,
    /// So many bytes of SETTINGS are to come.
    Settings(usize),
}

impl Inbound {
    pub(super) fn new() -> Self {
        Self {
            state: State::Passing(PREFACE_BYTES),
            part: SmallVec::new(),
        }
    }

    /// Takes the next bytes; what HTTP/2 is to see goes to `out`, in parts. That is at most `HELD_BYTES_MAX` more than
    /// was taken.
    pub(super) fn pass(
        &mut self,
        mut bytes: &[u8],
        windows: &mut Windows,
        out: &mut impl FnMut(&[u8]),
    ) {
        while !bytes.is_empty() {
            match self.state {
                State::Passing(left) => {
                    let (passes, rest) = bytes.split_at(left.min(bytes.len()));
                    out(passes);
                    bytes = rest;
                    self.state = next(left - passes.len(), State::Passing);
                }
                State::Head => {
                    if self.complete(HEAD_BYTES, &mut bytes) {
                        self.begin_frame(out);
                    }
                }
                State::Update => {
                    if self.complete(UPDATE_BYTES, &mut bytes) {
                        self.end_update(windows, out);
                    }
                }
                State::Settings(left) => {
                    let before = bytes;
                    let whole = self.complete(PARAMETER_BYTES, &mut bytes);
                    let taken = before.len() - bytes.len();
                    out(&before[..taken]);
                    if whole {
                        read_parameter(&self.part, windows);
                        self.part.clear();
                    }
                    self.state = next(left - taken, State::Settings);
                }
            }
        }
    }

    /// Whether `part` has so many bytes now.
    fn complete(&mut self, wanted: usize, bytes: &mut &[u8]) -> bool {
        let missing = wanted - self.part.len();
        let (part, rest) = bytes.split_at(missing.min(bytes.len()));
        self.part.extend_from_slice(part);
        *bytes = rest;
        self.part.len() == wanted
    }

    fn begin_frame(&mut self, out: &mut impl FnMut(&[u8])) {
        let head = &self.part;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        if kind == WINDOW_UPDATE && length == UPDATE_BYTES - HEAD_BYTES {
            self.state = State::Update;
            return;
        }
        let parameters =
            kind == SETTINGS && flags & ACK == 0 && length.is_multiple_of(PARAMETER_BYTES);
        out(&self.part);
        self.part.clear();
        self.state = if parameters {
            next(length, State::Settings)
        } else {
            next(length, State::Passing)
        };
    }

    fn end_update(&mut self, windows: &mut Windows, out: &mut impl FnMut(&[u8])) {
        let number = |at: usize| {
            let bytes = self.part[at..at + 4].try_into().unwrap_or_default();
            // The highest bit is reserved.
            u32::from_be_bytes(bytes) & (u32::MAX >> 1)
        };
        match (number(5), number(HEAD_BYTES)) {
            // An error, which HTTP/2 answers.
            (_, 0) => out(&self.part),
            (0, bytes) => windows.give_connection(bytes),
            (stream, bytes) => windows.give(stream, bytes),
        }
        self.part.clear();
        self.state = State::Head;
    }
}

/// What comes when so many bytes of a frame are still to come.
fn next(left: usize, then: fn(usize) -> State) -> State {
    if left == 0 { State::Head } else { then(left) }
}

fn read_parameter(parameter: &[u8], windows: &mut Windows) {
    let name = u16::from_be_bytes([parameter[0], parameter[1]]);
    let value = u32::from_be_bytes([parameter[2], parameter[3], parameter[4], parameter[5]]);
    // A larger one is an error, which HTTP/2 answers.
    if name == INITIAL_WINDOW_SIZE && i64::from(value) <= WINDOW_MAX {
        windows.set_initial(value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::connection::windows::Spent;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn passed(inbound: &mut Inbound, windows: &mut Windows, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        inbound.pass(bytes, windows, &mut |part| out.extend(part));
        out
    }

    fn after_preface() -> Inbound {
        let mut inbound = Inbound::new();
        passed(&mut inbound, &mut Windows::new(), &[0; PREFACE_BYTES]);
        inbound
    }

    #[test]
    fn malformed_room_passes() {
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
        assert_eq!(windows.room(1, &mut spent, 1 << 20), Ok(65_535));
    }

    #[derive(Clone, Debug)]
    enum Sent {
        Update(u32, u32),
        Initial(u32),
        Other(u8, Vec<u8>),
    }

    fn sent() -> impl Strategy<Value = Sent> {
        prop_oneof![
            (0_u32..4, 1_u32..1_000).prop_map(|(stream, bytes)| Sent::Update(stream, bytes)),
            (0_u32..100_000).prop_map(Sent::Initial),
            (0_u8..10, prop::collection::vec(any::<u8>(), 0..40))
                .prop_filter("not one of the others", |(kind, _)| {
                    ![SETTINGS, WINDOW_UPDATE].contains(kind)
                })
                .prop_map(|(kind, payload)| Sent::Other(kind, payload)),
        ]
    }

    proptest! {
        #[test]
        fn all_but_room_passes_wherever_reads_cut_it_and_room_is_counted(
            frames in prop::collection::vec(sent(), 0..30),
            cuts in prop::collection::vec(1_usize..20, 1..20),
        ) {
            let mut bytes = vec![7; PREFACE_BYTES];
            let mut expected = bytes.clone();
            let (mut connection, mut initial, mut given) = (65_535_i64, 65_535_i64, [0_i64; 4]);
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
                    Sent::Other(kind, payload) => {
                        let other = frame(*kind, 0, 1, payload);
                        bytes.extend(&other);
                        expected.extend(&other);
                    }
                }
            }
            let mut windows = Windows::new();
            let mut inbound = Inbound::new();
            let mut out = Vec::<u8>::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let (piece, others) = rest.split_at((*cut).min(rest.len()));
                inbound.pass(piece, &mut windows, &mut |part| out.extend(part));
                rest = others;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(out, expected);
            for stream in 1..4_u32 {
                let room = windows.room(stream, &mut Spent::default(), usize::MAX >> 1);
                let window = (initial + given[stream as usize]).min(connection);
                prop_assert_eq!(i64::try_from(room.unwrap_or(0)).unwrap(), window);
            }
        }
    }
}
