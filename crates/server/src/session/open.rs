//! From a checked request to a live session: the cursor is opened first, then the registry decides, so that a stream
//! that cannot begin disturbs no other.

use std::sync::Arc;

use longlived_broker::{Cursor, CursorError, Outcome, Position, Signal, SlowPolicy};

use crate::{
    contract::{Plan, RegisterError},
    layers::{CallRecord, Kind},
    node::Node,
    registry::{Claim, Registration, Session},
};

/// Why a session cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// There is no place to read from.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// The registry does not let it in.
    #[error(transparent)]
    Register(#[from] RegisterError),
}

/// A session that has begun, before its first word.
pub(crate) struct OpenedSession {
    /// Reads the log.
    pub cursor: Cursor,
    /// Its place in the registry.
    pub registration: Registration,
    /// How it began.
    pub outcome: Outcome,
    /// Everything after this will follow.
    pub position: Position,
}

/// Opens a session. `record` has the abort of its stream.
pub(crate) async fn open(
    node: &Node,
    plan: &Plan,
    record: Arc<CallRecord>,
) -> Result<OpenedSession, OpenError> {
    record.set_streaming();
    record.set_subscriber(plan.subscriber.clone());
    // Before anything is done for it, and once more when it is.
    let claim = Claim {
        principal: &plan.caller.principal,
        usage: plan.caller.usage.as_deref(),
        filters: plan.filters.len() as u64,
        subscriber: &plan.subscriber,
        attempt: plan.attempt,
        contract: plan.contract,
    };
    node.registry.check(claim).inspect_err(|error| {
        // A client that is refused for its rate comes back at that rate.
        if let RegisterError::TakeoverTooOften { .. } = error {
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
    let session = Session::new(&node.registry, plan, record, &opened.cursor, signal);
    let registration = node.registry.register(session)?;
    if !registration.session().is_contested() {
        log_begin(node, plan, opened.outcome, opened.position);
    }
    if plan.options.slow_policy == SlowPolicy::Disconnect {
        node.maintenance.watch(registration.session());
    }
    node.maintenance.decide_new(registration.session());
    // A drain that passed the registry before this session was in it.
    if node.drain.is_draining() {
        registration.session().close(node.drain_reason());
    }
    Ok(OpenedSession {
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
    let principal = plan.caller.principal.name();
    let outcome = outcome_in_words(outcome);
    // Two calls, since a level is part of a line's static description.
    if node.sums.has_line(kind) {
        tracing::info!(principal, subscriber, filters, outcome, %position, "subscription begins");
    } else {
        tracing::debug!(principal, subscriber, filters, outcome, %position, "subscription begins");
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
