//! TCP as the load uses it: sockets that are connected, read and written without waiting.
//!
//! Holds: bytes that the socket does not take are kept.

use std::io::{self, Read as _, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

/// Bytes the socket has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) bytes: Vec<u8>,
    written: usize,
}

impl Output {
    /// True when nothing is left.
    pub(crate) fn flush(&mut self, socket: &mut impl Write) -> io::Result<bool> {
        while self.written < self.bytes.len() {
            match socket.write(&self.bytes[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.written = 0;
        self.bytes.clear();
        Ok(true)
    }

    /// Gives its memory back if it has no bytes.
    pub(super) fn release(&mut self) {
        if self.bytes.is_empty() {
            *self = Self::default();
        }
    }
}

/// Reads what the socket has; nothing when it has nothing for now. Its end is an error.
pub(crate) fn receive(socket: &mut TcpStream, scratch: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match socket.read(scratch) {
            Ok(0) => return Err(closed()),
            Ok(length) => return Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the server closed a connection",
    )
}

/// Begins to connect, without waiting for it.
pub(crate) fn start_connecting(server: SocketAddr) -> io::Result<TcpStream> {
    start_connecting_from(None, server)
}

/// The same from an address of this machine; without one the kernel chooses.
pub(super) fn start_connecting_from(
    local: Option<Ipv4Addr>,
    server: SocketAddr,
) -> io::Result<TcpStream> {
    let family = if server.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket: OwnedFd = socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )?;
    if let Some(local) = local {
        bind(&socket, &SocketAddr::from((local, 0)))?;
    }
    match connect(&socket, &server) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let socket = TcpStream::from(socket);
    // A WINDOW_UPDATE that waits for an acknowledgement would hold the server back.
    socket.set_nodelay(true)?;
    Ok(socket)
}
