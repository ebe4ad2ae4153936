//! The server that is measured: one that is started here, or one that runs already.
//!
//! Holds: a server that was started here ends with this value, also after an error.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, PipeReader, pipe};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::error::ErrorKind;
use longlived_console::own_variables;
use longlived_server::Config;
use rustix::process::{Pid, Signal, kill_process};

use super::args::{CommonArgs, ServerAt};
use super::clock::monotonic_ns;
use super::load::control::TlsPlan;
use super::pin::Cores;
use super::security::Security;
use super::tokens::TokenPlan;

/// How long a server may take to say where it listens.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to end when it is asked to.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
const DRAIN_POLL: Duration = Duration::from_millis(20);
/// Lines of its log that an error shows.
const TAIL_LINES: usize = 12;

#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// Unknown when it runs elsewhere and was not named.
    pub(super) pid: Option<u32>,
    /// When it said that it listens; 0 for one that was not started here.
    pub(super) listening_ns: u64,
    /// How the load knows it; `None` in the clear.
    pub(super) tls: Option<TlsPlan>,
    /// What its callers bring.
    pub(super) tokens: Option<TokenPlan>,
    child: Option<Child>,
    tail: Tail,
    /// Reads its log; ends with it.
    log: Option<JoinHandle<()>>,
}

/// The sequencer's counters at its end, from the server's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Committed {
    pub(super) commits: u64,
    pub(super) messages: u64,
}

/// The disk store's counters when it was closed, from the server's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoreCounts {
    /// Blocks and batches read from the disk for readers.
    pub(super) reads: u64,
    pub(super) damaged: u64,
}

/// Where it listens, and when it said so.
type Listening = (SocketAddr, u64);

/// The last lines of a started server's log.
type Tail = Arc<Mutex<VecDeque<String>>>;

impl Server {
    /// In the clear.
    pub(super) fn for_run(args: &CommonArgs, cores: &Cores) -> anyhow::Result<Self> {
        if args.server.as_ref().is_some_and(|server| server.over_tls) {
            let text =
                "--server: this measurement speaks no TLS (`bench idle` and `bench fanout` do)";
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, text).into());
        }
        Self::for_connections(args, &Security::default(), 0, cores)
    }

    /// For a load of that many connections, which may be more than a server takes unless told.
    pub(super) fn for_connections(
        args: &CommonArgs,
        security: &Security,
        connections: u32,
        cores: &Cores,
    ) -> anyhow::Result<Self> {
        if let Some(server) = &args.server {
            return Self::running(server, security, args.server_pid);
        }
        let listen = ([127, 0, 0, 1], 0).into();
        Self::start(
            listen,
            security,
            &args_for(&args.server_args, connections),
            cores,
        )
    }

    fn running(server: &ServerAt, security: &Security, pid: Option<i32>) -> anyhow::Result<Self> {
        let address = server.resolve()?;
        let pid = pid.map(u32::try_from).transpose().context("--server-pid")?;
        Ok(Self {
            address,
            pid,
            listening_ns: 0,
            tls: security.tls.clone(),
            tokens: security.tokens.clone(),
            child: None,
            tail: Tail::default(),
            log: None,
        })
    }

    pub(super) fn start(
        listen: SocketAddr,
        security: &Security,
        extra: &[String],
        cores: &Cores,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("finding this executable")?;
        let mut command = Command::new(program);
        let (log, end) = pipe().context("making a pipe")?;
        // Variables that are set for the user's own servers are not meant for this one.
        for name in own_variables() {
            command.env_remove(name);
        }
        command
            .arg("serve")
            .args(security.serve_args(listen))
            .args(extra)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(end);
        let mut server = Self::launch(command, log, listening_on, cores)?;
        server.tls.clone_from(&security.tls);
        server.tokens.clone_from(&security.tokens);
        Ok(server)
    }

    /// Starts any server with its log, whichever way it is written; see [`Self::launch`].
    pub(super) fn launch_with_log(
        mut command: Command,
        ready: impl Fn(&str) -> Option<SocketAddr> + Send + 'static,
        cores: &Cores,
    ) -> anyhow::Result<Self> {
        let (log, end) = pipe().context("making a pipe")?;
        command
            .stdin(Stdio::null())
            .stdout(end.try_clone().context("making a pipe")?)
            .stderr(end);
        Self::launch(command, log, ready, cores)
    }

    /// Starts any server. The command writes its log to the other end of `log`, and `ready` finds the address in the
    /// line that says that it listens.
    fn launch(
        mut command: Command,
        log: PipeReader,
        ready: impl Fn(&str) -> Option<SocketAddr> + Send + 'static,
        cores: &Cores,
    ) -> anyhow::Result<Self> {
        let child = cores.spawn(&mut command).context("starting the server")?;
        // It keeps ends of the pipe, which would never close.
        drop(command);
        let pid = child.id();
        let tail = Tail::default();
        // From here on dropping it ends the child.
        let mut server = Self {
            address: ([127, 0, 0, 1], 0).into(),
            pid: Some(pid),
            listening_ns: 0,
            tls: None,
            tokens: None,
            child: Some(child),
            tail,
            log: None,
        };
        let addresses = server.follow_log(log, ready)?;
        (server.address, server.listening_ns) = match addresses.recv_timeout(START_TIMEOUT) {
            Ok(listening) => listening,
            Err(RecvTimeoutError::Timeout) => bail!(
                "the server did not say where it listens{}",
                server.last_words()
            ),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the server ended at once{}", server.last_words())
            }
        };
        Ok(server)
    }

    /// Reads its log for as long as it lives, so that it never waits for a full pipe.
    fn follow_log(
        &mut self,
        log: PipeReader,
        ready: impl Fn(&str) -> Option<SocketAddr> + Send + 'static,
    ) -> anyhow::Result<Receiver<Listening>> {
        let (found, addresses) = sync_channel(1);
        let tail = Arc::clone(&self.tail);
        let log = std::thread::Builder::new()
            .name("server-log".to_owned())
            .spawn(move || read_log(log, &ready, &found, &tail))
            .context("starting the thread that reads the server's log")?;
        self.log = Some(log);
        Ok(addresses)
    }

    /// Ends the server as an operator would and reads from its last lines how often it committed; `None` for one
    /// that was not started here.
    pub(super) fn drain(&mut self) -> anyhow::Result<Option<Committed>> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        let pid = Pid::from_child(child);
        kill_process(pid, Signal::TERM).context("ending the server")?;
        let begun_ns = monotonic_ns();
        while child
            .try_wait()
            .context("waiting for the server")?
            .is_none()
        {
            if Duration::from_nanos(monotonic_ns() - begun_ns) > DRAIN_TIMEOUT {
                bail!("the server did not drain{}", self.last_words());
            }
            std::thread::sleep(DRAIN_POLL);
        }
        if let Some(log) = self.log.take() {
            log.join().ok();
        }
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(tail.iter().rev().find_map(|line| committed(line)))
    }

    /// The disk store's counters when it was closed; to be asked after [`Self::drain`].
    pub(super) fn store_counts(&self) -> Option<StoreCounts> {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.iter().rev().find_map(|line| store_closed(line))
    }

    /// An error with its last words if a server that was started here has ended.
    pub(super) fn ensure_running(&mut self) -> anyhow::Result<()> {
        let Some(child) = &mut self.child else {
            return Ok(());
        };
        if let Some(status) = child.try_wait().context("looking after the server")? {
            bail!("the server ended, {status}{}", self.last_words());
        }
        Ok(())
    }

    /// The end of its log, to stand behind an error; empty when there is none.
    pub(super) fn last_words(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.is_empty() {
            return String::new();
        }
        let lines: Vec<_> = tail.iter().map(String::as_str).collect();
        format!("; the end of its log:\n  {}", lines.join("\n  "))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Not a drain: nothing of it is needed any more, and with many connections that takes seconds.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn read_log(
    log: PipeReader,
    ready: &impl Fn(&str) -> Option<SocketAddr>,
    found: &SyncSender<Listening>,
    tail: &Tail,
) {
    let mut lines = BufReader::new(log);
    let mut line = Vec::new();
    loop {
        line.clear();
        if !matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
            return;
        }
        let text = String::from_utf8_lossy(&line);
        if let Some(address) = ready(&text) {
            // Only the first is waited for.
            let _ = found.try_send((address, monotonic_ns()));
        }
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(text.trim_end().to_owned());
    }
}

/// The address in a line such as `... listening on 127.0.0.1:7070 ...`.
pub(super) fn listening_on(line: &str) -> Option<SocketAddr> {
    let (_, after) = line.split_once("listening on ")?;
    let word = after
        .trim_start_matches("http://")
        .trim_start_matches("tls://")
        .split([' ', ',', '"', '\n', '\r', '\u{1b}'])
        .next()?;
    word.trim_end_matches(['.', '/', ';']).parse().ok()
}

/// From a line such as `... log closed commits=12 messages=3400`.
fn committed(line: &str) -> Option<Committed> {
    Some(Committed {
        commits: said(line, "log closed", "commits")?,
        messages: said(line, "log closed", "messages")?,
    })
}

/// From a line such as `... store closed commits=12 events=3400 reads=7 damaged=0`.
fn store_closed(line: &str) -> Option<StoreCounts> {
    Some(StoreCounts {
        reads: said(line, "store closed", "reads")?,
        damaged: said(line, "store closed", "damaged")?,
    })
}

/// The number of one field in a line of the log.
fn said(line: &str, what: &str, name: &str) -> Option<u64> {
    let (_, fields) = line.split_once(what)?;
    let mut words = fields.split_whitespace();
    words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

/// Connections beside those of the load: the publisher's and the probe's.
const OTHER_CONNECTIONS: u32 = 8;

/// The arguments of a server that takes that many connections, unless they say how many.
pub(super) fn args_for(given: &[String], connections: u32) -> Vec<String> {
    const FLAG: &str = "--connections-max";
    let mut args = given.to_vec();
    let wanted = connections.saturating_add(OTHER_CONNECTIONS);
    let usual = Config::default().acceptor.connections_max;
    if wanted as usize > usual && !given.iter().any(|arg| arg.starts_with(FLAG)) {
        args.push(format!("{FLAG}={wanted}"));
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_takes_as_many_connections_as_the_load_has() {
        let given = ["--stall-timeout=9s".to_owned()];
        assert_eq!(args_for(&given, 10_000), given);
        let many = args_for(&given, 1_000_000);
        assert_eq!(many[1..], ["--connections-max=1000008"]);
        let told = ["--connections-max".to_owned(), "5".to_owned()];
        assert_eq!(args_for(&told, 1_000_000), told);
    }

    #[test]
    fn the_address_is_found_in_lines_of_any_dress() {
        let address: SocketAddr = "127.0.0.1:7070".parse().unwrap();
        for line in [
            "listening on 127.0.0.1:7070",
            "2026-01-01T00:00:00Z  INFO longlived: listening on 127.0.0.1:7070 contracts=2\n",
            "longlived 0.1.0 listening on http://127.0.0.1:7070/\n",
            "INFO longlived::serve: listening on tls://127.0.0.1:7070\n",
            r#"{"message":"listening on 127.0.0.1:7070","level":"INFO"}"#,
            "listening on 127.0.0.1:7070\u{1b}[0m\n",
        ] {
            assert_eq!(listening_on(line), Some(address), "{line}");
        }
        assert_eq!(listening_on("listening on everything"), None);
        assert_eq!(listening_on("serving 127.0.0.1:7070"), None);
    }

    #[test]
    fn commits_are_found_in_the_last_words() {
        let line =
            "2026-01-01T00:00:00Z  INFO longlived_broker::log: log closed commits=12 messages=3400";
        let expected = Committed {
            commits: 12,
            messages: 3_400,
        };
        assert_eq!(committed(line), Some(expected));
        assert_eq!(committed("log closed"), None);
        assert_eq!(committed("commits=12 messages=3400"), None);
        let line = "INFO longlived_server::node: store closed commits=1 events=2 reads=3 damaged=4";
        let expected = StoreCounts {
            reads: 3,
            damaged: 4,
        };
        assert_eq!(store_closed(line), Some(expected));
    }
}
