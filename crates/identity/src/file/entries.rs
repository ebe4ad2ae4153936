//! The entries of the auth file that are no issuers: what is revoked, static tokens, certificates and Unix users.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use longlived_authorize::Grants;
use toml::Value;
use toml::value::{Datetime, Offset};

use super::fields::{Entry, Fields, bad, hint, kind};
use super::issuer::{Issuers, KINDS, is_issuer_name};
use super::{ENTRIES_MAX, rule_set};
use crate::certificate::{NameKind, problem_of};
use crate::error::AuthFileError;
use crate::static_token;

/// The longest name of a certificate's entry, in bytes.
const CERTIFICATE_NAME_BYTES_MAX: usize = 64;

/// What is revoked.
#[derive(Default)]
pub(crate) struct Revoked {
    pub(crate) principals: HashSet<Box<str>>,
    /// `ISSUER/jti`
    pub(crate) token_ids: HashSet<Box<str>>,
}

pub(super) fn revoked(fields: &mut Fields, issuers: &Issuers) -> Result<Revoked, AuthFileError> {
    let Some(mut fields) = fields.table("revoked", &["principals", "token_ids"])? else {
        return Ok(Revoked::default());
    };
    let mut lists = [HashSet::new(), HashSet::new()];
    for (name, list) in ["principals", "token_ids"].iter().zip(&mut lists) {
        let at = fields.at_key(name);
        for text in fields.texts(name, ENTRIES_MAX)?.unwrap_or_default() {
            let problem = match (text.split_once('/'), *name) {
                (Some((_, "")) | None, _) if text == "anonymous" => {
                    Some("is revoked by removing `[anonymous]`".to_owned())
                }
                (Some((_, "")) | None, "principals") => {
                    Some("must be ISSUER/SUB, cert/NAME, token/NAME or unix/UID".to_owned())
                }
                (Some((_, "")) | None, _) => Some("must be ISSUER/JTI".to_owned()),
                (Some(("cert" | "token" | "unix", _)), "principals") => None,
                (Some((issuer, _)), _) if issuers.named(issuer).is_some() => None,
                // Else a slip would revoke nobody.
                (Some((issuer, _)), _) if is_issuer_name(issuer) && !KINDS.contains(&issuer) => {
                    let names: Vec<_> = issuers.names().collect();
                    Some(format!(
                        "has no issuer in this file; {}",
                        hint(issuer, &names)
                    ))
                }
                _ => Some("does not begin with the name of an issuer".to_owned()),
            };
            if let Some(problem) = problem {
                return Err(bad(&at, format!("{text:?} {problem}")));
            }
            list.insert(text.into());
        }
    }
    let [principals, token_ids] = lists;
    Ok(Revoked {
        principals,
        token_ids,
    })
}

/// A token that is the caller's whole credential.
pub(crate) struct StaticToken {
    pub(crate) sha256: [u8; 32],
    pub(crate) expires: Option<SystemTime>,
    pub(crate) grants: Arc<Grants>,
}

const ACTIONS: [&str; 3] = ["publish", "subscribe", "admin"];

pub(super) fn tokens(entries: Vec<Entry>) -> Result<HashMap<Box<str>, StaticToken>, AuthFileError> {
    let mut tokens = HashMap::new();
    for entry in entries {
        if !static_token::is_name(&entry.name) {
            return Err(bad(&entry.at, static_token::NAME_FORM));
        }
        let name = entry.name.as_str().into();
        let [publish, subscribe, admin] = ACTIONS;
        let mut fields = entry.fields(&["sha256", "expires", publish, subscribe, admin])?;
        let sha256 = fields.needed("sha256")?;
        let sha256 = static_token::from_hex(&sha256).ok_or_else(|| {
            let problem = "must be 64 hexadecimal digits, as `longlived token new` prints them";
            bad(&fields.at_key("sha256"), problem)
        })?;
        let token = StaticToken {
            sha256,
            expires: expires(&mut fields)?,
            grants: rule_set::plain(&mut fields)?,
        };
        tokens.insert(name, token);
    }
    Ok(tokens)
}

fn expires(fields: &mut Fields) -> Result<Option<SystemTime>, AuthFileError> {
    let at = fields.at_key("expires");
    let form = "must be a date with a time and an offset, such as 2027-01-01T00:00:00Z";
    match fields.value("expires") {
        None => Ok(None),
        Some(Value::Datetime(datetime)) => {
            let time = time(&datetime).ok_or_else(|| bad(&at, form))?;
            Ok(Some(time))
        }
        Some(other) => Err(kind(&at, "a date and time", &other)),
    }
}

fn time(datetime: &Datetime) -> Option<SystemTime> {
    let minutes = match datetime.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => minutes,
    };
    let local = Datetime {
        offset: Some(Offset::Z),
        ..*datetime
    };
    let local = humantime::parse_rfc3339(&local.to_string()).ok()?;
    let offset = Duration::from_secs(60 * u64::from(minutes.unsigned_abs()));
    let time = if minutes < 0 {
        local.checked_add(offset)
    } else {
        local.checked_sub(offset)
    };
    // Before it no time can be written.
    time.filter(|time| *time >= SystemTime::UNIX_EPOCH)
}

/// The names of certificates, each with the name of its entry.
#[derive(Default)]
pub(crate) struct Certificates {
    pub(crate) entries: BTreeMap<Arc<str>, (Names, Arc<Grants>)>,
    by_name: HashMap<Names, Arc<str>>,
}

/// The one name by which an entry knows a certificate.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Names {
    pub(crate) kind: NameKind,
    pub(crate) text: Box<str>,
}

impl Certificates {
    /// The name of the entry for a certificate's name.
    pub(crate) fn entry(&self, name: &Names) -> Option<&Arc<str>> {
        self.by_name.get(name)
    }
}

pub(super) fn certificates(entries: Vec<Entry>) -> Result<Certificates, AuthFileError> {
    let mut certificates = Certificates::default();
    for entry in entries {
        let at = entry.at.clone();
        let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'.';
        let length = 1..=CERTIFICATE_NAME_BYTES_MAX;
        if !(length.contains(&entry.name.len()) && entry.name.bytes().all(allowed)) {
            let problem = format!(
                "must have 1 to {CERTIFICATE_NAME_BYTES_MAX} of the characters A-Z a-z 0-9 - ."
            );
            return Err(bad(&at, problem));
        }
        let name: Arc<str> = entry.name.as_str().into();
        let [publish, subscribe, admin] = ACTIONS;
        let mut fields = entry.fields(&["uri", "dns", "dn", publish, subscribe, admin])?;
        let mut given = Vec::new();
        for kind in NameKind::ALL {
            let key = kind.key();
            if let Some(text) = fields.text(key)? {
                if let Some(problem) = problem_of(kind, &text) {
                    return Err(bad(&fields.at_key(key), format!("{text:?} {problem}")));
                }
                given.push(Names::new(kind, &text));
            }
        }
        let [names] = &given[..] else {
            return Err(bad(&at, "needs exactly one of `uri`, `dns` and `dn`"));
        };
        let grants = rule_set::plain(&mut fields)?;
        if let Some(other) = certificates
            .by_name
            .insert(names.clone(), Arc::clone(&name))
        {
            let key = names.kind.key();
            return Err(bad(&at, format!("has the `{key}` of certificates.{other}")));
        }
        certificates.entries.insert(name, (names.clone(), grants));
    }
    Ok(certificates)
}

impl Names {
    /// Names of DNS are the same in both cases.
    pub(crate) fn new(kind: NameKind, text: &str) -> Self {
        let text = match kind {
            NameKind::Dns => text.to_ascii_lowercase().into(),
            NameKind::Uri | NameKind::Dn => text.into(),
        };
        Self { kind, text }
    }
}

pub(super) fn unix(entries: Vec<Entry>) -> Result<HashMap<u32, Arc<Grants>>, AuthFileError> {
    let mut users = HashMap::new();
    for entry in entries {
        let uid = entry.name.parse::<u32>().ok();
        let uid = uid.filter(|uid| uid.to_string() == entry.name);
        let uid = uid.ok_or_else(|| {
            let problem = "must be the number of a user, such as 1000";
            bad(&entry.at, problem)
        })?;
        let mut fields = entry.fields(&ACTIONS)?;
        users.insert(uid, rule_set::plain(&mut fields)?);
    }
    Ok(users)
}
