//! The rules of an entry: `publish`, `subscribe` and `admin`, each with `allow` and `deny`.

use std::sync::Arc;

use longlived_authorize::{Action, Grants, Placeholder, RuleSet, Rules, Template};
use longlived_topic::TopicFilter;

use super::FILTERS_MAX;
use super::fields::{Fields, bad};
use crate::error::{AuthFileError, CredentialError};

/// Rules whose filters may have placeholders.
#[derive(Default)]
pub(crate) struct TemplateSet([TemplateRules; Action::ALL.len()]);

#[derive(Default)]
struct TemplateRules {
    allow: Box<[Template]>,
    deny: Box<[Template]>,
}

impl TemplateSet {
    /// The rules for one token.
    pub(crate) fn fill<'v>(
        &self,
        value: impl Fn(Placeholder<'_>) -> Option<&'v str>,
    ) -> Result<RuleSet, CredentialError> {
        let mut filled = RuleSet::default();
        for (action, rules) in Action::ALL.into_iter().zip(&self.0) {
            let deny = rules.deny.iter().map(|deny| {
                let void = || CredentialError::VoidDeny(deny.to_string().into());
                deny.fill(&value).ok_or_else(void)
            });
            *filled.of_mut(action) = Rules {
                // What cannot be filled grants nothing.
                allow: rules
                    .allow
                    .iter()
                    .filter_map(|it| it.fill(&value))
                    .collect(),
                deny: deny.collect::<Result<_, _>>()?,
            };
        }
        Ok(filled)
    }
}

/// The rules of a table, and whether it has any for administering.
pub(super) fn templates(fields: &mut Fields) -> Result<(TemplateSet, bool), AuthFileError> {
    let mut set = TemplateSet::default();
    let mut has_admin = false;
    for (action, rules) in Action::ALL.into_iter().zip(&mut set.0) {
        if let Some(mut fields) = fields.table(action.as_str(), &["allow", "deny"])? {
            has_admin |= action == Action::Admin;
            *rules = TemplateRules {
                allow: list(&mut fields, "allow")?,
                deny: list(&mut fields, "deny")?,
            };
        }
    }
    Ok((set, has_admin))
}

fn list(fields: &mut Fields, name: &str) -> Result<Box<[Template]>, AuthFileError> {
    let texts = fields.texts(name, FILTERS_MAX)?.unwrap_or_default();
    let template = |text: &String| {
        Template::parse(text)
            .map_err(|error| bad(&fields.at_key(name), format!("`{text}` {error}")))
    };
    texts.iter().map(template).collect()
}

/// The rules of a table that has no placeholders.
pub(super) fn rules(fields: &mut Fields) -> Result<RuleSet, AuthFileError> {
    let (set, _) = templates(fields)?;
    let mut plain = RuleSet::default();
    for (action, rules) in Action::ALL.into_iter().zip(&set.0) {
        let filter = |template: &Template| -> Result<TopicFilter, AuthFileError> {
            template.literal().cloned().ok_or_else(|| {
                let problem = format!("`{template}`: placeholders stand in a template only");
                bad(&fields.at_key(action.as_str()), problem)
            })
        };
        *plain.of_mut(action) = Rules {
            allow: rules.allow.iter().map(filter).collect::<Result<_, _>>()?,
            deny: rules.deny.iter().map(filter).collect::<Result<_, _>>()?,
        };
    }
    Ok(plain)
}

/// The grants of an entry that knows no limit but its own.
pub(super) fn plain(fields: &mut Fields) -> Result<Arc<Grants>, AuthFileError> {
    let own = rules(fields)?;
    Ok(Arc::new(Grants { own, most: None }))
}
