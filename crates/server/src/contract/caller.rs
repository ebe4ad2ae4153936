//! The caller of a call, and the subscriber that a call names.
//!
//! Holds: the same subscriber id of two principals is two subscribers. An inbox is a topic, named by an id alone, and
//! topics are one space for all principals. So an inbox belongs to one owner, and the grants of a caller say which
//! inboxes are its own.
//! Does not: find the caller; `rpc` takes it from the request.

use std::{sync::Arc, time::SystemTime};

use longlived_broker::{Environment, Principal};
use longlived_topic::TopicFilter;
use tokio::time::Instant;

/// The caller of a call. Many calls share one, behind an `Arc`.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Whose subscriber ids and message ids the call uses.
    pub principal: Principal,
    /// Its grants.
    pub grants: Grants,
    /// When its credential expires. Its subscriptions end then.
    pub expires: Option<Instant>,
}

/// The rights of a caller that others do not have.
#[derive(Debug)]
pub(crate) struct Grants {
    /// The inboxes that are the caller's own. A subscriber follows its inbox if it is within one of these.
    pub inboxes: Box<[TopicFilter]>,
}

impl Grants {
    /// Whether an inbox is the caller's own.
    pub(crate) fn has_inbox(&self, inbox: &TopicFilter) -> bool {
        self.inboxes.iter().any(|own| inbox.is_within(own))
    }
}

impl Caller {
    /// The caller of a server that checks nobody.
    pub(crate) fn anonymous() -> Self {
        Self {
            principal: Principal::anonymous(),
            // All of them: a subscriber id is the only owner that an inbox has.
            grants: Grants {
                inboxes: TopicFilter::parse("inbox.>").into_iter().collect(),
            },
            expires: None,
        }
    }

    /// When its credential expires, in wall time.
    pub(crate) fn expires_at(&self, environment: &Environment) -> Option<SystemTime> {
        let left = self.expires?.saturating_duration_since(Instant::now());
        environment.now().checked_add(left)
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
