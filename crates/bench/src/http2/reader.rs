//! Walks the frames that a server sends, as they come, without keeping them.
//!
//! Holds: the split of the bytes over reads changes nothing that is reported, except that a message's head may be
//! shorter. A stream takes sixteen bytes of state. All received bytes are credited back to the server's windows, since
//! a load that does not read would measure itself; unless it is told to be such a one.
//! Does not: decode response headers. How a stream ended is read from frame flags, reset codes and, when it
//! can be recognised, `grpc-status`.

use super::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, GRPC_PREFIX_BYTES, flag, kind, request};
use request::Windows;

/// Receives the reader's reports, in the order of the wire. `stream` counts calls of the connection from 0.
pub(crate) trait Sink {
    /// A gRPC message begins; `head` is as much of it as this read and this frame hold, at least one byte
    /// unless the message is empty.
    fn message(&mut self, stream: u32, length: u32, head: &[u8]);
    /// A compressed gRPC message; `length` is that of its compressed bytes.
    fn compressed_message(&mut self, stream: u32, length: u32) {
        self.message(stream, length, &[]);
    }
    /// The server ended a stream. Not called twice for one stream by a server that keeps to the protocol.
    fn stream_ended(&mut self, stream: u32, end: StreamEnd);
    fn setting(&mut self, id: u16, value: u32);
    /// A WINDOW_UPDATE; `None` is the connection's.
    fn window_update(&mut self, stream: Option<u32>, increment: u32);
    fn going_away(&mut self, code: u32);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// `END_STREAM`; the status where its bytes could be recognised.
    Finished {
        grpc_status: Option<u8>,
    },
    Reset {
        code: u32,
    },
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ReadError {
    #[error("the answer is not HTTP/2")]
    NotHttp2,
    #[error("a frame of {0} bytes, more than was allowed")]
    FrameTooLarge(usize),
    #[error("a frame for stream {0}, which was never opened")]
    UnknownStream(u32),
    #[error("a frame of type {kind} with {length} bytes")]
    WrongLength { kind: u8, length: usize },
}

/// Per connection; survives between reads.
#[derive(Debug)]
pub(crate) struct Reader {
    header: [u8; FRAME_HEADER_BYTES],
    header_length: u8,
    frame: Frame,
    /// Fixed parts of control frames: a setting, a ping, a code.
    control: [u8; 8],
    control_length: u8,
    /// Header block of a frame that ends its stream, for its status; empty nearly always.
    trailers: Vec<u8>,
    settings_seen: bool,
    windows: Windows,
    connection_unacknowledged: u32,
    credits: bool,
    streams: Vec<StreamReader>,
}

/// The frame whose bytes are arriving.
#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    kind: u8,
    flags: u8,
    stream_id: u32,
    /// Bytes still to come, padding included.
    left: usize,
    /// Padding at its end; for DATA known after the first byte.
    padding: usize,
    pad_length_due: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct StreamReader {
    /// Bytes of the current message still to come.
    message_left: u32,
    unacknowledged: u32,
    prefix: [u8; GRPC_PREFIX_BYTES],
    prefix_length: u8,
    ended: bool,
}

impl Reader {
    pub(crate) fn new(streams: u32, windows: Windows) -> Self {
        Self {
            header: [0; FRAME_HEADER_BYTES],
            header_length: 0,
            frame: Frame::default(),
            control: [0; 8],
            control_length: 0,
            trailers: Vec::new(),
            settings_seen: false,
            windows,
            connection_unacknowledged: 0,
            credits: true,
            streams: vec![StreamReader::default(); streams as usize],
        }
    }

    /// From now on the server's windows are not filled again.
    pub(crate) fn stop_crediting(&mut self) {
        self.credits = false;
    }

    /// Takes the next bytes of the connection; answers are appended to `reply`.
    pub(crate) fn read(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl Sink,
        reply: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        while !bytes.is_empty() {
            if usize::from(self.header_length) < FRAME_HEADER_BYTES {
                bytes = self.read_header(bytes, reply)?;
                if usize::from(self.header_length) < FRAME_HEADER_BYTES {
                    return Ok(());
                }
            }
            let taken = self.frame.left.min(bytes.len());
            let (body, rest) = bytes.split_at(taken);
            bytes = rest;
            self.frame.left -= taken;
            self.read_body(body, sink);
            if self.frame.left == 0 {
                self.finish_frame(sink, reply);
                self.header_length = 0;
            }
        }
        Ok(())
    }

    fn read_header<'a>(
        &mut self,
        bytes: &'a [u8],
        reply: &mut Vec<u8>,
    ) -> Result<&'a [u8], ReadError> {
        let have = usize::from(self.header_length);
        let taken = (FRAME_HEADER_BYTES - have).min(bytes.len());
        let (part, rest) = bytes.split_at(taken);
        self.header[have..have + taken].copy_from_slice(part);
        self.header_length += u8::try_from(taken).expect("at most nine");
        if have + taken == FRAME_HEADER_BYTES {
            self.begin_frame(reply)?;
        }
        Ok(rest)
    }

    fn begin_frame(&mut self, reply: &mut Vec<u8>) -> Result<(), ReadError> {
        let [a, b, c, kind, flags, stream @ ..] = self.header;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let stream_id = u32::from_be_bytes(stream) & 0x7fff_ffff;
        if !self.settings_seen {
            // Every server opens with its SETTINGS; anything else is another protocol.
            if kind != kind::SETTINGS || stream_id != 0 || length > FRAME_BYTES_MAX {
                return Err(ReadError::NotHttp2);
            }
            self.settings_seen = true;
        }
        if length > FRAME_BYTES_MAX {
            return Err(ReadError::FrameTooLarge(length));
        }
        let belongs_to_stream = matches!(kind, kind::DATA | kind::HEADERS | kind::RST_STREAM);
        if belongs_to_stream && self.index(stream_id).is_none() {
            return Err(ReadError::UnknownStream(stream_id));
        }
        let valid = match kind {
            kind::PING => length == 8,
            kind::RST_STREAM | kind::WINDOW_UPDATE => length == 4,
            kind::SETTINGS => length.is_multiple_of(6),
            kind::GOAWAY => length >= 8,
            kind::DATA => flags & flag::PADDED == 0 || length >= 1,
            _ => true,
        };
        if !valid {
            return Err(ReadError::WrongLength { kind, length });
        }
        self.control_length = 0;
        self.trailers.clear();
        self.frame = Frame {
            kind,
            flags,
            stream_id,
            left: length,
            padding: 0,
            pad_length_due: false,
        };
        if kind == kind::DATA {
            self.frame.pad_length_due = flags & flag::PADDED != 0;
            self.credit(length as u32, reply);
        }
        Ok(())
    }

    /// Gives received bytes back to the server's windows once half of one is used.
    fn credit(&mut self, length: u32, reply: &mut Vec<u8>) {
        if !self.credits {
            return;
        }
        self.connection_unacknowledged += length;
        if self.connection_unacknowledged > self.windows.connection_bytes / 2 {
            request::window_update(reply, 0, self.connection_unacknowledged);
            self.connection_unacknowledged = 0;
        }
        let Some(index) = self.index(self.frame.stream_id) else {
            return;
        };
        let stream = &mut self.streams[index];
        stream.unacknowledged += length;
        if stream.unacknowledged > self.windows.stream_bytes / 2 && !stream.ended {
            request::window_update(reply, self.frame.stream_id, stream.unacknowledged);
            stream.unacknowledged = 0;
        }
    }

    fn index(&self, stream_id: u32) -> Option<usize> {
        let index = (stream_id / 2) as usize;
        (stream_id % 2 == 1 && index < self.streams.len()).then_some(index)
    }

    fn read_body(&mut self, body: &[u8], sink: &mut impl Sink) {
        match self.frame.kind {
            kind::DATA => self.read_data(body, sink),
            kind::HEADERS if self.frame.flags & flag::END_STREAM != 0 => {
                self.trailers.extend_from_slice(body);
            }
            kind::SETTINGS if self.frame.flags & flag::ACK == 0 => self.read_settings(body, sink),
            kind::PING | kind::RST_STREAM | kind::WINDOW_UPDATE | kind::GOAWAY => {
                self.keep_control(body);
            }
            _ => {}
        }
    }

    fn read_data(&mut self, mut body: &[u8], sink: &mut impl Sink) {
        if self.frame.pad_length_due {
            let Some((pad_length, rest)) = body.split_first() else {
                return;
            };
            self.frame.padding = usize::from(*pad_length);
            self.frame.pad_length_due = false;
            body = rest;
        }
        // The padding may begin beyond this slice or within it.
        let padding_here = self
            .frame
            .padding
            .saturating_sub(self.frame.left)
            .min(body.len());
        let body = &body[..body.len() - padding_here];
        if let Some(index) = self.index(self.frame.stream_id) {
            self.streams[index].read(index as u32, body, sink);
        }
    }

    fn read_settings(&mut self, body: &[u8], sink: &mut impl Sink) {
        for byte in body {
            self.control[usize::from(self.control_length)] = *byte;
            self.control_length += 1;
            if self.control_length == 6 {
                let id = u16::from_be_bytes([self.control[0], self.control[1]]);
                sink.setting(id, self.control_number(2));
                self.control_length = 0;
            }
        }
    }

    fn keep_control(&mut self, body: &[u8]) {
        let have = usize::from(self.control_length);
        let taken = (self.control.len() - have).min(body.len());
        self.control[have..have + taken].copy_from_slice(&body[..taken]);
        self.control_length += u8::try_from(taken).expect("at most eight");
    }

    fn control_number(&self, at: usize) -> u32 {
        u32::from_be_bytes(
            *self.control[at..]
                .first_chunk()
                .expect("no number begins behind the fifth byte"),
        )
    }

    fn finish_frame(&mut self, sink: &mut impl Sink, reply: &mut Vec<u8>) {
        let Frame {
            kind,
            flags,
            stream_id,
            ..
        } = self.frame;
        match kind {
            kind::SETTINGS if flags & flag::ACK == 0 => {
                request::frame_header(reply, 0, kind::SETTINGS, flag::ACK, 0);
            }
            kind::PING if flags & flag::ACK == 0 => {
                request::frame_header(reply, 8, kind::PING, flag::ACK, 0);
                reply.extend_from_slice(&self.control);
            }
            kind::RST_STREAM => self.end_stream(
                StreamEnd::Reset {
                    code: self.control_number(0),
                },
                sink,
            ),
            kind::WINDOW_UPDATE => {
                let increment = self.control_number(0) & 0x7fff_ffff;
                // An update for a stream we do not know may follow its end; it means nothing to us.
                match (stream_id, self.index(stream_id)) {
                    (0, _) => sink.window_update(None, increment),
                    (_, Some(index)) => sink.window_update(Some(index as u32), increment),
                    (_, None) => {}
                }
            }
            kind::GOAWAY => sink.going_away(self.control_number(4)),
            kind::DATA | kind::HEADERS if flags & flag::END_STREAM != 0 => {
                let grpc_status = grpc_status(&self.trailers);
                self.end_stream(StreamEnd::Finished { grpc_status }, sink);
            }
            _ => {}
        }
    }

    fn end_stream(&mut self, end: StreamEnd, sink: &mut impl Sink) {
        let Some(index) = self.index(self.frame.stream_id) else {
            return;
        };
        // A reset may follow a finished stream: the server says that it wants no more of the request.
        if !self.streams[index].ended {
            self.streams[index].ended = true;
            sink.stream_ended(index as u32, end);
        }
    }
}

impl StreamReader {
    fn read(&mut self, stream: u32, mut body: &[u8], sink: &mut impl Sink) {
        loop {
            let skipped = (self.message_left as usize).min(body.len());
            body = &body[skipped..];
            self.message_left -= skipped as u32;
            if body.is_empty() {
                return;
            }
            let have = usize::from(self.prefix_length);
            if have < GRPC_PREFIX_BYTES {
                let taken = (GRPC_PREFIX_BYTES - have).min(body.len());
                self.prefix[have..have + taken].copy_from_slice(&body[..taken]);
                self.prefix_length += u8::try_from(taken).expect("at most five");
                body = &body[taken..];
                if usize::from(self.prefix_length) < GRPC_PREFIX_BYTES {
                    return;
                }
            }
            let [compressed, length @ ..] = self.prefix;
            let length = u32::from_be_bytes(length);
            if body.is_empty() && length > 0 {
                // The kind of a message stands in its first byte: report it when that is here.
                return;
            }
            match compressed {
                0 => sink.message(stream, length, &body[..body.len().min(length as usize)]),
                _ => sink.compressed_message(stream, length),
            }
            self.message_left = length;
            self.prefix_length = 0;
        }
    }
}

/// Finds `grpc-status` in a header block that is not decoded otherwise: it knows the name as it is written
/// Huffman-coded or plainly, with a value of either form. `None` where the field comes from the dynamic
/// table, which happens from the second such trailer of a connection on.
fn grpc_status(block: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"grpc-status";
    const NAME_HUFFMAN: &[u8] = &[0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f];
    // "0" to "16", Huffman-coded.
    const VALUES: [&[u8]; 17] = [
        &[0x07],
        &[0x0f],
        &[0x17],
        &[0x67],
        &[0x6b],
        &[0x6f],
        &[0x73],
        &[0x77],
        &[0x7b],
        &[0x7f],
        &[0x08, 0x3f],
        &[0x08, 0x7f],
        &[0x08, 0xbf],
        &[0x0b, 0x3f],
        &[0x0b, 0x5f],
        &[0x0b, 0x7f],
        &[0x0b, 0x9f],
    ];
    let after_name = [NAME, NAME_HUFFMAN].iter().find_map(|name| {
        let at = block
            .windows(name.len())
            .position(|window| window == *name)?;
        block.get(at + name.len()..)
    })?;
    let (first, rest) = after_name.split_first()?;
    let value = rest.get(..usize::from(first & 0x7f))?;
    if first & 0x80 == 0 {
        return std::str::from_utf8(value).ok()?.parse().ok();
    }
    VALUES
        .iter()
        .position(|coded| *coded == value)
        .and_then(|status| u8::try_from(status).ok())
}

#[cfg(test)]
mod tests;
