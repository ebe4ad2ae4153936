//! The periodic generator: in each interval one message to every inbox with a subscriber, `data mock for: <id>`, and
//! one to a topic if one is named.
//!
//! Holds: the walk is spread over the interval and gives way to publishers; no guard of the registry is held
//! while anything is published.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use longlived_broker::{Message, Principal, PublishError, PublishOptions};
use longlived_topic::TopicName;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{config::GeneratorConfig, contract::SubscriberKey, node::Node};

/// The shortest pause between two slices of the walk; fewer, larger slices are published where the interval
/// has no room for one each.
const SLICE_EVERY: Duration = Duration::from_millis(5);

/// Runs until `stop`.
pub(crate) async fn run(node: Arc<Node>, config: GeneratorConfig, stop: CancellationToken) {
    let generator = Generator {
        node,
        config,
        options: PublishOptions {
            principal: Principal::server(),
            background: true,
            room: None,
            ..PublishOptions::default()
        },
    };
    let mut begin = Instant::now() + generator.config.every;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep_until(begin) => {}
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = generator.interval(begin) => {}
        }
        // An interval that took longer than itself is followed by the next at once, not by several.
        begin = (begin + generator.config.every).max(Instant::now());
    }
}

struct Generator {
    node: Arc<Node>,
    config: GeneratorConfig,
    // Of all its messages.
    options: PublishOptions,
}

impl Generator {
    async fn interval(&self, begin: Instant) {
        let Self { node, config, .. } = self;
        let mut refused = None;
        if let Some(topic) = &config.topic {
            refused = self.publish(message(topic, topic.as_str())).await.err();
        }
        // Keys and inboxes only: the messages are made when their turn comes, for the inboxes with a subscriber then.
        let inboxes = node.registry.followed_inboxes();
        let slices_max = (config.every.as_nanos() / SLICE_EVERY.as_nanos()).max(1) as usize;
        let per_slice = inboxes.len().div_ceil(slices_max).max(1);
        let slices = inboxes.len().div_ceil(per_slice).max(1) as u32;
        for (slice, inboxes) in (0..).zip(inboxes.chunks(per_slice)) {
            sleep_until(begin + config.every * slice / slices).await;
            let still = inboxes.iter().filter(|(_, key)| self.is_followed(key));
            // Each by itself, so that a refusal concerns one inbox; all are queued before the first is waited for.
            let messages = still.map(|(inbox, key)| self.publish(message(inbox, &key.id)));
            let outcomes = join_all(messages).await;
            refused = refused.or(outcomes.into_iter().find_map(Result::err));
        }
        if let Some(error) = refused {
            tracing::warn!(%error, "some of the generator's messages were refused");
        }
    }

    /// Whether a subscriber still follows its inbox.
    fn is_followed(&self, key: &SubscriberKey) -> bool {
        let sessions = self.node.registry.sessions_of(key);
        sessions
            .iter()
            .any(|session| session.followed_inbox().is_some())
    }

    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        let published = self.node.log.publish(message, self.options.clone());
        published.await.map(drop)
    }
}

fn message(topic: &TopicName, about: &str) -> Message {
    Message::new(topic.clone(), format!("data mock for: {about}"))
}
