//! In step with h2's client over an in-memory pipe, by seed: what each end says it sent is what the other says it got.
//!
//! A seed decides both ends' settings, the pipe's room, and a [plan](plan::Plan) for each call that both ends know. Time is
//! paused, so a run that hangs ends at once. The [judge](crate::peer) looks at every frame beside.

mod client;
mod ledger;
mod plan;
mod service;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use self::ledger::Ledger;
use self::plan::Run;

/// One seed, from the first byte to the last.
async fn seed(seed: u64) {
    let rng = &mut SmallRng::seed_from_u64(seed);
    let run = Run::draw(seed, rng);
    let ledger = Arc::new(Ledger::new(run.calls));
    let (theirs, ours) = tokio::io::duplex(run.pipe);
    let service = service::serve(ours, &run, &ledger, rng.random());
    let client = client::call_all(theirs, &run, &ledger, rng.random());
    let both = async { tokio::join!(service, client) };
    if tokio::time::timeout(Duration::from_secs(300), both)
        .await
        .is_err()
    {
        panic!("it hangs: {}", ledger.unfinished());
    }
    ledger.agrees(&run);
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("LONGLIVED_SEEDS") else {
        return 0..200;
    };
    let number = |text: &str| text.parse().expect("LONGLIVED_SEEDS");
    match text.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => 0..number(&text),
    }
}

#[test]
fn both_ends_agree_on_what_was_said() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    for number in seeds() {
        let run = std::panic::AssertUnwindSafe(|| runtime.block_on(seed(number)));
        if let Err(panic) = std::panic::catch_unwind(run) {
            let next = number + 1;
            eprintln!("seed {number}: LONGLIVED_SEEDS={number}..{next} repeats it");
            std::panic::resume_unwind(panic);
        }
    }
}
