//! From a checked request to a live session: the cursor is opened first, then the registry decides, so that a
//! stream that cannot begin disturbs nobody.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use longlived_broker::{
    Begin, Cursor, CursorError, Outcome, Position, ReadOptions, Signal, SlowPolicy,
};
use longlived_topic::TopicFilter;
use parking_lot::Mutex;

use super::{Attempt, Contract, Session, pace::Pace};
use crate::{
    layers::{CallRecord, Kind},
    node::Node,
    registry::{AdmitError, Claim, Registration},
};

/// What a subscriber asked for, checked.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Who.
    pub subscriber: Arc<str>,
    /// Each at most once, at least one.
    pub filters: Vec<TopicFilter>,
    /// Where it begins.
    pub begin: Begin,
    /// How it reads.
    pub options: ReadOptions,
    /// Which run of which program.
    pub attempt: Attempt,
    /// Which contract.
    pub contract: Contract,
    /// The quiet it was promised.
    pub max_silence: Duration,
}

/// Why a session cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// There is no place to read from.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// The registry does not let it in.
    #[error(transparent)]
    Admit(#[from] AdmitError),
}

/// A session that has begun, before its first word.
pub(crate) struct Opening {
    /// Reads the log.
    pub cursor: Cursor,
    /// Its place in the registry.
    pub registration: Registration,
    /// How it began.
    pub outcome: Outcome,
    /// Everything after this will follow.
    pub position: Position,
}

/// Opens a session. The abort that its response carries must be the one in `record`.
pub(crate) async fn open(
    node: &Node,
    plan: &Plan,
    record: Arc<CallRecord>,
) -> Result<Opening, OpenError> {
    record.set_streaming();
    record.set_subscriber(plan.subscriber.clone());
    // Before anything is done for it, and once more when it is.
    let claim = Claim {
        subscriber: &plan.subscriber,
        attempt: plan.attempt,
        contract: plan.contract,
    };
    node.registry.check(claim).inspect_err(|error| {
        // Whoever is refused by rate comes at a rate.
        if let AdmitError::TakeoverTooOften { .. } = error {
            record.set_quiet();
        }
    })?;
    let signal = Arc::new(Signal::default());
    let opened = Cursor::open(
        &node.log,
        &plan.filters,
        plan.begin,
        plan.options,
        signal.clone(),
    )
    .await?;
    let watched = plan.options.slow_policy == SlowPolicy::Disconnect;
    let session = Arc::new(Session {
        subscriber: plan.subscriber.clone(),
        generation: node.registry.next_generation(),
        attempt: plan.attempt,
        contract: plan.contract,
        signal,
        record,
        state: Mutex::default(),
        follows_inbox: AtomicBool::new(false),
        closing: node.registry.closing().clone(),
        contested: AtomicBool::new(false),
        told: AtomicBool::new(false),
        pace: watched.then(|| Box::new(Pace::new(&opened.cursor))),
    });
    session.set_filters(&opened.cursor);
    let registration = node.registry.admit(session)?;
    if !registration.session().is_contested() {
        log_begin(node, plan, opened.outcome, opened.position);
    }
    if watched {
        node.maintenance.watch(registration.session());
    }
    // A drain that passed the registry before this session was in it.
    if node.drain.is_draining() {
        registration.session().close(node.drain_reason());
    }
    Ok(Opening {
        cursor: opened.cursor,
        registration,
        outcome: opened.outcome,
        position: opened.position,
    })
}

fn log_begin(node: &Node, plan: &Plan, outcome: Outcome, position: Position) {
    let kind = match outcome {
        Outcome::New | Outcome::Resumed => Kind::Begun,
        Outcome::Reset => Kind::BegunAfterLoss,
    };
    let (subscriber, filters) = (&*plan.subscriber, plan.filters.len());
    let outcome = outcome_in_words(outcome);
    // Two calls, since a level is part of a line's static description.
    if node.sums.has_line(kind) {
        tracing::info!(subscriber, filters, outcome, %position, "subscription begins");
    } else {
        tracing::debug!(subscriber, filters, outcome, %position, "subscription begins");
    }
}

/// As `Welcome` says it.
fn outcome_in_words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::New => "new",
        Outcome::Resumed => "resumed",
        Outcome::Reset => "reset",
    }
}
