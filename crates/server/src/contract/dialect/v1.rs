//! `longlived.v1`.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use longlived_broker::{CursorError, Encoding, Gap, Position};
use longlived_topic::TopicFilter;
use tonic::Status;

use super::{
    super::{
        CloseReason, status,
        wire::{self, Change, Welcome},
    },
    Dialect, TakeoverLimits,
};
use crate::limits;

pub(super) struct V1;

impl Dialect for V1 {
    fn encoding(&self) -> Encoding {
        Encoding::V1
    }

    fn welcome(&self, welcome: &Welcome<'_>) -> Option<Bytes> {
        Some(wire::welcome(welcome))
    }

    fn gap(&self, gap: &Gap) -> Option<Bytes> {
        Some(wire::gap(gap))
    }

    fn has_progress(&self) -> bool {
        true
    }

    fn progress(&self, at: Position, now: SystemTime, current: bool) -> Option<Bytes> {
        Some(wire::progress(at, now, current))
    }

    fn padded(&self, events: &Bytes, at: Position, bytes: usize) -> Option<Bytes> {
        Some(wire::padded(events, at, bytes))
    }

    fn credential_notice(&self, expires: Option<SystemTime>) -> Option<Bytes> {
        Some(wire::credential_notice(expires))
    }

    fn withdrawn(&self, filter: &TopicFilter, after: Position, why: &str) -> Option<Bytes> {
        let change = Change::Withdrawn(after, why.to_owned());
        Some(wire::subscription_change(filter.as_str(), &change))
    }

    fn go_away(
        &self,
        reason: CloseReason,
        at: Position,
        ends_in: Option<Duration>,
    ) -> Option<Bytes> {
        Some(wire::go_away(reason, at, ends_in))
    }

    fn closed(&self, reason: CloseReason) -> Status {
        status::of_close(reason)
    }

    fn failed(&self, error: &CursorError) -> Status {
        status::of_cursor(error)
    }

    fn has_details(&self) -> bool {
        true
    }

    fn takeovers(&self) -> TakeoverLimits {
        TakeoverLimits {
            max: limits::TAKEOVERS_MAX,
            wait_min: limits::TAKEOVER_WAIT_MIN,
        }
    }
}
