//! A JWK Set (RFC 7517).
//!
//! Holds: keys for other uses, and of kinds or algorithms that are not known, are left out, as RFC 7517, 5 has it. Private keys are
//! refused: a server that verifies has no use for them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::keys::NamedKey;
use super::material::{KeyAlgorithm, Material};

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

/// What is read of a key.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    k: Option<String>,
    d: Option<serde::de::IgnoredAny>,
}

pub(super) fn read(content: &[u8]) -> Result<Vec<NamedKey>, String> {
    let set: Set = serde_json::from_slice(content).map_err(|error| {
        // The library's text names the kind of a value and may quote it, which could be a secret.
        format!(
            "is no JWK Set: line {}, column {}",
            error.line(),
            error.column()
        )
    })?;
    let mut keys = Vec::new();
    for (index, jwk) in set.keys.into_iter().enumerate() {
        let name = match &jwk.kid {
            Some(kid) => format!("the key {kid:?}"),
            None => format!("the key at place {index}"),
        };
        let key = jwk.key().map_err(|problem| format!("{name} {problem}"))?;
        if let Some(key) = key {
            keys.push((jwk.kid, key));
        }
    }
    if keys.is_empty() {
        let names = KeyAlgorithm::NAMES.join(", ");
        return Err(format!("has no key that verifies signatures of {names}"));
    }
    Ok(keys)
}

impl Jwk {
    /// `None` for a key that is for something else.
    fn key(&self) -> Result<Option<(KeyAlgorithm, Material)>, String> {
        let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
        let is_used = self.used_for.as_ref().is_none_or(|it| it == "sig")
            && self.key_ops.as_ref().is_none_or(verifies);
        if !is_used {
            return Ok(None);
        }
        if self.d.is_some() {
            return Err("is a private key; the server needs the public one".to_owned());
        }
        let algorithm = match self.alg.as_deref() {
            Some(alg) => match KeyAlgorithm::named(alg) {
                Some(algorithm) => Some(algorithm),
                None => return Ok(None),
            },
            None => None,
        };
        let material = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Material::Rsa {
                modulus: number("n", self.n.as_ref())?,
                exponent: number("e", self.e.as_ref())?,
            },
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes("x", self.x.as_ref())?, bytes("y", self.y.as_ref())?);
                if x.len() != 32 || y.len() != 32 {
                    return Err("has an `x` or `y` that is not of 32 bytes".to_owned());
                }
                Material::P256([&[4][..], &x, &y].concat())
            }
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x", self.x.as_ref())?),
            ("oct", _) if algorithm.is_none() => {
                return Err("is a secret, which needs an `alg`".to_owned());
            }
            ("oct", _) => Material::Secret(bytes("k", self.k.as_ref())?),
            _ => return Ok(None),
        };
        match algorithm {
            Some(algorithm) if algorithm != material.algorithm() => {
                let kind = &self.kty;
                Err(format!(
                    "is of kind {kind}, which is not for its `alg` {}",
                    algorithm.name()
                ))
            }
            _ => Ok(Some((material.algorithm(), material))),
        }
    }
}

fn bytes(name: &str, text: Option<&String>) -> Result<Vec<u8>, String> {
    let text = text.ok_or_else(|| format!("has no `{name}`"))?;
    let decoded = URL_SAFE_NO_PAD.decode(text);
    decoded.map_err(|_| format!("has a `{name}` that is no base64url"))
}

/// A positive number without leading zeros.
fn number(name: &str, text: Option<&String>) -> Result<Vec<u8>, String> {
    let mut number = bytes(name, text)?;
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.drain(..zeros);
    Ok(number)
}
