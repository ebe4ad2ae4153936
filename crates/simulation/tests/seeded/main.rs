//! Seeded runs: the real server and the real clients in one process, on a clock that moves only when nothing else
//! does, over a network and a store that break as a seed says. See docs/TESTING.md for how to run more of them.

mod coverage;
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
use std::time::Duration;

use longlived_client::Item;
use parking_lot::Mutex;

use crate::coverage::Coverage;
use crate::plan::Plan;
use crate::run::Outcome;
use crate::trace::Record;

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
         -p longlived-simulation --test seeded every_seed -- --nocapture",
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
    let coverage = Mutex::new(Coverage::default());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = run(seed);
                    let records = outcome.records.iter().map(|(_, record)| record);
                    coverage.lock().add(records);
                    if !outcome.failures.is_empty() {
                        // At once as well: many seeds may be many hours.
                        let report = report(&outcome);
                        eprintln!("{report}");
                        failed.lock().push(report);
                    }
                }
            });
        }
    });
    let coverage = coverage.into_inner();
    println!("{coverage}");
    let failed = failed.into_inner();
    let count = failed.len();
    assert!(
        failed.is_empty(),
        "{count} of {seeds:?} failed\n{}",
        failed.join("\n")
    );
    if seeds.end - seeds.start >= SEEDS {
        let missing = coverage.missing();
        assert!(missing.is_empty(), "{seeds:?} never met: {missing:?}");
    }
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

/// Mistakes that must be found: a record taken out of a lawful trace, or told twice.
#[test]
fn a_trace_that_was_tampered_with_is_not_lawful() {
    // Where nothing may be missing, so that nothing can be explained away.
    let strict = |seed: &u64| {
        let plan = Plan::of(*seed);
        plan.durable && plan.retention.is_none()
    };
    let seed = (0..SEEDS).find(strict).expect("one of many is strict");
    let tampered = |tamper: fn(&mut Vec<(Duration, Record)>, usize)| {
        let mut outcome = run(seed);
        assert!(outcome.failures.is_empty(), "{}", report(&outcome));
        let events = outcome.records.iter().enumerate();
        let of_one = |record: &Record| {
            matches!(
                record,
                Record::Got {
                    incarnation: 1,
                    item: Item::Event(_),
                    ..
                }
            )
        };
        let places: Vec<usize> = events
            .filter(|(_, (_, record))| of_one(record))
            .map(|(index, _)| index)
            .collect();
        assert!(places.len() > 2, "seed {seed} has too few events");
        tamper(&mut outcome.records, places[places.len() / 2]);
        let plan = Plan::of(seed);
        (
            judge::judge(&outcome.records, &plan),
            history::check(&outcome.records),
        )
    };
    let (truth, clients) = tampered(|records, at| drop(records.remove(at)));
    assert!(!truth.is_empty() && !clients.is_empty());
    let (truth, clients) = tampered(|records, at| {
        let (
            time,
            Record::Got {
                incarnation,
                item,
                position,
            },
        ) = &records[at]
        else {
            unreachable!("a subscriber received it")
        };
        let again = Record::Got {
            incarnation: *incarnation,
            item: item.clone(),
            position: *position,
        };
        let again = (*time, again);
        records.insert(at, again);
    });
    assert!(truth.iter().any(|what| what.contains("again")), "{truth:?}");
    assert!(
        clients.iter().any(|what| what.contains("no_repeat")),
        "{clients:?}"
    );
}
