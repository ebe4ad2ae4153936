//! The issuers of tokens: their keys, and what their tokens may get.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use longlived_authorize::RuleSet;
use toml::Value;

use super::fields::{Entry, Fields, bad, kind};
use super::keys::{self, Key};
use super::quotas;
use super::rule_set::{self, TemplateSet};
use super::{KeyFiles, within};
use crate::error::AuthFileError;
use crate::quotas::Quotas;
use crate::token::MAX_TOKEN_LIFE_DEFAULT;

/// The longest name of an issuer, in bytes.
const NAME_BYTES_MAX: usize = 32;
/// Audiences of one issuer.
const AUDIENCES_MAX: usize = 64;
/// The kinds of principals that no issuer names.
pub(super) const KINDS: [&str; 4] = ["cert", "token", "unix", "anonymous"];

/// One issuer.
pub(crate) struct Issuer {
    /// Its name in the file, with which the principals of its tokens begin.
    pub(crate) name: Arc<str>,
    /// The `iss` of its tokens.
    pub(crate) iss: Box<str>,
    /// Of which a token must have one as its `aud`.
    pub(crate) audience: Box<[String]>,
    /// The longest life of a token.
    pub(crate) max_token_life: Duration,
    /// At least one.
    pub(crate) keys: Box<[Key]>,
    /// The grants of a token that names none.
    pub(crate) template: TemplateSet,
    /// The most that its tokens can get.
    pub(crate) most: Option<Arc<RuleSet>>,
    /// Of each of its callers.
    pub(crate) quotas: Quotas,
}

/// The issuers by name and by `iss`.
#[derive(Default)]
pub(crate) struct Issuers {
    by_name: BTreeMap<Arc<str>, Arc<Issuer>>,
    by_iss: HashMap<Box<str>, Arc<Issuer>>,
}

impl Issuers {
    pub(crate) fn named(&self, name: &str) -> Option<&Issuer> {
        self.by_name.get(name).map(|issuer| &**issuer)
    }

    pub(crate) fn of_iss(&self, iss: &str) -> Option<&Issuer> {
        self.by_iss.get(iss).map(|issuer| &**issuer)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(|name| &**name)
    }
}

pub(super) fn read(
    entries: Vec<Entry>,
    files: &mut KeyFiles<'_>,
    quotas: Quotas,
) -> Result<Issuers, AuthFileError> {
    let mut issuers = Issuers::default();
    for entry in entries {
        let at = entry.at.clone();
        let issuer = Arc::new(issuer(entry, files, quotas)?);
        let iss = issuer.iss.clone();
        if let Some(other) = issuers.by_iss.insert(iss, Arc::clone(&issuer)) {
            let problem = format!("has the `issuer` of issuers.{}", other.name);
            return Err(bad(&at, problem));
        }
        issuers.by_name.insert(Arc::clone(&issuer.name), issuer);
    }
    Ok(issuers)
}

fn issuer(entry: Entry, files: &mut KeyFiles<'_>, quotas: Quotas) -> Result<Issuer, AuthFileError> {
    let name: Arc<str> = entry.name.as_str().into();
    if KINDS.contains(&&*name) {
        let problem = "is a kind of principal and names no issuer; choose another name";
        return Err(bad(&entry.at, problem));
    }
    if !is_issuer_name(&name) {
        let problem = format!("must have 1 to {NAME_BYTES_MAX} of the characters a-z 0-9 -");
        return Err(bad(&entry.at, problem));
    }
    let mut fields = entry.fields(&[
        "issuer",
        "audience",
        "max_token_life",
        "keys",
        "template",
        "most",
        "quotas",
    ])?;
    let iss = fields.needed("issuer")?;
    if iss.is_empty() {
        return Err(bad(&fields.at_key("issuer"), "is empty"));
    }
    let audience = audience(&mut fields)?;
    let max_token_life = life(&mut fields)?;
    let keys = keys::read(&mut fields, files, &iss, &audience)?;
    let actions = ["publish", "subscribe", "admin"];
    let (template, has_admin) = match fields.table("template", &actions)? {
        Some(mut template) => rule_set::templates(&mut template)?,
        None => Default::default(),
    };
    let most = match fields.table("most", &actions)? {
        Some(mut most) => Some(Arc::new(rule_set::rules(&mut most)?)),
        None => None,
    };
    let admin_given = most.as_ref().is_some_and(|it| !it.admin.allow.is_empty());
    if has_admin && !admin_given {
        let at = fields.at_key("template.admin").replace('"', "");
        let problem = format!("grants nothing without {}.most.admin", fields.at());
        return Err(bad(&at, problem));
    }
    Ok(Issuer {
        name,
        iss: iss.into(),
        audience,
        max_token_life,
        keys,
        template,
        most,
        quotas: quotas::read(&mut fields, quotas)?,
    })
}

pub(super) fn is_issuer_name(name: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

fn audience(fields: &mut Fields) -> Result<Box<[String]>, AuthFileError> {
    let at = fields.at_key("audience");
    let Some(value) = fields.value("audience") else {
        return Err(bad(fields.at(), "needs `audience`"));
    };
    let list = match value {
        Value::Array(list) => list,
        text => vec![text],
    };
    within(&at, list.len(), AUDIENCES_MAX, "entries")?;
    let text = |value| match value {
        Value::String(text) if text.is_empty() => Err(bad(&at, "has an empty text")),
        Value::String(text) => Ok(text),
        other => Err(kind(&at, "a text or a list of texts", &other)),
    };
    let audience: Box<[_]> = list.into_iter().map(text).collect::<Result<_, _>>()?;
    if audience.is_empty() {
        return Err(bad(&at, "is empty"));
    }
    Ok(audience)
}

fn life(fields: &mut Fields) -> Result<Duration, AuthFileError> {
    let Some(text) = fields.text("max_token_life")? else {
        return Ok(MAX_TOKEN_LIFE_DEFAULT);
    };
    let life = humantime::parse_duration(&text).ok();
    let life = life.filter(|life| !life.is_zero());
    life.ok_or_else(|| {
        let problem = format!("`{text}` must be a duration above 0, such as 15min or 24h");
        bad(&fields.at_key("max_token_life"), problem)
    })
}
