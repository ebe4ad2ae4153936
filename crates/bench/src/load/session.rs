//! The client's end of TLS on one connection of the load.
//!
//! Holds: records are read where they arrived and written where they leave, so an idle connection keeps the state of
//! rustls and no buffer; only the beginning of a record waits here for its end.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::HandshakeKind;
use rustls::client::{ClientConfig, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};

use super::tcp::{Output, closed, receive};

/// The longest record (RFC 8446, 5.2), with its header; a buffer for reads must be longer.
pub(crate) const RECORD_BYTES_MAX: usize = 5 + 16_384 + 256;
/// Payload of one record.
const PAYLOAD_BYTES_MAX: usize = 16_384;
/// What a record takes beside its payload: header, type, tag.
const RECORD_EXTRA_BYTES: usize = 64;

pub(super) struct Session {
    connection: UnbufferedClientConnection,
    /// Records that the socket has not taken.
    outgoing: Output,
    /// The beginning of a record.
    incoming: Vec<u8>,
    /// The handshake begins when the server has said a line in the clear.
    awaits_line: bool,
    is_ready: bool,
}

// The connection of rustls shows nothing of itself.
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("is_ready", &self.is_ready)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        awaits_line: bool,
    ) -> io::Result<Self> {
        let connection =
            UnbufferedClientConnection::new(config, name).map_err(|error| in_words(&error))?;
        Ok(Self {
            connection,
            outgoing: Output::default(),
            incoming: Vec::new(),
            awaits_line,
            is_ready: false,
        })
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    pub(super) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Sends as much as `tcp` takes; true when it is not waited for.
    pub(super) fn send(&mut self, tcp: &mut TcpStream, output: &mut Output) -> io::Result<bool> {
        if self.awaits_line {
            return Ok(true);
        }
        // Nothing is encrypted before it can leave.
        if !self.outgoing.flush(tcp)? {
            return Ok(false);
        }
        let mut incoming = std::mem::take(&mut self.incoming);
        let used = self.advance(&mut incoming, output, &mut |_| Ok(()))?;
        incoming.drain(..used);
        self.incoming = incoming;
        let done = self.outgoing.flush(tcp)?;
        self.outgoing.release();
        Ok(done)
    }

    /// Reads once, and hands on what was encrypted; false when there is nothing for now.
    pub(super) fn receive(
        &mut self,
        tcp: &mut TcpStream,
        scratch: &mut [u8],
        take: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        debug_assert!(scratch.len() > RECORD_BYTES_MAX);
        let have = self.incoming.len();
        scratch[..have].copy_from_slice(&self.incoming);
        let Some(length) = receive(tcp, &mut scratch[have..])? else {
            return Ok(false);
        };
        let mut filled = &mut scratch[..have + length];
        if self.awaits_line {
            // The line itself says nothing that a load needs.
            let Some(end) = filled.iter().position(|byte| *byte == b'\n') else {
                return Ok(true);
            };
            self.awaits_line = false;
            filled = &mut filled[end + 1..];
        }
        let used = self.advance(filled, &mut Output::default(), take)?;
        // Mostly nothing, which allocates nothing.
        self.incoming = filled[used..].to_vec();
        Ok(true)
    }

    /// Reads the whole records of `incoming`, goes on with the handshake, and encrypts the bytes of `plain` if it is done.
    /// Returns how many bytes of `incoming` were used.
    fn advance(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Output,
        take: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        let out = &mut self.outgoing.bytes;
        let mut used = 0;
        loop {
            let status = self.connection.process_tls_records(&mut incoming[used..]);
            let UnbufferedStatus { mut discard, state } = status;
            let mut is_over = false;
            match state.map_err(|error| in_words(&error))? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(|error| in_words(&error))?;
                        discard += record.discard;
                        take(record.payload)?;
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    append(out, 0, |space| match data.encode(space) {
                        Err(EncodeError::InsufficientSize(size)) => Err(Ok(size)),
                        other => other.map_err(|error| Err(io::Error::other(error))),
                    })?;
                }
                // It leaves when the socket takes it, before everything else.
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::BlockedHandshake => is_over = true,
                ConnectionState::WriteTraffic(mut traffic) => {
                    self.is_ready = true;
                    is_over = true;
                    if !plain.bytes.is_empty() {
                        let records = plain.bytes.len().div_ceil(PAYLOAD_BYTES_MAX);
                        let space = plain.bytes.len() + records * RECORD_EXTRA_BYTES;
                        append(out, space, |space| {
                            match traffic.encrypt(&plain.bytes, space) {
                                Err(EncryptError::InsufficientSize(size)) => Err(Ok(size)),
                                other => other.map_err(|error| Err(io::Error::other(error))),
                            }
                        })?;
                        plain.bytes.clear();
                    }
                }
                // Also `Closed`; early data is not asked for.
                _ => return Err(closed()),
            }
            used += discard;
            if is_over {
                return Ok(used);
            }
        }
    }
}

/// Lets `write` put bytes behind those of `out`, with as much space as it says it needs.
fn append(
    out: &mut Vec<u8>,
    space: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Result<InsufficientSizeError, io::Error>>,
) -> io::Result<()> {
    let have = out.len();
    out.resize(have + space, 0);
    loop {
        match write(&mut out[have..]) {
            Ok(length) => {
                out.truncate(have + length);
                return Ok(());
            }
            Err(Ok(size)) => out.resize(have + size.required_size, 0),
            Err(Err(error)) => return Err(error),
        }
    }
}

fn in_words(error: &rustls::Error) -> io::Error {
    io::Error::other(format!("TLS: {error}"))
}
