//! The keys of an issuer: from JWKS files, PEM files and files with a secret.
//!
//! Holds: a key has one algorithm, whatever a token says. RSA keys have at least 2048 bits, secrets at least 32 bytes. A key that
//! cannot verify anything is refused when the file is read.

use std::collections::HashSet;

use aws_lc_rs::{digest, signature};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use toml::Value;
use x509_parser::prelude::{FromDer as _, Pem};
use x509_parser::public_key::{PublicKey, RSAPublicKey};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::fields::{Fields, bad};
use super::{KEYS_MAX, KeyFiles, jwks, within};
use crate::error::AuthFileError;

/// The shortest secret of HS256, in bytes: the length of what it hashes to (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;
/// RSA keys, in bits: RFC 7518, 3.3, and what the cryptography takes.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The algorithms of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyAlgorithm {
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

impl KeyAlgorithm {
    pub(super) const NAMES: [&str; 4] = ["HS256", "RS256", "ES256", "EdDSA"];

    pub(super) fn named(name: &str) -> Option<Self> {
        let all = [Self::Hs256, Self::Rs256, Self::Es256, Self::EdDsa];
        all.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// As the `alg` of a token names it.
    pub(crate) fn name(self) -> &'static str {
        let [hs256, rs256, es256, eddsa] = Self::NAMES;
        match self {
            Self::Hs256 => hs256,
            Self::Rs256 => rs256,
            Self::Es256 => es256,
            Self::EdDsa => eddsa,
        }
    }
}

/// What verifies a signature.
pub(super) enum Material {
    Secret(Vec<u8>),
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

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
            let found = pem(&content).and_then(|key| of_algorithm(algorithm, key));
            (path, found.map(|key| vec![(kid, key)]))
        }
        [None, None, Some(path)] => {
            let algorithm = algorithm_of(&[KeyAlgorithm::Hs256])?;
            let content = files.content(at, &path)?;
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

/// The one public key of a PEM file.
fn pem(content: &[u8]) -> Result<Material, String> {
    let mut blocks = Pem::iter_from_buffer(content);
    let block = match (blocks.next(), blocks.next()) {
        (Some(Ok(block)), None) => block,
        (Some(Ok(_)), Some(_)) => return Err("has more than one key".to_owned()),
        _ => return Err("is no PEM file".to_owned()),
    };
    match block.label.as_str() {
        "PUBLIC KEY" => {
            let parsed = SubjectPublicKeyInfo::from_der(&block.contents);
            let (_, key) = parsed.map_err(|_| "holds no public key".to_owned())?;
            public(&key)
        }
        "RSA PUBLIC KEY" => {
            let parsed = RSAPublicKey::from_der(&block.contents);
            let (_, key) = parsed.map_err(|_| "holds no public key".to_owned())?;
            Ok(rsa(&key))
        }
        "CERTIFICATE" => {
            let parsed = x509_parser::parse_x509_certificate(&block.contents);
            let (_, certificate) = parsed.map_err(|_| "holds no certificate".to_owned())?;
            public(certificate.public_key())
        }
        label if label.ends_with("PRIVATE KEY") => {
            Err("holds a private key; the server needs the public one".to_owned())
        }
        label => Err(format!("holds {label:?} and no PUBLIC KEY")),
    }
}

fn public(key: &SubjectPublicKeyInfo<'_>) -> Result<Material, String> {
    const P256: &str = "1.2.840.10045.3.1.7";
    const ED25519: &str = "1.3.101.112";
    let of_another_kind = || "is no key of RSA, P-256 or Ed25519".to_owned();
    let parsed = key.parsed().map_err(|_| of_another_kind())?;
    let curve = key.algorithm.parameters.as_ref();
    let curve = curve.and_then(|curve| curve.as_oid().ok());
    let id = key.algorithm.algorithm.to_id_string();
    match parsed {
        PublicKey::RSA(key) => Ok(rsa(&key)),
        PublicKey::EC(point) if curve.is_some_and(|curve| curve.to_id_string() == P256) => {
            Ok(Material::P256(point.data().to_vec()))
        }
        PublicKey::Unknown(bytes) if id == ED25519 => Ok(Material::Ed25519(bytes.to_vec())),
        _ => Err(of_another_kind()),
    }
}

fn rsa(key: &RSAPublicKey<'_>) -> Material {
    let positive = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        number[zeros..].to_vec()
    };
    Material::Rsa {
        modulus: positive(key.modulus),
        exponent: positive(key.exponent),
    }
}

impl Material {
    /// The algorithm that it is for, where it does not say.
    pub(super) fn algorithm(&self) -> KeyAlgorithm {
        match self {
            Self::Secret(_) => KeyAlgorithm::Hs256,
            Self::Rsa { .. } => KeyAlgorithm::Rs256,
            Self::P256(_) => KeyAlgorithm::Es256,
            Self::Ed25519(_) => KeyAlgorithm::EdDsa,
        }
    }

    /// Whether it is long enough, and a key at all.
    fn check(&self) -> Result<(), String> {
        let parsed = |algorithm: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            let key = signature::ParsedPublicKey::new(algorithm, key);
            key.map(drop).map_err(|_| "is no public key".to_owned())
        };
        match self {
            Self::Secret(secret) if secret.len() < SECRET_BYTES_MIN => {
                let bytes = secret.len();
                Err(format!(
                    "has a secret of {bytes} bytes; at least {SECRET_BYTES_MIN} are needed"
                ))
            }
            Self::Secret(_) => Ok(()),
            Self::Rsa { modulus, exponent } => {
                let bits = bits(modulus);
                if !RSA_BITS.contains(&bits) {
                    let (min, max) = (RSA_BITS.start(), RSA_BITS.end());
                    return Err(format!(
                        "has an RSA key of {bits} bits; {min} to {max} are allowed"
                    ));
                }
                let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
                if !is_odd(modulus) || !is_odd(exponent) || bits_of_exponent(exponent) < 2 {
                    return Err("has an RSA key with an impossible number".to_owned());
                }
                Ok(())
            }
            Self::P256(point) => parsed(&signature::ECDSA_P256_SHA256_FIXED, point),
            Self::Ed25519(key) => parsed(&signature::ED25519, key),
        }
    }

    fn decoding(&self) -> DecodingKey {
        match self {
            Self::Secret(secret) => DecodingKey::from_secret(secret).expect("it is not empty"),
            Self::Rsa { modulus, exponent } => {
                DecodingKey::from_rsa_raw_components(modulus, exponent)
            }
            Self::P256(point) => DecodingKey::from_ec_der(point),
            Self::Ed25519(key) => DecodingKey::from_ed_der(key),
        }
    }

    /// Tells it from every other one.
    fn id(&self, algorithm: KeyAlgorithm) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        let parts: [&[u8]; 3] = match self {
            Self::Secret(key) | Self::P256(key) | Self::Ed25519(key) => {
                [algorithm.name().as_bytes(), key, &[]]
            }
            Self::Rsa { modulus, exponent } => [algorithm.name().as_bytes(), modulus, exponent],
        };
        for part in parts {
            super::add(&mut context, part);
        }
        let mut id = [0; 32];
        id.copy_from_slice(context.finish().as_ref());
        id
    }
}

/// The length of a positive number without leading zeros.
fn bits(number: &[u8]) -> usize {
    let first = number.first().map_or(0, |byte| byte.leading_zeros());
    number.len() * 8 - first as usize
}

fn bits_of_exponent(exponent: &[u8]) -> usize {
    bits(exponent)
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
