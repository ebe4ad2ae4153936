//! The file of a Unix socket: whose it is, and how it is replaced and removed.
//!
//! Holds: the file of a server that is alive is never taken, also when servers start and end at once: each looks and
//! replaces or removes under a lock of the folder.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::{Access, FlockOperation, access, flock};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::time::sleep;

use crate::limits;

/// Attempts to lock the folder, and the wait between two: another server holds it as long as it takes to bind.
const LOCK_TRIES: u32 = 100;
const LOCK_WAIT: Duration = Duration::from_millis(10);

/// The same for one that ends, on a thread of the runtime. Without the lock its file stays, and the next server replaces
/// it.
const LOCK_TRIES_AT_END: u32 = 10;
const LOCK_WAIT_AT_END: Duration = Duration::from_millis(1);

/// Locks of files belong to descriptors, so the sockets of one process take turns by this.
static OF_THIS_PROCESS: Mutex<()> = Mutex::new(());

/// The file of a socket that listens. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: Arc<Path>,
    id: Id,
}

/// Device and inode.
type Id = (u64, u64);

impl SocketFile {
    pub(super) fn path(&self) -> &Arc<Path> {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _turn = OF_THIS_PROCESS.lock();
        for _ in 0..LOCK_TRIES_AT_END {
            match lock_folder(&self.path) {
                Ok(Some(_lock)) => {
                    // Another server may have replaced it.
                    if id(&self.path).is_ok_and(|there| there == self.id) {
                        fs::remove_file(&self.path).ok();
                    }
                    return;
                }
                Ok(None) => std::thread::sleep(LOCK_WAIT_AT_END),
                Err(_) => return,
            }
        }
    }
}

/// Fails where a server listens, where the file is not a socket, and where the folder takes no file.
pub(super) fn ensure_free(path: &Path) -> io::Result<()> {
    let folder = folder_of(path);
    access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|errno| {
        let cause = io::Error::from(errno);
        in_folder(folder, &cause, "takes no file")
    })?;
    is_left_behind(path).map(drop)
}

/// Makes a socket that listens at `path`, in place of one that a server left behind.
pub(super) async fn listen(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    for _ in 0..LOCK_TRIES {
        if let Some(listening) = listen_locked(path, mode)? {
            return Ok(listening);
        }
        sleep(LOCK_WAIT).await;
    }
    let folder = folder_of(path).display();
    let cause = format!("another program holds a lock (flock) on its folder {folder}");
    Err(io::Error::other(cause))
}

/// `None` while another has the lock.
fn listen_locked(path: &Path, mode: u32) -> io::Result<Option<(UnixListener, SocketFile)>> {
    let _turn = OF_THIS_PROCESS.lock();
    let Some(_lock) = lock_folder(path)? else {
        return Ok(None);
    };
    if is_left_behind(path)? {
        fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // It refuses clients until it listens.
    let opened = fs::set_permissions(path, Permissions::from_mode(mode))
        .and_then(|()| socket.listen(limits::BACKLOG))
        .and_then(|()| id(path));
    match opened {
        Ok(id) => {
            let path = path.into();
            Ok(Some((socket.into(), SocketFile { path, id })))
        }
        Err(error) => {
            fs::remove_file(path).ok();
            Err(error)
        }
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

/// Until dropped no other server takes or removes a socket there. `None` while another program has the lock.
fn lock_folder(path: &Path) -> io::Result<Option<File>> {
    let folder = folder_of(path);
    let opened = File::open(folder)
        .map_err(|cause| in_folder(folder, &cause, "cannot be read, as its lock needs"))?;
    match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(opened)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn in_folder(folder: &Path, cause: &io::Error, trouble: &str) -> io::Error {
    let folder = folder.display();
    io::Error::other(format!("its folder {folder} {trouble}: {cause}"))
}

fn id(path: &Path) -> io::Result<Id> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_of_another_program_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let lock = File::open(folder.path()).expect("it is there");
        flock(&lock, FlockOperation::NonBlockingLockShared).expect("nobody has it");
        let path = folder.path().join("a");
        let error = listen(&path, 0o600).await.expect_err("it is locked");
        assert!(
            error.to_string().contains("holds a lock (flock)"),
            "{error}"
        );
        drop(lock);
        listen(&path, 0o600).await.expect("it is free");
    }

    #[tokio::test]
    async fn a_file_that_another_server_has_replaced_is_not_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        let (first, file) = listen(&path, 0o600).await.expect("it is free");
        fs::remove_file(&path).expect("it is there");
        let (_second, _other) = listen(&path, 0o600).await.expect("it is free");
        drop((file, first));
        assert!(path.exists(), "it is the other's");
    }

    #[tokio::test]
    async fn a_server_with_a_full_backlog_is_alive() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        let address = SockAddr::unix(&path).expect("a path");
        socket.bind(&address).expect("it is free");
        socket.listen(0).expect("it listens");
        let mut waiting = Vec::new();
        loop {
            let client = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
            client.set_nonblocking(true).expect("an option");
            let full = client.connect(&address).is_err();
            waiting.push(client);
            if full {
                break;
            }
        }
        let error = ensure_free(&path).expect_err("it is alive");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
