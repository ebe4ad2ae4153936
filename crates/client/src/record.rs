//! The records of a client: each publish and each stream, response by response, as it happens.
//!
//! Holds: a publish and a stream are told before anything of them is sent; the responses of one stream are told in
//! their order, also those the application does not get; the end of a told stream is told, also when it is dropped. The
//! recorder holds up the client until it returns.
//! Does not: record the frozen contract, whose responses have no positions, or keep anything.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use longlived_api::v1;
use tonic::Code;

use crate::publisher::{PublishError, Published};
use crate::subscriber::Lost;

/// Records the calls and responses of a client; see [`ClientBuilder::recording`](crate::ClientBuilder::recording).
pub trait Recorder: Send + Sync + 'static {
    /// Something happened. The client goes on when this returns: one that cannot keep up slows it.
    fn record(&self, happened: Recorded<'_>);
}

/// One record, in the words of the contract.
#[derive(Debug)]
pub enum Recorded<'a> {
    /// A message is about to be sent.
    PublishBegun {
        /// Names it, uniquely in one [`Recording`].
        publish: u64,
        /// The message.
        request: &'a v1::PublishRequest,
    },
    /// The outcome of it. A publish that was dropped, and those of a bulk, have none.
    PublishEnded {
        /// The publish.
        publish: u64,
        /// The outcome that the publisher was told.
        answer: Result<&'a Published, &'a PublishError>,
    },
    /// A stream is about to be opened.
    StreamOpened {
        /// Names it, uniquely in one [`Recording`].
        stream: u64,
        /// The request.
        request: &'a v1::SubscribeRequest,
    },
    /// A response came.
    Told {
        /// The stream.
        stream: u64,
        /// The response.
        told: Told<'a>,
    },
    /// A stream is over.
    StreamEnded {
        /// The stream.
        stream: u64,
        /// How it ended.
        end: StreamEnd,
        /// The subscriber goes on with another stream.
        returns: bool,
    },
}

/// A response of a stream.
#[derive(Debug)]
pub enum Told<'a> {
    /// The first.
    Welcome(&'a v1::Welcome),
    /// An event.
    Event {
        /// As it came.
        event: &'a v1::Event,
        /// It was handed to the application.
        applied: bool,
    },
    /// Events that will not come.
    Gap(&'a v1::Gap),
    /// A position.
    Progress(&'a v1::Progress),
    /// The announcement of an end.
    GoAway(&'a v1::GoAway),
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// By this status of the server.
    Status(Code),
    /// Without a status.
    Lost(Lost),
    /// This side left the stream, because another has taken its place or it is not read any more.
    Left,
}

/// A recorder and the numbers it knows publishes and streams by. Clones share both.
#[derive(Clone)]
pub struct Recording(Arc<Shared>);

struct Shared {
    recorder: Box<dyn Recorder>,
    publishes: AtomicU64,
    streams: AtomicU64,
}

impl Recording {
    /// Tells `recorder`.
    pub fn new(recorder: impl Recorder) -> Self {
        Self(Arc::new(Shared {
            recorder: Box::new(recorder),
            publishes: AtomicU64::new(0),
            streams: AtomicU64::new(0),
        }))
    }

    fn tell(&self, happened: Recorded<'_>) {
        self.0.recorder.record(happened);
    }

    /// Returns the number of the publish.
    pub(crate) fn publish_begun(&self, request: &v1::PublishRequest) -> u64 {
        let publish = self.0.publishes.fetch_add(1, Ordering::Relaxed) + 1;
        self.tell(Recorded::PublishBegun { publish, request });
        publish
    }

    pub(crate) fn publish_ended(&self, publish: u64, answer: Result<&Published, &PublishError>) {
        self.tell(Recorded::PublishEnded { publish, answer });
    }

    pub(crate) fn stream_opened(&self, request: &v1::SubscribeRequest) -> StreamRecord {
        let stream = self.0.streams.fetch_add(1, Ordering::Relaxed) + 1;
        self.tell(Recorded::StreamOpened { stream, request });
        StreamRecord {
            recording: self.clone(),
            stream,
            ended: false,
        }
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").finish_non_exhaustive()
    }
}

/// One stream in a recording. Dropped, it was left for good.
#[derive(Debug)]
pub(crate) struct StreamRecord {
    recording: Recording,
    stream: u64,
    ended: bool,
}

impl StreamRecord {
    pub(crate) fn told(&self, told: Told<'_>) {
        let stream = self.stream;
        self.recording.tell(Recorded::Told { stream, told });
    }

    pub(crate) fn ended(mut self, end: StreamEnd, returns: bool) {
        self.end(end, returns);
    }

    fn end(&mut self, end: StreamEnd, returns: bool) {
        self.ended = true;
        self.recording.tell(Recorded::StreamEnded {
            stream: self.stream,
            end,
            returns,
        });
    }
}

impl Drop for StreamRecord {
    fn drop(&mut self) {
        if !self.ended {
            self.end(StreamEnd::Left, false);
        }
    }
}
