//! Health checks beside a load: how long a caller of `grpc.health.v1.Health/Check` waits while the server is busy.
//!
//! Holds: a check goes out at its scheduled time, whether earlier ones were answered or not. So every check during a
//! pause of the server shows the pause. A check is timed from its write to the end of its answer.
//! Does not: run on the server's cores. It shares those of the load, and says how late it was woken itself.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use tonic_health::pb::HealthCheckRequest;

use super::clock::{monotonic_ns, nanoseconds};
use super::figures::Figures;
use super::http2::reader::{Reader, Sink, StreamEnd};
use super::http2::request::{self, Head, Windows};
use super::http2::{GRPC_PREFIX_BYTES, WINDOW_DEFAULT, stream_id};
use super::load::control::TlsPlan;
use super::load::{Dialer, Output, RECORD_BYTES_MAX, Socket, describe};
use super::pin::Cores;

/// From one check to the next.
const EVERY: Duration = Duration::from_millis(10);
/// Checks without an answer at a time, well below the streams that a connection may have. Met as: trouble in the figures.
const UNANSWERED_MAX: usize = 500;
/// How long after the last check its answer may come.
const PATIENCE: Duration = Duration::from_secs(5);
/// Beyond it an answer counts as this late.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How often a wait looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);
/// `HealthCheckResponse{status: SERVING}`.
const SERVING: [u8; 2] = [0x08, 0x01];

/// A thread that asks from the begin of a window to its end. It ends with this value.
pub(super) struct HealthProbe {
    thread: Option<JoinHandle<anyhow::Result<Answers>>>,
    left: Arc<AtomicBool>,
}

#[derive(Debug, Clone)]
struct Plan {
    server: SocketAddr,
    tls: Option<TlsPlan>,
    start_ns: u64,
    end_ns: u64,
    patience: Duration,
}

/// The results of the checks of a window.
#[derive(Debug)]
struct Answers {
    asked: u64,
    /// From a check's write to the end of its answer, in nanoseconds.
    answered: Histogram<u64>,
    /// From the planned time of a check to its write: the time that the probe itself waited for its core.
    late: Histogram<u64>,
    unanswered: usize,
    /// The first thing that should not have happened, in words.
    trouble: Option<String>,
}

impl HealthProbe {
    /// Connects, and asks from `start_ns` to `end_ns`.
    pub(super) fn start(
        server: SocketAddr,
        tls: Option<TlsPlan>,
        cores: &Cores,
        start_ns: u64,
        end_ns: u64,
    ) -> anyhow::Result<Self> {
        let plan = Plan {
            server,
            tls,
            start_ns,
            end_ns,
            patience: PATIENCE,
        };
        let left = Arc::new(AtomicBool::new(false));
        let cores = cores.clone();
        let thread = {
            let left = Arc::clone(&left);
            std::thread::Builder::new()
                .name("health".to_owned())
                .spawn(move || {
                    cores.enter()?;
                    Probe::connect(plan)?.ask(&left)
                })
                .context("starting the thread that asks for health")?
        };
        Ok(Self {
            thread: Some(thread),
            left,
        })
    }

    /// Waits for the last answers.
    pub(super) fn finish(mut self, figures: &mut Figures) -> anyhow::Result<()> {
        let thread = self
            .thread
            .take()
            .expect("it is taken here or when dropped");
        let answers = thread.join().expect("the health probe does not panic");
        answers.context("asking for health")?.add_to(figures)
    }
}

impl Drop for HealthProbe {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its answer belongs to a run that failed.
            let _ = thread.join();
        }
    }
}

impl Answers {
    fn new() -> anyhow::Result<Self> {
        let longest = nanoseconds(ANSWER_MAX);
        let histogram =
            || Histogram::new_with_bounds(1, longest, 3).context("a histogram of answers");
        Ok(Self {
            asked: 0,
            answered: histogram()?,
            late: histogram()?,
            unanswered: 0,
            trouble: None,
        })
    }

    fn add_to(self, figures: &mut Figures) -> anyhow::Result<()> {
        figures.troubles.extend(self.trouble);
        if self.unanswered > 0 {
            let (unanswered, asked) = (self.unanswered, self.asked);
            figures.troubles.push(format!(
                "{unanswered} of {asked} health checks were not answered"
            ));
        }
        ensure!(!self.answered.is_empty(), "no health check was answered");
        let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        let answered = |quantile| us(self.answered.value_at_quantile(quantile));
        figures.add("health_p50_us", "health answered, p50 (us)", answered(0.5));
        figures.add("health_p99_us", "health answered, p99 (us)", answered(0.99));
        figures.add(
            "health_max_us",
            "health answered, max (us)",
            us(self.answered.max()),
        );
        figures.add(
            "health_late_p99_us",
            "the health probe was late itself, p99 (us)",
            us(self.late.value_at_quantile(0.99)),
        );
        figures.add("health_checks", "health checks", self.answered.len() as f64);
        Ok(())
    }
}

/// The connection and its calls. The first call is made at once and not counted: it finds everything cold.
struct Probe {
    plan: Plan,
    socket: Socket,
    reader: Reader,
    output: Output,
    calls: Calls,
    authority: String,
}

/// The state of the calls, by number.
struct Calls {
    /// When each was written; 0 once it has ended.
    sent_ns: Vec<u64>,
    open: usize,
    /// Bytes the server takes on the connection.
    window: u64,
    answers: Answers,
    now_ns: u64,
}

impl Probe {
    fn connect(plan: Plan) -> anyhow::Result<Self> {
        let windows = Windows {
            stream_bytes: WINDOW_DEFAULT,
            connection_bytes: WINDOW_DEFAULT,
        };
        let length_ns = plan.end_ns.saturating_sub(plan.start_ns);
        let checks = u32::try_from(length_ns.div_ceil(nanoseconds(EVERY)))
            .context("too long a window for one connection")?;
        let dialer = Dialer::new(plan.server, plan.tls.as_ref(), 1)?;
        let socket = dialer.dial(None).context("connecting")?;
        let mut output = Output::default();
        request::open_connection(&mut output.bytes, windows);
        let mut probe = Self {
            authority: plan.server.to_string(),
            plan,
            socket,
            reader: Reader::new(checks + 1, windows),
            output,
            calls: Calls {
                sent_ns: Vec::with_capacity(checks as usize + 1),
                open: 0,
                window: WINDOW_DEFAULT.into(),
                answers: Answers::new()?,
                now_ns: 0,
            },
        };
        probe.call();
        Ok(probe)
    }

    fn ask(mut self, left: &AtomicBool) -> anyhow::Result<Answers> {
        let mut due_ns = self.plan.start_ns;
        let last_ns = self.plan.end_ns + nanoseconds(self.plan.patience);
        let mut scratch = vec![0; 2 * RECORD_BYTES_MAX];
        while !left.load(Ordering::Relaxed) {
            let now = monotonic_ns();
            let asking = due_ns < self.plan.end_ns;
            if asking && now >= due_ns {
                self.check(now.saturating_sub(due_ns));
                due_ns += nanoseconds(EVERY);
                continue;
            }
            if !asking && (self.calls.open == 0 || now >= last_ns) {
                break;
            }
            let until = if asking { due_ns } else { last_ns };
            self.serve(until.saturating_sub(now), &mut scratch)?;
        }
        let mut answers = self.calls.answers;
        answers.unanswered = self
            .calls
            .sent_ns
            .iter()
            .skip(1)
            .filter(|at| **at > 0)
            .count();
        Ok(answers)
    }

    fn check(&mut self, late_ns: u64) {
        let needed = GRPC_PREFIX_BYTES as u64;
        if self.calls.open >= UNANSWERED_MAX || self.calls.window < needed {
            self.calls.trouble(|| {
                format!("not every health check was sent: {UNANSWERED_MAX} had no answer")
            });
            return;
        }
        self.calls.answers.asked += 1;
        self.calls.answers.late.saturating_record(late_ns);
        self.call();
    }

    /// The written bytes leave with the next [`Self::serve`], which follows at once.
    fn call(&mut self) {
        let index = u32::try_from(self.calls.sent_ns.len()).expect("as many as were planned");
        let (out, stream) = (&mut self.output.bytes, stream_id(index));
        let head = Head {
            authority: &self.authority,
            path: "/grpc.health.v1.Health/Check",
            over_tls: self.plan.tls.is_some(),
            ..Head::default()
        };
        request::call_head(out, stream, &head);
        request::call_message(out, stream, &HealthCheckRequest::default(), true);
        self.calls.window -= GRPC_PREFIX_BYTES as u64;
        self.calls.sent_ns.push(monotonic_ns());
        self.calls.open += 1;
    }

    /// Writes the pending bytes, waits for the socket to become readable, and reads.
    fn serve(&mut self, wait_ns: u64, scratch: &mut [u8]) -> anyhow::Result<()> {
        let written = match self.socket.send(&mut self.output) {
            Ok(written) => written,
            // It is not connected yet.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => false,
            Err(error) => return Err(error).context("writing"),
        };
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, !written);
        let wait_ns = wait_ns.min(nanoseconds(LOOK));
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: wait_ns.cast_signed(),
        };
        let mut sockets = [PollFd::new(self.socket.tcp(), flags)];
        match poll(&mut sockets, Some(&wait)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error).context("waiting for an answer"),
        }
        let (reader, calls, reply) = (&mut self.reader, &mut self.calls, &mut self.output.bytes);
        self.socket
            .receive(scratch, |bytes| {
                calls.now_ns = monotonic_ns();
                reader.read(bytes, calls, reply).map_err(io::Error::other)
            })
            .context("reading an answer")?;
        Ok(())
    }
}

impl Calls {
    fn trouble(&mut self, what: impl FnOnce() -> String) {
        self.answers.trouble.get_or_insert_with(what);
    }
}

impl Sink for Calls {
    fn message(&mut self, _stream: u32, _length: u32, head: &[u8]) {
        if head != SERVING {
            self.trouble(|| "a health check was answered with something else than SERVING".into());
        }
    }

    fn stream_ended(&mut self, stream: u32, end: StreamEnd) {
        let sent_ns = self.sent_ns.get_mut(stream as usize).map(std::mem::take);
        let Some(sent_ns @ 1..) = sent_ns else {
            return;
        };
        self.open -= 1;
        if !matches!(
            end,
            StreamEnd::Finished {
                grpc_status: None | Some(0)
            }
        ) {
            self.trouble(|| format!("a health check failed: {}", describe(end)));
        }
        if stream > 0 {
            let answered_ns = self.now_ns.saturating_sub(sent_ns);
            self.answers.answered.saturating_record(answered_ns);
        }
    }

    fn setting(&mut self, _id: u16, _value: u32) {}

    fn window_update(&mut self, stream: Option<u32>, increment: u32) {
        if stream.is_none() {
            self.window += u64::from(increment);
        }
    }

    fn going_away(&mut self, _code: u32) {
        self.trouble(|| "the server said GOAWAY to the health probe".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn checks_go_on_without_answers_and_are_counted_as_missing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let start_ns = monotonic_ns();
        let plan = Plan {
            server: listener.local_addr().unwrap(),
            tls: None,
            start_ns,
            end_ns: start_ns + 10 * nanoseconds(EVERY),
            patience: Duration::from_millis(20),
        };
        let answers = Probe::connect(plan).unwrap();
        let answers = answers.ask(&AtomicBool::new(false)).unwrap();
        assert_eq!((answers.asked, answers.unanswered), (10, 10));
        let mut figures = Figures::default();
        let error = answers.add_to(&mut figures).unwrap_err();
        assert_eq!(error.to_string(), "no health check was answered");
    }

    #[test]
    fn a_probe_that_is_let_go_ends_before_its_window() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let (start_ns, hour) = (monotonic_ns(), Duration::from_secs(3600));
        let any = Cores::any();
        let probe = HealthProbe::start(server, None, &any, start_ns, start_ns + nanoseconds(hour));
        drop(probe.unwrap());
        assert!(monotonic_ns() - start_ns < nanoseconds(Duration::from_secs(60)));
    }
}
