//! Why the server ends a stream on purpose.

use std::time::Duration;

use longlived_broker::Environment;

/// Why the server ends a stream on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The node goes away; the client comes back after this wait.
    Draining {
        /// This client's turn.
        reconnect_after: Duration,
    },
    /// The stream has reached its age; the client opens the next one at its turn.
    StreamAge {
        /// This client's turn.
        reconnect_after: Duration,
    },
    /// Unsubscribe was called.
    Unsubscribed,
    /// A newer attempt of the same instance is current.
    Replaced,
    /// Another instance has the id now.
    TakenOver,
    /// The credential of the caller expired; the client comes back with another, at its turn.
    CredentialExpired {
        /// This client's turn: the tokens of a fleet often expire together.
        reconnect_after: Duration,
    },
    /// The caller has been revoked; it does not come back.
    Revoked,
    /// The reader took nothing for too long; the client comes back after this wait.
    Slow {
        /// Long enough for the cause of the slowness to pass.
        reconnect_after: Duration,
    },
}

/// How long a client that was too slow stays away: at once it would only catch up at full speed. The cause often makes
/// many clients slow, so each waits for a time of its own.
const SLOW_RECONNECT_MIN: Duration = Duration::from_secs(1);
const SLOW_RECONNECT_SPREAD: Duration = Duration::from_secs(4);

impl CloseReason {
    /// The reader was too slow.
    pub(crate) fn slow(environment: &Environment) -> Self {
        let spread = SLOW_RECONNECT_SPREAD.as_nanos() as u64;
        Self::Slow {
            reconnect_after: SLOW_RECONNECT_MIN
                + Duration::from_nanos(environment.random_below(spread)),
        }
    }

    /// Whether the client should come back.
    pub(crate) fn retryable(self) -> bool {
        match self {
            Self::Draining { .. }
            | Self::StreamAge { .. }
            | Self::Slow { .. }
            | Self::CredentialExpired { .. } => true,
            // The replaced subscriber is here already, by its newer stream.
            Self::Unsubscribed | Self::Replaced | Self::TakenOver | Self::Revoked => false,
        }
    }

    /// Whether both are one reason, with whatever turn.
    pub(crate) fn is_same_kind(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }

    /// For the log line of the call.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Draining { .. } => "server draining",
            Self::StreamAge { .. } => "stream age reached",
            Self::Unsubscribed => "unsubscribed",
            Self::Replaced => "replaced by a newer attempt",
            Self::TakenOver => "taken over by another instance",
            Self::CredentialExpired { .. } => "credential expired",
            Self::Revoked => "caller revoked",
            Self::Slow { .. } => "slow subscriber",
        }
    }
}
