//! Handing messages to the sequencer, and the replies.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use smallvec::SmallVec;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::Instant,
};

use super::Log;
use crate::{
    message::{Message, Principal},
    position::Sequence,
    store::{AppendError, TopicsExhausted},
};

/// One message that is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its sequence; of the first one when it is a duplicate.
    pub sequence: Sequence,
    /// The same message id was stored before.
    pub duplicate: bool,
}

/// The outcomes of the messages of one request, in their order.
#[derive(Debug, Default)]
pub struct PublishReply {
    /// The messages before the first refusal.
    pub published: SmallVec<[Published; 1]>,
    /// Why the next one was refused. Nothing after it is stored, unless `partly` says otherwise.
    pub refused: Option<PublishError>,
    /// The store has stored a batch in part and failed that message. Messages of the same stream behind it may be stored:
    /// sent again with its message id each is stored once.
    pub partly: bool,
}

/// Why a message is not in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The limit of topics is reached.
    #[error(transparent)]
    TopicsExhausted(#[from] TopicsExhausted),
    /// The caller's deadline passed before the message had its turn.
    #[error("the deadline passed before the message was stored")]
    DeadlineExceeded,
    /// An earlier message of the same stream was refused.
    #[error("an earlier message of this stream was refused")]
    AfterRefusal,
    /// The store did not take the message; the error says whether it may be kept.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The log takes no more.
    #[error("the log is closed")]
    Closed,
}

/// How a request is treated.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// Whose message ids these are.
    pub principal: Principal,
    /// After this a message that has not had its turn is not stored.
    pub deadline: Option<Instant>,
    /// Shared by the requests of one stream: the first refusal stops all that come after it.
    pub stream: Option<Arc<AtomicBool>>,
    /// Gives way to everything that is not background.
    pub background: bool,
    /// Kept until the messages are stored or refused, also when nobody waits for the answer any more.
    pub room: Option<Arc<OwnedSemaphorePermit>>,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self {
            principal: Principal::anonymous(),
            deadline: None,
            stream: None,
            background: false,
            room: None,
        }
    }
}

/// Messages of one publisher in the sequencer's queue, with one reply. The permit gives the queue's bytes back when it is
/// dropped.
pub(super) struct Submission {
    pub(super) messages: SmallVec<[Message; 1]>,
    /// Their bytes in the queue.
    pub(super) bytes: usize,
    pub(super) options: PublishOptions,
    pub(super) reply: oneshot::Sender<PublishReply>,
    _bytes: OwnedSemaphorePermit,
}

impl Submission {
    /// Why it must not be stored any more, if so.
    pub(super) fn refusal(&self, now: Instant) -> Option<PublishError> {
        let stopped = self
            .options
            .stream
            .as_ref()
            .is_some_and(|refused| refused.load(Ordering::Acquire));
        if stopped {
            return Some(PublishError::AfterRefusal);
        }
        let late = self
            .options
            .deadline
            .is_some_and(|deadline| deadline <= now);
        // No caller waits for the answer: the call was cancelled or timed out.
        (late || self.reply.is_closed()).then_some(PublishError::DeadlineExceeded)
    }

    pub(super) fn stop_stream(&self) {
        if let Some(refused) = &self.options.stream {
            refused.store(true, Ordering::Release);
        }
    }
}

impl Log {
    /// Queues messages (at least one) as one request, in their order, and returns where the answer will come.
    /// Waits while the queue is full. Dropping the receiver before the messages had their turn withdraws them.
    pub async fn submit(
        &self,
        messages: SmallVec<[Message; 1]>,
        options: PublishOptions,
    ) -> Result<oneshot::Receiver<PublishReply>, PublishError> {
        let shared = &self.shared;
        let bytes: usize = messages.iter().map(Message::queued_bytes).sum();
        // One request larger than the queue passes alone.
        let permits = u32::try_from(bytes.min(shared.queue_bytes_max)).unwrap_or(u32::MAX);
        let permit = shared.queue_bytes.clone().acquire_many_owned(permits).await;
        let permit = permit.map_err(|_| PublishError::Closed)?;
        let queue: &mpsc::Sender<_> = if options.background {
            &shared.background
        } else {
            &shared.publish
        };
        let (reply, answer) = oneshot::channel();
        let request = Submission {
            messages,
            bytes,
            options,
            reply,
            _bytes: permit,
        };
        queue
            .send(request)
            .await
            .map_err(|_| PublishError::Closed)?;
        Ok(answer)
    }

    /// Publishes one message and waits until it is as durable as the store makes it.
    pub async fn publish(
        &self,
        message: Message,
        options: PublishOptions,
    ) -> Result<Published, PublishError> {
        let answer = self.submit(SmallVec::from_buf([message]), options).await?;
        let reply = answer.await.map_err(|_| PublishError::Closed)?;
        match (reply.published.first(), reply.refused) {
            (Some(&published), _) => Ok(published),
            (None, Some(refused)) => Err(refused),
            (None, None) => Err(PublishError::Closed),
        }
    }
}
