//! Static tokens: `llt_NAME_SECRET`, where the secret is 32 random bytes in base64url.
//!
//! Holds: the auth file has the SHA-256 of a token only. Hashes are compared in constant time, and a name that is not known costs
//! the same comparison.

use std::fmt;

use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;

/// What a static token begins with.
const PREFIX: &str = "llt_";
/// The longest name of a token, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Of the secret.
const SECRET_BYTES: usize = 32;
/// What a name is made of.
pub(crate) const NAME_FORM: &str = "must have 1 to 64 of the characters A-Z a-z 0-9 -";

/// A new static token.
pub struct NewToken {
    /// For the caller, and for nobody else.
    token: String,
    /// For the auth file.
    sha256: [u8; 32],
}

impl NewToken {
    /// What is wrong with a name.
    pub fn check_name(name: &str) -> Result<(), String> {
        if is_name(name) {
            Ok(())
        } else {
            Err(NAME_FORM.to_owned())
        }
    }

    /// A token of that name, or what is wrong with the name.
    pub fn new(name: &str) -> Result<Self, String> {
        Self::check_name(name)?;
        let mut secret = [0; SECRET_BYTES];
        rand::fill(&mut secret).map_err(|_| "the system gave no random bytes".to_owned())?;
        let token = format!("{PREFIX}{name}_{}", URL_SAFE_NO_PAD.encode(secret));
        let sha256 = sha256(&token);
        Ok(Self { token, sha256 })
    }

    /// The token itself.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Its SHA-256, as the auth file has it.
    pub fn sha256(&self) -> String {
        let digits = self.sha256.iter().map(|byte| format!("{byte:02x}"));
        digits.collect()
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken").finish_non_exhaustive()
    }
}

/// Whether a token can have this name: without `_`, which ends it.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

/// Whether a credential is to be read as a static token.
pub(crate) fn is_static(token: &str) -> bool {
    token.starts_with(PREFIX)
}

/// The name in a static token.
pub(crate) fn name(token: &str) -> Option<&str> {
    let rest = token.strip_prefix(PREFIX)?;
    let (name, _) = rest.split_once('_')?;
    is_name(name).then_some(name)
}

/// Whether `token` has this hash. Without one it takes as long, and the answer is no.
pub(crate) fn is(token: &str, expected: Option<&[u8; 32]>) -> bool {
    const NOBODYS: [u8; 32] = [0; 32];
    let same = sha256(token).ct_eq(expected.unwrap_or(&NOBODYS));
    bool::from(same) && expected.is_some()
}

fn sha256(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    hash
}

/// 64 hexadecimal digits.
pub(crate) fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}
