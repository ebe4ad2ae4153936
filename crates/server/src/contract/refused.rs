//! Why calls are refused by those that know nothing of statuses.

use std::{sync::Arc, time::Duration};

use longlived_identity::CredentialError;

use super::QuotaExhausted;

/// Why a stream is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RegisterError {
    /// A newer attempt of the same instance was seen.
    #[error("attempt {attempt} of subscriber `{subscriber}` is not the newest; {newest} is")]
    NotNewest {
        /// Whose.
        subscriber: Arc<str>,
        /// Refused.
        attempt: u64,
        /// Seen.
        newest: u64,
    },
    /// Programs fight over one id.
    #[error(
        "subscriber `{subscriber}` was taken over too often; wait {wait:?} before the next try"
    )]
    TakeoverTooOften {
        /// Whose.
        subscriber: Arc<str>,
        /// Longer each time.
        wait: Duration,
    },
    /// No room for this caller.
    #[error(transparent)]
    Quota(#[from] QuotaExhausted),
    /// No room.
    #[error("the limit subscribers_max of {0} is reached")]
    SubscribersExhausted(usize),
}

/// Why nobody is found to call, or somebody who may not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallerError {
    /// Neither a token, nor a certificate or a user that the auth file knows; nor has the file rights for callers without.
    #[error(
        "the call has no credential: a token in `authorization`, or a client certificate, or a Unix socket with a user that the server knows"
    )]
    Missing,
    /// Which of them would hold?
    #[error("the call has more than one `authorization`")]
    Repeated,
    /// No bearer token (RFC 6750, 2.1).
    #[error("`authorization` is not `Bearer` and a token")]
    Scheme,
    /// Bytes that no token has.
    #[error("`authorization` has characters that are not ASCII")]
    NotText,
    /// It has ended since the call or the stream began.
    #[error("the credential has expired; messages that were not answered are not stored")]
    Ended,
    /// Its token could not be looked at.
    #[error("the token could not be verified; the server's log says why")]
    Failed,
    /// The credential makes no caller.
    #[error(transparent)]
    Refused(#[from] CredentialError),
}

/// No page can be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the pages that were asked for and not taken yet hold the limit page_bytes_max of {0} bytes"
)]
pub(crate) struct PagesExhausted(pub(crate) usize);

/// The error in the bytes of a request stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestStreamError {
    /// Nothing was said about how.
    #[error(
        "the PublishRequest cannot be decoded: it is compressed, and no grpc-encoding was given"
    )]
    Compressed,
    /// Neither compressed nor not.
    #[error("the PublishRequest cannot be decoded: its compression flag is {0}; 0 and 1 are known")]
    Flag(u8),
    /// Refused before it is there.
    #[error("the PublishRequest is larger than its limit of {0} bytes")]
    TooLarge(usize),
    /// The stream ended within a message.
    #[error("the PublishRequest cannot be decoded: the stream ended within it")]
    Cut,
    /// No `PublishRequest`.
    #[error("the PublishRequest cannot be decoded: {0}")]
    Malformed(#[from] prost::DecodeError),
}
