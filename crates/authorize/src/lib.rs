//! What a caller may do: one pure function, which every path of the server asks.
//!
//! Holds: a topic filter is granted only if it lies wholly inside one filter of `allow` and is disjoint from every filter
//! of `deny`. So nothing of what is granted has to be held back at delivery.
//! Does not: know who the caller is, read a file, or speak gRPC.

mod authorize;
mod grants;
mod template;

pub use authorize::{Granted, Refusal, Source, authorize};
pub use grants::{Action, AskedSubject, Grants, RuleSet, Rules, Subject};
pub use template::{Placeholder, Template, TemplateError};
