//! The periodic generator: in each interval one message to every inbox that somebody follows, `data mock for:
//! <id>`, and one to a topic if one is named.
//!
//! Holds: the walk is spread over the interval and gives way to publishers; no guard of the registry is held
//! while anything is published.

use std::{sync::Arc, time::Duration};

use longlived_broker::{Message, PublishError, PublishOptions, TopicName};
use smallvec::SmallVec;
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
            () = stop.cancelled() => return,
            () = sleep_until(begin) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = interval(&node, &config, begin) => {}
        }
        // An interval that took longer than itself is followed by the next at once, not by several.
        begin = (begin + config.every).max(Instant::now());
    }
}

async fn interval(node: &Node, config: &GeneratorConfig, begin: Instant) {
    let topic = config
        .topic
        .iter()
        .map(|topic| message(topic, topic.as_str()));
    let inboxes = node.registry.followed_inboxes();
    let messages: Vec<_> = topic
        .chain(inboxes.iter().map(|(inbox, id)| message(inbox, id)))
        .collect();
    let slices_max = (config.every.as_nanos() / SLICE_EVERY.as_nanos()).max(1) as usize;
    let per_slice = messages.len().div_ceil(slices_max).max(1);
    let slices = messages.len().div_ceil(per_slice).max(1) as u32;
    for (slice, messages) in (0..).zip(messages.chunks(per_slice)) {
        sleep_until(begin + config.every * slice / slices).await;
        if let Err(error) = publish(node, messages.iter().cloned().collect()).await {
            tracing::warn!(%error, "the generator's messages were refused");
            return;
        }
    }
}

fn message(topic: &TopicName, about: &str) -> Message {
    Message::new(topic.clone(), format!("data mock for: {about}"))
}

async fn publish(node: &Node, messages: SmallVec<[Message; 1]>) -> Result<(), PublishError> {
    let options = PublishOptions {
        background: true,
        ..PublishOptions::default()
    };
    let answer = node.log.submit(messages, options).await?;
    let reply = answer.await.map_err(|_| PublishError::Closed)?;
    reply.refused.map_or(Ok(()), Err)
}
