//! Reads the auth file, and the key files that it names.
//!
//! Holds: a key that is not known is refused, at every depth. Every list and table has a limit. All that was read is in the
//! fingerprint.

mod entries;
mod fields;
mod issuer;
mod jwks;
mod keys;
mod material;
mod quotas;
mod rule_set;

use std::io::{self, Read as _};
use std::path::Path;

use aws_lc_rs::digest;
use toml::Table;

pub(crate) use entries::{Certificates, Names, Revoked, StaticToken};
pub(crate) use issuer::{Issuer, Issuers};
pub(crate) use keys::Key;

use crate::error::AuthFileError;
use crate::quotas::Quotas;
use crate::rules::AuthRules;
use fields::{Fields, bad};

/// The largest auth file, in bytes.
pub const AUTH_FILE_BYTES_MAX: usize = 16 << 20;
/// The largest file of keys, in bytes.
pub const KEY_FILE_BYTES_MAX: usize = 1 << 20;
/// Entries of one table, or of one list of `revoked`.
pub const ENTRIES_MAX: usize = 10_000;
/// Topic filters of one `allow` or `deny`.
pub const FILTERS_MAX: usize = 64;
/// Keys of one issuer.
pub const KEYS_MAX: usize = 64;

/// The files that an auth file names.
pub(super) struct KeyFiles<'a> {
    load: &'a mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    fingerprint: digest::Context,
}

impl KeyFiles<'_> {
    /// What the file at `path` holds; `at` is the key that names it.
    fn content(&mut self, at: &str, path: &str) -> Result<Vec<u8>, AuthFileError> {
        self.content_of(at, path, path)
    }

    /// The same of a file with a secret. Its name is not shown: somebody may have put the secret itself in its place.
    fn secret(&mut self, at: &str, path: &str) -> Result<Vec<u8>, AuthFileError> {
        self.content_of(at, path, "the file of the secret")
    }

    /// What the file at `path` holds. Where there is no such file, the error calls it `shown`.
    fn content_of(&mut self, at: &str, path: &str, shown: &str) -> Result<Vec<u8>, AuthFileError> {
        let problem = |path: &str, problem: String| AuthFileError::KeyFile {
            at: at.to_owned(),
            path: path.into(),
            problem,
        };
        let content = (self.load)(Path::new(path));
        let content = content.map_err(|error| problem(shown, error.to_string()))?;
        if content.len() > KEY_FILE_BYTES_MAX {
            let too_large = format!("is larger than {KEY_FILE_BYTES_MAX} bytes");
            return Err(problem(path, too_large));
        }
        for part in [path.as_bytes(), &content] {
            add(&mut self.fingerprint, part);
        }
        Ok(content)
    }
}

/// With its length, so that two parts cannot be shifted against each other.
fn add(fingerprint: &mut digest::Context, part: &[u8]) {
    fingerprint.update(&(part.len() as u64).to_le_bytes());
    fingerprint.update(part);
}

impl AuthRules {
    /// Reads the file, and the files that it names, from its folder if they are relative.
    pub fn read(path: &Path) -> Result<Self, AuthFileError> {
        let failed = |error| AuthFileError::Read {
            path: path.to_owned(),
            error,
        };
        let text = bounded(path, AUTH_FILE_BYTES_MAX).map_err(failed)?;
        let text = String::from_utf8(text).map_err(|_| AuthFileError::Content {
            problem: "the auth file is not UTF-8".to_owned(),
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, &mut |named| {
            bounded(&folder.join(named), KEY_FILE_BYTES_MAX)
        })
    }

    /// Reads the text of an auth file; `load` gives what the files hold that it names.
    pub fn parse(
        text: &str,
        load: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Self, AuthFileError> {
        if text.len() > AUTH_FILE_BYTES_MAX {
            return Err(AuthFileError::Content {
                problem: format!("the auth file is larger than {AUTH_FILE_BYTES_MAX} bytes"),
            });
        }
        let table: Table = toml::from_str(text).map_err(|error| syntax(text, &error))?;
        let mut fingerprint = digest::Context::new(&digest::SHA256);
        add(&mut fingerprint, text.as_bytes());
        let mut files = KeyFiles { load, fingerprint };

        let known = [
            "anonymous",
            "revoked",
            "issuers",
            "tokens",
            "certificates",
            "unix",
            "quotas",
        ];
        let mut fields = Fields::new(String::new(), table, &known)?;
        let anonymous = match fields.table("anonymous", &["publish", "subscribe"])? {
            Some(mut fields) => Some(rule_set::plain(&mut fields)?),
            None => None,
        };
        let quotas = quotas::read(&mut fields, Quotas::DEFAULT)?;
        let issuers = issuer::read(fields.entries("issuers")?, &mut files, quotas)?;
        let revoked = entries::revoked(&mut fields, &issuers)?;
        let rules = Self {
            anonymous,
            revoked,
            issuers,
            tokens: entries::tokens(fields.entries("tokens")?)?,
            certificates: entries::certificates(fields.entries("certificates")?)?,
            unix: entries::unix(fields.entries("unix")?)?,
            quotas,
            fingerprint: [0; 32],
        };
        let fingerprint = files.fingerprint.finish();
        Ok(rules.with_fingerprint(fingerprint.as_ref()))
    }
}

/// What a file holds; an error if that is more than `bytes_max`.
fn bounded(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    let mut content = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(bytes_max as u64 + 1).read_to_end(&mut content)?;
    if content.len() > bytes_max {
        let problem = format!("is larger than {bytes_max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(content)
}

/// The line and the mistake, without the text of the line.
fn syntax(text: &str, error: &toml::de::Error) -> AuthFileError {
    let begin = error.span().map_or(0, |span| span.start);
    let before = text.get(..begin).unwrap_or_default();
    AuthFileError::Syntax {
        line: 1 + before.matches('\n').count(),
        problem: error.message().replace('\n', ", "),
    }
}

/// A limit of a list or a table.
fn within(at: &str, count: usize, max: usize, what: &str) -> Result<(), AuthFileError> {
    if count > max {
        let problem = format!("has {count} {what}; at most {max} are allowed");
        return Err(bad(at, problem));
    }
    Ok(())
}
