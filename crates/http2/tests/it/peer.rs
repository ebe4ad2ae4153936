//! A simple model of the peer, which judges every byte that the server sends. It shares no code with the crate.
//!
//! It reads what the peer has sent, as far as the server has consumed it, and then what the server sent for that. It panics at a
//! frame that RFC 9113, or a rule of the crate's own, does not allow there. It also knows what the peer may send.

mod frames;
mod judge;

use std::collections::{BTreeMap, VecDeque};

pub(crate) use self::frames::Frame;
use self::frames::Frames;
use crate::wire::{self, ACK, END_HEADERS, END_STREAM};

/// What both ends have said on a stream that the peer opened.
#[derive(Debug)]
struct Stream {
    /// Bytes of DATA that the peer may send, less the initial window.
    credit: i64,
    /// Bytes of DATA that the server may send, less the initial window.
    window: i64,
    /// The peer has sent a frame with END_STREAM.
    request_ended: bool,
    /// The server has sent HEADERS, and DATA.
    head: bool,
    content: bool,
    /// The server has sent END_STREAM.
    response_ended: bool,
    /// The server has sent RST_STREAM.
    reset: Option<u32>,
    /// The peer has sent RST_STREAM, and then frames that RST_STREAM may answer.
    reset_by_peer: bool,
    may_answer: bool,
}

/// The peer.
#[derive(Debug)]
pub(crate) struct Peer {
    sent: Frames,
    received: Frames,
    /// Frames of the server that a test has not looked at.
    pub(crate) inbox: Vec<Frame>,
    streams: BTreeMap<u32, Stream>,
    /// A header block of the peer that is not whole: the stream and END_STREAM.
    block: Option<(u32, bool)>,
    /// A header block of the server that is not whole.
    server_block: Option<u32>,
    highest: u32,
    /// Bytes of DATA that the peer may send on the connection, and the initial window of streams.
    credit: i64,
    initial_credit: i64,
    /// Bytes of DATA that the server may send on the connection, the initial window of streams, and the largest frame.
    window: i64,
    initial_window: i64,
    frame_max: usize,
    /// SETTINGS and PINGs of the peer that wait for their answers, in order.
    settings: VecDeque<Vec<u8>>,
    pings: VecDeque<Vec<u8>>,
    /// SETTINGS of the server that the peer has not acknowledged.
    server_settings: Option<Vec<u8>>,
    settings_came: bool,
    block_came: bool,
    /// PINGs of the server.
    pub(crate) server_pings: Vec<[u8; 8]>,
    /// GOAWAYs of the server: last stream and code.
    pub(crate) go_aways: Vec<(u32, u32)>,
}

impl Peer {
    pub(crate) fn new() -> Self {
        let window = i64::from(wire::WINDOW);
        Self {
            sent: Frames::after(wire::PREFACE.len()),
            received: Frames::after(0),
            inbox: Vec::new(),
            streams: BTreeMap::new(),
            block: None,
            server_block: None,
            highest: 0,
            credit: window,
            initial_credit: window,
            window,
            initial_window: window,
            frame_max: wire::FRAME,
            settings: VecDeque::new(),
            pings: VecDeque::new(),
            server_settings: None,
            settings_came: false,
            block_came: false,
            server_pings: Vec::new(),
            go_aways: Vec::new(),
        }
    }

    /// Bytes that the peer has sent and the server has consumed.
    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        self.sent.push(bytes);
        // Content counts from the frame's head on, everything else when it is whole.
        loop {
            if let Some(head) = self.sent.next_head()
                && head.kind == wire::DATA
            {
                self.sent_data(head.stream, head.length, head.flags);
            }
            match self.sent.next() {
                Some(frame) => self.sent_frame(&frame),
                None => break,
            }
        }
    }

    fn sent_data(&mut self, id: u32, length: usize, flags: u8) {
        self.credit -= number(length);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.credit -= number(length);
            stream.request_ended |= flags & END_STREAM != 0;
            stream.may_answer = true;
        }
    }

    fn sent_frame(&mut self, frame: &Frame) {
        match (frame.kind, frame.flags & ACK != 0) {
            (wire::HEADERS, _) => {
                let end = frame.flags & END_STREAM != 0;
                self.block = Some((frame.stream, end));
                if let Some(stream) = self.streams.get_mut(&frame.stream) {
                    stream.request_ended |= end;
                }
                if frame.flags & END_HEADERS != 0 {
                    self.sent_block();
                }
            }
            (wire::CONTINUATION, _) if frame.flags & END_HEADERS != 0 => self.sent_block(),
            (wire::RST_STREAM, _) => {
                if let Some(stream) = self.streams.get_mut(&frame.stream) {
                    stream.request_ended = true;
                    stream.reset_by_peer = true;
                    stream.may_answer = false;
                }
            }
            (wire::SETTINGS, false) => self.settings.push_back(frame.payload.clone()),
            (wire::SETTINGS, true) => self.apply_server_settings(),
            (wire::PING, false) => self.pings.push_back(frame.payload.clone()),
            (wire::WINDOW_UPDATE, _) if frame.payload.len() == 4 => {
                let increment = i64::from(frame.number(0) & wire::WINDOW_MAX);
                if frame.stream == 0 {
                    self.window += increment;
                } else if let Some(stream) = self.streams.get_mut(&frame.stream) {
                    stream.window += increment;
                }
            }
            _ => {}
        }
    }

    fn sent_block(&mut self) {
        let Some((id, end)) = self.block.take() else {
            return;
        };
        if id > self.highest && id % 2 == 1 {
            self.highest = id;
            self.streams.insert(id, Stream::new(end));
        } else if let Some(stream) = self.streams.get_mut(&id) {
            stream.may_answer = true;
        }
    }

    /// The server's SETTINGS hold from their acknowledgement on.
    fn apply_server_settings(&mut self) {
        let payload = self.server_settings.take().unwrap_or_default();
        for (id, value) in frames::settings(&payload) {
            if id == wire::INITIAL_WINDOW_SIZE {
                self.initial_credit = i64::from(value);
            }
        }
        let most = self.streams.values().map(|it| it.credit).max().unwrap_or(0);
        assert!(
            self.initial_credit + most <= i64::from(wire::WINDOW_MAX),
            "SETTINGS move a window over 2^31-1 (6.9.2)"
        );
    }

    /// Bytes of DATA that the peer may send on this stream.
    pub(crate) fn may_send(&self, id: u32) -> usize {
        let stream = self.stream_credit(id).min(self.credit);
        usize::try_from(stream).unwrap_or(0)
    }

    /// Bytes of DATA that the peer may send as far as the connection's window goes.
    pub(crate) fn connection_credit(&self) -> i64 {
        self.credit
    }

    /// Bytes of DATA that the peer may send as far as the stream's window goes.
    pub(crate) fn stream_credit(&self, id: u32) -> i64 {
        self.initial_credit + self.streams[&id].credit
    }

    /// Bytes of DATA that the server may send on this stream.
    pub(crate) fn server_window(&self, id: u32) -> i64 {
        self.window
            .min(self.initial_window + self.streams[&id].window)
    }

    /// The code with which the server reset the stream.
    pub(crate) fn reset_code(&self, id: u32) -> Option<u32> {
        self.streams.get(&id)?.reset
    }

    /// The server has sent END_STREAM on this stream.
    pub(crate) fn has_response(&self, id: u32) -> bool {
        self.streams.get(&id).is_some_and(|it| it.response_ended)
    }

    /// The peer may still send content on this stream, which it has opened.
    pub(crate) fn is_sending(&self, id: u32) -> bool {
        let stream = self.streams.get(&id);
        stream.is_some_and(|it| !it.request_ended && it.reset.is_none())
    }

    /// The code of the GOAWAY that ended the connection because of an error.
    pub(crate) fn failed(&self) -> Option<u32> {
        let (_, code) = *self.go_aways.last()?;
        (code != 0).then_some(code)
    }

    /// Everything that asks for an answer has one.
    #[track_caller]
    pub(crate) fn settled(&self) {
        if self.failed().is_none() {
            assert!(self.settings.is_empty(), "SETTINGS without ACK (6.5.3)");
            assert!(self.pings.is_empty(), "PING without ACK (6.7)");
        }
    }
}

/// A length beside windows, which may be negative.
fn number(length: usize) -> i64 {
    i64::try_from(length).expect("shorter than memory")
}

impl Stream {
    fn new(request_ended: bool) -> Self {
        Self {
            credit: 0,
            window: 0,
            request_ended,
            head: false,
            content: false,
            response_ended: false,
            reset: None,
            reset_by_peer: false,
            may_answer: false,
        }
    }
}
