//! Many messages in flight, answers in order.
//!
//! Holds: at most `in_flight` messages are unanswered, and each is kept until it is answered. After a refusal with a
//! wait, or a lost stream whose messages all carry ids, they are sent again unnoticed.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream;
use longlived_api::v1;
use longlived_api::v1::publish_service_client::PublishServiceClient;
use rand::rngs::SmallRng;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Status, Streaming};

use super::single::{self, Meaning};
use super::{Message, PublishError, Published};
use crate::backoff::Backoff;
use crate::client::Client;
use crate::credential::{Credential, Remedy};
use crate::pool::{Lane, Lease};
use crate::subscriber::Refusal;
use crate::wire::{self, Seen};

/// How long the end of a stream is waited for after its last answer: nothing depends on it any more.
const CLOSE_MAX: Duration = Duration::from_secs(2);

pub(super) fn publish_stream<S>(
    client: Client,
    messages: S,
    in_flight: usize,
    timeout: Duration,
) -> impl Stream<Item = Result<Published, PublishError>> + Send + use<S>
where
    S: Stream<Item = Message> + Send + 'static,
{
    let shared = &client.shared;
    let pipeline = Box::new(Pipeline {
        messages: Some(Box::pin(messages)),
        unanswered: VecDeque::new(),
        in_flight,
        timeout,
        lane: shared.pool.assign_publishing(),
        backoff: Backoff::new(shared.backoff),
        rng: shared.rng(),
        line: None,
        progress: Instant::now(),
        perhaps: false,
        refreshed: false,
        refused: None,
        over: false,
        client,
    });
    let answers = stream::unfold(pipeline, |mut pipeline| async move {
        let answer = pipeline.next().await?;
        Some((answer, pipeline))
    });
    // Pinned here, so that callers may poll the stream as it is; fused, so that they may do so after its end.
    Box::pin(futures_util::StreamExt::fuse(answers))
}

struct Pipeline<S> {
    client: Client,
    /// `None` when there are no more.
    messages: Option<Pin<Box<S>>>,
    /// Sent or to be sent, oldest first.
    unanswered: VecDeque<Unanswered>,
    in_flight: usize,
    timeout: Duration,
    lane: Lane,
    backoff: Backoff,
    rng: SmallRng,
    line: Option<Line>,
    /// When the oldest unanswered message became the oldest; its time runs from here.
    progress: Instant,
    /// The oldest unanswered ones may be stored already, by a stream that was lost.
    perhaps: bool,
    refreshed: bool,
    refused: Option<Credential>,
    over: bool,
}

/// A message that waits for its answer.
struct Unanswered {
    request: v1::PublishRequest,
    /// Its number in the recording, if there is one.
    publish: Option<u64>,
}

/// An open stream of messages and answers.
struct Line {
    /// `None` when there are no more messages: the server has been told so.
    send: Option<mpsc::Sender<v1::PublishRequest>>,
    answers: Streaming<v1::PublishResponse>,
    seen: Seen,
    lease: Lease,
    credential: Option<Credential>,
}

/// The end of a line, or the reason why it was not opened.
struct Broken {
    meaning: Meaning,
    /// The credential was refused, and another may be tried.
    refresh: bool,
    /// The credential it was tried with.
    credential: Option<Credential>,
}

impl From<Meaning> for Broken {
    fn from(meaning: Meaning) -> Self {
        Self {
            meaning,
            refresh: false,
            credential: None,
        }
    }
}

impl<S> Pipeline<S>
where
    S: Stream<Item = Message> + Send + 'static,
{
    async fn next(&mut self) -> Option<Result<Published, PublishError>> {
        if self.over {
            return None;
        }
        loop {
            if self.unanswered.is_empty() {
                // A stream is opened for a message and not for the prospect of one.
                let Some(message) = self.first_message().await else {
                    self.over = true;
                    self.close().await;
                    return None;
                };
                self.progress = Instant::now();
                self.enqueue(message);
            }
            if self.line.is_none() {
                match self.open().await {
                    Ok(line) => {
                        self.backoff.opened(Instant::now());
                        self.line = Some(line);
                    }
                    Err(broken) => match self.broken(broken).await {
                        Ok(()) => continue,
                        Err(error) => return Some(Err(error)),
                    },
                }
            }
            let broken = match self.step().await {
                Step::Message(Some(message)) => {
                    self.enqueue(message);
                    continue;
                }
                Step::Message(None) => {
                    self.messages = None;
                    if let Some(line) = &mut self.line {
                        line.send = None;
                    }
                    continue;
                }
                Step::Answer(Ok(Some(answer))) => match Published::from_wire(answer) {
                    Some(published) => {
                        if let Some(unanswered) = self.unanswered.pop_front() {
                            self.record_end(&unanswered, Ok(&published));
                        }
                        self.progress = Instant::now();
                        self.refreshed = false;
                        return Some(Ok(published));
                    }
                    None => Meaning::Perhaps("an answer names no position".to_owned()).into(),
                },
                Step::Answer(Ok(None)) => {
                    Meaning::Perhaps("the stream ended before its answers".to_owned()).into()
                }
                Step::Answer(Err(status)) => self.line_ended(&status),
                Step::Overdue => {
                    let cause = format!("no answer within {:?}", self.timeout);
                    return Some(Err(self.give_up(Meaning::Perhaps(cause))));
                }
            };
            if let Err(error) = self.broken(broken).await {
                return Some(Err(error));
            }
        }
    }

    /// The next message when none is unanswered. A line that ends meanwhile took nothing with it, and the
    /// message gets a new one.
    async fn first_message(&mut self) -> Option<Message> {
        let messages = self.messages.as_mut()?;
        let Some(line) = &mut self.line else {
            return messages.next().await;
        };
        tokio::select! {
            biased;
            _ended = line.answers.message() => {
                self.line = None;
                messages.next().await
            }
            message = messages.next() => message,
        }
    }

    /// Everything is answered. Half-closes the stream and waits for the server's OK, so that the server does not count
    /// a completed stream as a cancelled one.
    async fn close(&mut self) {
        if let Some(mut line) = self.line.take() {
            line.send = None;
            let last = timeout(self.timeout.min(CLOSE_MAX), line.answers.message()).await;
            if !matches!(last, Ok(Ok(None))) {
                tracing::debug!(?last, "the stream did not end with OK; all was answered");
            }
        }
    }

    /// Keeps the message until it is answered, and hands it to the line if there is one.
    fn enqueue(&mut self, message: Message) {
        let request = v1::PublishRequest::from(message);
        let recording = self.client.shared.recording.as_ref();
        let publish = recording.map(|recording| recording.publish_begun(&request));
        if let Some(send) = self.line.as_ref().and_then(|line| line.send.as_ref()) {
            // There is room for all that may be unanswered; a line that is gone shows in its answers.
            let _ = send.try_send(request.clone());
        }
        self.unanswered.push_back(Unanswered { request, publish });
    }

    fn record_end(&self, unanswered: &Unanswered, answer: Result<&Published, &PublishError>) {
        if let (Some(recording), Some(publish)) =
            (&self.client.shared.recording, unanswered.publish)
        {
            recording.publish_ended(publish, answer);
        }
    }

    async fn step(&mut self) -> Step {
        let line = self.line.as_mut().expect("a line is open");
        let deadline = self.progress + self.timeout;
        let has_place = self.unanswered.len() < self.in_flight;
        let next = async {
            match &mut self.messages {
                Some(messages) if has_place => messages.next().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = timeout_at(deadline, line.answers.message()) => match answer {
                Ok(answer) => Step::Answer(answer),
                Err(_elapsed) => Step::Overdue,
            },
            message = next => Step::Message(message),
        }
    }

    async fn open(&mut self) -> Result<Line, Broken> {
        let shared = &self.client.shared;
        let credential = shared.credentials.for_stream(self.refused.as_ref()).await;
        let credential = credential.map_err(|error| Meaning::NotStored(error.into()))?;
        let lease = shared.pool.lease(self.lane).await;
        let lease = lease.map_err(|lost| Meaning::NeverSent(lost.to_string()))?;
        let (send, receive) = mpsc::channel(self.in_flight);
        for unanswered in &self.unanswered {
            let _ = send.try_send(unanswered.request.clone());
        }
        let seen = Seen::default();
        let mut request = Request::new(ReceiverStream::new(receive));
        request.extensions_mut().insert(seen.clone());
        if let Some(credential) = &credential {
            credential.send(request.metadata_mut());
        }
        let mut service = PublishServiceClient::new(lease.wire.clone());
        let answers = timeout_at(
            self.progress + self.timeout,
            service.publish_stream(request),
        )
        .await;
        match answers {
            Ok(Ok(answers)) => Ok(Line {
                send: Some(send).filter(|_| self.messages.is_some()),
                answers: answers.into_inner(),
                seen,
                lease,
                credential,
            }),
            Ok(Err(status)) => Err(self.ended(&status, &seen, &lease, credential)),
            Err(_elapsed) => {
                shared.pool.retire(&lease);
                Err(Meaning::Perhaps(format!("no answer within {:?}", self.timeout)).into())
            }
        }
    }

    fn line_ended(&self, status: &Status) -> Broken {
        let line = self.line.as_ref().expect("the line that ended");
        self.ended(status, &line.seen, &line.lease, line.credential.clone())
    }

    fn ended(
        &self,
        status: &Status,
        seen: &Seen,
        lease: &Lease,
        credential: Option<Credential>,
    ) -> Broken {
        if !seen.sent() {
            self.client.shared.pool.retire(lease);
            let cause = seen.lost(status).to_string();
            return if wire::never_sent(status) {
                Meaning::NeverSent(cause).into()
            } else {
                Meaning::Perhaps(cause).into()
            };
        }
        let refresh = status.code() == tonic::Code::Unauthenticated
            && self.client.shared.credentials.remedy() != Remedy::Nothing
            && !self.refreshed;
        Broken {
            // The contract: everything before a refusal was answered, and nothing after it is stored.
            meaning: single::refused(Refusal::from(status), wire::pushback(status)),
            refresh,
            credential,
        }
    }

    /// Waits until the unanswered may be sent again, or says why they may not.
    async fn broken(&mut self, broken: Broken) -> Result<(), PublishError> {
        self.line = None;
        let now = Instant::now();
        let deadline = self.progress + self.timeout;
        if broken.refresh && self.has_other_than(broken.credential.as_ref()).await? {
            self.refreshed = true;
            self.refused = broken.credential;
            let wait = self.backoff.at_once(now, &mut self.rng);
            sleep(single::clipped(wait, deadline).unwrap_or_default()).await;
            return Ok(());
        }
        let wait = match &broken.meaning {
            Meaning::NotStored(_) => None,
            Meaning::NotStoredWait(_, wait) => {
                self.backoff.named(now, *wait);
                Some(*wait).filter(|wait| now + *wait < deadline)
            }
            Meaning::NeverSent(_) => {
                single::clipped(self.backoff.next_wait(now, &mut self.rng), deadline)
            }
            Meaning::Perhaps(_) => {
                let repeatable = self
                    .unanswered
                    .iter()
                    .all(|unanswered| !unanswered.request.message_id.is_empty());
                self.perhaps = true;
                let wait = self.backoff.next_wait(now, &mut self.rng);
                single::clipped(wait, deadline).filter(|_| repeatable)
            }
        };
        match wait {
            Some(wait) => {
                sleep(wait).await;
                Ok(())
            }
            None => Err(self.give_up(broken.meaning)),
        }
    }

    /// Whether there is another credential by now.
    async fn has_other_than(&mut self, refused: Option<&Credential>) -> Result<bool, PublishError> {
        let Some(refused) = refused else {
            return Ok(false);
        };
        let other = self.client.shared.credentials.other_than(refused).await;
        match other {
            Ok(other) => Ok(other.is_some()),
            Err(error) => Err(self.give_up(Meaning::NotStored(error.into()))),
        }
    }

    fn give_up(&mut self, meaning: Meaning) -> PublishError {
        self.over = true;
        self.line = None;
        let error = self.verdict(meaning);
        for unanswered in &self.unanswered {
            self.record_end(unanswered, Err(&error));
        }
        error
    }

    fn verdict(&self, meaning: Meaning) -> PublishError {
        let unanswered = self.unanswered.len();
        let error = match meaning {
            Meaning::NotStored(error) => error,
            Meaning::NotStoredWait(refusal, _) => PublishError::Refused(refusal),
            Meaning::NeverSent(cause) => PublishError::NotSent {
                timeout: self.timeout,
                cause,
            },
            Meaning::Perhaps(cause) => return PublishError::Unknown { unanswered, cause },
        };
        if self.perhaps {
            let cause = format!("lost earlier, then {error}");
            return PublishError::Unknown { unanswered, cause };
        }
        error
    }
}

enum Step {
    Message(Option<Message>),
    Answer(Result<Option<v1::PublishResponse>, Status>),
    Overdue,
}
