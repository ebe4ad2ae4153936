//! What the server may send, and when (RFC 9113, 5 and 6).

use super::{Frame, Peer};
use crate::wire::{self, ACK, END_HEADERS, END_STREAM};

impl Peer {
    /// Whole frames that the server has sent. It panics at one that it must not send.
    #[track_caller]
    pub(crate) fn received(&mut self, bytes: &[u8]) {
        self.received.push(bytes);
        while let Some(frame) = self.received.next() {
            self.judge(&frame);
            self.inbox.push(frame);
        }
        assert_eq!(self.received.rest(), 0, "a frame that is not whole (4.1)");
    }

    #[track_caller]
    fn judge(&mut self, frame: &Frame) {
        assert!(
            frame.payload.len() <= self.frame_max,
            "a frame over SETTINGS_MAX_FRAME_SIZE (4.2): {frame:?}"
        );
        assert!(
            self.settings_came || frame.kind == wire::SETTINGS && !frame.has(ACK),
            "the first frame is not SETTINGS (3.4): {frame:?}"
        );
        assert_eq!(
            self.failed(),
            None,
            "a frame after the GOAWAY of an error: {frame:?}"
        );
        assert_eq!(
            self.server_block.is_some(),
            frame.kind == wire::CONTINUATION,
            "a block and its CONTINUATION are next to each other (6.10): {frame:?}"
        );
        let of_connection = [wire::SETTINGS, wire::PING, wire::GOAWAY].contains(&frame.kind);
        assert!(
            frame.kind == wire::WINDOW_UPDATE || of_connection == (frame.stream == 0),
            "a frame on the wrong stream (6): {frame:?}"
        );
        let flags = match frame.kind {
            wire::DATA => END_STREAM,
            wire::HEADERS => END_STREAM | END_HEADERS,
            wire::SETTINGS | wire::PING => ACK,
            wire::CONTINUATION => END_HEADERS,
            _ => 0,
        };
        assert_eq!(frame.flags & !flags, 0, "flags that it has not: {frame:?}");
        match frame.kind {
            wire::DATA => self.judge_data(frame),
            wire::HEADERS => self.judge_headers(frame),
            wire::CONTINUATION => {
                let block = self.server_block.take().filter(|_| !frame.has(END_HEADERS));
                assert!(block.is_none_or(|id| id == frame.stream), "{frame:?}");
                self.server_block = block;
            }
            wire::RST_STREAM => self.judge_reset(frame),
            wire::SETTINGS => self.judge_settings(frame),
            wire::PING => self.judge_ping(frame),
            wire::GOAWAY => self.judge_go_away(frame),
            wire::WINDOW_UPDATE => self.judge_window_update(frame),
            _ => panic!("a frame that a server does not send: {frame:?}"),
        }
    }

    #[track_caller]
    fn judge_data(&mut self, frame: &Frame) {
        let initial = self.initial_window;
        let length = super::number(frame.payload.len());
        let Some(stream) = self.streams.get_mut(&frame.stream) else {
            panic!("DATA of an idle stream (5.1): {frame:?}");
        };
        assert!(stream.head, "DATA before HEADERS (8.1): {frame:?}");
        assert!(
            !stream.response_ended && stream.reset.is_none() && !stream.reset_by_peer,
            "DATA after the end of the stream (5.1): {frame:?}, {stream:?}"
        );
        stream.window -= length;
        self.window -= length;
        assert!(
            length == 0 || initial + stream.window >= 0,
            "DATA over the stream's window (6.9.1): {frame:?}"
        );
        assert!(
            self.window >= 0,
            "DATA over the connection's window (6.9.1): {frame:?}"
        );
        stream.content = true;
        stream.response_ended = frame.has(END_STREAM);
    }

    #[track_caller]
    fn judge_headers(&mut self, frame: &Frame) {
        let Some(stream) = self.streams.get_mut(&frame.stream) else {
            panic!("HEADERS of an idle stream (5.1): {frame:?}");
        };
        assert!(
            !stream.response_ended && stream.reset.is_none() && !stream.reset_by_peer,
            "HEADERS after the end of the stream (5.1): {frame:?}, {stream:?}"
        );
        assert!(
            !stream.content || frame.has(END_STREAM),
            "trailers without END_STREAM (8.1): {frame:?}"
        );
        if !self.block_came {
            self.block_came = true;
            assert_eq!(
                frame.payload.first(),
                Some(&0x20),
                "the first block does not begin with a table of size 0"
            );
        }
        stream.head = true;
        stream.response_ended = frame.has(END_STREAM);
        if !frame.has(END_HEADERS) {
            self.server_block = Some(frame.stream);
        }
    }

    #[track_caller]
    fn judge_reset(&mut self, frame: &Frame) {
        assert_eq!(frame.payload.len(), 4, "a size that it has not: {frame:?}");
        let Some(stream) = self.streams.get_mut(&frame.stream) else {
            panic!("RST_STREAM of an idle stream (6.4): {frame:?}");
        };
        assert_eq!(
            stream.reset, None,
            "a second RST_STREAM for a stream (5.4.2): {frame:?}"
        );
        assert!(
            !stream.reset_by_peer || stream.may_answer,
            "RST_STREAM in response to RST_STREAM (5.4.2): {frame:?}"
        );
        stream.reset = Some(frame.number(0));
    }

    #[track_caller]
    fn judge_settings(&mut self, frame: &Frame) {
        if !frame.has(ACK) {
            assert!(!self.settings_came, "SETTINGS are sent once: {frame:?}");
            assert_eq!(frame.payload.len() % 6, 0, "{frame:?}");
            self.settings_came = true;
            self.server_settings = Some(frame.payload.clone());
            return;
        }
        assert!(frame.payload.is_empty(), "{frame:?}");
        let Some(payload) = self.settings.pop_front() else {
            panic!("an ACK that nobody waits for (6.5.3)");
        };
        for (id, value) in super::frames::settings(&payload) {
            match id {
                wire::INITIAL_WINDOW_SIZE => self.initial_window = i64::from(value),
                wire::MAX_FRAME_SIZE => self.frame_max = value as usize,
                _ => {}
            }
        }
    }

    #[track_caller]
    fn judge_ping(&mut self, frame: &Frame) {
        let payload: [u8; 8] = frame.payload[..].try_into().expect("8 bytes (6.7)");
        if frame.has(ACK) {
            let asked = self.pings.pop_front();
            assert_eq!(
                asked.as_deref(),
                Some(&payload[..]),
                "an answer in another order, or to no PING (6.7)"
            );
        } else {
            self.server_pings.push(payload);
        }
    }

    #[track_caller]
    fn judge_go_away(&mut self, frame: &Frame) {
        assert!(frame.payload.len() >= 8, "{frame:?}");
        let (last, code) = (frame.number(0), frame.number(4));
        let before = self.go_aways.last().map_or(wire::WINDOW_MAX, |it| it.0);
        assert!(last <= before, "the last stream rises (6.8): {frame:?}");
        assert!(
            last <= self.highest || last == wire::WINDOW_MAX && code == 0,
            "GOAWAY with a stream that the peer has not opened (6.8): {frame:?}"
        );
        self.go_aways.push((last, code));
    }

    #[track_caller]
    fn judge_window_update(&mut self, frame: &Frame) {
        assert_eq!(frame.payload.len(), 4, "a size that it has not: {frame:?}");
        let increment = frame.number(0);
        assert!(
            (1..=wire::WINDOW_MAX).contains(&increment),
            "an increment that it must not have (6.9): {frame:?}"
        );
        let window = if frame.stream == 0 {
            self.credit += i64::from(increment);
            self.credit
        } else {
            let Some(stream) = self.streams.get_mut(&frame.stream) else {
                panic!("WINDOW_UPDATE of an idle stream (5.1): {frame:?}");
            };
            assert!(
                !stream.request_ended && stream.reset.is_none(),
                "WINDOW_UPDATE for a request that has ended: {frame:?}, {stream:?}"
            );
            stream.credit += i64::from(increment);
            self.initial_credit + stream.credit
        };
        assert!(
            window <= i64::from(wire::WINDOW_MAX),
            "a window over 2^31-1 (6.9.1): {frame:?}"
        );
    }
}
