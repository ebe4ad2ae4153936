//! A second stream with a fresh credential, opened before the credential of the first ends, and events of both.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use longlived_api::v1;
use longlived_client::{Client, Item, Lost, Notice, SubscribeError, Token};
use longlived_testkit::wait::{self, within};
use tonic::Code;
use v1::subscribe_response::Frame;
use v1::welcome::Outcome::{New, Resumed};

use crate::scripted::{Call, Server, Watched};
use crate::tokens::{TokenFile, call_with, client, go_away, refuse, running, watched};

const EPOCH: u64 = 7;

/// Longer than a token counts as just read.
pub(crate) const LONG: Duration = Duration::from_secs(3);

/// The server says that the credential of a stream ends soon.
pub(crate) fn ends_soon(call: &mut Call) {
    let expires = SystemTime::now() + Duration::from_millis(400);
    let expires = Some(expires.into());
    call.frame(Frame::CredentialNotice(v1::CredentialNotice { expires }));
}

/// A subscriber whose file has a fresh token, and that has been told that the old one ends soon.
async fn renewing() -> (Server, TokenFile, Watched, Call) {
    let mut server = Server::start().await;
    let file = TokenFile::new("old");
    let (watched, mut old) = running(&mut server, &file).await;
    file.holds("new");
    wait::pass(LONG).await;
    ends_soon(&mut old);
    (server, file, watched, old)
}

/// The stream with the fresh token.
async fn renewed(server: &mut Server) -> (v1::SubscribeRequest, Call) {
    let mut call = call_with(server, "new").await;
    (call.message().await.unwrap(), call)
}

fn current(call: &mut Call, sequence: u64) {
    call.current(EPOCH, sequence);
}

#[tokio::test]
async fn a_second_stream_is_opened_and_the_first_left_when_it_is_current() {
    let mut server = Server::start().await;
    let file = TokenFile::new("old");
    let mut watched = watched(&client(&server, file.token()));
    let mut old = call_with(&mut server, "old").await;
    let first: v1::SubscribeRequest = old.message().await.unwrap();
    old.welcome(New, EPOCH, 0);
    old.event(1);
    assert_eq!(watched.event().await, 1);
    file.holds("new");
    wait::pass(LONG).await;
    ends_soon(&mut old);
    let (second, mut new) = renewed(&mut server).await;
    assert_eq!(second.instance, first.instance);
    assert!(second.attempt > first.attempt);
    assert_eq!(second.subscriber_id, first.subscriber_id);
    assert_eq!(second.resume_after.unwrap().sequence, 1);
    // The first goes on before the second is open, and beside it.
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
    current(&mut new, 4);
    old.left().await;
    new.event(5);
    assert_eq!(watched.event().await, 5);
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn the_application_is_told_of_both_streams_and_of_no_loss() {
    let (mut server, _file, mut watched, _old) = renewing().await;
    let (_, mut new) = renewed(&mut server).await;
    new.welcome(Resumed, EPOCH, 1);
    current(&mut new, 1);
    let expires = watched.notice().await;
    assert!(matches!(expires, Notice::CredentialExpires { .. }));
    let handing = watched.notice().await;
    assert!(
        handing
            .to_string()
            .starts_with("the credential expires soon: "),
        "{handing}"
    );
    assert!(matches!(
        watched.notice().await,
        Notice::Connected { streams: 2, .. }
    ));
    assert!(matches!(watched.notice().await, Notice::Current { .. }));
}

#[tokio::test]
async fn a_first_stream_that_the_server_ends_for_the_second_is_left_for_it() {
    let (mut server, _file, mut watched, mut old) = renewing().await;
    let (_, mut new) = renewed(&mut server).await;
    new.welcome(Resumed, EPOCH, 1);
    old.frame(go_away(v1::go_away::Reason::Replaced, false));
    old.end(Code::Ok);
    new.event(2);
    assert_eq!(watched.event().await, 2);
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn a_token_that_is_the_same_is_waited_for_while_the_stream_goes_on() {
    let mut server = Server::start().await;
    let file = TokenFile::new("old");
    let (mut watched, mut old) = running(&mut server, &file).await;
    wait::pass(LONG).await;
    ends_soon(&mut old);
    assert!(server.is_left_alone().await);
    // Also when its time is over by this machine's clock.
    wait::pass(LONG).await;
    assert!(server.is_left_alone().await);
    old.event(2);
    assert_eq!(watched.event().await, 2);
    file.holds("new");
    wait::pass(LONG).await;
    let (request, mut new) = renewed(&mut server).await;
    assert_eq!(request.resume_after.unwrap().sequence, 2);
    new.welcome(Resumed, EPOCH, 2);
    current(&mut new, 2);
    old.left().await;
    new.event(3);
    assert_eq!(watched.event().await, 3);
}

#[tokio::test]
async fn a_second_stream_that_cannot_be_opened_is_tried_again_and_the_first_goes_on() {
    let (mut server, _file, mut watched, mut old) = renewing().await;
    let fails: [fn(&mut Call); 6] = [
        |new| refuse(new, Code::Unauthenticated, "CREDENTIAL_INVALID"),
        |new| refuse(new, Code::PermissionDenied, "NOT_GRANTED"),
        |new| new.refuse(Code::Unavailable, &[("grpc-retry-pushback-ms", "20")]),
        |new| new.http(503),
        |new| new.turn_away(h2::Reason::REFUSED_STREAM),
        |new| {
            new.welcome(Resumed, EPOCH, 1);
            new.reset(h2::Reason::INTERNAL_ERROR);
        },
    ];
    let mut sequence = 1;
    for fail in fails {
        let (_, mut new) = renewed(&mut server).await;
        fail(&mut new);
        sequence += 1;
        old.event(sequence);
        assert_eq!(watched.event().await, sequence);
    }
    let (request, mut new) = renewed(&mut server).await;
    assert_eq!(request.resume_after.unwrap().sequence, sequence);
    new.welcome(Resumed, EPOCH, sequence);
    current(&mut new, sequence);
    old.left().await;
    new.event(sequence + 1);
    assert_eq!(watched.event().await, sequence + 1);
}

#[tokio::test]
async fn a_word_not_to_try_again_leaves_the_first_stream_alone() {
    let (mut server, _file, mut watched, mut old) = renewing().await;
    let (_, mut new) = renewed(&mut server).await;
    new.refuse(Code::Unavailable, &[("grpc-retry-pushback-ms", "-1")]);
    old.event(2);
    assert_eq!(watched.event().await, 2);
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn a_first_stream_that_breaks_leaves_the_second_where_it_is() {
    for is_open in [false, true] {
        let (mut server, _file, mut watched, mut old) = renewing().await;
        let (_, mut new) = renewed(&mut server).await;
        if is_open {
            new.welcome(Resumed, EPOCH, 1);
            old.event(2);
            assert_eq!(watched.event().await, 2);
        }
        old.reset(h2::Reason::INTERNAL_ERROR);
        if !is_open {
            let broken = loop {
                if let Notice::Disconnected { reason, .. } = watched.notice().await {
                    break reason;
                }
            };
            assert!(matches!(broken, Lost::Transport(_)), "{broken:?}");
            new.welcome(Resumed, EPOCH, 1);
        }
        for sequence in 2..=3 {
            new.event(sequence);
        }
        if !is_open {
            assert_eq!(watched.event().await, 2);
        }
        assert_eq!(watched.event().await, 3);
        assert!(server.is_left_alone().await);
    }
}

#[tokio::test]
async fn an_end_that_comes_before_a_fresh_token_is_come_back_from_with_it() {
    let mut server = Server::start().await;
    let file = TokenFile::new("old");
    let (mut watched, mut old) = running(&mut server, &file).await;
    ends_soon(&mut old);
    file.holds("new");
    old.frame(go_away(v1::go_away::Reason::CredentialExpired, true));
    old.end(Code::Ok);
    let (request, mut new) = renewed(&mut server).await;
    assert_eq!(request.resume_after.unwrap().sequence, 1);
    new.welcome(Resumed, EPOCH, 1);
    new.event(2);
    assert_eq!(watched.event().await, 2);
}

#[tokio::test]
async fn a_program_that_gives_tokens_is_asked_for_the_next_one() {
    let mut server = Server::start().await;
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let provider = move || {
        let turn = count.fetch_add(1, Ordering::Relaxed);
        async move {
            match turn {
                // Once it has none: the stream goes on, and it is asked again.
                1 => Err(io::Error::other("not now")),
                turn => Ok(format!("token-{turn}")),
            }
        }
    };
    let client = server.client().credentials(provider).build().unwrap();
    let mut watched = watched(&client);
    let mut old = call_with(&mut server, "token-0").await;
    old.welcome(New, EPOCH, 0);
    old.event(1);
    assert_eq!(watched.event().await, 1);
    wait::pass(LONG).await;
    ends_soon(&mut old);
    let mut new = call_with(&mut server, "token-2").await;
    old.event(2);
    assert_eq!(watched.event().await, 2);
    new.welcome(Resumed, EPOCH, 1);
    new.event(2);
    current(&mut new, 2);
    old.left().await;
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

/// A subscriber without a token that could be another, told that its credential ends.
async fn told(client: &Client, server: &mut Server) {
    let _watched = watched(client);
    let mut call = server.call().await;
    call.welcome(New, EPOCH, 0);
    wait::pass(LONG).await;
    ends_soon(&mut call);
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn a_client_without_another_token_opens_no_second_stream() {
    let mut server = Server::start().await;
    let without = server.client().build().unwrap();
    told(&without, &mut server).await;
    let fixed = client(&server, Token::new("old").unwrap());
    told(&fixed, &mut server).await;
}

#[tokio::test]
async fn a_credential_that_does_not_end_any_more_is_not_renewed() {
    let mut server = Server::start().await;
    let file = TokenFile::new("old");
    let (mut watched, mut old) = running(&mut server, &file).await;
    ends_soon(&mut old);
    old.frame(Frame::CredentialNotice(v1::CredentialNotice::default()));
    old.event(2);
    assert_eq!(watched.event().await, 2);
    file.holds("new");
    wait::pass(LONG).await;
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn a_stream_that_was_told_to_stay_away_takes_the_id_back_by_no_second_one() {
    let (mut server, _file, mut watched, mut old) = renewing().await;
    let (_, mut new) = renewed(&mut server).await;
    old.frame(go_away(v1::go_away::Reason::TakenOver, false));
    old.end(Code::Aborted);
    let error = within("the error", watched.error()).await;
    assert!(matches!(error, SubscribeError::TakenOver(_)), "{error}");
    // It has given it up.
    assert!(new.message::<v1::SubscribeRequest>().await.is_none());
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn unsubscribing_ends_both_streams() {
    let mut server = Server::start().await;
    let file = TokenFile::new("old");
    let subscriber = client(&server, file.token()).subscriber("a").filter("t");
    let subscriber = subscriber.build().unwrap();
    let handle = subscriber.handle();
    let mut watched = Watched::new(subscriber);
    let mut old = call_with(&mut server, "old").await;
    old.welcome(New, EPOCH, 0);
    file.holds("new");
    wait::pass(LONG).await;
    ends_soon(&mut old);
    let (_, mut new) = renewed(&mut server).await;
    new.welcome(Resumed, EPOCH, 0);
    let (answer, ()) = tokio::join!(handle.unsubscribe(), async {
        let mut call = server.call().await;
        for stream in [&mut old, &mut new] {
            stream.frame(go_away(v1::go_away::Reason::Unsubscribed, false));
            stream.end(Code::Ok);
        }
        call.send(&v1::UnsubscribeResponse::default());
        call.end(Code::Ok);
    });
    answer.unwrap();
    while watched.notice().await != (Notice::Unsubscribed { ok: true }) {}
    assert!(watched.next().await.is_none());
}

#[tokio::test]
async fn a_filter_that_is_granted_no_more_is_told_and_not_asked_for_again() {
    let mut server = Server::start().await;
    let client = server.client().build().unwrap();
    let subscriber = client.subscriber("a").filter("t").filter("other.*");
    let mut watched = Watched::new(subscriber.build().unwrap());
    let (_, mut call) = server.subscribe().await;
    call.welcome(New, EPOCH, 0);
    let change = v1::SubscriptionChange {
        topic_filter: "other.*".to_owned(),
        state: v1::subscription_change::State::Refused.into(),
        after: Some(v1::Position {
            epoch: EPOCH,
            sequence: 0,
        }),
        message: "not granted".to_owned(),
    };
    call.frame(Frame::SubscriptionChange(change));
    let told = within("the notice", async {
        loop {
            match watched.item().await {
                Item::Notice(Notice::FilterRefused { filter, message }) => {
                    return (filter, message);
                }
                Item::Notice(_) => {}
                other => panic!("{other:?}"),
            }
        }
    });
    let (filter, message) = told.await;
    assert_eq!(
        (filter.as_str(), message.as_str()),
        ("other.*", "not granted")
    );
    call.kill_connection();
    let (request, _call) = server.subscribe().await;
    let filters = request.subscriptions.iter();
    let filters: Vec<_> = filters.map(|it| it.topic_filter.as_str()).collect();
    assert_eq!(filters, ["t"]);
}

#[tokio::test]
async fn a_stream_that_has_reached_its_age_is_followed_on_another_connection() {
    let mut server = Server::start().await;
    let file = TokenFile::new("old");
    let (mut watched, mut old) = running(&mut server, &file).await;
    old.frame(Frame::GoAway(v1::GoAway {
        reason: v1::go_away::Reason::StreamAge.into(),
        reconnect: true,
        ends_in: Some(prost_types::Duration {
            seconds: 600,
            nanos: 0,
        }),
        ..v1::GoAway::default()
    }));
    let mut new = call_with(&mut server, "old").await;
    new.welcome(Resumed, EPOCH, 1);
    new.event(2);
    assert_eq!(watched.event().await, 2);
    old.kill_connection();
    new.event(3);
    assert_eq!(watched.event().await, 3);
    assert!(server.is_left_alone().await);
}
