//! The methods of both contracts, as their descriptors name them.
//!
//! Holds: a method that is added to a contract is a variant that the router does not compile without.

pub(crate) use longlived_api::Method;
pub use longlived_api::SERVICES;

/// The service whose health follows whether messages are taken.
pub(crate) const PUBLISH_SERVICE: &str = Method::PublishServicePublish.service();

/// Which contract a session speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contract {
    /// `longlived.v1`.
    V1,
    /// `protos.Longlived`, frozen.
    Legacy,
}

impl Contract {
    /// Of the method with this path.
    pub(crate) fn of(path: &str) -> Self {
        if path.starts_with("/protos.Longlived/") {
            Self::Legacy
        } else {
            Self::V1
        }
    }
}
