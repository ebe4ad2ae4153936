//! Seeded runs: the real server and the real clients in one process, on a clock that moves only when nothing else
//! does, over a network and a store that break as a seed says. See docs/OPERATIONS.md for how to run more of them.

mod history;
mod judge;
mod network;
mod node;
mod plan;
mod publisher;
mod run;
mod storage;
mod store;
mod subscriber;
mod trace;

use std::cell::RefCell;
use std::env;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use parking_lot::Mutex;

use crate::run::Outcome;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 200;
/// One seed to run, with its whole trace.
const SEED_VARIABLE: &str = "LONGLIVED_SEED";
/// How many seeds to run, from 0; or `FROM..TO`.
const SEEDS_VARIABLE: &str = "LONGLIVED_SEEDS";

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Runs a seed. A panic in any of its tasks, which its runtime would swallow, is a failure.
fn run(seed: u64) -> Outcome {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
            before(info);
        }));
    });
    PANICS.take();
    let mut outcome = run::run(seed);
    outcome.failures.extend(PANICS.take());
    outcome
}

fn report(outcome: &Outcome) -> String {
    let seed = outcome.seed;
    let failures = outcome.failures.join("\n  ");
    format!(
        "seed {seed} (trace {:016x}) failed:\n  {failures}\nagain, with its trace: {SEED_VARIABLE}={seed} cargo test \
         -p longlived-simulation",
        outcome.digest
    )
}

fn seeds() -> std::ops::Range<u64> {
    let number = |text: &str| text.parse().expect("LONGLIVED_SEEDS is N or FROM..TO");
    match env::var(SEEDS_VARIABLE) {
        Ok(text) => match text.split_once("..") {
            Some((from, to)) => number(from)..number(to),
            None => 0..number(&text),
        },
        Err(_) => 0..SEEDS,
    }
}

#[test]
fn every_seed_is_lawful() {
    if let Ok(seed) = env::var(SEED_VARIABLE) {
        let outcome = run(seed.parse().expect("LONGLIVED_SEED is a number"));
        for (at, record) in &outcome.records {
            println!("{:>10.6} {record:?}", at.as_secs_f64());
        }
        println!("seed {seed}: trace {:016x}", outcome.digest);
        assert!(outcome.failures.is_empty(), "{}", report(&outcome));
        return;
    }
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = run(seed);
                    if !outcome.failures.is_empty() {
                        failed.lock().push(report(&outcome));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    let count = failed.len();
    assert!(
        failed.is_empty(),
        "{count} of {seeds:?} failed\n{}",
        failed.join("\n")
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..10 {
        let (first, second) = (run(seed), run(seed));
        if first.digest == second.digest {
            continue;
        }
        let pairs = first.records.iter().zip(&second.records);
        let differing = pairs
            .map(|(first, second)| (format!("{first:?}"), format!("{second:?}")))
            .find(|(first, second)| first != second);
        panic!("seed {seed} was not repeated; the first difference: {differing:#?}");
    }
}
