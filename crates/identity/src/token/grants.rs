//! The grants that a token names by itself: entries of `authorization_details` (RFC 9396) of the type `longlived`, or the claim
//! `longlived`.
//!
//! Holds: grants come from one of the two. What is not understood refuses the token: it might have been a restriction.

use longlived_authorize::{Action, RuleSet};
use longlived_topic::TopicFilter;
use serde_json::{Map, Value};

use crate::error::CredentialError;
use crate::file::FILTERS_MAX;
use crate::shown::Shown;

/// The type of our entries, and the name of our claim.
const LONGLIVED: &str = "longlived";
const DETAILS: &str = "authorization_details";
/// Entries of `authorization_details`.
const DETAILS_MAX: usize = 64;

/// The filters of one list of a [`RuleSet`] while it is read.
type Lists = [[Vec<TopicFilter>; 2]; Action::ALL.len()];

/// `None` for a token that names no grants.
pub(super) fn named(claims: &Map<String, Value>) -> Result<Option<RuleSet>, CredentialError> {
    let mut lists = Lists::default();
    let mut is_named = false;
    match claims.get(DETAILS) {
        None => {}
        Some(Value::Array(details)) if details.len() <= DETAILS_MAX => {
            for detail in details {
                is_named |= add_detail(detail, &mut lists)?;
            }
        }
        Some(Value::Array(_)) => {
            return Err(bad(DETAILS, format!("has more than {DETAILS_MAX} entries")));
        }
        Some(_) => return Err(bad(DETAILS, "is no list")),
    }
    if !is_named {
        match claims.get(LONGLIVED) {
            None => return Ok(None),
            Some(Value::Object(claim)) => {
                let actions = [Action::Publish, Action::Subscribe];
                add(LONGLIVED, claim, &actions, &[], &mut lists)?;
            }
            Some(_) => return Err(bad(LONGLIVED, "is no object")),
        }
    }
    let mut rules = RuleSet::default();
    for (action, [allow, deny]) in Action::ALL.into_iter().zip(lists) {
        let named = rules.of_mut(action);
        (named.allow, named.deny) = (allow.into(), deny.into());
    }
    Ok(Some(rules))
}

fn bad(claim: &'static str, problem: impl Into<String>) -> CredentialError {
    CredentialError::Claim {
        claim,
        problem: problem.into(),
    }
}

/// Whether the entry is ours.
fn add_detail(detail: &Value, lists: &mut Lists) -> Result<bool, CredentialError> {
    let Value::Object(detail) = detail else {
        return Err(bad(DETAILS, "has an entry that is no object"));
    };
    match detail.get("type") {
        Some(Value::String(kind)) if kind == LONGLIVED => {}
        Some(Value::String(_)) => return Ok(false),
        _ => return Err(bad(DETAILS, "has an entry without a `type`")),
    }
    add(DETAILS, detail, &Action::ALL, &["type"], lists)?;
    Ok(true)
}

/// Adds the rules of one object.
fn add(
    claim: &'static str,
    object: &Map<String, Value>,
    actions: &[Action],
    besides: &[&str],
    lists: &mut Lists,
) -> Result<(), CredentialError> {
    for (name, value) in object {
        if besides.contains(&name.as_str()) {
            continue;
        }
        let mut all = Action::ALL.iter().zip(&mut *lists);
        let known = all.find(|(action, _)| action.as_str() == name && actions.contains(action));
        let Some((action, [allow, deny])) = known else {
            let name = Shown::from(name.as_str());
            return Err(bad(claim, format!("has `{name}`, which is not known")));
        };
        match value {
            Value::Array(list) => add_list(claim, *action, list, allow)?,
            Value::Object(rules) => {
                for (name, value) in rules {
                    let filters = match name.as_str() {
                        "allow" => &mut *allow,
                        "deny" => &mut *deny,
                        _ => {
                            let name = Shown::from(name.as_str());
                            let problem = format!("has `{action}.{name}`, which is not known");
                            return Err(bad(claim, problem));
                        }
                    };
                    let Value::Array(list) = value else {
                        let problem = format!("has `{action}.{name}`, which is no list");
                        return Err(bad(claim, problem));
                    };
                    add_list(claim, *action, list, filters)?;
                }
            }
            _ => {
                let problem = format!("has `{action}`, which is neither a list nor an object");
                return Err(bad(claim, problem));
            }
        }
    }
    Ok(())
}

fn add_list(
    claim: &'static str,
    action: Action,
    list: &[Value],
    filters: &mut Vec<TopicFilter>,
) -> Result<(), CredentialError> {
    if filters.len() + list.len() > FILTERS_MAX {
        let problem = format!(
            "has more than {FILTERS_MAX} filters in one list of `{action}`, which is the limit"
        );
        return Err(bad(claim, problem));
    }
    for value in list {
        let Value::String(text) = value else {
            return Err(bad(
                claim,
                format!("has a filter of `{action}` that is no text"),
            ));
        };
        let filter = TopicFilter::parse(text).map_err(|error| {
            let text = Shown::from(text.as_str());
            bad(
                claim,
                format!("has the filter `{text}` of `{action}`, which {error}"),
            )
        })?;
        filters.push(filter);
    }
    Ok(())
}
