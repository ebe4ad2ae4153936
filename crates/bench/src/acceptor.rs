//! The bare acceptor of `bench handshakes`: rustls and sockets, and nothing else.
//!
//! Holds: its TLS is configured as that of a longlived listener that asks for no certificate (TLS 1.3 and 1.2, ALPN h2,
//! tickets), so a handshake costs it what it costs there. A connection says its number after the handshake and is answered
//! with one byte, so that both ends are known to be done.
//! Does not: limit, time out or count.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::Context as _;
use longlived_console::{note, open_files};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::listen;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, ServerConnection};
use rustls::version::{TLS12, TLS13};

use super::args::AcceptorArgs;
use super::wire::records::{GREETING, HELLO_BYTES};

/// That of a longlived listener.
const BACKLOG: i32 = 65_535;
const EVENTS_MAX: usize = 1024;
const LISTENER: u64 = u64::MAX;

/// `longlived bench acceptor`: until it is killed.
pub(super) fn serve(args: &AcceptorArgs) -> anyhow::Result<()> {
    open_files::raise();
    let config = config(args)?;
    let listener = TcpListener::bind("127.0.0.1:0").context("listening")?;
    listen(&listener, BACKLOG).context("listening")?;
    listener.set_nonblocking(true).context("listening")?;
    note(format!("listening on {}", listener.local_addr()?));
    Acceptor::new(listener, config)?.run()
}

fn config(args: &AcceptorArgs) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(&args.cert)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&args.key)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.ticketer = Ticketer::new()?;
    Ok(Arc::new(config))
}

struct Acceptor {
    epoll: OwnedFd,
    listener: TcpListener,
    config: Arc<ServerConfig>,
    connections: HashMap<u64, Connection>,
    /// Of the next connection.
    token: u64,
}

struct Connection {
    socket: TcpStream,
    tls: ServerConnection,
    /// Bytes of the hello so far.
    said: usize,
}

impl Acceptor {
    fn new(listener: TcpListener, config: Arc<ServerConfig>) -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("creating an epoll")?;
        let token = EventData::new_u64(LISTENER);
        epoll::add(&epoll, &listener, token, EventFlags::IN).context("watching the listener")?;
        Ok(Self {
            epoll,
            listener,
            config,
            connections: HashMap::new(),
            token: 0,
        })
    }

    fn run(mut self) -> anyhow::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for sockets"),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    token => self.serve(token),
                }
            }
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("accepting"),
            };
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let token = EventData::new_u64(self.token);
            epoll::add(&self.epoll, &socket, token, EventFlags::IN).context("watching a socket")?;
            let connection = Connection {
                socket,
                tls: ServerConnection::new(Arc::clone(&self.config))?,
                said: 0,
            };
            self.connections.insert(self.token, connection);
            self.token += 1;
        }
    }

    /// A connection that ends takes its socket out of the epoll.
    fn serve(&mut self, token: u64) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let served = connection.read().and_then(|()| connection.write());
        if served.is_err() {
            self.connections.remove(&token);
        }
    }
}

impl Connection {
    fn read(&mut self) -> io::Result<()> {
        match self.tls.read_tls(&mut self.socket) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        self.tls.process_new_packets().map_err(io::Error::other)?;
        let mut hello = [0; HELLO_BYTES];
        match self.tls.reader().read(&mut hello) {
            Ok(length) => {
                self.said += length;
                if self.said == HELLO_BYTES {
                    self.tls.writer().write_all(&[GREETING])?;
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What a handshake writes fits the buffer of every socket, so that a full one is an error.
    fn write(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}
