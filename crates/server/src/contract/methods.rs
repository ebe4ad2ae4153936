//! The methods of both contracts, as their descriptors name them.
//!
//! Holds: a method that is added to a contract is a variant that the router does not compile without.

pub(crate) use longlived_api::Method;
pub use longlived_api::SERVICES;

/// The service whose health follows whether messages are taken.
pub(crate) const PUBLISH_SERVICE: &str = Method::PublishServicePublish.service();
