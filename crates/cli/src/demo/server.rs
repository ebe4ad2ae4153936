//! The server of the demo: a real `longlived serve` in a process of its own.
//!
//! Holds: the process ends with this value, after every end of the demo.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use longlived_console::own_variables;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::Instant;

use super::door::Door;

/// How long it may take to say where it listens.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is started where its port is in use: a client that dials may hold it for a moment.
const STARTS_MAX: u32 = 5;
/// Lines of its log that an error shows.
const TAIL_LINES: usize = 5;
/// How long a killed process may take to be gone.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// The flags of the demo's generator.
const GENERATOR: [&str; 2] = ["--generate-every", "1s"];

#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) pid: u32,
    /// Those after `--listen` and its value.
    flags: Vec<OsString>,
    listen: String,
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    tail: VecDeque<String>,
}

impl Server {
    /// Starts one and waits until it listens. Its history is in the directory, or in memory.
    pub(super) async fn start(
        listen: SocketAddr,
        door: &Door,
        dir: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut starts = 1;
        loop {
            match Self::start_once(listen, door, dir).await {
                Ok(server) => return Ok(server),
                Err(error) if starts == STARTS_MAX => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
            starts += 1;
        }
    }

    async fn start_once(
        listen: SocketAddr,
        door: &Door,
        dir: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(program);
        // Variables that are set for the user's own servers are not meant for this one.
        for name in own_variables() {
            command.env_remove(name);
        }
        let mut flags = door.flags();
        if let Some(dir) = dir {
            flags.extend(["--data-dir".into(), dir.into()]);
        }
        flags.extend(GENERATOR.map(OsString::from));
        let mut child = command
            .args(["serve", "--listen", &door.listen(listen)])
            .args(&flags)
            .env("RUST_LOG", "info")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the server")?;
        let stderr = child.stderr.take().expect("it is piped");
        let mut server = Self {
            address: listen,
            flags,
            listen: String::new(),
            pid: child.id().unwrap_or_default(),
            child,
            log: BufReader::new(stderr).lines(),
            tail: VecDeque::new(),
        };
        let listening = tokio::time::timeout(START_TIMEOUT, server.listening()).await;
        server.address = listening.context("the server does not say where it listens")??;
        server.listen = door.listen(server.address);
        Ok(server)
    }

    async fn listening(&mut self) -> anyhow::Result<SocketAddr> {
        while let Some(line) = self.log.next_line().await? {
            let address = listening_on(&line);
            self.remember(line);
            if let Some(address) = address {
                return Ok(address);
            }
        }
        bail!("the server ended at once{}", self.last_words())
    }

    /// The command that a person would start it with.
    pub(super) fn command_line(&self) -> String {
        let flags = self.flags.join(OsStr::new(" "));
        format!(
            "longlived serve --listen {} {}",
            self.listen,
            flags.display()
        )
    }

    /// Returns when it has ended by itself. Reads its log meanwhile, so that it never waits for a full pipe.
    /// Safe to drop while it waits.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        while let Ok(Some(line)) = self.log.next_line().await {
            self.remember(line);
        }
        anyhow::anyhow!("the server ended by itself{}", self.last_words())
    }

    /// SIGKILL, and the end of the process is seen.
    pub(super) async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("killing the server")
    }

    fn remember(&mut self, line: String) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    fn last_words(&self) -> String {
        if self.tail.is_empty() {
            return String::new();
        }
        let lines: Vec<&str> = self.tail.iter().map(String::as_str).collect();
        format!("; the end of its log: {}", lines.join(" | "))
    }
}

impl Drop for Server {
    /// Seen through, since its directory may be removed next.
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        let deadline = Instant::now() + END_TIMEOUT;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The address in a line such as `... listening on 127.0.0.1:7070` or `... on tls://127.0.0.1:7443`.
fn listening_on(line: &str) -> Option<SocketAddr> {
    let (_, after) = line.split_once("listening on ")?;
    let listen = after.split_whitespace().next()?;
    listen.strip_prefix("tls://").unwrap_or(listen).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_the_log() {
        let line = "2026-01-01T00:00:00Z  INFO longlived::serve: listening on 127.0.0.1:7070";
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 7070)));
        assert_eq!(listening_on(line), address);
        assert_eq!(listening_on("listening on tls://127.0.0.1:7070"), address);
        assert_eq!(listening_on("serving longlived.v1 on 127.0.0.1:7070"), None);
    }
}
