//! The methods of both contracts, as their descriptors name them.
//!
//! Holds: a method that is added to a contract is a variant that the router does not compile without, nor this file.

pub(crate) use longlived_api::Method;
pub use longlived_api::SERVICES;

/// The service whose health follows whether messages are taken.
pub(crate) const PUBLISH_SERVICE: &str = Method::PublishServicePublish.service();

/// Whether a method is for administrators: listeners with other services do not have it.
pub(crate) fn is_for_admins(method: Method) -> bool {
    match method {
        Method::SubscriptionServiceSubscribe
        | Method::SubscriptionServiceSession
        | Method::SubscriptionServiceUnsubscribe
        | Method::PublishServicePublish
        | Method::PublishServicePublishStream
        | Method::PublishServiceBulkPublish
        | Method::TopicServiceListTopics
        | Method::TopicServiceReadHistory
        | Method::TopicServiceCheckPosition
        | Method::LonglivedSubscribe
        | Method::LonglivedUnsubscribe => false,
    }
}
