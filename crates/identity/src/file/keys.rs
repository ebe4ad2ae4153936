//! The keys of an issuer: from JWKS files, PEM files and files with a secret.
//!
//! Holds: a key has one algorithm, whatever a token says. Of one issuer no two have the same `kid`, and where there are several, each has
//! one.

use std::collections::HashSet;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use toml::Value;

use super::fields::{Fields, bad};
use super::material::{KeyAlgorithm, Material};
use super::{KEYS_MAX, KeyFiles, jwks, within};
use crate::error::AuthFileError;

/// One key of an issuer.
pub(crate) struct Key {
    pub(crate) kid: Option<Box<str>>,
    pub(crate) algorithm: KeyAlgorithm,
    pub(crate) decoding: DecodingKey,
    /// What a token must say beside its signature; times are not among it.
    pub(crate) validation: Validation,
    /// Tells it from every other key, under whatever `kid`.
    pub(crate) id: [u8; 32],
}

pub(super) fn read(
    fields: &mut Fields,
    files: &mut KeyFiles<'_>,
    iss: &str,
    audience: &[String],
) -> Result<Box<[Key]>, AuthFileError> {
    let at = fields.at_key("keys");
    let list = fields.list("keys", KEYS_MAX)?;
    let list = list.ok_or_else(|| bad(fields.at(), "needs `keys`"))?;
    let mut keys = Vec::new();
    for (index, value) in list.into_iter().enumerate() {
        let at = format!("{at}[{index}]");
        entry(&at, value, files, &mut keys)?;
    }
    within(&at, keys.len(), KEYS_MAX, "keys")?;
    if keys.is_empty() {
        return Err(bad(&at, "has no key"));
    }
    let mut kids = HashSet::new();
    for (kid, _) in &keys {
        match kid {
            None if keys.len() > 1 => {
                let problem = "has several keys, so each needs a `kid`";
                return Err(bad(&at, problem));
            }
            Some(kid) if !kids.insert(kid) => {
                return Err(bad(&at, format!("has the `kid` {kid:?} twice")));
            }
            _ => {}
        }
    }
    let key = |(kid, (algorithm, material)): NamedKey| {
        Key::new(kid.map(Into::into), algorithm, &material, iss, audience)
    };
    Ok(keys.into_iter().map(key).collect())
}

/// The `kid`, and what it names.
pub(super) type NamedKey = (Option<String>, (KeyAlgorithm, Material));

/// One entry of `keys`: a key, or a JWKS file with several.
fn entry(
    at: &str,
    value: Value,
    files: &mut KeyFiles<'_>,
    keys: &mut Vec<NamedKey>,
) -> Result<(), AuthFileError> {
    let known = ["jwks", "kid", "algorithm", "pem", "secret"];
    let mut fields = Fields::of(at.to_owned(), value, &known)?;
    let kid = fields.text("kid")?;
    let algorithm = fields.text("algorithm")?;
    let sources = [
        fields.text("jwks")?,
        fields.text("pem")?,
        fields.text("secret")?,
    ];
    let algorithm_of = |allowed: &[KeyAlgorithm]| {
        let names: Vec<_> = allowed.iter().map(|it| it.name()).collect();
        let given = algorithm.as_deref();
        let given = given.and_then(KeyAlgorithm::named);
        given.filter(|it| allowed.contains(it)).ok_or_else(|| {
            let problem = format!("must be one of {}", names.join(", "));
            bad(&format!("{at}.algorithm"), problem)
        })
    };
    let (path, found) = match sources {
        [Some(path), None, None] => {
            if kid.is_some() || algorithm.is_some() {
                let problem = "has `kid` and `algorithm` in the keys of its `jwks` file";
                return Err(bad(at, problem));
            }
            let content = files.content(at, &path)?;
            let found = jwks::read(&content);
            (path, found)
        }
        [None, Some(path), None] => {
            use KeyAlgorithm::{EdDsa, Es256, Rs256};
            let algorithm = algorithm_of(&[Rs256, Es256, EdDsa])?;
            let content = files.content(at, &path)?;
            let found = Material::from_pem(&content).and_then(|key| of_algorithm(algorithm, key));
            (path, found.map(|key| vec![(kid, key)]))
        }
        [None, None, Some(path)] => {
            let algorithm = algorithm_of(&[KeyAlgorithm::Hs256])?;
            let content = files.secret(at, &path)?;
            let key = Material::Secret(without_line_break(content));
            (path, Ok(vec![(kid, (algorithm, key))]))
        }
        _ => return Err(bad(at, "needs exactly one of `jwks`, `pem` and `secret`")),
    };
    let problem = |problem| AuthFileError::KeyFile {
        at: at.to_owned(),
        path: path.clone().into(),
        problem,
    };
    let found = found.map_err(problem)?;
    for (_, (_, material)) in &found {
        material.check().map_err(problem)?;
    }
    keys.extend(found);
    Ok(())
}

fn of_algorithm(
    algorithm: KeyAlgorithm,
    key: Material,
) -> Result<(KeyAlgorithm, Material), String> {
    if key.algorithm() == algorithm {
        return Ok((algorithm, key));
    }
    let is = key.algorithm().name();
    Err(format!("is a key of {is} and not of {}", algorithm.name()))
}

/// Editors end a file with a line break, which is no part of the secret.
fn without_line_break(mut secret: Vec<u8>) -> Vec<u8> {
    if secret.ends_with(b"\n") {
        secret.pop();
    }
    if secret.ends_with(b"\r") {
        secret.pop();
    }
    secret
}

impl Key {
    fn new(
        kid: Option<Box<str>>,
        algorithm: KeyAlgorithm,
        material: &Material,
        iss: &str,
        audience: &[String],
    ) -> Self {
        let mut validation = Validation::new(match algorithm {
            KeyAlgorithm::Hs256 => Algorithm::HS256,
            KeyAlgorithm::Rs256 => Algorithm::RS256,
            KeyAlgorithm::Es256 => Algorithm::ES256,
            KeyAlgorithm::EdDsa => Algorithm::EdDSA,
        });
        validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
        validation.set_issuer(&[iss]);
        validation.set_audience(audience);
        // Times are held against a clock that is given, and the library asks the machine's.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Self {
            kid,
            algorithm,
            decoding: material.decoding(),
            validation,
            id: material.id(algorithm),
        }
    }
}
