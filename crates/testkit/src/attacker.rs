//! A peer that sends what the test writes, frame by frame, and notes what it is told.
//!
//! Does not: keep to any rule of HTTP/2, or answer anything.

mod socket;

use std::io;
use std::net::SocketAddr;

use rustls::pki_types::CertificateDer;
use socket::Socket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, split};
use tokio::net::TcpSocket;

use crate::frames::{
    ACK, CONTINUATION, FRAME_HEADER_BYTES, GOAWAY, HEADERS, PING, RST_STREAM, WINDOW_INITIAL,
    frame, hello,
};
use crate::wait::within;

/// Bytes that are read at once.
const READ_BYTES: usize = 16 << 10;

/// One connection.
#[derive(Debug)]
pub struct Attacker {
    socket: Socket,
    told: Told,
    pings: u64,
}

/// What has come.
#[derive(Debug, Default)]
struct Told {
    /// The begin of a frame.
    unread: Vec<u8>,
    go_away: Option<u32>,
    resets: Vec<(u32, u32)>,
    /// The last header block of a stream.
    block: (u32, Vec<u8>),
    heads: u64,
    /// The payload of the last answer to a PING, as a number.
    pong: u64,
    /// The server has closed the connection, or broken it.
    ended: bool,
}

impl Attacker {
    /// Those of this thread that connect from now on speak TLS, and trust this certificate.
    pub fn trust(authority: CertificateDer<'static>) {
        socket::trust(authority);
    }

    /// A connection on which nothing is said, or nothing but a handshake.
    pub async fn connect(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        // A kernel that keeps little, so that what is not read waits at the server.
        socket
            .set_recv_buffer_size(READ_BYTES as u32)
            .expect("a size that the kernel takes");
        let socket = socket.connect(address).await.expect("it listens");
        socket
            .set_nodelay(true)
            .expect("a kernel that sends at once");
        Self {
            socket: Socket::over(socket, address).await,
            told: Told::default(),
            pings: 0,
        }
    }

    /// A connection that has begun as HTTP/2 does.
    pub async fn hello(address: SocketAddr) -> Self {
        let mut attacker = Self::connect(address).await;
        attacker.send(&hello(WINDOW_INITIAL)).await;
        attacker
    }

    /// Sends bytes, and reads what comes meanwhile. Whether the server takes more.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        let (mut from, mut to) = split(&mut self.socket);
        let (mut rest, mut flushed) = (bytes, false);
        let sent = async {
            while !flushed && self.told.takes_more() {
                let write = async {
                    match rest {
                        [] => to.flush().await.map(|()| None),
                        rest => to.write(rest).await.map(Some),
                    }
                };
                tokio::select! {
                    biased;
                    read = from.read_buf(self.told.room()) => self.told.came(&read),
                    written = write => match written {
                        Ok(Some(count)) => rest = &rest[count..],
                        // What was said before is still to be read after an error.
                        Ok(None) | Err(_) => flushed = true,
                    },
                }
            }
        };
        within("the bytes are taken", sent).await;
        self.told.takes_more()
    }

    /// Sends bytes and reads nothing. How many the kernel took at once.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        self.socket.try_write(bytes)
    }

    /// Reads until something was told, or the connection has ended. Whether the server takes more.
    async fn read_until(&mut self, what: &str, told: impl Fn(&Told) -> bool) -> bool {
        let read = async {
            while !told(&self.told) && !self.told.ended {
                let read = self.socket.read_buf(self.told.room()).await;
                self.told.came(&read);
            }
        };
        within(what, read).await;
        self.told.takes_more()
    }

    /// Returns when all that was sent has been looked at. Whether the server takes more.
    pub async fn is_taken(&mut self) -> bool {
        self.pings += 1;
        let pings = self.pings;
        self.send(&frame(PING, 0, 0, &pings.to_be_bytes())).await;
        self.read_until("an answer to PING", |told| {
            told.pong == pings || told.go_away.is_some()
        })
        .await
    }

    /// Returns when this many heads of responses and trailers have come in all. Whether the server takes more.
    pub async fn is_answered(&mut self, heads: u64) -> bool {
        self.read_until("the answers", |told| {
            told.heads >= heads || told.go_away.is_some()
        })
        .await
    }

    /// Returns when the server has ended the connection. The code of its GOAWAY, if there was one.
    pub async fn end(&mut self) -> Option<u32> {
        self.read_until("the end of the connection", |_| false)
            .await;
        self.told.go_away
    }

    /// The code with which the server has reset a stream.
    pub fn reset(&self, stream: u32) -> Option<u32> {
        let mut resets = self.told.resets.iter();
        resets.find_map(|(reset, code)| (*reset == stream).then_some(*code))
    }

    /// Whether the last header block was for this stream and has these octets in it.
    pub fn was_told(&self, stream: u32, octets: &[u8]) -> bool {
        let (of, block) = &self.told.block;
        let mut windows = block.windows(octets.len());
        *of == stream && windows.any(|window| window == octets)
    }
}

impl Told {
    fn takes_more(&self) -> bool {
        !self.ended && self.go_away.is_none()
    }

    /// Room for what comes next.
    fn room(&mut self) -> &mut Vec<u8> {
        self.unread.reserve(READ_BYTES);
        &mut self.unread
    }

    /// Takes the frames that are whole.
    fn came(&mut self, read: &io::Result<usize>) {
        // An attacker that is cut while it talks may see its connection reset.
        self.ended |= !matches!(read, Ok(1..));
        let mut bytes = std::mem::take(&mut self.unread);
        let mut begin = 0;
        while let Some(head) = bytes[begin..].first_chunk::<FRAME_HEADER_BYTES>() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let payload = begin + FRAME_HEADER_BYTES;
            if bytes.len() < payload + length {
                break;
            }
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            self.frame(head[3], head[4], stream, &bytes[payload..payload + length]);
            begin = payload + length;
        }
        bytes.drain(..begin);
        self.unread = bytes;
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let number = |at: usize| {
            let bytes = payload[at..].first_chunk().expect("four bytes");
            u32::from_be_bytes(*bytes)
        };
        match kind {
            HEADERS => {
                self.heads += 1;
                self.block = (stream, payload.to_vec());
            }
            CONTINUATION => self.block.1.extend_from_slice(payload),
            RST_STREAM => self.resets.push((stream, number(0))),
            PING if flags & ACK != 0 => {
                let payload = payload.first_chunk().expect("eight bytes");
                self.pong = u64::from_be_bytes(*payload);
            }
            GOAWAY => self.go_away = self.go_away.or(Some(number(4))),
            _ => {}
        }
    }
}
