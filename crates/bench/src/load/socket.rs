//! A socket of the load, in the clear or with TLS.
//!
//! Holds: nothing here waits. Bytes that the socket does not take are kept and tried again when epoll says so; an idle
//! connection keeps no buffer.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::ClientConfig;
use rustls::pki_types::ServerName;

use super::control::TlsPlan;
use super::session::Session;
use super::tcp::{Output, receive, start_connecting_from};
use super::tickets::Tickets;
use super::trust;

/// Opens the connections to one server.
#[derive(Debug)]
pub(crate) struct Dialer {
    server: SocketAddr,
    tls: Option<Tls>,
}

/// Shared by all connections, with their tickets.
#[derive(Debug)]
struct Tls {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
    after_line: bool,
    tickets: Option<Arc<Tickets>>,
}

impl Dialer {
    /// For that many connections at a time.
    pub(crate) fn new(
        server: SocketAddr,
        tls: Option<&TlsPlan>,
        connections: u32,
    ) -> anyhow::Result<Self> {
        let tls = tls.map(|plan| {
            let tickets = plan
                .tickets
                .then(|| Arc::new(Tickets::new(connections as usize)));
            anyhow::Ok(Tls {
                config: trust::config(plan, tickets.as_ref())?,
                server_name: trust::server_name(&plan.server_name)?,
                after_line: plan.after_line,
                tickets,
            })
        });
        Ok(Self {
            server,
            tls: tls.transpose()?,
        })
    }

    /// From now on connections resume the sessions of earlier ones, if the plan has tickets.
    pub(super) fn resume_sessions(&self) {
        let tls = self.tls.as_ref();
        if let Some(tickets) = tls.and_then(|tls| tls.tickets.as_ref()) {
            tickets.use_them();
        }
    }

    /// Begins to connect, without waiting for it; from an address of this machine, or from one that the kernel chooses.
    pub(crate) fn dial(&self, local: Option<Ipv4Addr>) -> io::Result<Socket> {
        let tcp = start_connecting_from(local, self.server)?;
        let session = match &self.tls {
            Some(tls) => {
                let session = Session::new(
                    Arc::clone(&tls.config),
                    tls.server_name.clone(),
                    tls.after_line,
                )?;
                Some(Box::new(session))
            }
            None => None,
        };
        Ok(Socket { tcp, session })
    }
}

#[derive(Debug)]
pub(crate) struct Socket {
    tcp: TcpStream,
    /// In a box, for which a socket in the clear pays one pointer.
    session: Option<Box<Session>>,
}

impl Socket {
    /// To be watched, and asked for errors.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Whether bytes that are sent go out now, and not after a handshake.
    pub(crate) fn is_ready(&self) -> bool {
        self.session
            .as_ref()
            .is_none_or(|session| session.is_ready())
    }

    /// Whether its handshake resumed an earlier session.
    pub(super) fn is_resumed(&self) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| session.is_resumed())
    }

    /// Sends as much as the socket takes. True when it is not waited for: bytes may be left until the handshake is done,
    /// which a read will tell. The socket must be connected.
    pub(crate) fn send(&mut self, output: &mut Output) -> io::Result<bool> {
        match &mut self.session {
            Some(session) => session.send(&mut self.tcp, output),
            None => output.flush(&mut self.tcp),
        }
    }

    /// Reads once, and hands on the bytes; false when there are none for now. What a handshake answers leaves with the next
    /// [`Self::send`].
    pub(crate) fn receive(
        &mut self,
        scratch: &mut [u8],
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        if let Some(session) = &mut self.session {
            return session.receive(&mut self.tcp, scratch, &mut take);
        }
        let Some(length) = receive(&mut self.tcp, scratch)? else {
            return Ok(false);
        };
        take(&scratch[..length])?;
        Ok(true)
    }
}
