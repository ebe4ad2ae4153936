//! A JWT, from its text to what was verified of it.
//!
//! Holds: the token's `iss` chooses the issuer, and its `kid` one of that issuer's keys, before the signature is checked; nothing else
//! of it is used before. The algorithm is the key's. Times are held against the clock that the caller gives.

mod claims;
mod grants;
mod json;

use std::time::{Duration, SystemTime};

use jsonwebtoken::errors::ErrorKind;
use serde::Deserialize;

use crate::error::CredentialError;
use crate::file::{Issuer, Issuers, Key};
use crate::identity::Verified;
use crate::shown::Shown;
use claims::Claims;

pub(crate) use claims::judge_times;

/// The largest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;
/// The longest `sub`, in bytes.
pub const SUB_BYTES_MAX: usize = 256;
/// How far clocks may differ: a token is good this long after its `exp`, and before its `nbf`.
pub const LEEWAY: Duration = Duration::from_secs(30);
/// How long a token may live where its issuer's entry does not say.
pub const MAX_TOKEN_LIFE_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// What is read of the first part of a token before its signature is checked.
#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
}

/// What is read of the second part before the signature is checked.
#[derive(Deserialize)]
struct Issued {
    iss: Option<json::Unchecked>,
}

/// What the token says, if a key of its issuer signed it and it is good now.
pub(crate) fn verify(
    token: &str,
    issuers: &Issuers,
    now: SystemTime,
) -> Result<Verified, CredentialError> {
    let mut parts = token.split('.');
    let (Some(head), Some(claims), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        let problem = "it is neither a JWT, which has three parts, nor a static token";
        return Err(CredentialError::Malformed(problem));
    };
    let head: Head = json::part(head).ok_or(CredentialError::Malformed(
        "its first part is no header of a JWT",
    ))?;
    let unverified: Issued = json::part(claims).ok_or(CredentialError::Malformed(
        "its second part is no set of claims",
    ))?;
    let iss = match unverified.iss {
        Some(json::Unchecked::Text(iss)) => iss,
        Some(json::Unchecked::Other(_)) => return Err(claims::not_text("iss")),
        None => return Err(CredentialError::MissingClaim("iss")),
    };
    let unknown = || CredentialError::UnknownIssuer(Shown::from(&*iss));
    let issuer = issuers.of_iss(&iss).ok_or_else(unknown)?;
    let key = issuer.key(head.kid.as_deref())?;
    if head.alg != key.algorithm.name() {
        return Err(CredentialError::Algorithm {
            given: Shown::from(&*head.alg),
            expected: key.algorithm.name(),
        });
    }
    let decoded = jsonwebtoken::decode::<Claims>(token, &key.decoding, &key.validation);
    let claims = decoded.map_err(|error| refused(&error))?.claims;
    claims.verified(issuer, key, now)
}

impl Issuer {
    /// The key that a token names, or the only one.
    fn key(&self, kid: Option<&str>) -> Result<&Key, CredentialError> {
        match (kid, &self.keys[..]) {
            (None, [only]) => Ok(only),
            (None, _) => Err(CredentialError::NoKeyNamed((*self.name).into())),
            (Some(kid), keys) => {
                let mut keys = keys.iter();
                let named = keys.find(|key| key.kid.as_deref() == Some(kid));
                named.ok_or_else(|| CredentialError::UnknownKey {
                    issuer: (*self.name).into(),
                    kid: Shown::from(kid),
                })
            }
        }
    }
}

/// What the library says, in our words: its own quote the token.
fn refused(error: &jsonwebtoken::errors::Error) -> CredentialError {
    match error.kind() {
        ErrorKind::InvalidSignature => CredentialError::Signature,
        ErrorKind::InvalidAudience => CredentialError::Audience,
        ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
            "aud" => CredentialError::MissingClaim("aud"),
            "exp" => CredentialError::MissingClaim("exp"),
            "iss" => CredentialError::MissingClaim("iss"),
            _ => CredentialError::MissingClaim("sub"),
        },
        ErrorKind::InvalidClaimFormat(_) | ErrorKind::InvalidIssuer => {
            CredentialError::Malformed("a claim is of the wrong kind")
        }
        ErrorKind::Json(_) => CredentialError::Malformed(
            "its claims are no JSON object, or have a name twice, or one of them is of the wrong kind",
        ),
        _ => CredentialError::Malformed("its header or its encoding is not that of a JWT"),
    }
}
