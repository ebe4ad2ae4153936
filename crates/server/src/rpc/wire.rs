//! The control messages of version 1 as frames. Events are not here: the broker has them ready.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use longlived_api::v1::{self, subscribe_response};
use longlived_broker::{Gap, GapReason, Outcome, Position, frame};
use prost_types::Timestamp;

use crate::{
    node::Node,
    session::{CloseReason, Opening, Plan},
};

/// What became of a filter that was added or removed.
pub(crate) enum Change {
    /// Holds for events after this.
    Added(Position),
    /// Holds for events after this.
    Removed(Position),
    /// Nothing changes; why.
    Refused(String),
}

fn response(frame: subscribe_response::Frame) -> Bytes {
    frame::encode(&v1::SubscribeResponse { frame: Some(frame) })
}

/// A position on the wire.
pub(crate) fn position(position: Position) -> v1::Position {
    v1::Position {
        epoch: position.epoch,
        sequence: position.sequence,
    }
}

/// A position as it came.
pub(crate) fn position_from(position: v1::Position) -> Position {
    Position {
        epoch: position.epoch,
        sequence: position.sequence,
    }
}

fn duration(duration: Duration) -> prost_types::Duration {
    // Durations here are configured or clamped, far below what the message can hold.
    prost_types::Duration::try_from(duration).unwrap_or_default()
}

pub(crate) fn welcome(node: &Node, plan: &Plan, opening: &Opening) -> Bytes {
    let outcome = match opening.outcome {
        Outcome::New => v1::welcome::Outcome::New,
        Outcome::Resumed => v1::welcome::Outcome::Resumed,
        Outcome::Reset => v1::welcome::Outcome::Reset,
    };
    let generation = opening.registration.session().generation;
    response(subscribe_response::Frame::Welcome(v1::Welcome {
        session_id: format!("{}-{generation}", node.id),
        outcome: outcome.into(),
        position: Some(position(opening.position)),
        max_silence: Some(duration(plan.max_silence)),
        max_stream_age: None,
        node_id: node.id.clone(),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        credential_expires: None,
    }))
}

pub(crate) fn progress(at: Position, now: SystemTime, current: bool) -> Bytes {
    response(subscribe_response::Frame::Progress(v1::Progress {
        position: Some(position(at)),
        server_time: Some(Timestamp::from(now)),
        current,
    }))
}

pub(crate) fn gap(gap: &Gap) -> Bytes {
    response(subscribe_response::Frame::Gap(gap_message(gap)))
}

/// A gap on the wire.
pub(crate) fn gap_message(gap: &Gap) -> v1::Gap {
    let reason = match gap.reason {
        GapReason::Trimmed => v1::gap::Reason::Trimmed,
        GapReason::Damaged => v1::gap::Reason::Damaged,
        GapReason::EpochChanged => v1::gap::Reason::EpochChanged,
        GapReason::Future => v1::gap::Reason::Future,
        GapReason::TooLarge => v1::gap::Reason::TooLarge,
    };
    v1::Gap {
        reason: reason.into(),
        after_sequence: gap.after,
        through_sequence: gap.through,
        events: gap.events,
        through_epoch: gap.through_epoch.unwrap_or(0),
    }
}

pub(crate) fn go_away(reason: CloseReason, at: Position) -> Bytes {
    use v1::go_away::Reason;
    let (wire_reason, wait) = match reason {
        CloseReason::Draining { reconnect_after } => (Reason::Draining, Some(reconnect_after)),
        CloseReason::Unsubscribed => (Reason::Unsubscribed, None),
        CloseReason::Replaced | CloseReason::TakenOver => (Reason::TakenOver, None),
        CloseReason::Slow { reconnect_after } => (Reason::Slow, Some(reconnect_after)),
    };
    response(subscribe_response::Frame::GoAway(v1::GoAway {
        reason: wire_reason.into(),
        position: Some(position(at)),
        reconnect_after: wait.map(duration),
        reconnect: reason.retryable(),
        ends_in: None,
    }))
}

pub(crate) fn subscription_change(filter: &str, change: &Change) -> Bytes {
    use v1::subscription_change::State;
    let (state, after, message) = match change {
        Change::Added(after) => (State::Added, Some(*after), ""),
        Change::Removed(after) => (State::Removed, Some(*after), ""),
        Change::Refused(why) => (State::Refused, None, why.as_str()),
    };
    response(subscribe_response::Frame::SubscriptionChange(
        v1::SubscriptionChange {
            topic_filter: filter.to_owned(),
            state: state.into(),
            after: after.map(position),
            message: message.to_owned(),
        },
    ))
}

pub(crate) fn credential_notice(expires: Option<SystemTime>) -> Bytes {
    response(subscribe_response::Frame::CredentialNotice(
        v1::CredentialNotice {
            expires: expires.map(Timestamp::from),
        },
    ))
}
