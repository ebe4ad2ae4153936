//! Every way a stream can end, and the subscriber's next step.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use longlived_api::v1;
use longlived_api::v1::subscribe_response::Frame;
use longlived_api::v1::welcome::Outcome::{New, Reset, Resumed};
use longlived_client::{
    GapReason, GoAwayReason, Item, Lost, Notice, Position, SubscribeError, Subscriber, Violation,
};
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::scripted::{Call, DETAILS, Server, Watched, details};

const EPOCH: u64 = 7;

fn at(sequence: u64) -> v1::Position {
    v1::Position {
        epoch: EPOCH,
        sequence,
    }
}

fn subscriber(server: &Server) -> Subscriber {
    server
        .client()
        .build()
        .unwrap()
        .subscriber("a")
        .filter("t")
        .build()
        .unwrap()
}

/// A subscriber that has received event 1 on an open stream.
async fn running() -> (Server, Watched, Call) {
    let mut server = Server::start().await;
    let mut watched = Watched::new(subscriber(&server));
    let (_, mut call) = server.subscribe().await;
    call.welcome(New, EPOCH, 0);
    call.event(1);
    assert_eq!(watched.event().await, 1);
    (server, watched, call)
}

/// The subscriber comes back and asks for the events after event 1; the application sees no difference.
async fn resumes(server: &mut Server, watched: &mut Watched) {
    let (request, mut call) = server.subscribe().await;
    assert_eq!(request.resume_after, Some(at(1)));
    call.welcome(Resumed, EPOCH, 1);
    call.event(2);
    assert_eq!(watched.event().await, 2);
}

async fn lost(watched: &mut Watched) -> (Lost, Duration) {
    loop {
        if let Notice::Disconnected { reason, retry_in } = watched.notice().await {
            return (reason, retry_in);
        }
    }
}

fn go_away(reason: v1::go_away::Reason) -> v1::GoAway {
    v1::GoAway {
        reason: reason.into(),
        position: Some(at(1)),
        reconnect_after: None,
        reconnect: true,
        ends_in: None,
    }
}

fn millis(millis: i32) -> prost_types::Duration {
    prost_types::Duration {
        seconds: 0,
        nanos: millis * 1_000_000,
    }
}

#[tokio::test]
async fn the_first_request_has_the_id_and_the_filters_and_no_position() {
    let mut server = Server::start().await;
    let client = server.client().instance(99).build().unwrap();
    let _watched = Watched::new(
        client
            .subscriber("billing")
            .filter("orders.>")
            .filter("t")
            .label("team", "money")
            .earliest()
            .max_silence(Duration::from_secs(7))
            .build()
            .unwrap(),
    );
    let (request, _call) = server.subscribe().await;
    assert_eq!(request.subscriber_id, "billing");
    let filters: Vec<&str> = request
        .subscriptions
        .iter()
        .map(|subscription| subscription.topic_filter.as_str())
        .collect();
    assert_eq!(filters, ["orders.>", "t"]);
    assert_eq!(request.resume_after, None);
    assert_eq!(
        request.start.unwrap().at,
        Some(v1::start::At::Earliest(true))
    );
    assert_eq!((request.instance, request.attempt), (99, 1));
    assert_eq!(request.max_silence.unwrap().seconds, 7);
    assert_eq!(request.labels["team"], "money");
}

#[tokio::test]
async fn attempts_rise_over_reconnects_and_over_subscribers_of_one_process() {
    let (mut server, mut watched, mut call) = running().await;
    call.end(Code::Ok);
    let (second, call) = server.subscribe().await;
    drop(call);
    let (third, _call) = server.subscribe().await;
    assert!(third.attempt > second.attempt);
    assert_eq!(third.instance, second.instance);
    assert_ne!(third.instance, 0);
    lost(&mut watched).await;
    drop(watched);
    let _next = Watched::new(subscriber(&server));
    let (fourth, _call) = server.subscribe().await;
    assert!(fourth.attempt > third.attempt);
    assert_eq!(fourth.instance, second.instance);
}

#[tokio::test]
async fn a_killed_server_is_waited_for_and_resumed_from() {
    let (server, mut watched, _call) = running().await;
    let address = server.kill().await;
    let (reason, _) = lost(&mut watched).await;
    assert!(matches!(reason, Lost::Transport(_)), "{reason:?}");
    // While it is away each attempt fails and says so.
    let (reason, wait) = lost(&mut watched).await;
    assert!(matches!(reason, Lost::Connect(_)), "{reason:?}");
    assert!(wait <= Duration::from_millis(50));
    let mut server = Server::start_at(address).await;
    resumes(&mut server, &mut watched).await;
}

#[tokio::test]
async fn a_client_may_start_before_its_server() {
    let server = Server::start().await;
    let subscriber = subscriber(&server);
    let address = server.kill().await;
    let mut watched = Watched::new(subscriber);
    while !matches!(lost(&mut watched).await.0, Lost::Connect(_)) {}
    let mut server = Server::start_at(address).await;
    let (_, mut call) = server.subscribe().await;
    call.welcome(New, EPOCH, 0);
    call.event(1);
    assert_eq!(watched.event().await, 1);
}

#[tokio::test]
async fn ok_without_go_away_is_resumed_as_a_proxy_cut_it() {
    let (mut server, mut watched, mut call) = running().await;
    call.end(Code::Ok);
    assert_eq!(lost(&mut watched).await.0, Lost::Ended);
    resumes(&mut server, &mut watched).await;
}

#[tokio::test]
async fn a_body_without_trailers_is_resumed() {
    let (mut server, mut watched, mut call) = running().await;
    call.cut();
    assert!(matches!(lost(&mut watched).await.0, Lost::Transport(_)));
    resumes(&mut server, &mut watched).await;
}

#[tokio::test]
async fn a_reset_stream_is_resumed_after_every_reason() {
    for reason in [
        h2::Reason::CANCEL,
        h2::Reason::INTERNAL_ERROR,
        h2::Reason::REFUSED_STREAM,
        h2::Reason::ENHANCE_YOUR_CALM,
        h2::Reason::INADEQUATE_SECURITY,
    ] {
        let (mut server, mut watched, mut call) = running().await;
        call.reset(reason);
        assert!(
            matches!(lost(&mut watched).await.0, Lost::Transport(_)),
            "{reason:?}"
        );
        resumes(&mut server, &mut watched).await;
    }
}

#[tokio::test]
async fn a_dead_connection_is_dialled_anew() {
    let (mut server, mut watched, call) = running().await;
    call.kill_connection();
    assert!(matches!(lost(&mut watched).await.0, Lost::Transport(_)));
    resumes(&mut server, &mut watched).await;
}

#[tokio::test]
async fn codes_of_a_server_in_trouble_are_resumed() {
    for code in [
        Code::Unknown,
        Code::Internal,
        Code::Cancelled,
        Code::DeadlineExceeded,
        Code::FailedPrecondition,
        Code::AlreadyExists,
        Code::DataLoss,
        Code::Unavailable,
        Code::ResourceExhausted,
    ] {
        let (mut server, mut watched, mut call) = running().await;
        call.end(code);
        let (reason, wait) = lost(&mut watched).await;
        assert!(
            matches!(&reason, Lost::Status(refusal) if refusal.code == code),
            "{reason:?}"
        );
        assert!(
            wait <= Duration::from_millis(10),
            "the first wait after health is the first"
        );
        resumes(&mut server, &mut watched).await;
    }
}

#[tokio::test]
async fn a_pushback_is_waited_for_exactly() {
    for code in [Code::Unavailable, Code::ResourceExhausted] {
        let (mut server, mut watched, mut call) = running().await;
        call.end(Code::Unavailable);
        let (_, mut call) = server.subscribe().await;
        let asked = Instant::now();
        call.refuse(code, &[("grpc-retry-pushback-ms", "400")]);
        let (request, _call) = server.subscribe().await;
        let waited = asked.elapsed();
        assert!(waited >= Duration::from_millis(400), "{waited:?}");
        assert!(waited < Duration::from_millis(700), "{waited:?}");
        assert_eq!(request.resume_after, Some(at(1)));
        let told = [lost(&mut watched).await, lost(&mut watched).await];
        assert!((300..=400).contains(&told[1].1.as_millis()), "{told:?}");
    }
}

#[tokio::test]
async fn a_negative_pushback_is_a_word_to_stay_away() {
    let mut server = Server::start().await;
    let mut watched = Watched::new(subscriber(&server));
    let (_, mut call) = server.subscribe().await;
    call.refuse(Code::Unavailable, &[("grpc-retry-pushback-ms", "-1")]);
    assert!(matches!(watched.error().await, SubscribeError::Refused(_)));
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn final_refusals_stop_with_the_servers_words_in_trailers_and_in_headers() {
    for code in [
        Code::PermissionDenied,
        Code::InvalidArgument,
        Code::NotFound,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unauthenticated,
    ] {
        for in_trailers in [true, false] {
            let mut server = Server::start().await;
            let mut watched = Watched::new(subscriber(&server));
            let (_, mut call) = server.subscribe().await;
            if in_trailers {
                call.welcome(New, EPOCH, 0);
                call.end(code);
            } else {
                call.refuse(code, &[]);
            }
            let refusal = match watched.error().await {
                SubscribeError::TakenOver(refusal) if code == Code::Aborted => refusal,
                SubscribeError::OutOfRange { refusal, .. } if code == Code::OutOfRange => refusal,
                SubscribeError::Unauthenticated(refusal) if code == Code::Unauthenticated => {
                    refusal
                }
                SubscribeError::Refused(refusal) => refusal,
                other => panic!("{code:?}: {other}"),
            };
            assert_eq!(
                (refusal.code, refusal.message.as_str()),
                (code, "by script")
            );
            assert!(server.is_left_alone().await, "{code:?}");
        }
    }
}

#[tokio::test]
async fn a_refusal_has_its_reason_and_its_details() {
    let mut server = Server::start().await;
    let mut watched = Watched::new(subscriber(&server));
    let (_, mut call) = server.subscribe().await;
    let details = details(Code::Aborted, "ATTEMPT_NOT_NEWEST", None);
    call.refuse(Code::Aborted, &[(DETAILS, &details)]);
    let SubscribeError::TakenOver(refusal) = watched.error().await else {
        panic!("not taken over");
    };
    assert_eq!(refusal.reason.as_deref(), Some("ATTEMPT_NOT_NEWEST"));
    assert_eq!(refusal.fields["newest"], "7");
    assert_eq!(refusal.message, "by script");
}

#[tokio::test]
async fn the_wait_in_the_details_is_waited_for_where_there_is_no_pushback() {
    let (mut server, mut watched, mut call) = running().await;
    call.end(Code::Unavailable);
    lost(&mut watched).await;
    let (_, mut call) = server.subscribe().await;
    let asked = Instant::now();
    let wait = Duration::from_millis(400);
    let details = details(Code::Unavailable, "DRAINING", Some(wait));
    call.refuse(Code::Unavailable, &[(DETAILS, &details)]);
    let (reason, _) = lost(&mut watched).await;
    assert!(
        matches!(reason, Lost::Status(refusal) if refusal.reason.as_deref() == Some("DRAINING"))
    );
    resumes(&mut server, &mut watched).await;
    assert!(asked.elapsed() >= wait, "{:?}", asked.elapsed());
}

#[tokio::test]
async fn details_that_cannot_be_read_are_none() {
    for broken in ["%%%", "AAA", "AAAA", "//////8"] {
        let (mut server, mut watched, mut call) = running().await;
        call.end(Code::Unavailable);
        lost(&mut watched).await;
        let (_, mut call) = server.subscribe().await;
        call.refuse(Code::Unavailable, &[(DETAILS, broken)]);
        let (reason, _) = lost(&mut watched).await;
        assert!(
            matches!(&reason, Lost::Status(refusal) if refusal.reason.is_none()),
            "{broken}: {reason:?}"
        );
        resumes(&mut server, &mut watched).await;
    }
}

#[tokio::test]
async fn unimplemented_stops_only_when_the_server_says_so_itself() {
    for in_trailers in [true, false] {
        let (mut server, mut watched, mut call) = running().await;
        call.end(Code::Unavailable);
        lost(&mut watched).await;
        // A proxy that has no route, or whose route leads somewhere else.
        let (_, mut call) = server.subscribe().await;
        if in_trailers {
            call.welcome(Resumed, EPOCH, 1);
            call.end(Code::Unimplemented);
        } else {
            call.refuse(Code::Unimplemented, &[]);
        }
        let (reason, _) = lost(&mut watched).await;
        assert!(
            matches!(&reason, Lost::Status(refusal) if refusal.code == Code::Unimplemented),
            "{reason:?}"
        );
        resumes(&mut server, &mut watched).await;
    }

    let mut server = Server::start().await;
    let mut watched = Watched::new(subscriber(&server));
    let (_, mut call) = server.subscribe().await;
    let details = details(Code::Unimplemented, "METHOD_UNKNOWN", None);
    call.refuse(Code::Unimplemented, &[(DETAILS, &details)]);
    assert!(matches!(watched.error().await, SubscribeError::Refused(_)));
    assert!(server.is_left_alone().await);
}

fn replaced() -> Frame {
    Frame::GoAway(v1::GoAway {
        reconnect: false,
        ..go_away(v1::go_away::Reason::Replaced)
    })
}

fn handing_over() -> Frame {
    Frame::GoAway(v1::GoAway {
        ends_in: Some(prost_types::Duration {
            seconds: 30,
            nanos: 0,
        }),
        ..go_away(v1::go_away::Reason::StreamAge)
    })
}

#[tokio::test]
async fn a_stream_that_was_replaced_by_an_open_one_of_the_same_subscriber_is_left_for_it() {
    let (mut server, mut watched, mut old) = running().await;
    old.frame(handing_over());
    let (_, mut new) = server.subscribe().await;
    new.welcome(Resumed, EPOCH, 1);
    new.event(2);
    assert_eq!(watched.event().await, 2);
    old.frame(replaced());
    old.end(Code::Ok);
    new.event(3);
    assert_eq!(watched.event().await, 3);
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn a_stream_that_was_replaced_by_one_that_is_still_opening_is_left_for_it() {
    let (mut server, mut watched, mut old) = running().await;
    old.frame(handing_over());
    let (_, mut new) = server.subscribe().await;
    old.frame(replaced());
    old.end(Code::Ok);
    lost(&mut watched).await;
    new.welcome(Resumed, EPOCH, 1);
    new.event(2);
    assert_eq!(watched.event().await, 2);
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn a_stream_whose_replacement_of_the_same_subscriber_is_lost_is_come_back_from() {
    let (mut server, mut watched, mut old) = running().await;
    old.frame(handing_over());
    let (_, mut new) = server.subscribe().await;
    new.welcome(Resumed, EPOCH, 1);
    new.event(2);
    assert_eq!(watched.event().await, 2);
    // The server has seen it current, and tells the old one; then it breaks.
    new.reset(h2::Reason::INTERNAL_ERROR);
    old.frame(replaced());
    old.end(Code::Ok);
    let (request, mut call) = server.subscribe().await;
    assert_eq!(request.resume_after, Some(at(2)));
    call.welcome(Resumed, EPOCH, 2);
    call.event(3);
    assert_eq!(watched.event().await, 3);
}

#[tokio::test]
async fn of_two_subscribers_of_one_id_the_one_that_is_replaced_stops() {
    let (mut server, mut watched, mut call) = running().await;
    call.frame(replaced());
    call.end(Code::Ok);
    assert!(matches!(
        watched.error().await,
        SubscribeError::Dismissed(GoAwayReason::Replaced)
    ));
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn the_same_codes_made_up_from_an_http_status_are_resumed() {
    // 401, 403 and 404 would be UNAUTHENTICATED, PERMISSION_DENIED and UNIMPLEMENTED by gRPC's mapping.
    for status in [401, 403, 404, 400, 429, 502, 503] {
        let (mut server, mut watched, mut call) = running().await;
        call.end(Code::Unavailable);
        lost(&mut watched).await;
        let (_, mut call) = server.subscribe().await;
        call.http(status);
        assert_eq!(lost(&mut watched).await.0, Lost::Http(status));
        resumes(&mut server, &mut watched).await;
    }
}

#[tokio::test]
async fn a_page_with_http_status_200_is_resumed() {
    let (mut server, mut watched, mut call) = running().await;
    call.end(Code::Unavailable);
    lost(&mut watched).await;
    let (_, mut call) = server.subscribe().await;
    call.http(200);
    assert!(matches!(lost(&mut watched).await.0, Lost::Transport(_)));
    resumes(&mut server, &mut watched).await;
}

#[tokio::test]
async fn a_stream_that_does_not_begin_with_welcome_is_not_trusted() {
    let (mut server, mut watched, mut call) = running().await;
    call.end(Code::Unavailable);
    lost(&mut watched).await;
    let (_, mut call) = server.subscribe().await;
    call.event(2);
    assert!(matches!(lost(&mut watched).await.0, Lost::Protocol(_)));
    resumes(&mut server, &mut watched).await;
}

#[tokio::test]
async fn an_event_larger_than_promised_does_not_stop_the_subscription() {
    // The library that decodes makes OUT_OF_RANGE of it, which from a server would be final.
    let mut server = Server::start().await;
    let client = server.client().build().unwrap();
    let mut watched = Watched::new(
        client
            .subscriber("a")
            .filter("t")
            .max_event_bytes(1_024)
            .build()
            .unwrap(),
    );
    let (request, mut call) = server.subscribe().await;
    assert_eq!(request.max_event_bytes, 1_024);
    call.welcome(New, EPOCH, 1);
    call.frame(Frame::Event(v1::Event {
        topic: "t".to_owned(),
        sequence: 2,
        payload: vec![0; 100_000].into(),
        ..v1::Event::default()
    }));
    assert!(matches!(lost(&mut watched).await.0, Lost::Transport(_)));
    resumes(&mut server, &mut watched).await;
}

#[tokio::test]
async fn no_welcome_in_time_counts_as_lost() {
    let mut server = Server::start().await;
    let client = server
        .client()
        .open_timeout(Duration::from_millis(100))
        .build()
        .unwrap();
    let mut watched = Watched::new(client.subscriber("a").filter("t").build().unwrap());
    let (_, _mute) = server.subscribe().await;
    assert!(matches!(lost(&mut watched).await.0, Lost::NoWelcome(_)));
    let (_, mut call) = server.subscribe().await;
    call.welcome(New, EPOCH, 0);
    call.event(1);
    assert_eq!(watched.event().await, 1);
}

#[tokio::test]
async fn silence_beyond_the_promise_counts_as_lost() {
    let mut server = Server::start().await;
    let mut watched = Watched::new(subscriber(&server));
    let (_, mut call) = server.subscribe().await;
    call.frame(Frame::Welcome(v1::Welcome {
        position: Some(at(0)),
        max_silence: Some(millis(100)),
        ..v1::Welcome::default()
    }));
    call.event(1);
    assert_eq!(watched.event().await, 1);
    let last = Instant::now();
    let (reason, _) = lost(&mut watched).await;
    assert_eq!(reason, Lost::Silent(Duration::from_millis(1_100)));
    assert!(last.elapsed() >= Duration::from_secs(1));
    resumes(&mut server, &mut watched).await;
}

#[tokio::test]
async fn an_application_that_was_busy_for_longer_than_the_promise_finds_its_events() {
    let mut server = Server::start().await;
    let mut subscriber = subscriber(&server);
    let (call, first) = tokio::join!(server.subscribe(), async {
        tokio::time::timeout(Duration::from_millis(50), subscriber.next()).await
    });
    assert!(first.is_err());
    let (_, mut call) = call;
    call.frame(Frame::Welcome(v1::Welcome {
        position: Some(at(0)),
        max_silence: Some(millis(1)),
        ..v1::Welcome::default()
    }));
    assert!(matches!(
        subscriber.next().await,
        Some(Ok(Item::Notice(Notice::Connected { .. })))
    ));
    call.event(1);
    call.event(2);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    for sequence in [1, 2] {
        match subscriber.next().await {
            Some(Ok(Item::Event(event))) => assert_eq!(event.position.sequence, sequence),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(subscriber.position(), Some(Position::new(EPOCH, 2)));
}

#[tokio::test]
async fn a_planned_end_is_come_back_from_at_the_clients_turn() {
    let (mut server, mut watched, mut call) = running().await;
    let told = Instant::now();
    call.frame(Frame::GoAway(v1::GoAway {
        reconnect_after: Some(millis(300)),
        ..go_away(v1::go_away::Reason::Draining)
    }));
    call.end(Code::Ok);
    let (reason, wait) = lost(&mut watched).await;
    assert_eq!(reason, Lost::GoAway(GoAwayReason::Draining));
    assert!(
        wait <= Duration::from_millis(300) && wait > Duration::from_millis(150),
        "{wait:?}"
    );
    resumes(&mut server, &mut watched).await;
    assert!(told.elapsed() >= Duration::from_millis(295));
}

#[tokio::test]
async fn events_after_a_go_away_are_still_taken() {
    let (mut server, mut watched, mut call) = running().await;
    call.frame(Frame::GoAway(v1::GoAway {
        reconnect_after: Some(millis(300)),
        ..go_away(v1::go_away::Reason::StreamAge)
    }));
    call.event(2);
    assert_eq!(watched.event().await, 2);
    let (request, _next) = server.subscribe().await;
    assert_eq!(request.resume_after, Some(at(2)));
    call.left().await;
}

#[tokio::test]
async fn go_away_without_a_way_back_stops() {
    let (mut server, mut watched, mut call) = running().await;
    call.frame(Frame::GoAway(v1::GoAway {
        reconnect: false,
        ..go_away(v1::go_away::Reason::Unsubscribed)
    }));
    call.end(Code::Ok);
    assert_eq!(watched.notice().await, Notice::Unsubscribed { ok: true });
    assert!(watched.next().await.is_none());
    assert!(server.is_left_alone().await);

    let (mut server, mut watched, mut call) = running().await;
    call.frame(Frame::GoAway(v1::GoAway {
        reconnect: false,
        ..go_away(v1::go_away::Reason::Revoked)
    }));
    call.event(2);
    assert_eq!(watched.event().await, 2);
    call.kill_connection();
    assert!(matches!(
        watched.error().await,
        SubscribeError::Dismissed(GoAwayReason::Revoked)
    ));
    assert!(server.is_left_alone().await);

    let (mut server, mut watched, mut call) = running().await;
    call.frame(Frame::GoAway(v1::GoAway {
        reconnect: false,
        ..go_away(v1::go_away::Reason::TakenOver)
    }));
    call.end(Code::Aborted);
    assert!(matches!(
        watched.error().await,
        SubscribeError::TakenOver(_)
    ));
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn a_hand_over_loses_and_repeats_nothing_while_both_streams_bring_events() {
    let (mut server, mut watched, mut old) = running().await;
    old.frame(Frame::GoAway(v1::GoAway {
        ends_in: Some(prost_types::Duration {
            seconds: 30,
            nanos: 0,
        }),
        ..go_away(v1::go_away::Reason::StreamAge)
    }));
    let (request, mut new) = server.subscribe().await;
    assert_eq!(request.resume_after, Some(at(1)));
    // The old stream goes on before the new one is open, and beside it.
    old.event(2);
    assert_eq!(watched.event().await, 2);
    new.welcome(Resumed, EPOCH, 1);
    new.event(2);
    new.event(3);
    assert_eq!(watched.event().await, 3);
    old.event(3);
    old.event(4);
    assert_eq!(watched.event().await, 4);
    new.event(4);
    new.current(EPOCH, 4);
    old.left().await;
    new.event(5);
    assert_eq!(watched.event().await, 5);
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn an_event_that_the_old_stream_brought_first_is_not_repeated_after_its_end() {
    let (mut server, mut watched, mut old) = running().await;
    old.frame(Frame::GoAway(v1::GoAway {
        ends_in: Some(prost_types::Duration {
            seconds: 30,
            nanos: 0,
        }),
        ..go_away(v1::go_away::Reason::StreamAge)
    }));
    let (_, mut new) = server.subscribe().await;
    old.event(2);
    old.event(3);
    old.event(4);
    for sequence in 2..=4 {
        assert_eq!(watched.event().await, sequence);
    }
    new.welcome(Resumed, EPOCH, 1);
    old.end(Code::Ok);
    for sequence in 2..=5 {
        new.event(sequence);
    }
    assert_eq!(watched.event().await, 5);
}

#[tokio::test]
async fn a_hand_over_that_is_refused_is_tried_again_while_the_old_stream_goes_on() {
    let (mut server, mut watched, mut old) = running().await;
    old.frame(Frame::GoAway(v1::GoAway {
        ends_in: Some(prost_types::Duration {
            seconds: 30,
            nanos: 0,
        }),
        ..go_away(v1::go_away::Reason::Draining)
    }));
    let (_, mut new) = server.subscribe().await;
    new.refuse(Code::Unavailable, &[("grpc-retry-pushback-ms", "50")]);
    old.event(2);
    assert_eq!(watched.event().await, 2);
    let (request, mut new) = server.subscribe().await;
    assert_eq!(request.resume_after, Some(at(2)));
    new.welcome(Resumed, EPOCH, 2);
    old.end(Code::Ok);
    new.event(3);
    assert_eq!(watched.event().await, 3);
}

#[tokio::test]
async fn a_hand_over_into_a_new_epoch_first_empties_the_old_one() {
    let (mut server, mut watched, mut old) = running().await;
    old.frame(Frame::GoAway(v1::GoAway {
        ends_in: Some(prost_types::Duration {
            seconds: 30,
            nanos: 0,
        }),
        ..go_away(v1::go_away::Reason::Draining)
    }));
    let (_, mut new) = server.subscribe().await;
    new.welcome(Reset, 8, 0);
    new.frame(Frame::Gap(v1::Gap {
        reason: v1::gap::Reason::EpochChanged.into(),
        after_sequence: 1,
        through_sequence: 0,
        events: 0,
        through_epoch: 8,
    }));
    new.event(1);
    old.event(2);
    old.end(Code::Ok);
    assert_eq!(watched.event().await, 2);
    match watched.beyond_notices().await {
        Item::Gap(gap) => {
            assert_eq!(gap.after, Some(Position::new(EPOCH, 2)));
            assert_eq!(gap.through, Position::new(8, 0));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(watched.event().await, 1);
}

#[tokio::test]
async fn a_new_epoch_is_told_as_a_gap_and_resumed_from() {
    let (mut server, mut watched, call) = running().await;
    call.kill_connection();
    let (_, mut call) = {
        let called = server.subscribe().await;
        assert_eq!(called.0.resume_after, Some(at(1)));
        called
    };
    call.welcome(Reset, 8, 0);
    // Before the gap was handed out the old position holds: a stream lost here must hear of it again.
    call.kill_connection();
    let (request, mut call) = server.subscribe().await;
    assert_eq!(request.resume_after, Some(at(1)));
    call.welcome(Reset, 8, 0);
    call.frame(Frame::Gap(v1::Gap {
        reason: v1::gap::Reason::EpochChanged.into(),
        after_sequence: 1,
        through_sequence: 3,
        events: 0,
        through_epoch: 8,
    }));
    match watched.beyond_notices().await {
        Item::Gap(gap) => {
            assert_eq!(gap.reason, GapReason::EpochChanged);
            assert_eq!(gap.after, Some(Position::new(EPOCH, 1)));
            assert_eq!(gap.through, Position::new(8, 3));
            assert_eq!(gap.events, None);
        }
        other => panic!("{other:?}"),
    }
    call.event(4);
    assert_eq!(watched.event().await, 4);
    call.kill_connection();
    let (request, _call) = server.subscribe().await;
    assert_eq!(
        request.resume_after,
        Some(v1::Position {
            epoch: 8,
            sequence: 4
        })
    );
}

#[tokio::test]
async fn progress_moves_the_position() {
    let (mut server, mut watched, mut call) = running().await;
    call.current(EPOCH, 50);
    assert_eq!(
        watched.notice().await,
        Notice::Current {
            position: Position::new(EPOCH, 50)
        }
    );
    call.end(Code::Unavailable);
    let (request, _call) = server.subscribe().await;
    assert_eq!(request.resume_after, Some(at(50)));
}

#[tokio::test]
async fn events_missing_without_a_gap_are_told_before_the_event_that_shows_it() {
    let (_server, mut watched, mut call) = running().await;
    call.event_after(4, 3);
    match watched.beyond_notices().await {
        Item::Violation(Violation::Missing {
            base: 1,
            previous: 3,
            at,
            ..
        }) => {
            assert_eq!(at, Position::new(EPOCH, 4));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(watched.event().await, 4);
}

#[tokio::test]
async fn a_repeated_event_is_told_and_not_handed_out() {
    let (_server, mut watched, mut call) = running().await;
    call.event(1);
    call.event(2);
    assert!(matches!(
        watched.beyond_notices().await,
        Item::Violation(Violation::NotRising { last: 1, .. })
    ));
    assert_eq!(watched.event().await, 2);
}

#[tokio::test]
async fn a_refused_credential_is_replaced_once_and_only_once() {
    let mut server = Server::start().await;
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let client = server
        .client()
        .credentials(move || {
            let turn = count.fetch_add(1, Ordering::Relaxed);
            async move { Ok::<_, std::io::Error>(format!("token-{turn}")) }
        })
        .build()
        .unwrap();
    let mut watched = Watched::new(client.subscriber("a").filter("t").build().unwrap());
    let (_, mut call) = server.subscribe().await;
    assert_eq!(call.authorization(), Some("Bearer token-0"));
    call.refuse(Code::Unauthenticated, &[]);
    let (_, mut call) = server.subscribe().await;
    assert_eq!(call.authorization(), Some("Bearer token-1"));
    call.welcome(New, EPOCH, 0);
    call.event(1);
    assert_eq!(watched.event().await, 1);
    // Healthy in between: it may be replaced again.
    call.end(Code::Unauthenticated);
    let (_, mut call) = server.subscribe().await;
    assert_eq!(call.authorization(), Some("Bearer token-2"));
    call.refuse(Code::Unauthenticated, &[]);
    assert!(matches!(
        watched.error().await,
        SubscribeError::Unauthenticated(_)
    ));
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn unsubscribe_is_called_and_the_ok_of_the_stream_is_seen() {
    let mut server = Server::start().await;
    let mut subscriber = subscriber(&server);
    let (mut call, _) = tokio::join!(
        async {
            let (_, mut call) = server.subscribe().await;
            call.welcome(New, EPOCH, 0);
            call
        },
        subscriber.next()
    );
    let (ended, ()) = tokio::join!(subscriber.unsubscribe(), async {
        let mut unsubscribe = server.call().await;
        assert_eq!(
            unsubscribe.path,
            "/longlived.v1.SubscriptionService/Unsubscribe"
        );
        let request: v1::UnsubscribeRequest = unsubscribe.message().await.unwrap();
        assert_eq!(request.subscriber_id, "a");
        call.event(1);
        call.frame(Frame::GoAway(v1::GoAway {
            reconnect: false,
            ..go_away(v1::go_away::Reason::Unsubscribed)
        }));
        call.end(Code::Ok);
        unsubscribe.send(&v1::UnsubscribeResponse {
            position: Some(at(1)),
        });
        unsubscribe.end(Code::Ok);
    });
    assert_eq!(ended.unwrap(), Some(Position::new(EPOCH, 1)));
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn unsubscribing_between_two_streams_ends_at_once() {
    let (server, mut watched, _call) = running().await;
    let client = server.client().build().unwrap();
    let subscriber = client.subscriber("b").filter("t").build().unwrap();
    let handle = subscriber.handle();
    let _address = server.kill().await;
    let mut other = Watched::new(subscriber);
    lost(&mut other).await;
    assert!(handle.unsubscribe().await.is_err());
    loop {
        if other.notice().await == (Notice::Unsubscribed { ok: false }) {
            break;
        }
    }
    assert!(other.next().await.is_none());
    lost(&mut watched).await;
}

#[tokio::test]
async fn a_subscriber_that_has_ended_may_be_read_again() {
    let mut server = Server::start().await;
    let mut subscriber = subscriber(&server);
    let (item, ()) = tokio::join!(subscriber.next(), async {
        let (_, mut call) = server.subscribe().await;
        call.refuse(Code::InvalidArgument, &[]);
    });
    assert!(matches!(item, Some(Err(SubscribeError::Refused(_)))));
    assert!(subscriber.next().await.is_none());
    assert!(subscriber.next().await.is_none());
}

#[tokio::test]
async fn dropping_a_subscriber_cancels_its_stream() {
    let (_server, watched, mut call) = running().await;
    drop(watched);
    call.left().await;
}

#[tokio::test]
async fn an_application_that_does_not_read_stops_its_server_and_holds_little() {
    let mut server = Server::start().await;
    let mut subscriber = subscriber(&server);
    let (mut call, _) = tokio::join!(
        async {
            let (_, mut call) = server.subscribe().await;
            call.welcome(New, EPOCH, 0);
            call
        },
        subscriber.next()
    );
    let mut sent = 0;
    loop {
        let event = v1::SubscribeResponse {
            frame: Some(Frame::Event(v1::Event {
                topic: "t".to_owned(),
                sequence: sent + 1,
                previous_sequence: sent,
                payload: vec![b'x'; 1_024].into(),
                ..v1::Event::default()
            })),
        };
        if !call.send_if_there_is_capacity(&event).await {
            break;
        }
        sent += 1;
    }
    assert!(
        sent < 66,
        "{sent} KiB were taken from the server and read by nobody"
    );
    for sequence in 1..=sent {
        match subscriber.next().await {
            Some(Ok(Item::Event(event))) => assert_eq!(event.position.sequence, sequence),
            other => panic!("{other:?}"),
        }
    }
}
