//! The life of a subscription.
use super::{Subscriber, SubscriberBuilder};

pub(super) fn subscriber(builder: SubscriberBuilder) -> Subscriber {
    let _ = builder;
    todo!()
}
