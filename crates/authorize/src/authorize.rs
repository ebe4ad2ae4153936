//! The decision, and the rule that it rests on.
//!
//! Holds: a topic is decided as the filter that matches it alone, so both kinds of subject take one way. A further filter in
//! `deny` never grants anything.

use std::fmt;

use longlived_topic::TopicFilter;

use crate::grants::{Action, AskedSubject, Grants, RuleSet, Subject};

/// The rules by which a subject is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted<'g> {
    /// The filter of the credential's own `allow`.
    pub rule: &'g TopicFilter,
    /// The filter of `allow` in the most that its issuer may give, where there is such a limit.
    pub most: Option<&'g TopicFilter>,
}

/// Whose rules refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Those of the credential.
    Own,
    /// Those of its issuer.
    Most,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "the grants of the credential",
            Self::Most => "the most that its issuer may give",
        })
    }
}

/// Why a subject is not granted, in the words of the auth file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No one filter of `allow` has all of it.
    #[error("no filter of `{action}.allow` covers `{subject}` in {source_of_rules}")]
    NotAllowed {
        /// What was asked for.
        action: Action,
        /// With which topics.
        subject: AskedSubject,
        /// Whose `allow` it is.
        source_of_rules: Source,
    },
    /// A filter of `deny` has a topic in common with it.
    #[error("`{action}.deny` has `{rule}`, which overlaps `{subject}`, in {source_of_rules}")]
    Denied {
        /// What was asked for.
        action: Action,
        /// With which topics.
        subject: AskedSubject,
        /// The filter of `deny`.
        rule: TopicFilter,
        /// Whose `deny` it is.
        source_of_rules: Source,
    },
}

/// Whether `grants` allow `action` with all topics of `subject`.
pub fn authorize<'g>(
    grants: &'g Grants,
    action: Action,
    subject: Subject<'_>,
) -> Result<Granted<'g>, Refusal> {
    let alone;
    let asked = match subject {
        Subject::Filter(filter) => filter,
        Subject::Topic(topic) => {
            alone = topic.to_filter();
            &alone
        }
    };
    let refused = |failed, source| Refusal::new(action, subject, failed, source);
    let rule = decide(&grants.own, action, asked).map_err(|it| refused(it, Source::Own))?;
    let most = match &grants.most {
        Some(most) => Some(decide(most, action, asked).map_err(|it| refused(it, Source::Most))?),
        None => None,
    };
    Ok(Granted { rule, most })
}

/// What a set of rules holds against a filter.
#[derive(Clone, Copy)]
enum Failed<'g> {
    NotAllowed,
    Denied(&'g TopicFilter),
}

/// The filter of `allow` that has all of it, unless a filter of `deny` has some of it.
fn decide<'g>(
    rules: &'g RuleSet,
    action: Action,
    asked: &TopicFilter,
) -> Result<&'g TopicFilter, Failed<'g>> {
    let rules = rules.of(action);
    let covers = |rule: &&TopicFilter| asked.is_within(rule);
    let rule = rules.allow.iter().find(covers).ok_or(Failed::NotAllowed)?;
    match rules.deny.iter().find(|rule| !asked.is_disjoint(rule)) {
        None => Ok(rule),
        Some(rule) => Err(Failed::Denied(rule)),
    }
}

impl Refusal {
    #[cold]
    fn new(
        action: Action,
        subject: Subject<'_>,
        failed: Failed<'_>,
        source_of_rules: Source,
    ) -> Self {
        let subject = subject.into();
        match failed {
            Failed::NotAllowed => Self::NotAllowed {
                action,
                subject,
                source_of_rules,
            },
            Failed::Denied(rule) => Self::Denied {
                action,
                subject,
                rule: rule.clone(),
                source_of_rules,
            },
        }
    }
}

#[cfg(test)]
mod tests;
