//! Who makes a call, and the subscriber that a call names.
//!
//! Holds: the same subscriber id of two principals is two subscribers.
//! Does not: find out who calls; `rpc` takes that from the request.

use std::sync::Arc;

use longlived_broker::Principal;

/// Who makes a call. Many calls share one, behind an `Arc`.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Whose subscriber ids and message ids the call uses.
    pub principal: Principal,
}

impl Caller {
    /// The caller of a server that checks nobody.
    pub(crate) fn anonymous() -> Self {
        Self {
            principal: Principal::anonymous(),
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
