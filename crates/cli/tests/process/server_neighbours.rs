//! How long a neighbour waits for an answer beside connections that attack the server, by command: docs/TESTING.md.
//!
//! Holds: the server has a core of its own, with one worker thread. Attackers that are cut come back at once. They run on a thread with
//! the lowest priority, so that the neighbour, on the same core, does not wait for them there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use longlived_testkit::attacker::Attacker;
use longlived_testkit::attacks::{ATTACKS, Attack, CHECK};
use longlived_testkit::raw;
use tokio::process::Command;
use tokio::time::Instant;

use super::support::{Server, framed, number, until};

/// Of each figure.
const CALLS: usize = 2_000;
/// A figure that takes longer than this has as many calls as came by then.
const TIME_MAX: Duration = Duration::from_secs(8);
/// What the neighbour's median must be, beside as many attackers.
pub(crate) const MUST: [(usize, Duration); 3] = [
    (0, Duration::from_millis(2)),
    (1, Duration::from_millis(2)),
    (50, Duration::from_millis(10)),
];
/// Bytes that an attacker writes at once.
const WRITE_BYTES: usize = 32 << 10;

/// Attackers at work, until this is dropped.
pub(crate) struct Attackers {
    over: Arc<AtomicBool>,
    /// Connections that were made.
    pub(crate) connections: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Attackers {
    fn start(server: &Server, attack: &'static Attack, count: usize) -> Self {
        let address = server.address;
        Self::run(
            count,
            async move |is_over: &AtomicBool, made: &AtomicU64| {
                let mut attacker = Attacker::hello(address).await;
                made.fetch_add(1, Ordering::Relaxed);
                attacker.send(&(attack.begin)()).await;
                let mut round = 0;
                let mut goes_on = true;
                while goes_on && !is_over.load(Ordering::Relaxed) {
                    let mut bytes = Vec::new();
                    while bytes.len() < WRITE_BYTES {
                        bytes.extend((attack.round)(round));
                        round += 1;
                    }
                    goes_on = attacker.send(&bytes).await;
                    tokio::task::yield_now().await;
                }
            },
        )
    }

    /// This many that do this again and again.
    pub(crate) fn run(
        count: usize,
        attack: impl AsyncFn(&AtomicBool, &AtomicU64) + Clone + Send + 'static,
    ) -> Self {
        let (over, connections) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let is_over = Arc::clone(&over);
        let made: Arc<AtomicU64> = Arc::clone(&connections);
        let work = move || {
            rustix::process::nice(19).expect("it may be nicer");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let tasks = tokio::task::LocalSet::new();
            for _ in 0..count {
                let (is_over, made) = (Arc::clone(&is_over), Arc::clone(&made));
                let attack = attack.clone();
                tasks.spawn_local(async move {
                    while !is_over.load(Ordering::Relaxed) {
                        attack(&is_over, &made).await;
                    }
                });
            }
            runtime.block_on(tasks);
        };
        Self {
            over,
            connections,
            thread: Some(thread::spawn(work)),
        }
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("attackers do not panic");
        }
    }
}

/// The times of calls, one after the other: their median, the slowest but one of a hundred, and how many there were.
pub(crate) async fn times(neighbour: &mut raw::Client) -> (Duration, Duration, usize) {
    let begun = Instant::now();
    let mut times = Vec::with_capacity(CALLS);
    while times.len() < CALLS && begun.elapsed() < TIME_MAX {
        let asked = Instant::now();
        let mut reply = neighbour.call(CHECK, &[], framed(&[])).await;
        let (_, status) = reply.all().await;
        assert_eq!(status.as_deref(), Some("0"));
        times.push(asked.elapsed());
    }
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    (at(50), at(99), times.len())
}

#[tokio::test]
#[ignore = "a figure: it needs two cores for itself, and `taskset -c 1`"]
async fn a_neighbour_is_answered_beside_attackers() {
    let mut command = Command::new("taskset");
    command.args(["-c", "0", env!("CARGO_BIN_EXE_longlived")]);
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    command.kill_on_drop(true);
    let server = Server::of(&mut command).await;
    let mut neighbour = raw::Client::connect(server.address).await;
    times(&mut neighbour).await;
    let only = number("LONGLIVED_ATTACK", u64::MAX);
    let mut missed = Vec::new();
    for (index, attack) in ATTACKS.iter().enumerate() {
        if only != u64::MAX && only != index as u64 {
            continue;
        }
        for (count, must) in MUST {
            let attackers = Attackers::start(&server, attack, count);
            let made = Arc::clone(&attackers.connections);
            until("the attackers are there", async || {
                (made.load(Ordering::Relaxed) >= count as u64).then_some(())
            })
            .await;
            let (median, slow, calls) = times(&mut neighbour).await;
            let connections = made.load(Ordering::Relaxed);
            drop(attackers);
            println!(
                "{}: {count} attackers ({connections} connections): p50 {median:.2?}, p99 {slow:.2?}, {calls} calls",
                attack.name
            );
            if median > must {
                missed.push(format!(
                    "{} beside {count}: {median:.2?}, not {must:?}",
                    attack.name
                ));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
