//! Any split of the events between a stream and the one that is to replace it, with breaks of either, gives the application
//! each event once, in order, and no violation.

use longlived_api::v1;
use longlived_testkit::wait;
use proptest::prelude::*;
use tokio::runtime::Runtime;
use tonic::Code;
use v1::subscribe_response::Frame;
use v1::welcome::Outcome::{New, Resumed};

use crate::renewal::{LONG, ends_soon};
use crate::scripted::{Call, Server, Watched};
use crate::tokens::{TokenFile, client, watched};

const EPOCH: u64 = 7;

/// Why there is a second stream.
#[derive(Clone, Copy, Debug)]
enum Why {
    /// The credential of the first ends soon.
    Credential,
    /// The server ends the first in a while.
    StreamAge,
}

/// What happens next. What cannot happen then is left out.
#[derive(Clone, Copy, Debug)]
enum Step {
    OldSends,
    /// A Progress of the old stream, which is not the last that it sends.
    OldProgress,
    NewAnswers,
    NewCurrent,
    OldBreaks,
    /// The server ends the old stream for the new one.
    OldEnds,
    NewBreaks,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::OldSends),
        2 => Just(Step::OldProgress),
        8 => Just(Step::NewAnswers),
        1 => Just(Step::NewCurrent),
        1 => Just(Step::OldBreaks),
        1 => Just(Step::OldEnds),
        1 => Just(Step::NewBreaks),
    ]
}

/// A stream as the server sees it.
struct Stream {
    call: Call,
    is_welcomed: bool,
    /// Everything up to here that matches was sent.
    sent: u64,
}

impl Stream {
    async fn next(
        server: &mut Server,
        before: &v1::SubscribeRequest,
    ) -> (Self, v1::SubscribeRequest) {
        let (request, call) = server.subscribe().await;
        assert_eq!(request.instance, before.instance);
        assert!(request.attempt > before.attempt);
        let sent = request.resume_after.unwrap().sequence;
        let stream = Self {
            call,
            is_welcomed: false,
            sent,
        };
        (stream, request)
    }

    /// Sends Welcome, or else the next event if there is one.
    fn answer(&mut self, log: &[u64]) {
        if !self.is_welcomed {
            self.is_welcomed = true;
            self.call.welcome(Resumed, EPOCH, self.sent);
            return;
        }
        let place = log.iter().position(|sequence| *sequence > self.sent);
        if let Some(place) = place {
            let previous = place.checked_sub(1).map_or(0, |before| log[before]);
            self.call.event_after(log[place], previous);
            self.sent = log[place];
        }
    }

    fn progress(&mut self) {
        self.call.frame(Frame::Progress(v1::Progress {
            position: Some(v1::Position {
                epoch: EPOCH,
                sequence: self.sent,
            }),
            ..v1::Progress::default()
        }));
    }
}

/// Both streams. The old one is `None` when the new one has taken its place.
struct Streams {
    server: Server,
    log: Vec<u64>,
    old: Option<Stream>,
    new: Stream,
    /// Of the new one.
    request: v1::SubscribeRequest,
}

impl Streams {
    /// A subscriber that has the first event, and has just asked for a second stream.
    async fn begin(why: Why, log: Vec<u64>) -> (Self, Watched, TokenFile) {
        let mut server = Server::start().await;
        let file = TokenFile::new("old");
        let mut watched = watched(&client(&server, file.token()));
        let (request, mut call) = server.subscribe().await;
        call.welcome(New, EPOCH, 0);
        call.event_after(log[0], 0);
        assert_eq!(watched.event().await, log[0]);
        file.holds("new");
        wait::pass(LONG).await;
        match why {
            Why::Credential => ends_soon(&mut call),
            Why::StreamAge => call.frame(Frame::GoAway(v1::GoAway {
                reason: v1::go_away::Reason::StreamAge.into(),
                reconnect: true,
                ends_in: Some(prost_types::Duration {
                    seconds: 600,
                    nanos: 0,
                }),
                ..v1::GoAway::default()
            })),
        }
        let (new, request) = Stream::next(&mut server, &request).await;
        let old = Stream {
            call,
            is_welcomed: true,
            sent: log[0],
        };
        let streams = Self {
            server,
            log,
            old: Some(old),
            new,
            request,
        };
        (streams, watched, file)
    }

    async fn take(&mut self, step: Step) {
        let has_new = self.new.is_welcomed;
        match (step, &mut self.old) {
            (Step::OldSends, Some(old)) => old.answer(&self.log),
            (Step::OldProgress, Some(old)) => old.progress(),
            (Step::NewAnswers, _) => self.new.answer(&self.log),
            (Step::NewCurrent, Some(old)) if has_new && self.new.sent >= old.sent => {
                self.new.call.current(EPOCH, self.new.sent);
                old.call.left().await;
                self.old = None;
            }
            (Step::OldBreaks, Some(old)) => {
                old.call.reset(h2::Reason::INTERNAL_ERROR);
                self.old = None;
            }
            (Step::OldEnds, Some(old)) if has_new && self.new.sent >= old.sent => {
                old.call.frame(Frame::GoAway(v1::GoAway {
                    reason: v1::go_away::Reason::Replaced.into(),
                    reconnect: false,
                    ..v1::GoAway::default()
                }));
                old.call.end(Code::Ok);
                self.old = None;
            }
            (Step::NewBreaks, _) => {
                if has_new {
                    self.new.call.reset(h2::Reason::INTERNAL_ERROR);
                } else {
                    self.new.call.turn_away(h2::Reason::REFUSED_STREAM);
                }
                let next = Stream::next(&mut self.server, &self.request).await;
                (self.new, self.request) = next;
            }
            // Nothing like that can happen now.
            _ => {}
        }
    }
}

async fn each_event_comes_once(why: Why, log: Vec<u64>, steps: Vec<Step>) {
    let (mut streams, mut watched, _file) = Streams::begin(why, log.clone()).await;
    for step in steps {
        streams.take(step).await;
    }
    // In the end the new stream brings everything.
    while streams.new.sent < *log.last().unwrap() || !streams.new.is_welcomed {
        streams.take(Step::NewAnswers).await;
    }
    streams.take(Step::NewCurrent).await;
    for sequence in &log[1..] {
        // Anything but an event or a notice fails it.
        assert_eq!(watched.event().await, *sequence);
    }
    let last = log.last().unwrap() + 1;
    streams.new.call.event_after(last, last - 1);
    assert_eq!(watched.event().await, last);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn however_two_streams_share_the_events_each_comes_once_in_order(
        why in prop_oneof![Just(Why::Credential), Just(Why::StreamAge)],
        strides in prop::collection::vec(1_u64..4, 2..12),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let log = strides.iter().scan(0, |last, stride| {
            *last += stride;
            Some(*last)
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime: Runtime = runtime.unwrap();
        runtime.block_on(each_event_comes_once(why, log.collect(), steps));
    }
}
