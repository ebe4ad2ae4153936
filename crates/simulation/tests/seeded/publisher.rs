//! The real publisher, and an application that sends a message again when it has a message id and its outcome is
//! unknown.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use longlived_client::{Client, Message, PublishError, Published};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::sleep;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::plan::TOPICS;
use crate::trace::{Answer, Record, Sent, Trace};

/// How long one attempt of the application may take, with all attempts of the library.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How often the application sends a message whose outcome is unknown.
const ATTEMPTS: usize = 5;
/// Messages of one pipeline.
const PIPELINED: usize = 8;

/// The name of a message in the trace: the beginning of its payload.
pub(crate) fn name_of(payload: &[u8]) -> String {
    let name = payload.split(|&byte| byte == b':').next();
    String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
}

/// One program that publishes.
pub(crate) struct PublisherApp {
    number: usize,
    client: Client,
    rng: StdRng,
    trace: Trace,
    pause_max: u64,
    sent: u64,
}

impl PublisherApp {
    pub(crate) fn new(
        number: usize,
        seed: u64,
        client: Client,
        pause_max: u64,
        trace: Trace,
    ) -> Self {
        Self {
            number,
            client,
            rng: StdRng::seed_from_u64(seed),
            trace,
            pause_max,
            sent: 0,
        }
    }

    /// Publishes until `stop`, and finishes the publishes in flight.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            sleep(Duration::from_millis(
                self.rng.random_range(0..self.pause_max),
            ))
            .await;
            match self.rng.random_range(0..20) {
                0 => self.bulk().await,
                1..=2 => self.pipeline().await,
                _ => self.single().await,
            }
        }
    }

    fn message(&mut self, with_id: bool) -> Message {
        self.sent += 1;
        let name = format!("p{}-{}", self.number, self.sent);
        let topic = TOPICS.choose(&mut self.rng).expect("it is not empty");
        let filler = match self.rng.random_range(0..50) {
            0 => 12_000,
            1..=5 => 2_000,
            _ => 20,
        };
        let payload: Bytes = format!("{name}:{}", "x".repeat(filler)).into();
        let message = Message::new(*topic, payload);
        self.trace.add(Record::Sent(Sent {
            name: name.clone(),
            topic: message.topic.clone(),
            payload: message.payload.clone(),
            id: with_id,
        }));
        if with_id {
            message.message_id(name)
        } else {
            message
        }
    }

    async fn single(&mut self) {
        let with_id = self.rng.random();
        let message = self.message(with_id);
        let publisher = self.client.publisher().timeout(TIMEOUT);
        let mut answer = answer(publisher.publish(message.clone()).await);
        // Once an attempt may have been stored, no later one makes it unstored.
        let mut perhaps = false;
        for _ in 1..ATTEMPTS {
            match answer {
                Answer::Unknown(_) => perhaps = true,
                Answer::NotStored(_) if perhaps => {}
                Answer::Stored { .. } | Answer::StoredInBulk | Answer::NotStored(_) => break,
            }
            if !with_id {
                break;
            }
            answer = self::answer(publisher.publish(message.clone()).await);
        }
        if let Answer::NotStored(cause) = &answer
            && perhaps
        {
            answer = Answer::Unknown(cause.clone());
        }
        self.answered(&message, answer);
    }

    async fn pipeline(&mut self) {
        let with_id = self.rng.random();
        let messages: Arc<[Message]> = (0..PIPELINED).map(|_| self.message(with_id)).collect();
        let source = tokio_stream::iter(messages.to_vec());
        let publisher = self.client.publisher().timeout(TIMEOUT);
        let in_flight = self.rng.random_range(1..=PIPELINED);
        let mut answers = publisher.publish_stream(source, in_flight);
        let mut left = messages.iter();
        while let Some(published) = answers.next().await {
            let message = left.next().expect("no more answers than messages");
            self.answered(message, answer(published));
        }
        for message in left {
            // After an error, the messages in flight may be stored.
            self.answered(message, Answer::Unknown("the stream ended".to_owned()));
        }
    }

    async fn bulk(&mut self) {
        let with_id = self.rng.random();
        let messages: Vec<Message> = (0..PIPELINED).map(|_| self.message(with_id)).collect();
        let publisher = self.client.publisher();
        let (stored, cause) = match publisher.bulk(tokio_stream::iter(messages.clone())).await {
            Ok(answer) => (Some(answer.published), None),
            Err(error) => (error.published, Some(error.to_string())),
        };
        for (index, message) in (0..).zip(&messages) {
            let answer = match (stored, &cause) {
                (Some(stored), _) if index < stored => Answer::StoredInBulk,
                (Some(_), Some(cause)) => Answer::NotStored(cause.clone()),
                (Some(_), None) => Answer::NotStored("the bulk was shorter".to_owned()),
                (None, _) => Answer::Unknown("the bulk was lost".to_owned()),
            };
            self.answered(message, answer);
        }
    }

    fn answered(&self, message: &Message, answer: Answer) {
        self.trace.add(Record::Answered {
            message: name_of(&message.payload),
            answer,
        });
    }
}

fn answer(result: Result<Published, PublishError>) -> Answer {
    match result {
        Ok(published) => Answer::Stored {
            position: published.position,
            duplicate: published.duplicate,
        },
        Err(error @ PublishError::Unknown { .. }) => Answer::Unknown(error.to_string()),
        Err(error) => Answer::NotStored(error.to_string()),
    }
}
