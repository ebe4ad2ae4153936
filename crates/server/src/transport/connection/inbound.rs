//! The peer's frames on their way to HTTP/2. WINDOW_UPDATEs and initial windows are taken out here.
//!
//! We write DATA ourselves (see `io.rs`), so we keep the windows too. HTTP/2 must not see capacity that it never uses:
//! its own count would overflow.
//!
//! Of DATA only frames pass that carry bytes or end a stream. HTTP/2 counts frames that carry little, to end
//! connections that send too many. Padding makes such frames of honest ones, and frames of a stream that is over are
//! counted and never taken off. So padding, empty frames, and frames of streams that are over are taken out, and the
//! window bytes that the peer spent on them are returned (`returned.rs`).
//!
//! All other frames pass as they came. Malformed ones pass too, since HTTP/2 knows the right answer to them.
//!
//! Holds: bytes that pass keep their order, wherever reads cut them; an incomplete frame header is held back until its
//! kind is known.
//! Does not: answer, or check anything that HTTP/2 checks. A peer that spends more window on padding than it has is not
//! found out: none of it is held.

use smallvec::SmallVec;

use super::windows::{WINDOW_MAX, Windows};
use crate::limits;

/// Bytes that a client sends before its first frame (RFC 9113, 3.4).
const PREFACE_BYTES: usize = 24;
/// Length, type, flags and stream (RFC 9113, 4.1).
const FRAME_HEADER_BYTES: usize = 9;
/// A frame header, and how much padding there is (RFC 9113, 6.1).
const PADDED_HEADER_BYTES: usize = FRAME_HEADER_BYTES + 1;
/// A WINDOW_UPDATE with its frame header.
const UPDATE_BYTES: usize = FRAME_HEADER_BYTES + 4;
/// The bytes that may be held back until more come.
pub(super) const HELD_BYTES_MAX: usize = UPDATE_BYTES;
/// One parameter of SETTINGS.
const PARAMETER_BYTES: usize = 6;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// Where in the peer's bytes we are.
#[derive(Debug)]
pub(super) struct Inbound {
    state: State,
    // Of a frame header, an update or a parameter that has not come whole. Only of the first two is it held back.
    partial: SmallVec<[u8; UPDATE_BYTES]>,
    // Calls that may still pass before those that have are taken up.
    calls_left: u32,
    // The last stream that was called on. DATA of one beyond it is an error, which HTTP/2 answers.
    called: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// This number of bytes passes next.
    Passing(usize),
    /// This number of bytes is taken out next.
    TakingOut(usize),
    /// The first number of bytes passes next, and the second number after them is taken out.
    PassingPadded(usize, u8),
    Header,
    /// How much padding a DATA frame has.
    PaddedHead,
    /// The rest of a WINDOW_UPDATE.
    Update,
    /// This number of bytes of SETTINGS is still to come.
    Settings(usize),
}

impl Inbound {
    pub(super) fn new() -> Self {
        Self {
            state: State::Passing(PREFACE_BYTES),
            partial: SmallVec::new(),
            calls_left: limits::CONNECTION_TURN_CALLS,
            called: 0,
        }
    }

    /// Whether nothing more passes before the calls that have are taken up.
    pub(super) fn is_full(&self) -> bool {
        self.calls_left == 0 && self.is_between_frames()
    }

    /// The calls that have passed were taken up; whether others had to wait for that.
    pub(super) fn calls_taken(&mut self) -> bool {
        let before = std::mem::replace(&mut self.calls_left, limits::CONNECTION_TURN_CALLS);
        before == 0
    }

    /// Takes the next bytes, until it is full. The bytes for HTTP/2 go to `out`, in parts; they are at most
    /// `HELD_BYTES_MAX` more than the taken ones. Returns the bytes that were not taken.
    pub(super) fn pass<'a>(
        &mut self,
        mut bytes: &'a [u8],
        windows: &mut Windows,
        out: &mut impl FnMut(&[u8]),
    ) -> &'a [u8] {
        while !bytes.is_empty() && !self.is_full() {
            match self.state {
                State::Passing(left) => {
                    let (passes, rest) = bytes.split_at(left.min(bytes.len()));
                    out(passes);
                    bytes = rest;
                    self.state = next(left - passes.len(), State::Passing);
                }
                State::TakingOut(left) => {
                    let (gone, rest) = bytes.split_at(left.min(bytes.len()));
                    bytes = rest;
                    self.state = next(left - gone.len(), State::TakingOut);
                }
                State::PassingPadded(left, padding) => {
                    let (passes, rest) = bytes.split_at(left.min(bytes.len()));
                    out(passes);
                    bytes = rest;
                    self.state = if passes.len() < left {
                        State::PassingPadded(left - passes.len(), padding)
                    } else {
                        next(padding.into(), State::TakingOut)
                    };
                }
                State::Header => {
                    if self.complete(FRAME_HEADER_BYTES, &mut bytes) {
                        self.begin_frame(windows, out);
                    }
                }
                State::PaddedHead => {
                    if self.complete(PADDED_HEADER_BYTES, &mut bytes) {
                        self.begin_padded(windows, out);
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
                        read_parameter(&self.partial, windows);
                        self.partial.clear();
                    }
                    self.state = next(left - taken, State::Settings);
                }
            }
        }
        bytes
    }

    fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Header) && self.partial.is_empty()
    }

    /// Whether `partial` has this number of bytes now.
    fn complete(&mut self, wanted: usize, bytes: &mut &[u8]) -> bool {
        let missing = wanted - self.partial.len();
        let (part, rest) = bytes.split_at(missing.min(bytes.len()));
        self.partial.extend_from_slice(part);
        *bytes = rest;
        self.partial.len() == wanted
    }

    fn begin_frame(&mut self, windows: &mut Windows, out: &mut impl FnMut(&[u8])) {
        let (length, kind, flags, stream) = self.header();
        if kind == HEADERS {
            self.calls_left = self.calls_left.saturating_sub(1);
            self.called = self.called.max(stream);
        }
        if kind == DATA && stream > 0 && stream <= self.called {
            if windows.is_over(stream) {
                windows.returned.owe_connection(length);
                self.partial.clear();
                self.state = next(length as usize, State::TakingOut);
                return;
            }
            if length > 0 && flags & PADDED != 0 {
                self.state = State::PaddedHead;
                return;
            }
            if length == 0 && flags & (END_STREAM | PADDED) == 0 {
                self.partial.clear();
                self.state = State::Header;
                return;
            }
        }
        let length = length as usize;
        if kind == WINDOW_UPDATE && length == UPDATE_BYTES - FRAME_HEADER_BYTES {
            self.state = State::Update;
            return;
        }
        let parameters =
            kind == SETTINGS && flags & ACK == 0 && length.is_multiple_of(PARAMETER_BYTES);
        out(&self.partial);
        self.partial.clear();
        self.state = if parameters {
            next(length, State::Settings)
        } else {
            next(length, State::Passing)
        };
    }

    /// Length, type, flags and stream.
    fn header(&self) -> (u32, u8, u8, u32) {
        let header = &self.partial;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        (length, header[3], header[4], self.number(5))
    }

    /// Without the highest bit, which is reserved.
    fn number(&self, at: usize) -> u32 {
        let bytes = self.partial[at..at + 4].try_into().unwrap_or_default();
        u32::from_be_bytes(bytes) & (u32::MAX >> 1)
    }

    /// A DATA frame without its padding.
    fn begin_padded(&mut self, windows: &mut Windows, out: &mut impl FnMut(&[u8])) {
        let (length, _, flags, stream) = self.header();
        let padding = self.partial[FRAME_HEADER_BYTES];
        // How much there is counts too.
        let overhead = u32::from(padding) + 1;
        let Some(data) = length.checked_sub(overhead) else {
            // An error, which HTTP/2 answers.
            out(&self.partial);
            self.partial.clear();
            self.state = next(length as usize - 1, State::Passing);
            return;
        };
        let ends = flags & END_STREAM != 0;
        if ends {
            windows.returned.owe_connection(overhead);
        } else {
            windows.returned.owe(stream, overhead);
        }
        if data > 0 || ends {
            let [_, a, b, c] = data.to_be_bytes();
            self.partial[..3].copy_from_slice(&[a, b, c]);
            self.partial[4] = flags & !PADDED;
            out(&self.partial[..FRAME_HEADER_BYTES]);
        }
        self.partial.clear();
        self.state = if data > 0 {
            State::PassingPadded(data as usize, padding)
        } else {
            next(padding.into(), State::TakingOut)
        };
    }

    fn end_update(&mut self, windows: &mut Windows, out: &mut impl FnMut(&[u8])) {
        match (self.number(5), self.number(FRAME_HEADER_BYTES)) {
            // An error, which HTTP/2 answers.
            (_, 0) => out(&self.partial),
            (0, bytes) => windows.give_connection(bytes),
            (stream, bytes) => windows.give(stream, bytes),
        }
        self.partial.clear();
        self.state = State::Header;
    }
}

/// The state while this number of bytes of a frame is still to come.
fn next(left: usize, then: fn(usize) -> State) -> State {
    if left == 0 { State::Header } else { then(left) }
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
mod tests;
