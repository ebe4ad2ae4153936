//! The servers that longlived is compared with: their programs, their flags, and their abilities.
//!
//! Holds: each is started in its best form for this load (nothing kept, nothing verbose), on 127.0.0.1 and a free
//! port, in an empty directory that is gone with it. The hub of grpc-go is built in such a directory too.

use std::cell::OnceCell;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, anyhow, bail};
use longlived_console::note;
use tempfile::TempDir;

use super::grpc_go;
use crate::args::{CommonArgs, FanoutLoad, Peer, Topics};
use crate::load::control::{Protocol, SHARED_TOPIC};
use crate::load::inbox;
use crate::pin::Cores;
use crate::security::Security;
use crate::server::{Server, listening_on};
use crate::wire::records::delivery_bytes;

/// Where servers are installed that need not be in the PATH of a user.
const SYSTEM_PROGRAMS: &str = "/usr/sbin";
/// Connections that may wait to be accepted; all are opened together.
const BACKLOG: &str = "4096";
/// Redis ends a subscriber that has so much unread; its default of 32 MiB can be filled while a burst is read.
const REDIS_OUTPUT: &str = "pubsub 256mb 128mb 60";
/// A free port may be taken by another process before Redis has it.
const PORT_ATTEMPTS: u32 = 3;

/// The servers of this machine, for one load.
pub(super) struct Programs {
    load: FanoutLoad,
    /// Of each that is started.
    pub(super) security: Security,
    redis: Option<PathBuf>,
    nats: Option<PathBuf>,
    go: Option<PathBuf>,
    /// The hub of grpc-go, built when it is first asked for; or why there is none.
    hub: OnceCell<Result<PathBuf, String>>,
    /// Working directories; gone when the measurement is.
    scratch: Option<TempDir>,
}

impl Programs {
    pub(super) fn find(load: FanoutLoad, security: Security) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<_> = std::env::split_paths(&path).collect();
        folders.push(SYSTEM_PROGRAMS.into());
        Self {
            load,
            security,
            redis: find_in(&folders, "redis-server"),
            nats: find_in(&folders, "nats-server"),
            go: find_in(&folders, "go"),
            hub: OnceCell::new(),
            scratch: TempDir::new().ok(),
        }
    }

    /// Why one cannot be measured here, in words; `None` when it can.
    pub(super) fn why_not(&self, peer: Peer) -> Option<String> {
        if self.security.tls.is_some() && matches!(peer, Peer::Floor | Peer::Redis) {
            return Some("not applicable: it is measured without TLS only".to_owned());
        }
        let (program, found) = match peer {
            Peer::Longlived | Peer::Floor => return None,
            Peer::GrpcGo => return self.hub().as_ref().err().cloned(),
            Peer::Redis => ("redis-server", &self.redis),
            Peer::Nats => ("nats-server", &self.nats),
        };
        if self.load.streams > 1 && self.load.topics == Topics::One {
            return Some(
                "not applicable: it has no streams, and one connection that follows a topic many times is no use of it"
                    .to_owned(),
            );
        }
        found
            .is_none()
            .then(|| format!("not installed: no {program} in PATH or {SYSTEM_PROGRAMS}"))
    }

    pub(super) fn protocol(&self, peer: Peer) -> Protocol {
        match peer {
            Peer::Longlived | Peer::GrpcGo => Protocol::Grpc,
            Peer::Redis => Protocol::Resp,
            Peer::Nats => Protocol::Nats,
            Peer::Floor => Protocol::Records {
                bytes: self.record_bytes(),
            },
        }
    }

    fn record_bytes(&self) -> u32 {
        let load = self.load;
        let topic = match load.topics {
            Topics::One => SHARED_TOPIC.to_owned(),
            // The last one's name is as long as most.
            Topics::Inbox => inbox(u64::from(load.connections) * u64::from(load.streams) - 1),
        };
        let bytes = delivery_bytes(&topic, load.payload_bytes as usize);
        u32::try_from(bytes).expect("payloads are below a megabyte")
    }

    pub(super) fn start(
        &self,
        peer: Peer,
        args: &CommonArgs,
        cores: &Cores,
    ) -> anyhow::Result<Server> {
        match peer {
            Peer::Longlived => Server::for_connections(args, &self.security, 0, cores),
            Peer::Floor => self.start_floor(cores),
            Peer::Redis => self.start_redis(cores),
            Peer::Nats => self.start_nats(cores),
            Peer::GrpcGo => self.start_hub(cores),
        }
    }

    fn start_floor(&self, cores: &Cores) -> anyhow::Result<Server> {
        let program = std::env::current_exe().context("finding this executable")?;
        let load = self.load;
        let topics = match load.topics {
            Topics::One => "1",
            Topics::Inbox => "inbox",
        };
        let mut command = Command::new(program);
        command
            .args(["bench", "floor", "--topics", topics])
            .args(["--connections", &load.connections.to_string()])
            .args(["--streams", &load.streams.to_string()])
            .args(["--record-bytes", &self.record_bytes().to_string()]);
        Server::launch_with_log(command, listening_on, cores)
    }

    fn start_redis(&self, cores: &Cores) -> anyhow::Result<Server> {
        let program = self.redis.as_ref().context("redis-server is gone")?;
        let mut attempt = 1;
        loop {
            let address = free_address()?;
            let mut command = Command::new(program);
            command
                .current_dir(self.scratch()?)
                .args(["--port", &address.port().to_string()])
                .args(["--bind", &address.ip().to_string()])
                .args(["--tcp-backlog", BACKLOG])
                .args(["--save", "", "--appendonly", "no"])
                .args(["--daemonize", "no", "--logfile", ""])
                .args(["--client-output-buffer-limit", REDIS_OUTPUT]);
            let ready = move |line: &str| line.contains("Ready to accept").then_some(address);
            match Server::launch_with_log(command, ready, cores) {
                Err(_) if attempt < PORT_ATTEMPTS => attempt += 1,
                started => return started.context("redis-server"),
            }
        }
    }

    fn start_nats(&self, cores: &Cores) -> anyhow::Result<Server> {
        let program = self.nats.as_ref().context("nats-server is gone")?;
        let mut command = Command::new(program);
        // It finds a free port by itself.
        command
            .current_dir(self.scratch()?)
            .args(["--addr", "127.0.0.1", "--port", "-1"]);
        if self.security.tls.is_some() {
            command.arg("--tls");
        }
        command.args(self.security.certificate_args("--tlscert", "--tlskey"));
        let mut server = Server::launch_with_log(command, nats_listens_on, cores);
        if let Ok(server) = &mut server {
            server.tls.clone_from(&self.security.tls);
            // It says what it is (INFO) in the clear.
            server.tls.iter_mut().for_each(|tls| tls.after_line = true);
        }
        server.context("nats-server")
    }

    fn start_hub(&self, cores: &Cores) -> anyhow::Result<Server> {
        let program = self.hub().as_ref().map_err(|why| anyhow!("{why}"))?;
        let mut command = Command::new(program);
        command.args(self.security.certificate_args("-cert", "-key"));
        let server = Server::launch_with_log(command, listening_on, cores);
        let mut server = server.context("the hub of grpc-go")?;
        server.tls.clone_from(&self.security.tls);
        Ok(server)
    }

    fn hub(&self) -> &Result<PathBuf, String> {
        self.hub.get_or_init(|| {
            let go = self.go.as_ref();
            let go = go.ok_or("not installed: it is built with Go, and no go is in PATH")?;
            let folder = self.scratch().map_err(|error| error.to_string())?;
            let folder = folder.join("grpc-go");
            note("building the hub of grpc-go");
            grpc_go::build(go, &folder)
        })
    }

    fn scratch(&self) -> anyhow::Result<&Path> {
        match &self.scratch {
            Some(scratch) => Ok(scratch.path()),
            None => bail!("no directory for temporary files can be made"),
        }
    }
}

/// The address in a line such as `[1] ... [INF] Listening for client connections on 127.0.0.1:4222`.
fn nats_listens_on(line: &str) -> Option<SocketAddr> {
    let (_, address) = line.split_once("client connections on ")?;
    address.trim().parse().ok()
}

/// An address on which no process listens at this moment.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("finding a free port")?;
    listener.local_addr().context("finding a free port")
}

fn find_in(folders: &[PathBuf], program: &str) -> Option<PathBuf> {
    let files = folders.iter().map(|folder| folder.join(program));
    // A file that may not be executed shows its own error at the start.
    files.into_iter().find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn programs(streams: u32, topics: Topics) -> Programs {
        Programs {
            load: FanoutLoad {
                connections: 100,
                streams,
                rate: 1,
                publish_interval: Duration::ZERO,
                payload_bytes: 128,
                topics,
            },
            security: Security::default(),
            redis: None,
            nats: Some("/usr/sbin/nats-server".into()),
            go: None,
            hub: OnceCell::new(),
            scratch: None,
        }
    }

    #[test]
    fn a_server_that_is_not_installed_or_has_no_such_load_is_named() {
        let why = |streams, topics, peer| programs(streams, topics).why_not(peer);
        let redis = why(1, Topics::One, Peer::Redis).unwrap();
        assert!(
            redis.starts_with("not installed: no redis-server"),
            "{redis}"
        );
        assert_eq!(why(1, Topics::One, Peer::Nats), None);
        let streams = why(100, Topics::One, Peer::Nats).unwrap();
        assert!(streams.starts_with("not applicable"), "{streams}");
        assert_eq!(why(100, Topics::Inbox, Peer::Nats), None);
        let grpc_go = why(100, Topics::One, Peer::GrpcGo).unwrap();
        assert!(grpc_go.starts_with("not installed: "), "{grpc_go}");
        assert_eq!(why(100, Topics::One, Peer::Floor), None);
        assert_eq!(why(100, Topics::One, Peer::Longlived), None);
    }

    #[test]
    fn over_tls_the_servers_without_it_are_left_out() {
        let programs = Programs {
            security: Security::with_tickets().unwrap(),
            ..programs(1, Topics::One)
        };
        for peer in [Peer::Floor, Peer::Redis] {
            let why = programs.why_not(peer).unwrap();
            assert!(why.starts_with("not applicable"), "{why}");
        }
        for peer in [Peer::Nats, Peer::Longlived] {
            assert_eq!(programs.why_not(peer), None);
        }
    }

    #[test]
    fn programs_are_found_in_the_first_folder_that_has_them() {
        let (empty, full) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let program = full.path().join("redis-server");
        std::fs::write(&program, "").unwrap();
        let folders = [empty.path().to_owned(), full.path().to_owned()];
        assert_eq!(find_in(&folders, "redis-server"), Some(program));
        assert_eq!(find_in(&folders, "nats-server"), None);
    }

    #[test]
    fn nats_says_where_it_listens() {
        let line = "[42] 2026/01/01 00:00:00.000000 [INF] Listening for client connections on 127.0.0.1:40001\n";
        assert_eq!(nats_listens_on(line), Some(([127, 0, 0, 1], 40_001).into()));
        assert_eq!(nats_listens_on("[1] [INF] Server is ready"), None);
    }
}
