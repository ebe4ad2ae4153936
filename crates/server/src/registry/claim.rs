//! A stream that asks for its place in the registry.

use std::sync::Arc;

use longlived_broker::Principal;

use super::Session;
use crate::contract::{Attempt, Contract, RegisterError, SubscriberKey, Usage};

/// The stream that claims an id.
#[derive(Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub principal: &'a Principal,
    pub usage: Option<&'a Usage>,
    pub filters: u64,
    pub subscriber: &'a Arc<str>,
    pub attempt: Attempt,
    pub contract: Contract,
}

impl<'a> Claim<'a> {
    pub(super) fn of(session: &'a Session) -> Self {
        Self {
            principal: session.principal(),
            usage: session.usage(),
            filters: session.filters(),
            subscriber: &session.subscriber,
            attempt: session.attempt,
            contract: session.contract,
        }
    }

    /// Whether the caller may have another stream and its filters, before anything is done for it.
    pub(super) fn check_quota(self) -> Result<(), RegisterError> {
        match self.usage {
            Some(usage) => {
                usage.check_stream()?;
                Ok(usage.check_filters(self.filters)?)
            }
            None => Ok(()),
        }
    }

    pub(super) fn key(self) -> SubscriberKey {
        SubscriberKey {
            principal: self.principal.clone(),
            id: self.subscriber.clone(),
        }
    }
}
