//! Unix sockets: a file that names a listener of this machine, with the file's mode as the rule of who may connect.
//!
//! Holds: the file of a server that is alive is never taken, also when two servers start at once: they look and replace
//! under a lock of the folder. The file has its mode before the first client can connect.
//! Does not: take the word of a peer about itself; the kernel says its user and its process.

use std::fs::{self, File, Permissions};
use std::future::{Future, ready};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

use super::address::{ListenAddress, Peer, UnixPeer};
use super::bind::BindError;
use super::listener::Listener;
use crate::limits;

/// A Unix socket to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocket {
    /// The file: at most [`Self::PATH_BYTES_MAX`] bytes. A socket that a server left behind is replaced.
    pub path: PathBuf,
    /// Its mode, which says who may connect: writing is the right that counts (unix(7)).
    pub mode: u32,
}

impl UnixSocket {
    /// The longest path, in bytes: `sun_path` less the NUL at its end (unix(7)).
    pub const PATH_BYTES_MAX: usize = 107;
    /// The mode where none is given: the user of the server alone may connect.
    pub const MODE_DEFAULT: u32 = 0o600;

    /// Fails where a server listens already, and where the file is not a socket.
    pub(crate) fn ensure_free(&self) -> Result<(), BindError> {
        is_left_behind(&self.path)
            .map(drop)
            .map_err(|cause| self.refused(cause))
    }

    /// Clients may connect from here on.
    pub(crate) fn listen(&self) -> Result<Listening, BindError> {
        self.replace().map_err(|cause| self.refused(cause))
    }

    fn replace(&self) -> io::Result<Listening> {
        let _lock = lock_folder(&self.path, LOCK_TRIES)?;
        if is_left_behind(&self.path)? {
            fs::remove_file(&self.path)?;
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(&self.path)?)?;
        // It refuses clients until it listens.
        let opened = fs::set_permissions(&self.path, Permissions::from_mode(self.mode))
            .and_then(|()| socket.listen(limits::BACKLOG))
            .and_then(|()| id(&self.path));
        match opened {
            Ok(id) => Ok(Listening {
                listener: socket.into(),
                file: SocketFile {
                    path: self.path.as_path().into(),
                    id,
                },
            }),
            Err(error) => {
                fs::remove_file(&self.path).ok();
                Err(error)
            }
        }
    }

    fn refused(&self, cause: io::Error) -> BindError {
        BindError::of(self.address(), cause)
    }

    fn address(&self) -> ListenAddress {
        ListenAddress::Unix(self.path.as_path().into())
    }
}

/// Whether the file is the socket of a server that is gone; an error if one listens, or if it is not a socket.
fn is_left_behind(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::other("a file that is not a socket is there"));
        }
        Ok(_) => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A server with a full backlog would make it wait.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::ErrorKind::AddrInUse.into())
        }
        Err(error) => Err(error),
    }
}

/// Attempts to lock the folder, and the wait between two: another server holds it as long as it takes to bind.
const LOCK_TRIES: u32 = 100;
const LOCK_WAIT: Duration = Duration::from_millis(10);

/// Until dropped no other server takes or removes a socket there.
fn lock_folder(path: &Path, tries: u32) -> io::Result<File> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let folder = File::open(folder)?;
    for _ in 1..tries {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => sleep(LOCK_WAIT),
            locked => return Ok(locked.map(|()| folder)?),
        }
    }
    flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
    Ok(folder)
}

/// A socket that listens. Its file is removed with it, unless another server has replaced it.
#[derive(Debug)]
pub(crate) struct Listening {
    listener: std::os::unix::net::UnixListener,
    file: SocketFile,
}

impl Listening {
    pub(crate) fn address(&self) -> ListenAddress {
        ListenAddress::Unix(Arc::clone(&self.file.path))
    }

    /// Needs the runtime.
    pub(crate) fn into_listener(self) -> io::Result<UnixDoor> {
        Ok(UnixDoor {
            listener: UnixListener::from_std(self.listener)?,
            _file: self.file,
        })
    }
}

/// The file of a socket that listens.
#[derive(Debug)]
struct SocketFile {
    path: Arc<Path>,
    /// Device and inode.
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Without the lock it stays, and the next server replaces it. A thread of the runtime does not wait for it.
        let Ok(_lock) = lock_folder(&self.path, 1) else {
            return;
        };
        if id(&self.path).is_ok_and(|there| there == self.id) {
            fs::remove_file(&self.path).ok();
        }
    }
}

fn id(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Accepts the connections of a Unix socket.
#[derive(Debug)]
pub(crate) struct UnixDoor {
    // Dropped first: clients are refused before the file is gone.
    listener: UnixListener,
    _file: SocketFile,
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
            pid: peer.pid(),
        };
        Ok((stream, Peer::Unix(peer)))
    }

    fn establish(
        &self,
        raw: UnixStream,
    ) -> impl Future<Output = io::Result<UnixStream>> + Send + use<> {
        ready(Ok(raw))
    }
}
