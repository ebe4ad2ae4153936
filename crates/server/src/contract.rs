//! The words between the node and its clients, beside the events: methods, statuses, control messages, and the ways in
//! which a stream begins and ends.
//!
//! Does not: know the transport of its messages, or their sender.

mod caller;
mod close;
mod dialect;
mod methods;
mod plan;
mod refused;
pub(crate) mod status;
mod usage;
pub(crate) mod validate;
pub(crate) mod wire;

pub use caller::NotGranted;
pub(crate) use caller::{Caller, Credential, Rights, SubscriberKey};
pub(crate) use close::CloseReason;
pub(crate) use dialect::{Contract, Dialect, TakeoverLimits};
pub use methods::SERVICES;
pub(crate) use methods::{Method, PUBLISH_SERVICE, is_for_admins};
pub(crate) use plan::{Attempt, Plan};
pub(crate) use refused::{CallerError, PagesExhausted, RegisterError, RequestStreamError};
pub(crate) use usage::{QuotaExhausted, Usage};
pub use validate::{InvalidRequest, legacy_topic, subscriber_id};
