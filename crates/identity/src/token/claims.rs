//! The claims of a token that its key signed, each held against what is asked of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longlived_topic::is_token;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{LEEWAY, SUB_BYTES_MAX, grants, json};
use crate::error::CredentialError;
use crate::file::{Issuer, Key};
use crate::identity::{Said, Verified};

/// The end of the year 9999, the last that can be shown.
const SECONDS_MAX: u64 = 253_402_300_799;

/// All claims of a token.
pub(super) struct Claims(Map<String, Value>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::Object::deserialize(deserializer).map(|object| Self(object.0))
    }
}

pub(super) fn not_text(claim: &'static str) -> CredentialError {
    CredentialError::Claim {
        claim,
        problem: "is no text".to_owned(),
    }
}

impl Claims {
    /// What is kept of a token of this issuer, if it is good now.
    pub(super) fn verified(
        &self,
        issuer: &Issuer,
        key: &Key,
        now: SystemTime,
    ) -> Result<Verified, CredentialError> {
        let iss = self.text("iss")?;
        let iss = iss.ok_or(CredentialError::MissingClaim("iss"))?;
        let sub = self.text("sub")?;
        let sub = sub.ok_or(CredentialError::MissingClaim("sub"))?;
        let length = 1..=SUB_BYTES_MAX;
        if !length.contains(&sub.len()) || sub.chars().any(char::is_control) {
            return Err(CredentialError::Subject);
        }
        let audience = self.audience()?;
        let expires = self.time("exp")?;
        let expires = expires.ok_or(CredentialError::MissingClaim("exp"))?;
        let begins = self.begins(now)?;
        judge_times(expires, begins, issuer.max_token_life, now)?;
        let said = match grants::named(&self.0)? {
            Some(grants) => Said::Grants(grants),
            None => Said::Claims(self.for_templates()),
        };
        Ok(Verified {
            issuer: issuer.name.clone(),
            iss: iss.into(),
            key: key.id,
            sub: sub.into(),
            jti: self.text("jti")?.map(Into::into),
            audience,
            expires,
            begins,
            said,
        })
    }

    fn text(&self, claim: &'static str) -> Result<Option<&str>, CredentialError> {
        match self.0.get(claim) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(not_text(claim)),
        }
    }

    /// Seconds since 1970-01-01 UTC, as RFC 7519 has a NumericDate.
    fn time(&self, claim: &'static str) -> Result<Option<SystemTime>, CredentialError> {
        let Some(value) = self.0.get(claim) else {
            return Ok(None);
        };
        let seconds = match value {
            Value::Number(number) => number.as_u64().or_else(|| {
                let fraction = number.as_f64().filter(|it| *it >= 0.0);
                let seconds = fraction.map(|it| Duration::try_from_secs_f64(it).ok());
                seconds.flatten().map(|it| it.as_secs())
            }),
            _ => None,
        };
        let seconds = seconds.filter(|seconds| *seconds <= SECONDS_MAX);
        let seconds = seconds.ok_or_else(|| CredentialError::Claim {
            claim,
            problem: format!("is no number of seconds from 0 to {SECONDS_MAX}"),
        })?;
        Ok(UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
    }

    /// When the token began: its `iat`, or now.
    fn begins(&self, now: SystemTime) -> Result<SystemTime, CredentialError> {
        let issued = self.time("iat")?;
        for (claim, begins) in [("nbf", self.time("nbf")?), ("iat", issued)] {
            // One from the future would not have to live long to end late.
            let begins = begins.filter(|begins| *begins > now + LEEWAY);
            if let Some(begins) = begins {
                return Err(CredentialError::NotYetValid { claim, begins });
            }
        }
        Ok(issued.unwrap_or(now))
    }

    fn audience(&self) -> Result<Box<[Box<str>]>, CredentialError> {
        let text = |value: &Value| value.as_str().map(Into::into);
        let texts = match self.0.get("aud") {
            None => return Err(CredentialError::MissingClaim("aud")),
            Some(Value::Array(list)) => list.iter().map(text).collect(),
            Some(one) => text(one).map(|one: Box<str>| [one].into()),
        };
        texts.ok_or_else(|| CredentialError::Claim {
            claim: "aud",
            problem: "is neither a text nor a list of texts".to_owned(),
        })
    }

    /// The claims that a placeholder can be filled with, now or under a later template.
    fn for_templates(&self) -> Box<[(Box<str>, Box<str>)]> {
        let fit = |(name, value): (&String, &Value)| -> Option<(Box<str>, Box<str>)> {
            let value = value.as_str().filter(|value| is_token(value))?;
            Some((name.as_str().into(), value.into()))
        };
        self.0.iter().filter_map(fit).collect()
    }
}

/// Whether a token is good now, and lives no longer than it may.
pub(crate) fn judge_times(
    expires: SystemTime,
    begins: SystemTime,
    max: Duration,
    now: SystemTime,
) -> Result<(), CredentialError> {
    if now >= expires + LEEWAY {
        return Err(CredentialError::Expired(expires));
    }
    let life = expires.duration_since(begins).unwrap_or_default();
    if life > max {
        return Err(CredentialError::LivesTooLong {
            life: Duration::from_secs(life.as_secs()),
            max,
        });
    }
    Ok(())
}
