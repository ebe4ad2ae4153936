//! The frozen contract.

use std::time::Duration;

use longlived_api::protos;
use longlived_client::SubscribeError;
use longlived_client::legacy::{LegacyItem, LegacySubscriber};
use longlived_testkit::wait;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::scripted::{Call, PATIENCE, Server};

fn data(text: &str) -> protos::Response {
    protos::Response {
        data: text.to_owned(),
    }
}

async fn subscribe(server: &mut Server) -> (i32, Call) {
    let mut call = server.call().await;
    assert_eq!(call.path, "/protos.Longlived/Subscribe");
    let request: protos::Request = call.message().await.unwrap();
    (request.id, call)
}

async fn next(subscriber: &mut LegacySubscriber) -> Option<Result<LegacyItem, SubscribeError>> {
    timeout(PATIENCE, subscriber.next()).await.unwrap()
}

/// A subscriber that has received one response.
async fn running() -> (Server, LegacySubscriber, Call) {
    let mut server = Server::start().await;
    let mut subscriber = server
        .client()
        .build()
        .unwrap()
        .legacy_subscriber(17)
        .build();
    let (mut call, item) = tokio::join!(
        async {
            let (id, mut call) = subscribe(&mut server).await;
            assert_eq!(id, 17);
            call.send(&data("one"));
            call
        },
        next(&mut subscriber)
    );
    assert_eq!(item.unwrap().unwrap(), LegacyItem::Connected { streams: 1 });
    assert_eq!(
        next(&mut subscriber).await.unwrap().unwrap(),
        LegacyItem::Data("one".to_owned())
    );
    call.send(&data("two"));
    assert_eq!(
        next(&mut subscriber).await.unwrap().unwrap(),
        LegacyItem::Data("two".to_owned())
    );
    (server, subscriber, call)
}

#[tokio::test]
async fn a_lost_stream_is_opened_again() {
    let (mut server, mut subscriber, mut call) = running().await;
    call.end(Code::Unavailable);
    assert!(matches!(
        next(&mut subscriber).await,
        Some(Ok(LegacyItem::Disconnected { .. }))
    ));
    let ((_, call), item) = tokio::join!(
        async {
            let mut called = subscribe(&mut server).await;
            called.1.send(&data("three"));
            called
        },
        next(&mut subscriber)
    );
    assert_eq!(item.unwrap().unwrap(), LegacyItem::Connected { streams: 2 });
    assert_eq!(
        next(&mut subscriber).await.unwrap().unwrap(),
        LegacyItem::Data("three".to_owned())
    );
    call.kill_connection();
    assert!(matches!(
        next(&mut subscriber).await,
        Some(Ok(LegacyItem::Disconnected { .. }))
    ));
    drop(call);
}

#[tokio::test]
async fn ok_is_the_answer_to_unsubscribe() {
    let (mut server, mut subscriber, mut call) = running().await;
    let handle = subscriber.handle();
    let (answer, (), item) = tokio::join!(
        handle.unsubscribe(),
        async {
            let mut unsubscribe = server.call().await;
            assert_eq!(unsubscribe.path, "/protos.Longlived/Unsubscribe");
            let request: protos::Request = unsubscribe.message().await.unwrap();
            assert_eq!(request.id, 17);
            call.end(Code::Ok);
            unsubscribe.send(&data(""));
            unsubscribe.end(Code::Ok);
        },
        next(&mut subscriber)
    );
    answer.unwrap();
    assert_eq!(
        item.unwrap().unwrap(),
        LegacyItem::Unsubscribed { ok: true }
    );
    assert!(next(&mut subscriber).await.is_none());
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn a_subscriber_that_has_ended_may_be_read_again() {
    let (_server, mut subscriber, mut call) = running().await;
    call.end(Code::PermissionDenied);
    assert!(matches!(next(&mut subscriber).await, Some(Err(_))));
    assert!(next(&mut subscriber).await.is_none());
    assert!(next(&mut subscriber).await.is_none());
}

#[tokio::test]
async fn a_server_that_sends_no_headers_before_its_first_response_is_waited_for() {
    let mut server = Server::start().await;
    let client = server
        .client()
        .open_timeout(Duration::from_millis(50))
        .build()
        .unwrap();
    let mut subscriber = client.legacy_subscriber(1).build();
    let (_call, item) = tokio::join!(
        async {
            let (_, mut call) = subscribe(&mut server).await;
            wait::pass(Duration::from_millis(300)).await;
            call.send(&data("late"));
            call
        },
        next(&mut subscriber)
    );
    assert_eq!(item.unwrap().unwrap(), LegacyItem::Connected { streams: 1 });
}
