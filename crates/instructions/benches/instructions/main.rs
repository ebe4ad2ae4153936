//! The hot paths, each as a scenario whose instructions are counted under callgrind: one message to 1,000 subscribers,
//! one reader catching up, one resumption. Each runs in the broker alone, and through the server over HTTP/2. Beside them, one
//! turn of a connection for each kind of frames that make the server work.
//!
//! `instructions list` prints the scenarios, `instructions NAME` runs one and says how many operations it counted;
//! without a name all run, uncounted, as a test of themselves. `.ci/instructions` has them counted and compares:
//! docs/TESTING.md.
//!
//! Holds: two runs of a scenario do the same work in the same order. Clocks stand still, randomness has a seed, and
//! everything is one thread. Caches and pools are warm before counting begins, as in a server that has run for a while.

mod broker;
mod client;
mod counted;
mod network;
mod serving;
mod turns;
mod world;

use std::process::ExitCode;

use longlived_testkit::attacks::ATTACKS;

// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Subscribers of the one live tail.
const SUBSCRIBERS: usize = 1_000;
/// Messages published to them one after the other.
const MESSAGES: usize = 20;
/// Events that are kept for readers that catch up.
const EVENTS: usize = 100_000;
/// Subscribers that resume one after the other.
const RESUMPTIONS: usize = 100;
/// Bytes of each message's payload.
const PAYLOAD_BYTES: usize = 128;

/// Runs a scenario and returns how many operations were counted.
type Run = fn() -> usize;

/// A scenario.
struct Scenario {
    name: String,
    /// What is counted.
    operation: &'static str,
    /// Runs it and returns how many operations were counted.
    run: Box<dyn Fn() -> usize>,
}

/// The name and the counted operation of the hot paths.
const PATHS: &[(&str, &str, Run)] = &[
    ("broker_publish_1000", "delivery", broker::publish),
    ("broker_catch_up", "event", broker::catch_up),
    ("broker_resume", "resume", broker::resume),
    ("server_publish_10x100", "delivery", || serving::publish(10)),
    ("server_publish_1000x1", "delivery", || {
        serving::publish(1_000)
    }),
    ("server_catch_up", "event", serving::catch_up),
    ("server_resume", "resume", serving::resume),
    ("server_resume_token", "resume", serving::resume_by_token),
    (
        "server_connect_resume",
        "resume",
        serving::connect_and_resume,
    ),
];

fn scenarios() -> Vec<Scenario> {
    let paths = PATHS.iter().map(|&(name, operation, run)| Scenario {
        name: name.to_owned(),
        operation,
        run: Box::new(run),
    });
    let turns = ATTACKS.iter().map(|attack| Scenario {
        name: turns::name(attack),
        operation: turns::OPERATION,
        run: Box::new(|| turns::serve(attack)),
    });
    paths.chain(turns).collect()
}

fn main() -> ExitCode {
    // `cargo bench` adds a flag of its own.
    let name = std::env::args().skip(1).find(|word| word != "--bench");
    let scenarios = scenarios();
    if name.as_deref() == Some("list") {
        for scenario in scenarios {
            println!("{} {}", scenario.name, scenario.operation);
        }
        return ExitCode::SUCCESS;
    }
    let chosen = |scenario: &&Scenario| name.as_deref().is_none_or(|name| name == scenario.name);
    let mut known = false;
    for scenario in scenarios.iter().filter(chosen) {
        known = true;
        println!(
            "{} {} {}",
            scenario.name,
            (scenario.run)(),
            scenario.operation
        );
    }
    if !known {
        eprintln!("there is no such scenario; `list` prints them");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
