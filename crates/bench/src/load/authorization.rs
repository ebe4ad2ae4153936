//! The `authorization` fields of the callers of a load process.
//!
//! Holds: all are made before the first connection, so that no measurement has their signatures in it.

use super::control::{Plan, subscriber_id};
use crate::tokens::{PUBLISHER, TokenPlan, TokenSource};

/// Empty where the server asks for none.
#[derive(Debug, Default)]
pub(super) struct Authorization {
    /// By the place of the subscriber in this process; a single one is for all.
    subscribers: Vec<String>,
    publisher: Option<String>,
}

impl Authorization {
    pub(super) fn of(plan: &Plan) -> anyhow::Result<Self> {
        let Some(tokens) = &plan.tokens else {
            return Ok(Self::default());
        };
        let source = TokenSource::new(tokens)?;
        let field = |caller: &str| anyhow::Ok(format!("Bearer {}", source.token(caller)?));
        let signed = match tokens {
            TokenPlan::Static(_) => 1,
            TokenPlan::Es256(_) => u64::from(plan.connections) * u64::from(plan.streams),
        };
        let numbers = plan.subscriber_first..plan.subscriber_first + signed;
        let subscribers = numbers.map(|number| field(&subscriber_id(number)));
        Ok(Self {
            subscribers: subscribers.collect::<Result<_, _>>()?,
            publisher: Some(field(PUBLISHER)?),
        })
    }

    /// Of the subscriber with this number.
    pub(super) fn subscriber(&self, plan: &Plan, number: u64) -> Option<&str> {
        let index = match self.subscribers.len() {
            0 | 1 => 0,
            _ => usize::try_from(number.checked_sub(plan.subscriber_first)?).ok()?,
        };
        self.subscribers.get(index).map(String::as_str)
    }

    pub(super) fn publisher(&self) -> Option<&str> {
        self.publisher.as_deref()
    }
}
