//! The tokens that the callers of a load bring, and the issuer of those that are signed.
//!
//! Holds: every JWT is for one caller. Tokens last longer than any measurement.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

pub(super) const ISSUER: &str = "https://bench.invalid";
pub(super) const AUDIENCE: &str = "longlived";
pub(super) const KEY_ID: &str = "bench";
/// The name of the caller that publishes.
pub(super) const PUBLISHER: &str = "publisher";
/// No measurement is longer, and no issuer may say more without a word in the auth file.
const LIFE_SECONDS: u64 = 24 * 60 * 60;

/// Where the tokens of a load come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TokenPlan {
    /// All callers bring this one.
    Static(String),
    /// Each brings one of its own, signed with this key (PKCS #8, in PEM).
    Es256(String),
}

/// Makes the tokens of one load process.
pub(super) enum TokenSource {
    Static(String),
    Signer(Box<Signer>),
}

pub(super) struct Signer {
    key: EncodingKey,
    header: Header,
    now: u64,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    iat: u64,
    exp: u64,
}

impl TokenSource {
    pub(super) fn new(plan: &TokenPlan) -> anyhow::Result<Self> {
        let key = match plan {
            TokenPlan::Static(token) => return Ok(Self::Static(token.clone())),
            TokenPlan::Es256(pem) => PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()),
        };
        let key = key.context("the key that signs tokens")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Self::Signer(Box::new(Signer {
            key: EncodingKey::from_ec_der(key.secret_pkcs8_der()),
            header: Header {
                kid: Some(KEY_ID.to_owned()),
                ..Header::new(Algorithm::ES256)
            },
            now: now.context("the clock")?.as_secs(),
        })))
    }

    /// That of a caller.
    pub(super) fn token(&self, caller: &str) -> anyhow::Result<String> {
        match self {
            Self::Static(token) => Ok(token.clone()),
            Self::Signer(signer) => signer.sign(caller),
        }
    }
}

impl Signer {
    fn sign(&self, caller: &str) -> anyhow::Result<String> {
        let claims = Claims {
            iss: ISSUER,
            aud: AUDIENCE,
            sub: caller,
            iat: self.now,
            exp: self.now + LIFE_SECONDS,
        };
        encode(&self.header, &claims, &self.key).context("signing a token")
    }
}
