//! The other end of a subscriber: its position, and the way to end it while another task reads it.

use std::sync::Arc;

use longlived_api::v1;
use longlived_api::v1::subscription_service_client::SubscriptionServiceClient;
use parking_lot::Mutex;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::{Item, Notice, Subscriber};
use crate::client::Client;
use crate::pool::Lane;
use crate::position::Position;
use crate::unary::{self, CallError};

/// Why a subscription could not be ended in the agreed way. It is ended on this side all the same.
#[derive(Debug, thiserror::Error)]
pub enum UnsubscribeError {
    /// The server knows no live stream of this subscriber.
    #[error("the server has no live stream of `{0}`")]
    NotSubscribed(String),
    /// The call failed.
    #[error("unsubscribing `{id}` failed: {cause}")]
    Call {
        /// The subscriber.
        id: String,
        /// The error.
        cause: CallError,
    },
    /// The call was answered, but the stream did not end with OK.
    #[error("`{0}` was unsubscribed, but its stream was lost before its OK")]
    StreamLost(String),
}

impl UnsubscribeError {
    pub(crate) fn new(id: String, cause: CallError) -> Self {
        match cause {
            CallError::Refused(refusal) if refusal.code == tonic::Code::NotFound => {
                Self::NotSubscribed(id)
            }
            cause => Self::Call { id, cause },
        }
    }
}

/// Written by the engine, read through handles.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) id: String,
    pub(crate) position: Mutex<Option<Position>>,
    /// Cancelled by `unsubscribe`: from then on the end of the stream is the end of the subscription.
    pub(crate) leaving: CancellationToken,
}

/// The position of a [`Subscriber`], and the way to end it while another task reads it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SubscriberHandle {
    pub(crate) standing: Arc<Standing>,
    pub(crate) client: Client,
}

impl SubscriberHandle {
    /// The id it subscribes under.
    pub fn id(&self) -> &str {
        &self.standing.id
    }

    /// As [`Subscriber::position`].
    pub fn position(&self) -> Option<Position> {
        *self.standing.position.lock()
    }

    /// Calls Unsubscribe. The subscriber must be read on: it yields the events on the way, then
    /// [`Notice::Unsubscribed`], then ends. One that is between two streams ends at once.
    ///
    /// Returns the last position sent, for operators; not to resume from.
    pub async fn unsubscribe(&self) -> Result<Option<Position>, UnsubscribeError> {
        // Before the call: from now on the subscriber does not come back after any end of the stream.
        self.standing.leaving.cancel();
        let id = self.standing.id.clone();
        let request = v1::UnsubscribeRequest {
            subscriber_id: id.clone(),
            ..v1::UnsubscribeRequest::default()
        };
        let timeout = self.client.shared.open_timeout;
        let send = |wire, request| async move {
            SubscriptionServiceClient::new(wire)
                .unsubscribe(request)
                .await
        };
        match unary::call(&self.client, Lane::Unary, &request, timeout, send).await {
            Ok(response) => Ok(response.position.map(Into::into)),
            Err(failed) => Err(UnsubscribeError::new(id, failed.error)),
        }
    }
}

/// Ends the subscription, drops events that still arrive, and waits for the OK of its stream.
pub(super) async fn unsubscribe_and_drain(
    subscriber: &mut Subscriber,
) -> Result<Option<Position>, UnsubscribeError> {
    let handle = subscriber.handle();
    let timeout = handle.client.shared.open_timeout;
    let drain = async {
        let mut ok = false;
        while let Some(item) = subscriber.next().await {
            if let Ok(Item::Notice(Notice::Unsubscribed { ok: seen })) = item {
                ok = seen;
            }
        }
        ok
    };
    // Read while the call runs: its stream may have to be drained before the answer can come.
    let mut drain = std::pin::pin!(drain);
    let mut call = std::pin::pin!(handle.unsubscribe());
    let mut drained = None;
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut call => break answer,
            ok = &mut drain, if drained.is_none() => drained = Some(ok),
        }
    };
    let position = answer?;
    let ok = match drained {
        Some(ok) => ok,
        None => tokio::time::timeout(timeout, drain).await.unwrap_or(false),
    };
    if ok {
        Ok(position)
    } else {
        Err(UnsubscribeError::StreamLost(handle.id().to_owned()))
    }
}
