//! The records of a client: their order, and the responses among them.

use std::sync::{Arc, Mutex};

use longlived_api::v1;
use longlived_api::v1::subscribe_response::Frame;
use longlived_api::v1::welcome::Outcome::{New, Resumed};
use longlived_client::record::{Recorded, Recorder, Recording, Told};
use longlived_client::{Item, Notice};
use longlived_testkit::wait::until_so;
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::scripted::{Server, Watched};

const EPOCH: u64 = 7;

/// One line for each thing told.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    async fn until(&self, last: &str) -> Vec<String> {
        let is_last = || self.all().last().is_some_and(|note| note == last);
        until_so(last, is_last).await;
        self.all()
    }
}

impl Recorder for Notes {
    fn record(&self, happened: Recorded<'_>) {
        let note = match happened {
            Recorded::PublishBegun { publish, request } => {
                format!("publish {publish} to {}", request.topic)
            }
            Recorded::PublishEnded { publish, answer } => match answer {
                Ok(answer) => format!("publish {publish} is at {}", answer.position),
                Err(error) => format!("publish {publish}: {error}"),
            },
            Recorded::StreamOpened { stream, request } => {
                let after = request.resume_after.map(|position| position.sequence);
                format!("{stream} opened after {after:?}")
            }
            Recorded::Told { stream, told } => match told {
                Told::Welcome(_) => format!("{stream} welcome"),
                Told::Event { event, applied } => {
                    format!("{stream} event {} {applied}", event.sequence)
                }
                Told::Gap(gap) => format!("{stream} gap {}", gap.through_sequence),
                Told::Progress(progress) => {
                    format!("{stream} progress {}", progress.position.unwrap().sequence)
                }
                Told::GoAway(_) => format!("{stream} goes away"),
            },
            Recorded::StreamEnded {
                stream,
                end,
                returns,
            } => format!("{stream} ended {end:?} {returns}"),
        };
        self.0.lock().unwrap().push(note);
    }
}

fn go_away() -> Frame {
    Frame::GoAway(v1::GoAway {
        reason: v1::go_away::Reason::StreamAge.into(),
        position: None,
        reconnect_after: None,
        reconnect: true,
        ends_in: Some(prost_types::Duration {
            seconds: 30,
            nanos: 0,
        }),
    })
}

#[tokio::test]
async fn each_response_and_end_is_told_also_those_that_the_application_does_not_get() {
    let mut server = Server::start().await;
    let notes = Notes::default();
    let client = server.client().recording(Recording::new(notes.clone()));
    let client = client.build().unwrap();
    let mut items = Watched::new(client.subscriber("a").filter("t").build().unwrap());

    let (_, mut first) = server.subscribe().await;
    first.welcome(New, EPOCH, 0);
    first.event(1);
    // A server that repeats itself: told, and not applied.
    first.event(1);
    first.frame(Frame::Gap(v1::Gap {
        reason: v1::gap::Reason::Trimmed.into(),
        after_sequence: 1,
        through_sequence: 3,
        ..v1::Gap::default()
    }));
    first.event_after(4, 3);
    notes.until("1 event 4 true").await;
    first.kill_connection();

    let (_, mut second) = server.subscribe().await;
    second.welcome(Resumed, EPOCH, 4);
    second.current(EPOCH, 4);
    second.event(5);
    second.frame(go_away());
    // Two at a time: an event that both bring is applied once.
    let (_, mut third) = server.subscribe().await;
    third.welcome(Resumed, EPOCH, 5);
    notes.until("3 welcome").await;
    second.event(6);
    notes.until("2 event 6 true").await;
    third.event(6);
    third.current(EPOCH, 6);
    notes.until("2 ended Left true").await;
    drop(items.item().await);
    drop(items);
    let notes = notes.until("3 ended Left false").await;
    let lost = &notes[6];
    assert!(lost.starts_with("1 ended Lost(Transport("), "{lost}");
    assert!(lost.ends_with(" true"), "{lost}");
    let others = [&notes[..6], &notes[7..]].concat();
    assert_eq!(
        others,
        [
            "1 opened after None",
            "1 welcome",
            "1 event 1 true",
            "1 event 1 false",
            "1 gap 3",
            "1 event 4 true",
            "2 opened after Some(4)",
            "2 welcome",
            "2 progress 4",
            "2 event 5 true",
            "2 goes away",
            "3 opened after Some(5)",
            "3 welcome",
            "2 event 6 true",
            "3 event 6 false",
            "3 progress 6",
            "2 ended Left true",
            "3 ended Left false",
        ]
    );
}

#[tokio::test]
async fn a_refused_stream_and_an_orderly_end_are_told() {
    let mut server = Server::start().await;
    let notes = Notes::default();
    let client = server.client().recording(Recording::new(notes.clone()));
    let client = client.build().unwrap();
    let mut subscriber = client.subscriber("a").filter("t").build().unwrap();
    let serve = async {
        let (_, mut call) = server.subscribe().await;
        call.refuse(Code::Unavailable, &[("grpc-retry-pushback-ms", "1")]);
        let (_, mut call) = server.subscribe().await;
        call.welcome(New, EPOCH, 0);
        call
    };
    let connected = async {
        loop {
            let item = subscriber.next().await.unwrap().unwrap();
            if matches!(item, Item::Notice(Notice::Connected { .. })) {
                return;
            }
        }
    };
    let (mut stream, ()) = tokio::join!(serve, connected);
    let (left, ()) = tokio::join!(subscriber.unsubscribe(), async {
        let mut call = server.call().await;
        stream.end(Code::Ok);
        call.send(&v1::UnsubscribeResponse { position: None });
        call.end(Code::Ok);
    });
    left.unwrap();
    assert_eq!(
        notes.all(),
        [
            "1 opened after None",
            "1 ended Status(Unavailable) true",
            "2 opened after None",
            "2 welcome",
            "2 ended Status(Ok) false",
        ]
    );
}

#[tokio::test]
async fn a_publish_is_told_before_it_is_sent_and_when_its_outcome_is_known() {
    let mut server = Server::start().await;
    let notes = Notes::default();
    let client = server.client().recording(Recording::new(notes.clone()));
    let publisher = client.build().unwrap().publisher();
    let answer = v1::PublishResponse {
        position: Some(v1::Position {
            epoch: EPOCH,
            sequence: 1,
        }),
        durability: v1::Durability::Memory.into(),
        duplicate: false,
    };
    let (stored, ()) = tokio::join!(publisher.publish(("a", "x")), async {
        let mut call = server.call().await;
        assert_eq!(notes.all(), ["publish 1 to a"]);
        call.send(&answer);
        call.end(Code::Ok);
    });
    stored.unwrap();
    let (lost, ()) = tokio::join!(publisher.publish(("b", "x")), async {
        let mut call = server.call().await;
        call.message::<v1::PublishRequest>().await.unwrap();
        call.kill_connection();
    });
    lost.unwrap_err();
    let lines = tokio_stream::iter(["c", "d"]).map(|topic| (topic, "x").into());
    let mut answers = publisher.publish_stream(lines, 8);
    let read = async { (answers.next().await, answers.next().await) };
    let ((answered, refused), ()) = tokio::join!(read, async {
        let mut call = server.call().await;
        call.open();
        call.message::<v1::PublishRequest>().await.unwrap();
        call.message::<v1::PublishRequest>().await.unwrap();
        call.send(&answer);
        call.end(Code::InvalidArgument);
    });
    answered.unwrap().unwrap();
    refused.unwrap().unwrap_err();
    let notes = notes.all();
    assert_eq!(
        notes[..3],
        ["publish 1 to a", "publish 1 is at 7/1", "publish 2 to b"]
    );
    assert!(notes[3].starts_with("publish 2: sent, but the answer was lost"));
    assert_eq!(
        notes[4..7],
        ["publish 3 to c", "publish 4 to d", "publish 3 is at 7/1"]
    );
    assert!(notes[7].starts_with("publish 4: refused, not stored"));
    assert_eq!(notes.len(), 8);
}
