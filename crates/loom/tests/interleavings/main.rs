//! The state that threads share without a lock is tried in every order of events between threads, by [loom].
//!
//! The files under test are those of the broker and the server, compiled here once more on the types of `sync.rs`. A model runs
//! them in two or three threads. Loom runs the model again and again: at each access to shared memory each thread
//! may go on, and each load may give each value that the ordering allows. A wake-up that is lost is a deadlock, which
//! loom finds.
//!
//! Models are also run with mistakes (`sync::Mistake`), and have to find them.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "files of the product, which uses more of them than the models"
)]

mod abort_models;
mod signal_models;
mod sync;
mod wake_set_models;
mod wakes_models;

#[path = "../../../broker/src/position.rs"]
mod position;
#[path = "../../../broker/src/signal.rs"]
mod signal;

#[path = "../../../server/src/transport/connection/wake_set.rs"]
mod wake_set;
#[path = "../../../server/src/transport/connection/wakes.rs"]
mod wakes;

use std::env;
use std::process::Command;

use loom::model::Builder;
use sync::Mistake;

/// How often one run may take a thread off although it could go on. Three take ten times as long.
const PREEMPTIONS_MAX: usize = 2;

/// Runs a model in every order.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    // LOOM_MAX_PREEMPTIONS says otherwise.
    builder.preemption_bound.get_or_insert(PREEMPTIONS_MAX);
    builder.check(model);
}

const OF_A_SUBSCRIBER: &str =
    "signal_models::a_subscriber_is_woken_for_all_that_is_published_and_wanted";
const OF_A_SLOW_SUBSCRIBER: &str = "signal_models::a_subscriber_that_was_left_out_misses_nothing";
const OF_A_TASK: &str = "wakes_models::a_task_looks_at_every_source_that_was_woken";
const OF_GROUPS: &str = "wakes_models::every_group_that_was_woken_is_polled";
const OF_STREAMS: &str = "wake_set_models::streams_that_share_a_word_are_all_polled";
const OF_AN_ABORT: &str = "abort_models::a_stream_that_is_aborted_is_reset";

#[test]
fn every_mistake_is_found() {
    let mistakes = [
        (Mistake::Relaxed, OF_A_SUBSCRIBER),
        (Mistake::Relaxed, OF_A_TASK),
        (Mistake::Relaxed, OF_GROUPS),
        (Mistake::Relaxed, OF_STREAMS),
        (Mistake::Relaxed, OF_AN_ABORT),
        (Mistake::TwoSteps, OF_A_SUBSCRIBER),
        (Mistake::TwoSteps, OF_A_SLOW_SUBSCRIBER),
        (Mistake::TwoSteps, OF_A_TASK),
        (Mistake::TwoSteps, OF_GROUPS),
        (Mistake::TwoSteps, OF_STREAMS),
        (Mistake::RegistersLate, OF_A_SUBSCRIBER),
        (Mistake::LeftOutForGood, OF_A_SLOW_SUBSCRIBER),
        (Mistake::SleepsWithoutAsking, OF_A_TASK),
    ];
    // Each in a process of its own, since loom ends the process in which it finds threads that sleep for ever.
    let found = |mistake: Mistake, model: &str| {
        let mut run = Command::new(env::current_exe().unwrap());
        run.args(["--exact", model])
            .env(sync::VARIABLE, mistake.name());
        !run.output().unwrap().status.success()
    };
    let missed = mistakes
        .iter()
        .filter(|(mistake, model)| !found(*mistake, model));
    let missed: Vec<_> = missed.collect();
    assert!(missed.is_empty(), "{missed:?}");
}
