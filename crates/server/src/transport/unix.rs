//! Unix sockets: a file that names a listener of this machine, with the file's mode as the rule of who may connect.
//!
//! Holds: the file has its mode before the first client can connect.
//! Does not: take the word of a peer about itself; the kernel says its user and its process.

mod file;

use std::future::{Future, ready};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};

use self::file::SocketFile;
use super::address::{ListenAddress, Peer, UnixPeer};
use super::bind::BindError;
use super::listener::{Established, Listener};

/// A Unix socket to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocket {
    /// The file, by an absolute path of at most [`Self::PATH_BYTES_MAX`] bytes. A socket that a server left behind is
    /// replaced.
    pub path: PathBuf,
    /// Its mode, which says who may connect: writing is the right that counts (unix(7)).
    pub mode: u32,
}

impl UnixSocket {
    /// The longest path, in bytes: `sun_path` less the NUL at its end (unix(7)).
    pub const PATH_BYTES_MAX: usize = 107;
    /// The mode where none is given: the user of the server alone may connect.
    pub const MODE_DEFAULT: u32 = 0o600;

    /// Fails where a server listens already, where the file is not a socket, and where its folder takes no file.
    pub(crate) fn ensure_free(&self) -> Result<(), BindError> {
        file::ensure_free(&self.path).map_err(|cause| self.refused(cause))
    }

    /// Clients may connect from here on.
    pub(crate) async fn listen(&self) -> Result<Listening, BindError> {
        let listening = file::listen(&self.path, self.mode).await;
        let (listener, file) = listening.map_err(|cause| self.refused(cause))?;
        Ok(Listening { file, listener })
    }

    fn refused(&self, cause: io::Error) -> BindError {
        BindError::of(ListenAddress::Unix(self.path.as_path().into()), cause)
    }
}

/// A socket that listens. Its file is removed with it, unless another server has replaced it.
#[derive(Debug)]
pub(crate) struct Listening {
    // Dropped first, see `UnixDoor`.
    file: SocketFile,
    listener: std::os::unix::net::UnixListener,
}

impl Listening {
    pub(crate) fn address(&self) -> ListenAddress {
        ListenAddress::Unix(Arc::clone(self.file.path()))
    }

    /// Needs the runtime.
    pub(crate) fn into_listener(self) -> io::Result<UnixDoor> {
        Ok(UnixDoor {
            _file: self.file,
            listener: UnixListener::from_std(self.listener)?,
        })
    }
}

/// Accepts the connections of a Unix socket.
#[derive(Debug)]
pub(crate) struct UnixDoor {
    // Dropped first: while the socket is open no other file has its inode, by which it is known.
    _file: SocketFile,
    listener: UnixListener,
}

impl Listener for UnixDoor {
    type Raw = UnixStream;
    type Socket = UnixStream;

    async fn accept(&mut self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = self.listener.accept().await?;
        let peer = stream.peer_cred();
        let peer = peer.map_err(|_| io::ErrorKind::ConnectionAborted)?;
        let peer = UnixPeer {
            uid: peer.uid(),
            // The kernel says 0 of a process that this one cannot see, as in another container.
            pid: peer.pid().filter(|pid| *pid > 0),
        };
        Ok((stream, Peer::Unix(peer)))
    }

    fn establish(
        &self,
        raw: UnixStream,
        _: Peer,
    ) -> impl Future<Output = io::Result<Established<UnixStream>>> + Send + use<> {
        ready(Ok(Established::new(raw)))
    }
}
