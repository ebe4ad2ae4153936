//! Requests of the contract, with nothing special in them.

use longlived_api::v1;

/// One filter of a subscription.
pub fn subscription(filter: &str) -> v1::Subscription {
    v1::Subscription {
        topic_filter: filter.to_owned(),
    }
}

/// A new subscription.
pub fn request(id: &str, filters: &[&str]) -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        subscriber_id: id.to_owned(),
        subscriptions: filters.iter().map(|filter| subscription(filter)).collect(),
        ..v1::SubscribeRequest::default()
    }
}

/// A position.
pub fn position(epoch: u64, sequence: u64) -> v1::Position {
    v1::Position { epoch, sequence }
}

/// Everything that is kept, from the first on.
pub fn earliest() -> v1::Start {
    v1::Start {
        at: Some(v1::start::At::Earliest(true)),
    }
}

/// A message to publish.
pub fn message(topic: &str, payload: &str) -> v1::PublishRequest {
    v1::PublishRequest {
        topic: topic.to_owned(),
        payload: payload.to_owned().into(),
        ..v1::PublishRequest::default()
    }
}
