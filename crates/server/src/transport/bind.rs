//! Takes the addresses to listen on: first so that no other process can have them, then so that clients may connect.
//!
//! Does not: accept; the listener does.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use super::address::ListenAddress;
use super::proxy::cidr::Cidr;
use super::services::Services;
use super::tls::ClientCertificate;
use super::unix::UnixSocket;
use crate::limits;

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Listen {
    /// TCP, at the addresses of one name.
    Tcp {
        /// Port 0 takes a free one.
        first: SocketAddr,
        /// Further addresses, if the name has several; port 0 takes the port of the first. One that this machine does not have
        /// is left out with a warning.
        also: Vec<SocketAddr>,
        /// The proxies that name their clients by the PROXY protocol. With any, only they may connect, and each connection must
        /// begin with such a header.
        proxies: Vec<Cidr>,
        /// What is served there.
        services: Services,
    },
    /// TLS over TCP, as `Tcp` says.
    Tls {
        /// As in `Tcp`.
        first: SocketAddr,
        /// As in `Tcp`.
        also: Vec<SocketAddr>,
        /// As in `Tcp`; the header stands before TLS.
        proxies: Vec<Cidr>,
        /// Whether clients are asked for a certificate.
        client_certificate: ClientCertificate,
        /// As in `Tcp`.
        services: Services,
    },
    /// A Unix socket.
    Unix {
        /// Its file.
        socket: UnixSocket,
        /// As in `Tcp`.
        services: Services,
    },
}

impl From<SocketAddr> for Listen {
    fn from(first: SocketAddr) -> Self {
        Self::Tcp {
            first,
            also: Vec::new(),
            proxies: Vec::new(),
            services: Services::All,
        }
    }
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process uses the address.
    #[error("address {0} is already in use")]
    InUse(ListenAddress),
    /// The kernel refuses it.
    #[error("cannot listen on {address}: {cause}")]
    Refused {
        /// As asked for.
        address: ListenAddress,
        /// As the kernel says.
        cause: io::Error,
    },
}

impl BindError {
    pub(super) fn of(address: ListenAddress, cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::AddrInUse => Self::InUse(address),
            _ => Self::Refused { address, cause },
        }
    }
}

/// Listens on `address`, with a backlog for a whole fleet that connects at once.
pub fn bind(address: SocketAddr) -> Result<std::net::TcpListener, BindError> {
    Reserved::new(address)?.listen()
}

/// A place to listen at. Of TCP no other server has it from here on; a Unix socket is taken when it listens.
pub(crate) struct Place {
    pub(crate) at: At,
    pub(crate) services: Services,
}

pub(crate) enum At {
    Tcp(Reserved, Vec<Cidr>),
    Tls(Reserved, Vec<Cidr>, ClientCertificate),
    /// Looked at, and taken when it listens: until then no client may find it.
    Unix(UnixSocket),
}

impl Place {
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.at, At::Tls(..))
    }

    pub(crate) fn asks_clients(&self) -> bool {
        matches!(self.at, At::Tls(.., asked) if asked != ClientCertificate::None)
    }
}

/// All of them, or the error of the first that is another's.
pub(crate) fn reserve_all(listen: &[Listen]) -> Result<Vec<Place>, BindError> {
    let mut places = Vec::new();
    for one in listen {
        let (ats, services): (Vec<At>, _) = match one {
            Listen::Tcp {
                first,
                also,
                proxies,
                services,
            } => {
                let reserved = Reserved::all(*first, also)?.into_iter();
                let ats = reserved.map(|it| At::Tcp(it, proxies.clone()));
                (ats.collect(), *services)
            }
            Listen::Tls {
                first,
                also,
                proxies,
                client_certificate: asked,
                services,
            } => {
                let reserved = Reserved::all(*first, also)?.into_iter();
                let ats = reserved.map(|it| At::Tls(it, proxies.clone(), *asked));
                (ats.collect(), *services)
            }
            Listen::Unix { socket, services } => {
                socket.ensure_free()?;
                (vec![At::Unix(socket.clone())], *services)
            }
        };
        places.extend(ats.into_iter().map(|at| Place { at, services }));
    }
    Ok(places)
}

/// Attempts to find a port that is free at each of several addresses.
const PORTS_TRIED: u32 = 16;

/// An address on which no other process listens, and to which no client can connect yet.
pub(crate) struct Reserved {
    socket: Socket,
    address: SocketAddr,
}

impl Reserved {
    /// Fails if another process listens already.
    pub(crate) fn new(address: SocketAddr) -> Result<Self, BindError> {
        let socket = reserve(address).map_err(|cause| refused(address, cause))?;
        Ok(Self { socket, address })
    }

    /// The addresses together: `first` and those of `also` that this machine has, all with one port where `first`
    /// asks for any. At least one; an address in use fails all of them.
    pub(crate) fn all(first: SocketAddr, also: &[SocketAddr]) -> Result<Vec<Self>, BindError> {
        let mut reserved = Self::all_once(first, also);
        for _ in 1..PORTS_TRIED {
            match reserved {
                // The port that was free at one is taken at another.
                Err(BindError::InUse(_)) if first.port() == 0 => {
                    reserved = Self::all_once(first, also);
                }
                _ => break,
            }
        }
        reserved
    }

    fn all_once(first: SocketAddr, also: &[SocketAddr]) -> Result<Vec<Self>, BindError> {
        let mut reserved: Vec<Self> = Vec::new();
        let mut missing = Vec::new();
        for address in std::iter::once(&first).chain(also) {
            let mut address = *address;
            if let (0, Some(before)) = (address.port(), reserved.first()) {
                let port = before
                    .socket
                    .local_addr()
                    .ok()
                    .and_then(|it| it.as_socket());
                address.set_port(port.map_or(0, |it| it.port()));
            }
            match Self::new(address) {
                Ok(one) => reserved.push(one),
                Err(BindError::Refused { address, cause }) => missing.push((address, cause)),
                Err(error @ BindError::InUse(_)) => return Err(error),
            }
        }
        if reserved.is_empty() {
            let (address, cause) = missing.swap_remove(0);
            return Err(BindError::Refused { address, cause });
        }
        for (address, cause) in missing {
            tracing::warn!(%address, %cause, "skipping an address that cannot be listened on");
        }
        Ok(reserved)
    }

    /// Clients may connect from here on.
    pub(crate) fn listen(self) -> Result<std::net::TcpListener, BindError> {
        let Self { socket, address } = self;
        let listening = socket.listen(limits::BACKLOG);
        listening.map_err(|cause| refused(address, cause))?;
        Ok(socket.into())
    }
}

fn refused(address: SocketAddr, cause: io::Error) -> BindError {
    BindError::of(address.into(), cause)
}

fn reserve(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A server that was killed leaves connections in TIME_WAIT, which must not keep the next from its address.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_named() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = bind(any).expect("a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let error = bind(address).expect_err("the port is taken");
        assert_eq!(
            error.to_string(),
            format!("address {address} is already in use")
        );
    }
}
