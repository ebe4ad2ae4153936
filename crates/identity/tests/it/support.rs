//! An auth file with its key files, and tokens for it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longlived_authorize::{Action, Subject, authorize};
use longlived_identity::{AuthFileError, AuthRules, CredentialError, Identity};
use longlived_topic::TopicFilter;
use serde_json::{Value, json};

use crate::sign::Signer;

/// The `iss` of the issuer `acme`.
pub(crate) const ACME: &str = "https://id.acme.example";
/// Now, in seconds since 1970.
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) fn now() -> SystemTime {
    at(NOW)
}

pub(crate) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// The files that an auth file names.
#[derive(Clone, Default)]
pub(crate) struct Files(BTreeMap<PathBuf, Vec<u8>>);

impl Files {
    pub(crate) fn of<const N: usize>(files: [(&str, Vec<u8>); N]) -> Self {
        let files = files.into_iter();
        Self(
            files
                .map(|(path, content)| (path.into(), content))
                .collect(),
        )
    }

    pub(crate) fn parse(&self, text: &str) -> Result<AuthRules, AuthFileError> {
        AuthRules::parse(text, &mut |path: &Path| {
            let content = self.0.get(path).cloned();
            content.ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }
}

/// A JWK Set with these keys.
pub(crate) fn jwks(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into()
}

/// The rules of a file without key files.
pub(crate) fn parse(text: &str) -> AuthRules {
    Files::default().parse(text).unwrap()
}

/// What a file is refused for.
pub(crate) fn refused(text: &str) -> String {
    Files::default().parse(text).unwrap_err().to_string()
}

/// One issuer, `acme`, with the key of `signer`, and `more` behind its keys.
pub(crate) fn acme(signer: &Signer, more: &str) -> AuthRules {
    try_acme(signer, more).unwrap()
}

pub(crate) fn try_acme(signer: &Signer, more: &str) -> Result<AuthRules, AuthFileError> {
    let files = Files::of([("acme.json", jwks(&[signer.jwk(Some("k"))]))]);
    files.parse(&format!(
        "[issuers.acme]\nissuer = \"{ACME}\"\naudience = \"longlived\"\nkeys = [{{ jwks = \"acme.json\" }}]\n{more}"
    ))
}

/// Good claims for `acme`, changed by `more`; `null` removes one.
pub(crate) fn claims(more: &Value) -> Value {
    let mut claims = json!({
        "iss": ACME, "aud": "longlived", "sub": "bob", "iat": NOW - 10, "exp": NOW + 3600,
    });
    for (name, value) in more.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// What the rules of `acme` make of these claims.
pub(crate) fn judged(
    rules: &AuthRules,
    signer: &Signer,
    more: &Value,
) -> Result<Identity, CredentialError> {
    rules.bearer(&signer.token(Some("k"), &claims(more)), now())
}

pub(crate) fn may(identity: &Identity, action: Action, filter: &str) -> bool {
    let filter = TopicFilter::parse(filter).unwrap();
    authorize(&identity.grants, action, Subject::Filter(&filter)).is_ok()
}

pub(crate) fn may_follow(identity: &Identity, filter: &str) -> bool {
    may(identity, Action::Subscribe, filter)
}
