//! Why an auth file is refused, and why a credential is.
//!
//! Holds: no text has a token, a key or a secret in it. What a peer wrote is cut. What is wrong with a file is one line of bounded length,
//! whatever stands in the file.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::shown::{Line, Shown};
use crate::token::{SUB_BYTES_MAX, TOKEN_BYTES_MAX};

/// Why an auth file is refused.
#[derive(Debug, thiserror::Error)]
pub enum AuthFileError {
    /// The file cannot be read.
    #[error("{}: {error}", Line(&path.display()))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is too large, or is no text.
    #[error("{}", Line(problem))]
    Content {
        /// What is wrong.
        problem: String,
    },
    /// The file is no TOML.
    #[error("line {line}: {}", Line(problem))]
    Syntax {
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A key of the file, or its value.
    #[error("{}: {}", Line(at), Line(problem))]
    Value {
        /// The key, with those of its tables.
        at: String,
        /// What is wrong.
        problem: String,
    },
    /// A file that the auth file names.
    #[error("{}: {}: {}", Line(at), Line(&path.display()), Line(problem))]
    KeyFile {
        /// The key that names it.
        at: String,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Why a credential makes no caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// It is too long to be looked at.
    #[error("the token has {0} bytes; at most {TOKEN_BYTES_MAX} are allowed")]
    TokenTooLong(usize),
    /// It is neither a JWT nor a static token.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// Its `iss` is that of no entry.
    #[error("the token's issuer `{0}` is not known")]
    UnknownIssuer(Shown),
    /// Its issuer has no key with its `kid`.
    #[error("the issuer `{issuer}` has no key `{kid}`")]
    UnknownKey {
        /// The name of the issuer.
        issuer: Box<str>,
        /// The `kid` of the token.
        kid: Shown,
    },
    /// It does not say which key, and there are several.
    #[error("the token names no key (`kid`), and the issuer `{0}` has several")]
    NoKeyNamed(Box<str>),
    /// Its `alg` is not that of the key.
    #[error("the token's algorithm `{given}` is not that of its key, which is {expected}")]
    Algorithm {
        /// As the token says.
        given: Shown,
        /// That of the key.
        expected: &'static str,
    },
    /// Its signature is not by the key.
    #[error("the token's signature is wrong")]
    Signature,
    /// A static token that is none of the file's.
    #[error("the static token is not known")]
    UnknownToken,
    /// It has ended.
    #[error("the token expired at {}", humantime::format_rfc3339_seconds(*.0))]
    Expired(SystemTime),
    /// It has not begun.
    #[error("the token is not valid before {}, by its `{claim}`", humantime::format_rfc3339_seconds(*.begins))]
    NotYetValid {
        /// The claim that says so.
        claim: &'static str,
        /// When it begins.
        begins: SystemTime,
    },
    /// It is meant for others.
    #[error("the token's audience (`aud`) is not that of this server")]
    Audience,
    /// A claim is missing, or is of another kind.
    #[error("the token has no claim `{0}` of the right kind")]
    MissingClaim(&'static str),
    /// A claim is of the wrong kind, or out of its range.
    #[error("the token's claim `{claim}` {problem}")]
    Claim {
        /// The claim.
        claim: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Its `sub` makes no principal.
    #[error("the token's `sub` must have 1 to {SUB_BYTES_MAX} bytes without control characters")]
    Subject,
    /// It lives longer than its issuer's tokens may.
    #[error(
        "the token lives for {}; `max_token_life` is {}",
        humantime::format_duration(*.life),
        humantime::format_duration(*.max)
    )]
    LivesTooLong {
        /// From `iat`, or from now, to `exp`.
        life: Duration,
        /// The limit of its issuer.
        max: Duration,
    },
    /// A filter of `deny` cannot be filled, so it is not known what is denied.
    #[error("the deny filter `{0}` of the issuer's template has no value for this token")]
    VoidDeny(Box<str>),
    /// The certificate cannot be read.
    #[error("the certificate is malformed: {0}")]
    Certificate(&'static str),
    /// Its names do not name one caller.
    #[error("the certificate {0}")]
    CertificateNames(&'static str),
    /// None of its names is in the file.
    #[error("no entry is for the certificate's {kind} `{name}`")]
    UnknownCertificate {
        /// The kind of name that decides.
        kind: &'static str,
        /// The name.
        name: Shown,
    },
    /// Names of it stand in several entries.
    #[error("the certificate's DNS names stand in several entries")]
    SeveralEntries,
    /// The principal is in `revoked`.
    #[error("the principal `{0}` is revoked")]
    Revoked(Shown),
    /// The token's id is in `revoked`.
    #[error("the token with the id `{0}` is revoked")]
    RevokedToken(Shown),
    /// The auth file has no such entry.
    #[error("the auth file has no entry for `{0}`")]
    NoEntry(Shown),
    /// No key of the issuer is the one that signed the token.
    #[error("the issuer `{0}` no longer has the key of the token")]
    KeyGone(Box<str>),
    /// What was accepted is not accepted under newer rules.
    #[error("the credential is no longer accepted: {0}")]
    Withdrawn(Box<CredentialError>),
}

impl CredentialError {
    /// Whether the credential was good once and will not be again.
    pub fn is_revoked(&self) -> bool {
        matches!(
            self,
            Self::Revoked(_) | Self::RevokedToken(_) | Self::Withdrawn(_)
        )
    }

    /// Whether it was good once and has ended, by more than [`LEEWAY`](crate::LEEWAY).
    pub fn is_expired(&self) -> bool {
        matches!(self, Self::Expired(_))
    }
}
