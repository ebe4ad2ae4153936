//! What verifies signatures: a public key or a secret, and the one algorithm that it is for.
//!
//! Holds: RSA keys have at least 2048 bits, secrets at least 32 bytes. What cannot verify anything is refused.

use aws_lc_rs::{digest, signature};
use jsonwebtoken::DecodingKey;
use x509_parser::prelude::{FromDer as _, Pem};
use x509_parser::public_key::{PublicKey, RSAPublicKey};
use x509_parser::x509::SubjectPublicKeyInfo;

/// The shortest secret of HS256, in bytes: the length of what it hashes to (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;
/// RSA keys, in bits: RFC 7518, 3.3, and what the cryptography takes.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Exponents of RSA keys, in bits: 3 is the least, and the cryptography takes no larger ones.
const EXPONENT_BITS: std::ops::RangeInclusive<usize> = 2..=33;

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

impl Material {
    /// The one public key of a PEM file.
    pub(super) fn from_pem(content: &[u8]) -> Result<Self, String> {
        let mut blocks = Pem::iter_from_buffer(content);
        let block = match (blocks.next(), blocks.next()) {
            (Some(Ok(block)), None) => block,
            (Some(Ok(_)), Some(_)) => return Err("has more than one key".to_owned()),
            _ => return Err("is no PEM file".to_owned()),
        };
        let none = |_| "holds no public key".to_owned();
        match block.label.as_str() {
            "PUBLIC KEY" => {
                let parsed = SubjectPublicKeyInfo::from_der(&block.contents);
                let (_, key) = parsed.map_err(none)?;
                public(&key)
            }
            "RSA PUBLIC KEY" => {
                let parsed = RSAPublicKey::from_der(&block.contents);
                let (_, key) = parsed.map_err(none)?;
                Ok(rsa(&key))
            }
            "CERTIFICATE" => {
                let parsed = x509_parser::parse_x509_certificate(&block.contents);
                let (_, certificate) = parsed.map_err(none)?;
                public(certificate.public_key())
            }
            label if label.ends_with("PRIVATE KEY") => {
                Err("holds a private key; the server needs the public one".to_owned())
            }
            label => Err(format!("holds {label:?} and no PUBLIC KEY")),
        }
    }

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
    pub(super) fn check(&self) -> Result<(), String> {
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
                let fits = EXPONENT_BITS.contains(&self::bits(exponent));
                if !is_odd(modulus) || !is_odd(exponent) || !fits {
                    return Err("has an RSA key with an impossible number".to_owned());
                }
                Ok(())
            }
            Self::P256(point) => parsed(&signature::ECDSA_P256_SHA256_FIXED, point),
            Self::Ed25519(key) => parsed(&signature::ED25519, key),
        }
    }

    pub(super) fn decoding(&self) -> DecodingKey {
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
    pub(super) fn id(&self, algorithm: KeyAlgorithm) -> [u8; 32] {
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

/// The length of a positive number without leading zeros.
fn bits(number: &[u8]) -> usize {
    let first = number.first().map_or(0, |byte| byte.leading_zeros());
    number.len() * 8 - first as usize
}
