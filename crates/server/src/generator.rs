//! The periodic generator: in each interval one message to every inbox that somebody follows, `data mock for:
//! <id>`, and one to a topic if one is named.
//!
//! Holds: the walk is spread over the interval and gives way to publishers; no guard of the registry is held
//! while anything is published.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use longlived_broker::{Message, PublishError, PublishOptions};
use longlived_topic::TopicName;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{config::GeneratorConfig, node::Node};

/// The shortest pause between two slices of the walk; fewer, larger slices are published where the interval
/// has no room for one each.
const SLICE_EVERY: Duration = Duration::from_millis(5);

/// Runs until `stop`.
pub(crate) async fn run(node: Arc<Node>, config: GeneratorConfig, stop: CancellationToken) {
    let mut begin = Instant::now() + config.every;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep_until(begin) => {}
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = interval(&node, &config, begin) => {}
        }
        // An interval that took longer than itself is followed by the next at once, not by several.
        begin = (begin + config.every).max(Instant::now());
    }
}

async fn interval(node: &Node, config: &GeneratorConfig, begin: Instant) {
    let mut refused = None;
    if let Some(topic) = &config.topic {
        refused = publish(node, message(topic, topic.as_str())).await.err();
    }
    // Ids and inboxes only: the messages are made when their turn comes, for those who still follow then.
    let inboxes = node.registry.followed_inboxes();
    let slices_max = (config.every.as_nanos() / SLICE_EVERY.as_nanos()).max(1) as usize;
    let per_slice = inboxes.len().div_ceil(slices_max).max(1);
    let slices = inboxes.len().div_ceil(per_slice).max(1) as u32;
    for (slice, inboxes) in (0..).zip(inboxes.chunks(per_slice)) {
        sleep_until(begin + config.every * slice / slices).await;
        let still = inboxes.iter().filter(|(_, id)| {
            let sessions = node.registry.sessions_of(id);
            sessions
                .iter()
                .any(|session| session.followed_inbox().is_some())
        });
        // Each by itself, so that a refusal concerns one inbox; all are queued before the first is waited for.
        let messages = still.map(|(inbox, id)| publish(node, message(inbox, id)));
        let outcomes = join_all(messages).await;
        refused = refused.or(outcomes.into_iter().find_map(Result::err));
    }
    if let Some(error) = refused {
        tracing::warn!(%error, "some of the generator's messages were refused");
    }
}

fn message(topic: &TopicName, about: &str) -> Message {
    Message::new(topic.clone(), format!("data mock for: {about}"))
}

async fn publish(node: &Node, message: Message) -> Result<(), PublishError> {
    let options = PublishOptions {
        background: true,
        ..PublishOptions::default()
    };
    node.log.publish(message, options).await.map(drop)
}
