//! Bytes of one direction, cut into frames (RFC 9113, 4.1).

use std::fmt;

use crate::wire;

/// A whole frame.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Four bytes of the payload as a number.
    pub(crate) fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(*self.payload[at..].first_chunk().expect("four bytes"))
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 10] = [
            "DATA",
            "HEADERS",
            "PRIORITY",
            "RST_STREAM",
            "SETTINGS",
            "PUSH_PROMISE",
            "PING",
            "GOAWAY",
            "WINDOW_UPDATE",
            "CONTINUATION",
        ];
        let name = NAMES.get(usize::from(self.kind)).unwrap_or(&"unknown");
        let (stream, flags, length) = (self.stream, self.flags, self.payload.len());
        write!(f, "{name} on {stream}, flags {flags:#x}, {length} bytes")?;
        if length <= 16 {
            write!(f, " {:?}", self.payload)?;
        }
        Ok(())
    }
}

/// The head of a frame.
pub(super) struct Head {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) length: usize,
}

/// The settings in a payload (6.5.1).
pub(super) fn settings(payload: &[u8]) -> Vec<(u16, u32)> {
    let settings = payload.chunks_exact(6);
    let settings = settings.map(|it| {
        let value = *it.last_chunk().expect("four bytes");
        (
            u16::from_be_bytes([it[0], it[1]]),
            u32::from_be_bytes(value),
        )
    });
    settings.collect()
}

/// The bytes of one end.
#[derive(Debug)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    /// Bytes that come before the first frame.
    skip: usize,
    /// Where the first frame begins whose head was not given out.
    head_at: usize,
    /// Where the first frame begins that was not given out.
    frame_at: usize,
}

impl Frames {
    pub(super) fn after(skip: usize) -> Self {
        Self {
            bytes: Vec::new(),
            skip,
            head_at: 0,
            frame_at: 0,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        self.bytes.extend(&bytes[skipped..]);
    }

    fn head(&self, at: usize) -> Option<Head> {
        let head = self.bytes.get(at..at + 9)?;
        let stream = *head.last_chunk().expect("four bytes");
        Some(Head {
            length: u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize,
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        })
    }

    /// The head of the next frame, once, as soon as it has come, with the length of its padding if it is padded.
    pub(super) fn next_head(&mut self) -> Option<Head> {
        if self.head_at > self.frame_at {
            return None;
        }
        let head = self.head(self.head_at)?;
        let padded = head.flags & wire::PADDED != 0 && head.length > 0;
        if padded && self.bytes.len() <= self.head_at + 9 {
            return None;
        }
        self.head_at += 9 + head.length;
        Some(head)
    }

    /// The next frame that is whole.
    pub(super) fn next(&mut self) -> Option<Frame> {
        let Head {
            length,
            kind,
            flags,
            stream,
        } = self.head(self.frame_at)?;
        let payload = self
            .bytes
            .get(self.frame_at + 9..self.frame_at + 9 + length)?;
        let frame = Frame {
            kind,
            flags,
            stream,
            payload: payload.to_vec(),
        };
        self.frame_at += 9 + length;
        self.head_at = self.frame_at;
        if self.frame_at > 64 * 1024 || self.frame_at == self.bytes.len() {
            self.bytes.drain(..self.frame_at);
            (self.frame_at, self.head_at) = (0, 0);
        }
        Some(frame)
    }

    /// Bytes of a frame that is not whole.
    pub(super) fn rest(&self) -> usize {
        self.bytes.len() - self.frame_at
    }
}
