//! Starts the binary, reads its output along, and ends it also if the test fails.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// Longer than anything here takes on a machine that is ten times slower, with other tests beside it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// The output of a process so far, complete lines only.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<(Mutex<Printed>, Condvar)>);

#[derive(Default)]
struct Printed {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn follow(&self, source: impl Read + Send + 'static) {
        let printed = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n') {
                let Ok(line) = line else { break };
                let line = String::from_utf8_lossy(&line).into_owned();
                printed.0.0.lock().unwrap().lines.push(line);
                printed.0.1.notify_all();
            }
            printed.0.0.lock().unwrap().ended = true;
            printed.0.1.notify_all();
        });
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }

    /// Waits until the lines so far satisfy `done`.
    pub(crate) fn until(&self, what: &str, done: impl Fn(&[String]) -> bool) -> Vec<String> {
        let (printed, changed) = (&self.0.0, &self.0.1);
        let deadline = Instant::now() + PATIENCE;
        let mut printed = printed.lock().unwrap();
        while !done(&printed.lines) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && !printed.ended,
                "waited for {what}, ended: {}; printed:\n{}",
                printed.ended,
                printed.lines.join("\n")
            );
            printed = changed.wait_timeout(printed, left).unwrap().0;
        }
        printed.lines.clone()
    }

    /// Waits for a line that contains all of `parts`.
    pub(crate) fn line_with(&self, parts: &[&str]) -> String {
        let found = |lines: &[String]| {
            let line = lines
                .iter()
                .find(|line| parts.iter().all(|part| line.contains(part)));
            line.cloned()
        };
        let lines = self.until(&format!("{parts:?}"), |lines| found(lines).is_some());
        found(&lines).expect("it was there")
    }

    /// Waits for the end of the output and returns all of it.
    fn whole(&self) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut printed = self.0.0.lock().unwrap();
        while !printed.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the output does not end");
            printed = self.0.1.wait_timeout(printed, left).unwrap().0;
        }
        printed.lines.clone()
    }
}

/// A running `longlived`. Killed when it goes out of scope.
pub(crate) struct Process {
    child: Child,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longlived"));
    command
        .args(arguments)
        .env_remove("LONGLIVED_SERVER")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Process {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::spawn(&mut command(arguments))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (Lines::default(), Lines::default());
        match child.stdout.take() {
            Some(output) => stdout.follow(output),
            // It goes elsewhere.
            None => stdout.follow(std::io::empty()),
        }
        match child.stderr.take() {
            Some(errors) => stderr.follow(errors),
            None => stderr.follow(std::io::empty()),
        }
        Self {
            child,
            stdout,
            stderr,
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGINT, where it has not ended by itself: its end is seen either way.
    pub(crate) fn interrupt_if_it_runs(&self) {
        // It stays a zombie until it is waited for, so the number is its own.
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
    }

    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("it is piped")
    }

    /// SIGKILL, seen through.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(self) -> Ended {
        self.ended_within(PATIENCE)
    }

    /// The same of one that may take longer than anything else here.
    pub(crate) fn ended_within(mut self, patience: Duration) -> Ended {
        let (stdout, stderr) = (&self.stdout, &self.stderr);
        let printed = || {
            let (stdout, stderr) = (stdout.all().join("\n"), stderr.all().join("\n"));
            format!("its end; it printed:\n{stdout}\n{stderr}")
        };
        let status = until_within(patience, printed, || self.child.try_wait().unwrap());
        Ended {
            code: status.code(),
            stdout: self.stdout.whole(),
            stderr: self.stderr.whole(),
        }
    }
}

/// Asks again and again until there is a value. Tests of commands have no runtime.
pub(crate) fn until<T>(what: impl FnOnce() -> String, found: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, found)
}

fn until_within<T>(
    patience: Duration,
    what: impl FnOnce() -> String,
    mut found: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if let Some(found) = found() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("waited for {}", what());
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both ends of a terminal: that of a person, and that of a program.
pub(crate) fn terminal() -> (std::os::fd::OwnedFd, std::fs::File) {
    use std::os::unix::fs::OpenOptionsExt as _;

    use rustix::fs::OFlags;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        // It is not to become that of this process.
        .custom_flags(OFlags::NOCTTY.bits().cast_signed())
        .open(name.to_str().unwrap())
        .unwrap();
    (ours, theirs)
}

/// On a terminal of this name and this number of columns, as one that a person sits at; 0 columns: the terminal does
/// not say. It is interrupted once it has shown `enough`.
pub(crate) fn on_a_terminal(
    kind: &str,
    columns: u16,
    arguments: &[&str],
    enough: impl Fn(&str) -> bool,
) -> String {
    use rustix::termios::{Winsize, tcsetwinsize};

    let (ours, theirs) = terminal();
    let size = Winsize {
        ws_row: 50,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&ours, size).unwrap();
    let mut command = command(arguments);
    command.env("TERM", kind).env_remove("NO_COLOR");
    command.stdout(theirs);
    let process = Process::spawn(&mut command);
    // With this the last open end of theirs is that of the process.
    drop(command);
    let mut shown = Vec::new();
    let mut ours = std::fs::File::from(ours);
    let mut piece = [0; 4096];
    let mut interrupted = false;
    // A terminal that everybody has left is an error and no end.
    while let Ok(read @ 1..) = ours.read(&mut piece) {
        shown.extend_from_slice(&piece[..read]);
        if !interrupted && enough(&String::from_utf8_lossy(&shown)) {
            process.interrupt_if_it_runs();
            interrupted = true;
        }
    }
    drop(process.ended());
    String::from_utf8_lossy(&shown).into_owned()
}

/// Runs a command to its end.
pub(crate) fn run(arguments: &[&str]) -> Ended {
    Process::start(arguments).ended()
}

/// The same with something on its standard input.
pub(crate) fn run_with_input(arguments: &[&str], input: &[u8]) -> Ended {
    let mut process = Process::spawn(command(arguments).stdin(Stdio::piped()));
    process.stdin().write_all(input).unwrap();
    process.ended()
}

/// A running server.
pub(crate) struct Server {
    process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), flags)
    }

    pub(crate) fn start_at(address: SocketAddr, flags: &[&str]) -> Self {
        let address = address.to_string();
        let arguments: Vec<&str> = ["serve", "--listen", &address]
            .iter()
            .chain(flags)
            .copied()
            .collect();
        let process = Process::start(&arguments);
        let line = process.stderr.line_with(&["listening on "]);
        let (_, address) = line.split_once("listening on ").unwrap();
        let address: SocketAddr = address.trim().parse().unwrap();
        Self {
            process,
            url: format!("http://{address}"),
            address,
        }
    }

    /// Waits for a line of its log that contains all of `parts`.
    pub(crate) fn said(&self, parts: &[&str]) -> String {
        self.process.stderr.line_with(parts)
    }

    /// SIGTERM, waited out.
    pub(crate) fn drain(self) {
        self.process.signal(Signal::TERM);
        let ended = self.process.ended();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }

    /// SIGKILL. Returns where it listened.
    pub(crate) fn kill(self) -> SocketAddr {
        self.process.kill();
        self.address
    }

    /// Publishes one message and waits for its acknowledgement.
    pub(crate) fn publish(&self, topic: &str, payload: &str) {
        let ended = run(&["publish", "--server", &self.url, topic, payload]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

/// An address where nobody listens.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// A line of `--json`.
pub(crate) fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}
