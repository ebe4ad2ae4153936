//! `--publish-every`: one publisher for the topics of the clients.
//!
//! Holds: a limited number of messages is unanswered at any time. At the limit no further one is sent.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use longlived_client::{Client, Message, PublishError, Published, Publisher};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Messages sent and not yet answered.
const UNANSWERED_MAX: usize = 256;
/// How long one message is tried.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Takes the place of a wildcard.
const WILDCARD: &str = "simulate";

/// An answer, and the topic it is about.
pub(super) type Answer = (String, Result<Published, PublishError>);

pub(super) struct Publishing {
    publisher: Publisher,
    topics: Vec<String>,
    ticks: Interval,
    /// Messages begun so far.
    sent: u64,
    /// Makes the message ids of two runs different.
    run: u64,
    unanswered: FuturesUnordered<BoxFuture<'static, Answer>>,
    over: bool,
}

/// A topic that each of the filters selects.
pub(super) fn topics(filters: &[String], clients: u32) -> Vec<String> {
    if filters.is_empty() {
        return (1..=clients)
            .map(|client| format!("inbox.{client}"))
            .collect();
    }
    let concrete = |filter: &String| {
        let tokens = filter.split('.').map(|token| match token {
            "*" | ">" => WILDCARD,
            token => token,
        });
        tokens.collect::<Vec<_>>().join(".")
    };
    filters.iter().map(concrete).collect()
}

impl Publishing {
    pub(super) fn new(client: &Client, topics: Vec<String>, every: Duration) -> Self {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            publisher: client.publisher().timeout(MESSAGE_TIMEOUT),
            topics,
            ticks,
            sent: 0,
            run: rand::random(),
            unanswered: FuturesUnordered::new(),
            over: false,
        }
    }

    /// The next answer, while messages are sent at their times. Safe to drop while it waits.
    pub(super) async fn next(&mut self) -> Answer {
        loop {
            let has_place = !self.over && self.unanswered.len() < UNANSWERED_MAX;
            tokio::select! {
                biased;
                Some(answer) = self.unanswered.next() => return answer,
                _ = self.ticks.tick(), if has_place => self.send(),
                else => std::future::pending().await,
            }
        }
    }

    fn send(&mut self) {
        let turn = self.sent % self.topics.len() as u64;
        let topic = self.topics[turn as usize].clone();
        self.sent += 1;
        let number = self.sent;
        let mut message = Message::new(topic.clone(), format!("simulated message {number}"))
            .key(format!("{turn}"))
            .header("run", format!("{:016x}", self.run));
        // Some are sent again when their answer is lost, and some are not.
        if number.is_multiple_of(2) {
            message = message.message_id(format!("{:016x}-{number}", self.run));
        }
        let publisher = self.publisher.clone();
        self.unanswered.push(Box::pin(async move {
            let answer = publisher.publish(message).await;
            (topic, answer)
        }));
    }

    /// Sends nothing more; messages in flight are still answered.
    pub(super) fn finish(&mut self) {
        self.over = true;
    }

    pub(super) fn is_answered(&self) -> bool {
        self.unanswered.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::topics;

    #[test]
    fn every_client_gets_messages_on_its_topics() {
        assert_eq!(topics(&[], 2), ["inbox.1", "inbox.2"]);
        let filters = ["a.b".to_owned(), "a.*.c".to_owned(), "d.>".to_owned()];
        assert_eq!(topics(&filters, 9), ["a.b", "a.simulate.c", "d.simulate"]);
    }
}
