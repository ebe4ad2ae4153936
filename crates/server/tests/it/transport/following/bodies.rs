//! The bodies of these tests: each sends all events of one topic, read by a cursor from a running log.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::SystemTime,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use longlived_broker::{
    Begin, Compression, Cursor, Delivery, Encoding, Environment, GapPolicy, Interest, Log,
    ReadOptions, Sequence, Signal, SlowPolicy, TailReader, TailSource,
};
use longlived_server::testkit::StreamAbort;
use longlived_server::testkit::connection::{Followed, Follower, Heartbeat, ResponseBody};
use longlived_topic::TopicFilter;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::super::support::abort_of;

/// How all of them read.
pub(super) const OPTIONS: ReadOptions = ReadOptions {
    gap_policy: GapPolicy::Fail,
    slow_policy: SlowPolicy::Park,
    message_bytes_max: 4 << 20,
    encoding: Encoding::V1,
    compression: Compression::Identity,
};

/// The inside of one answered call.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) topic: String,
    /// It sends the events published after this.
    pub(super) after: Sequence,
    pub(super) abort: StreamAbort,
    signal: Arc<Signal>,
    polls: Arc<AtomicUsize>,
    follows: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
}

impl Call {
    /// How often the body was asked.
    pub(super) fn polls(&self) -> usize {
        self.polls.load(Ordering::SeqCst)
    }

    /// How often the body was told that another reads for it.
    pub(super) fn follows(&self) -> usize {
        self.follows.load(Ordering::SeqCst)
    }

    /// The body is woken for nothing.
    pub(super) fn nudge(&self) {
        self.signal.raise(Interest::Control);
    }

    /// The body ends, after its chunks so far.
    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::SeqCst);
        self.nudge();
    }
}

/// By the number of the stream.
pub(super) type Calls = Arc<Mutex<BTreeMap<u32, Call>>>;

/// Answers a call to `/topic/begin/stream`.
pub(super) async fn answer(
    log: Log,
    calls: Calls,
    request: Request<tonic::body::Body>,
) -> Result<Response<TailBody>, Infallible> {
    let parts: Vec<_> = request.uri().path().split('/').collect();
    let [_, topic, begin, stream] = parts[..] else {
        panic!("a path of three parts: {parts:?}");
    };
    let begin = if begin == "all" {
        Begin::Earliest
    } else {
        Begin::Next
    };
    let filter = TopicFilter::parse(topic).expect("a filter");
    let signal = Arc::<Signal>::default();
    let opened = Cursor::open(&log, &[filter], begin, OPTIONS, signal.clone()).await;
    let opened = opened.unwrap_or_else(|error| panic!("{error}"));
    let call = Call {
        topic: topic.to_owned(),
        after: opened.position.sequence,
        abort: abort_of(&request),
        signal,
        polls: Arc::default(),
        follows: Arc::default(),
        ends: Arc::default(),
    };
    let stream = stream.parse().expect("its number");
    let before = calls.lock().insert(stream, call.clone());
    assert!(before.is_none(), "stream {stream} was asked for twice");
    Ok(Response::new(TailBody {
        cursor: opened.cursor,
        call,
        followed: false,
    }))
}

pub(super) struct TailBody {
    cursor: Cursor,
    call: Call,
    // Another reads for it.
    followed: bool,
}

impl Body for TailBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        assert!(!self.followed, "it is asked although another reads for it");
        self.call.polls.fetch_add(1, Ordering::SeqCst);
        loop {
            self.call.signal.take(Interest::Control);
            if self.call.ends.load(Ordering::SeqCst) {
                return Poll::Ready(None);
            }
            match self.cursor.poll_next(cx) {
                Poll::Ready(Ok(Delivery::Events { bytes, .. })) => {
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Poll::Ready(Ok(Delivery::Scanned | Delivery::Current)) => {}
                Poll::Ready(other) => panic!("history keeps everything: {other:?}"),
                // The cursor has registered its waker; an order before that woke nobody.
                Poll::Pending if self.call.signal.is_raised(Interest::Control) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl ResponseBody for TailBody {
    type Reader = TailReader;

    fn follower(&mut self) -> Option<&mut dyn Follower<TailReader>> {
        Some(self)
    }
}

impl Follower<TailReader> for TailBody {
    fn source(&self) -> Option<TailSource<'_>> {
        self.cursor.source()
    }

    fn reader(&self) -> Option<TailReader> {
        self.cursor.tail_reader()
    }

    fn follow(&mut self, reader: &mut TailReader) -> bool {
        let follows = self.cursor.follow(reader);
        if follows {
            self.call.follows.fetch_add(1, Ordering::SeqCst);
            let before = std::mem::replace(&mut self.followed, true);
            assert!(!before, "it follows already");
        }
        follows
    }

    fn set_capacity(&mut self, bytes: usize) {
        self.cursor.set_capacity(bytes);
    }

    fn drop_page(&mut self) {
        self.cursor.drop_page();
    }

    fn hold(&self, sending: bool) {
        self.cursor.hold(sending);
    }

    fn heartbeat(&self, _: Option<Instant>) -> Option<Heartbeat> {
        None
    }

    fn larger(&mut self, piece: Bytes, _bytes: usize) -> Bytes {
        piece
    }

    fn unfollow(&mut self, followed: Followed) {
        assert!(std::mem::take(&mut self.followed), "it did not follow");
        self.cursor.unfollow(followed.position);
    }
}

/// The same at each run.
pub(super) fn environment() -> Environment {
    Environment::seeded(7, SystemTime::UNIX_EPOCH)
}
