//! The caller of a call, and the subscriber that a call names.
//!
//! Holds: the same subscriber id of two principals is two subscribers. What a caller may is asked here, for every call and
//! every stream, of one function: [`authorize`].
//! Does not: find the caller; [`callers`](crate::callers) does, by the credential of the call.

use std::{sync::Arc, time::SystemTime};

use longlived_authorize::{Action, Grants, Refusal, Subject, authorize};
use longlived_broker::{Environment, Principal};
use longlived_identity::{LEEWAY, Proof};
use longlived_topic::{TopicFilter, TopicName};
use tokio::time::Instant;

use super::Usage;

/// The caller of a call. Many calls share one, behind an `Arc`.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Whose subscriber ids and message ids the call uses.
    pub principal: Principal,
    /// What it may.
    pub rights: Rights,
    /// When its credential expires, and what was proved by it; `None` where nobody is checked.
    pub credential: Option<Credential>,
    /// What all callers of its name use; `None` where nobody is checked.
    pub usage: Option<Arc<Usage>>,
}

/// What a caller may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Of a server that checks nobody: every topic. The id that a subscriber claims owns its inbox.
    Unchecked,
    /// Of a server that does: this, and nothing beside it.
    Granted(Arc<Grants>),
}

/// The proof of who calls.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    /// When it expires; `None` if it does not.
    pub expires: Option<Instant>,
    /// The same as it was told.
    pub expires_at: Option<SystemTime>,
    /// When the caller was made of it.
    pub verified: Instant,
    /// From which the caller can be decided again, under newer rules.
    pub proof: Arc<Proof>,
    /// The number of the rules that made the caller.
    pub rules: u64,
}

/// The caller may not do this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{principal} may not {action} there: {refusal}")]
pub struct NotGranted {
    /// Who.
    pub(crate) principal: String,
    /// What.
    pub(crate) action: Action,
    /// The rule.
    pub(crate) refusal: Refusal,
}

impl Caller {
    /// The caller of a server that checks nobody.
    pub(crate) fn anonymous() -> Self {
        Self {
            principal: Principal::anonymous(),
            rights: Rights::Unchecked,
            credential: None,
            usage: None,
        }
    }

    /// A caller without any right, of a server that knows no other for a call.
    pub(crate) fn nobody() -> Self {
        Self {
            rights: Rights::Granted(Arc::default()),
            ..Self::anonymous()
        }
    }

    /// Whether anybody has checked who it is.
    pub(crate) fn is_checked(&self) -> bool {
        matches!(self.rights, Rights::Granted(_))
    }

    /// Whether it may follow these topics. On a server that checks nobody everybody may.
    pub(crate) fn may_subscribe(&self, filter: &TopicFilter) -> Result<(), NotGranted> {
        self.may(Action::Subscribe, filter.into())
    }

    /// Whether it may know of this topic, as it may of those that it may follow.
    pub(crate) fn may_see(&self, topic: &TopicName) -> bool {
        match &self.rights {
            Rights::Unchecked => true,
            Rights::Granted(grants) => authorize(grants, Action::Subscribe, topic.into()).is_ok(),
        }
    }

    /// Whether it may publish to this topic.
    pub(crate) fn may_publish(&self, topic: &TopicName) -> Result<(), NotGranted> {
        self.may(Action::Publish, topic.into())
    }

    /// Whether it may do what concerns all of a node: its grant `admin` covers every topic. On a server that checks nobody no caller may.
    pub(crate) fn may_administer(&self) -> Result<(), NotGranted> {
        let everything = TopicFilter::parse(">").expect("a filter");
        match &self.rights {
            Rights::Unchecked => self.ask(&Grants::default(), Action::Admin, (&everything).into()),
            Rights::Granted(grants) => self.ask(grants, Action::Admin, (&everything).into()),
        }
    }

    fn may(&self, action: Action, subject: Subject<'_>) -> Result<(), NotGranted> {
        match &self.rights {
            Rights::Unchecked => Ok(()),
            Rights::Granted(grants) => self.ask(grants, action, subject),
        }
    }

    fn ask(&self, grants: &Grants, action: Action, subject: Subject<'_>) -> Result<(), NotGranted> {
        let asked = authorize(grants, action, subject);
        asked.map(drop).map_err(|refusal| NotGranted {
            principal: self.principal.name().unwrap_or("anonymous").to_owned(),
            action,
            refusal,
        })
    }

    /// The number of the rules that made it; 0 of one that nobody has checked.
    pub(crate) fn rules(&self) -> u64 {
        let credential = self.credential.as_ref();
        credential.map_or(0, |credential| credential.rules)
    }

    /// When its credential expires.
    pub(crate) fn expires(&self) -> Option<Instant> {
        self.credential.as_ref()?.expires
    }

    /// When its streams end, if they do: a leeway after its credential has expired. Clocks differ, and so tokens are taken for as long.
    pub(crate) fn ends(&self) -> Option<Instant> {
        Some(self.expires()? + LEEWAY)
    }

    /// When its credential expires, in wall time.
    pub(crate) fn expires_at(&self, environment: &Environment) -> Option<SystemTime> {
        let expires = self.expires()?;
        let now = Instant::now();
        // It may have expired already, within the leeway.
        if expires >= now {
            environment.now().checked_add(expires - now)
        } else {
            environment.now().checked_sub(now - expires)
        }
    }

    /// Its subscriber with this id.
    pub(crate) fn subscriber(&self, id: &Arc<str>) -> SubscriberKey {
        SubscriberKey {
            principal: self.principal.clone(),
            id: id.clone(),
        }
    }
}

/// A subscriber: an id of a principal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SubscriberKey {
    /// Whose id it is.
    pub principal: Principal,
    /// The id, as requests name it.
    pub id: Arc<str>,
}

#[cfg(test)]
impl SubscriberKey {
    /// The id of an anonymous caller.
    pub(crate) fn anonymous(id: &str) -> Self {
        Caller::anonymous().subscriber(&id.into())
    }

    /// The id of a caller with a name.
    pub(crate) fn of(principal: &str, id: &str) -> Self {
        Self {
            principal: Principal::named(principal).expect("a name"),
            id: id.into(),
        }
    }
}
