//! `protos.Longlived`, frozen: it has events, and codes with a text. Its programs come back on every end but OK.

use longlived_broker::{CursorError, Encoding};
use tonic::Status;

use super::{
    super::{CloseReason, status},
    Dialect, TakeoverLimits,
};
use crate::limits;

pub(super) struct Legacy;

impl Dialect for Legacy {
    fn encoding(&self) -> Encoding {
        Encoding::Legacy
    }

    fn closed(&self, reason: CloseReason) -> Status {
        match reason {
            CloseReason::Unsubscribed => status::completed(),
            CloseReason::Revoked => status::of_close(reason),
            CloseReason::Draining { .. }
            | CloseReason::StreamAge { .. }
            | CloseReason::Replaced
            | CloseReason::TakenOver
            | CloseReason::CredentialExpired { .. }
            | CloseReason::Slow { .. } => status::unavailable(reason.as_str()),
        }
    }

    fn failed(&self, error: &CursorError) -> Status {
        status::unavailable(error.to_string())
    }

    fn takeovers(&self) -> TakeoverLimits {
        TakeoverLimits {
            max: limits::LEGACY_TAKEOVERS_MAX,
            wait_min: limits::LEGACY_TAKEOVER_WAIT_MIN,
        }
    }
}
