//! The connection's bytes in our kernel: those that the peer's kernel has acknowledged, and those that it has not.
//!
//! A slow reader may send nothing for minutes, since its answer to a PING stands behind megabytes. If its kernel was
//! full and acknowledges some of them, the peer reads. Our kernel tells it over a socket of `NETLINK_SOCK_DIAG`, by the
//! two addresses of the connection.
//!
//! Holds: nothing is open between two looks; a kernel without this socket makes no difference.
//! Does not: judge the numbers; `keepalive.rs` does.

use std::net::SocketAddr;
use std::time::Duration;

use crate::limits;

/// The near address of a connection, by which, with the peer's, the kernel knows it.
#[derive(Clone, Copy, Debug)]
pub struct SendQueue {
    local: SocketAddr,
}

/// The counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queued {
    /// Bytes that the peer's kernel has acknowledged, since the connection began.
    pub(super) acknowledged: u64,
    /// Bytes that it has not, sent or not.
    pub(super) waiting: u32,
    /// For how long it has acknowledged nothing, not even a probe, while some of them are under way to it. `None` while
    /// none are: waiting bytes then wait because the peer is full.
    pub(super) unanswered: Option<Duration>,
}

impl Queued {
    /// Whether enough waits to say something, and none of it is under way: the peer's window is shut.
    pub(super) fn peer_is_full(&self) -> bool {
        self.waiting > limits::KEEPALIVE_QUEUE_BYTES && self.unanswered.is_none()
    }
}

impl SendQueue {
    /// Of a TCP connection of this process.
    pub fn new(local: SocketAddr) -> Self {
        Self { local }
    }

    /// The counts of the connection with this peer. `None` where the kernel does not tell.
    pub(super) fn look(&self, peer: SocketAddr) -> Option<Queued> {
        #[cfg(target_os = "linux")]
        let queued = diag::ask(self.local, peer).ok().flatten();
        #[cfg(not(target_os = "linux"))]
        let queued = None;
        queued
    }
}

#[cfg(target_os = "linux")]
mod diag {
    //! One question and its answer (sock_diag(7)).

    use std::net::{IpAddr, SocketAddr};
    use std::time::Duration;

    use rustix::io;
    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
        netlink::{self, SocketAddrNetlink},
    };

    use super::Queued;

    const MESSAGE_HEAD_BYTES: usize = 16;
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const IPPROTO_TCP: u8 = 6;
    const INET_DIAG_INFO: u8 = 2;
    /// The part before the attributes: `inet_diag_msg`.
    const ANSWER_BYTES: usize = 72;
    /// Where in it the bytes stand that were not acknowledged: `idiag_wqueue`.
    const WAITING_AT: usize = 60;
    /// Where in `tcp_info` the segments stand that are under way: `tcpi_unacked`, ...
    const UNDER_WAY_AT: usize = 24;
    /// ... the milliseconds since the last acknowledgement: `tcpi_last_ack_recv`, ...
    const LAST_ACKNOWLEDGED_AT: usize = 56;
    /// ... and the bytes that were acknowledged: `tcpi_bytes_acked`, since Linux 4.1.
    const ACKNOWLEDGED_AT: usize = 120;

    pub(super) fn ask(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<Queued>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let family = AddressFamily::NETLINK;
        let socket =
            rustix::net::socket_with(family, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
        let kernel = SocketAddrNetlink::new(0, 0);
        let question = question(local, peer);
        rustix::net::sendto(&socket, &question, SendFlags::empty(), &kernel)?;
        let mut answer = [0; 1024];
        let (count, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
        Ok(read(&answer[..count]))
    }

    /// For one connection: `nlmsghdr` and `inet_diag_req_v2`.
    fn question(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
        const AF_INET: u8 = 2;
        const AF_INET6: u8 = 10;
        let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
        let mut request = vec![family, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0];
        // In every state.
        request.extend(u32::MAX.to_ne_bytes());
        request.extend(local.port().to_be_bytes());
        request.extend(peer.port().to_be_bytes());
        request.extend(octets(local.ip()));
        request.extend(octets(peer.ip()));
        // Of any interface, and with any cookie.
        request.extend(0_u32.to_ne_bytes());
        request.extend([0xff; 8]);
        let length = (MESSAGE_HEAD_BYTES + request.len()) as u32;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        message.extend(NLM_F_REQUEST.to_ne_bytes());
        // Sequence and port.
        message.extend([0; 8]);
        message.extend(request);
        message
    }

    fn octets(address: IpAddr) -> [u8; 16] {
        match address {
            IpAddr::V4(address) => {
                let mut octets = [0; 16];
                octets[..4].copy_from_slice(&address.octets());
                octets
            }
            IpAddr::V6(address) => address.octets(),
        }
    }

    /// `None` for an error, and for a connection that is not known.
    fn read(answer: &[u8]) -> Option<Queued> {
        let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
        if kind != SOCK_DIAG_BY_FAMILY {
            return None;
        }
        let body = answer.get(MESSAGE_HEAD_BYTES..)?;
        let waiting = number(body, WAITING_AT)?;
        let mut attributes = body.get(ANSWER_BYTES..)?;
        while let [a, b, c, d, ..] = attributes {
            let length = usize::from(u16::from_ne_bytes([*a, *b]));
            let content = attributes.get(4..length)?;
            if u16::from_ne_bytes([*c, *d]) == u16::from(INET_DIAG_INFO) {
                let bytes = content.get(ACKNOWLEDGED_AT..ACKNOWLEDGED_AT + 8)?;
                let silence = number(content, LAST_ACKNOWLEDGED_AT)?;
                let under_way = number(content, UNDER_WAY_AT)? > 0;
                return Some(Queued {
                    acknowledged: u64::from_ne_bytes(bytes.try_into().ok()?),
                    waiting,
                    unanswered: under_way.then(|| Duration::from_millis(silence.into())),
                });
            }
            attributes = attributes.get(length.next_multiple_of(4)..)?;
        }
        None
    }

    fn number(bytes: &[u8], at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn looks(address: &str) {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let mut far = TcpStream::connect(address).expect("it listens");
        let (mut near, peer) = listener.accept().expect("it was connected to");
        let queue = SendQueue::new(near.local_addr().expect("an address"));
        let before = queue.look(peer).expect("Linux tells");
        assert_eq!(before.waiting, 0);
        near.write_all(&[7; 1_000]).expect("there is room");
        let mut taken = [0; 1_000];
        far.read_exact(&mut taken).expect("it was sent");
        let after = queue.look(peer).expect("Linux tells");
        assert_eq!(after.acknowledged - before.acknowledged, 1_000);

        // More than both kernels take for a reader that does not read.
        near.set_nonblocking(true).expect("a socket");
        let mut written = 0;
        let piece = vec![7; 64 << 10];
        while let Ok(count) = near.write(&piece) {
            written += count as u64;
        }
        let full = queue.look(peer).expect("Linux tells");
        assert!(full.waiting > 0, "{full:?}");
        // A live kernel acknowledges bytes in flight at once.
        assert!(full.unanswered < Some(Duration::from_secs(10)), "{full:?}");
        assert!(full.acknowledged < after.acknowledged + written, "{full:?}");
    }

    #[test]
    fn the_kernel_tells_the_acknowledged_bytes() {
        looks("127.0.0.1:0");
    }

    #[test]
    fn a_connection_that_is_not_there_is_nothing() {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(SendQueue::new(nowhere).look(nowhere), None);
    }
}
