//! One stream: opened, read, and watched for silence.
//!
//! Holds: a stream that is handed out has shown its Welcome; its end is told once, with whether the server
//! sent the status.
//! Does not: know the next step of a subscription.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use longlived_api::v1;
use longlived_api::v1::subscribe_response::Frame;
use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::{Request, Status, Streaming};

use super::ending::{End, Lost};
use super::notice::{GoAwayReason, Outcome};
use crate::client::Shared;
use crate::codec::SubscribeCodec;
use crate::continuity::Continuity;
use crate::credential::Credential;
use crate::pool::{Lane, Lease};
use crate::position::Position;
use crate::record::{StreamRecord, Told};
use crate::wire::Seen;

const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";

/// The bytes by which a response may be larger than its event.
const ENVELOPE_BYTES: usize = 64 << 10;

/// A promise longer than this is as good as none.
const SILENCE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The parameters of a stream.
pub(super) struct Ask {
    pub(super) shared: Arc<Shared>,
    pub(super) lane: Lane,
    /// When this subscriber has last lost a stream or failed to open one, or now.
    pub(super) since: Instant,
    pub(super) request: v1::SubscribeRequest,
    /// A credential the server has refused: another one is needed.
    pub(super) refused: Option<Credential>,
}

/// A stream that is being opened; the credential is told so that a refused one can be replaced.
pub(super) type OpenFuture = Pin<Box<dyn Future<Output = Opened> + Send>>;

pub(super) struct Opened {
    pub(super) credential: Option<Credential>,
    pub(super) result: Result<(Live, v1::Welcome), End>,
    /// Of a stream that was asked for in vain.
    pub(super) record: Option<StreamRecord>,
}

/// An open stream.
pub(super) struct Live {
    frames: Streaming<v1::SubscribeResponse>,
    seen: Seen,
    /// Kept so that the connection stays open under the stream after the pool has retired it.
    pub(super) lease: Lease,
    pub(super) checker: Continuity,
    pub(super) credential: Option<Credential>,
    /// Its number among the streams of this process.
    pub(super) attempt: u64,
    /// When its Welcome came.
    pub(super) opened: Instant,
    /// The server's announcement that this stream ends.
    pub(super) departure: Option<Departure>,
    /// The server's announcement that its credential ends, where another can be had.
    pub(super) renewal: Option<Renewal>,
    silence: Option<Duration>,
    /// Later than this without a response, the stream is dead.
    deadline: Option<Instant>,
    pub(super) record: Option<StreamRecord>,
}

/// The server has announced the end of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departure {
    pub(super) reason: GoAwayReason,
    /// False: do not come back.
    pub(super) reconnect: bool,
    /// This client's turn to open the next stream.
    pub(super) turn: Instant,
    /// Until then the stream goes on, so that the next can be current first.
    pub(super) ends: Option<Instant>,
}

/// The credential of a stream ends, and a stream with a fresh one is to take its place before that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renewal {
    /// When it ends, as far as is known.
    pub(super) ends: Instant,
    /// This client's turn to look for a fresh one.
    pub(super) turn: Instant,
}

/// The result of a stream: a response or its end.
pub(super) enum Got {
    Frame(Frame),
    End(End),
}

pub(super) fn open(ask: Ask) -> OpenFuture {
    Box::pin(async move {
        let credentials = &ask.shared.credentials;
        let credential = match credentials.for_stream(ask.refused.as_ref()).await {
            Ok(credential) => credential,
            Err(error) => {
                return Opened {
                    credential: None,
                    result: Err(End::Credential(error)),
                    record: None,
                };
            }
        };
        let mut record = None;
        let result = open_with(&ask, credential.clone(), &mut record).await;
        Opened {
            credential,
            result,
            record,
        }
    })
}

async fn open_with(
    ask: &Ask,
    credential: Option<Credential>,
    record: &mut Option<StreamRecord>,
) -> Result<(Live, v1::Welcome), End> {
    let pool = &ask.shared.pool;
    let timeout = ask.shared.open_timeout;
    let lease = pool
        .lease_again(ask.lane, ask.since)
        .await
        .map_err(End::Lost)?;
    let recording = ask.shared.recording.as_ref();
    *record = recording.map(|recording| recording.stream_opened(&ask.request));
    let opened = tokio::time::timeout(timeout, welcome(ask, &lease, credential)).await;
    let mut opened = opened.unwrap_or(Err(End::Lost(Lost::NoWelcome(timeout))));
    if let Ok((live, welcome)) = &mut opened {
        live.record = record.take();
        live.told(Told::Welcome(welcome));
    }
    if let Err(End::Lost(_)) = &opened {
        pool.retire(&lease);
    }
    opened
}

async fn welcome(
    ask: &Ask,
    lease: &Lease,
    credential: Option<Credential>,
) -> Result<(Live, v1::Welcome), End> {
    let seen = Seen::default();
    let mut request = Request::new(ask.request.clone());
    request.extensions_mut().insert(seen.clone());
    if let Some(credential) = &credential {
        credential.send(request.metadata_mut());
    }
    if let Some(compression) = ask.shared.compression {
        compression.ask(request.metadata_mut());
    }
    let largest = ask.request.max_event_bytes as usize + ENVELOPE_BYTES;
    let mut grpc = Grpc::new(lease.wire.clone()).max_decoding_message_size(largest);
    if let Some(compression) = ask.shared.compression {
        grpc = grpc.accept_compressed(compression.encoding());
    }
    grpc.ready()
        .await
        .map_err(|error| ended(Status::unknown(error.to_string()), &seen))?;
    // As the generated client does it, but for the size of the buffers.
    let path = PathAndQuery::from_static(SUBSCRIBE);
    let mut frames = grpc
        .server_streaming(request, path, SubscribeCodec)
        .await
        .map_err(|status| ended(status, &seen))?
        .into_inner();
    let first = frames
        .message()
        .await
        .map_err(|status| ended(status, &seen))?;
    let Some(first) = first else {
        return Err(End::Ok);
    };
    let Some(Frame::Welcome(welcome)) = first.frame else {
        return Err(End::Lost(Lost::Protocol(
            "the first response is not Welcome",
        )));
    };
    let Some(position) = welcome.position.map(Position::from) else {
        return Err(End::Lost(Lost::Protocol("Welcome names no position")));
    };
    // A server of before this field names the epoch of the events in its position.
    let epoch = match welcome.epoch {
        0 => position.epoch,
        epoch => epoch,
    };
    let asked = ask.request.resume_after.map(Position::from);
    let outcome = Outcome::from_wire(welcome.outcome, asked.is_some());
    let mut live = Live {
        frames,
        seen,
        lease: lease.clone(),
        checker: Continuity::begin(asked, position, epoch, outcome),
        credential,
        attempt: ask.request.attempt,
        opened: Instant::now(),
        departure: None,
        renewal: None,
        silence: welcome.max_silence.and_then(watched_silence),
        deadline: None,
        record: None,
    };
    live.heard();
    Ok((live, welcome))
}

fn ended(status: Status, seen: &Seen) -> End {
    if seen.sent() {
        End::Sent(status)
    } else {
        End::Lost(seen.lost(&status))
    }
}

/// How long to wait for the next response: the promised interval, and a margin for the way.
fn watched_silence(promised: prost_types::Duration) -> Option<Duration> {
    let promised = Duration::try_from(promised)
        .ok()
        .filter(|promised| !promised.is_zero())?;
    let margin = (promised / 4).clamp(Duration::from_secs(1), Duration::from_secs(10));
    (promised <= SILENCE_MAX).then_some(promised + margin)
}

impl Live {
    /// The next response or the end. Safe to drop while it waits.
    ///
    /// A response that has arrived comes before the verdict that none did: an application that was busy for long finds
    /// its responses, not a dead stream.
    pub(super) async fn next(&mut self) -> Got {
        loop {
            let message = match self.deadline {
                Some(deadline) => {
                    match tokio::time::timeout_at(deadline, self.frames.message()).await {
                        Ok(message) => message,
                        Err(_elapsed) => {
                            let silence = self.silence.unwrap_or_default();
                            return Got::End(End::Lost(Lost::Silent(silence)));
                        }
                    }
                }
                None => self.frames.message().await,
            };
            match message {
                Ok(Some(response)) => {
                    self.heard();
                    // None is a kind of response that this version does not know.
                    if let Some(frame) = response.frame {
                        return Got::Frame(frame);
                    }
                }
                Ok(None) => return Got::End(End::Ok),
                Err(status) => return Got::End(ended(status, &self.seen)),
            }
        }
    }

    /// When something is to be opened beside this stream. One whose end is announced has no other turn.
    pub(super) fn turn(&self) -> Option<Instant> {
        let departs = self.departure.map(|departure| departure.turn);
        departs.or_else(|| self.renewal.map(|renewal| renewal.turn))
    }

    /// Tells the recorder, if there is one.
    pub(super) fn told(&self, told: Told<'_>) {
        if let Some(record) = &self.record {
            record.told(told);
        }
    }

    fn heard(&mut self) {
        self.deadline = self.silence.map(|silence| Instant::now() + silence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watch_is_longer_than_the_promise() {
        let watched = |seconds| watched_silence(prost_types::Duration { seconds, nanos: 0 });
        assert_eq!(watched(20), Some(Duration::from_secs(25)));
        assert_eq!(watched(1), Some(Duration::from_secs(2)));
        assert_eq!(watched(600), Some(Duration::from_secs(610)));
        assert_eq!(watched(0), None);
        assert_eq!(watched(-5), None);
        assert_eq!(watched(i64::MAX), None);
    }
}
