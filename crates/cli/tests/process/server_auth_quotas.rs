//! How much a caller may use: what is refused, and what is only later.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use longlived_api::v1::{
    self, publish_service_client::PublishServiceClient, session_request::Request,
    subscription_change::State as ChangeState,
};
use longlived_testkit::requests::{message, subscription};
use longlived_testkit::statuses::{cause, told};
use tonic::Status;
use tonic::transport::Channel;

use super::auth_support::with;
use super::server_auth::{EVERYTHING, World};
use super::support::{Stream, request, until, within};

/// Asserts that a quota is used up, and returns the wait that its caller is told.
fn exhausted(status: Status, quota: &str, limit: &str) -> Duration {
    let pushback = status.metadata().get("grpc-retry-pushback-ms");
    let pushback = pushback.expect("a wait").to_str().unwrap().parse().unwrap();
    let status = told(status);
    let cause = cause(&status);
    assert_eq!(cause.reason, "QUOTA_EXHAUSTED", "{status}");
    assert_eq!(cause.metadata["quota"], quota, "{status}");
    assert_eq!(cause.metadata["limit"], limit, "{status}");
    assert!(status.message().contains(quota) && status.message().contains(limit));
    Duration::from_millis(pushback)
}

fn attempt(id: &str, instance: u64, attempt: u64) -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        instance,
        attempt,
        ..request(id, &["news"])
    }
}

#[tokio::test]
async fn a_caller_has_as_many_streams_as_it_may_and_one_that_replaces_another_does_not_count() {
    let rules = format!("[issuers.acme.quotas]\nstreams = 2\n{EVERYTHING}[quotas]\nstreams = 1\n");
    let world = World::new(&rules).await;
    let (ann, bob) = (world.token("ann"), world.token("bob"));
    let first = world.subscribe(&ann, attempt("1", 7, 1)).await.unwrap();
    let second = world.subscribe(&ann, attempt("2", 7, 1)).await.unwrap();
    let refused = world
        .subscribe(&ann, attempt("3", 7, 1))
        .await
        .err()
        .expect("full");
    exhausted(refused, "streams", "2");
    let _bobs = world
        .subscribe(&bob, attempt("3", 7, 1))
        .await
        .expect("another caller");
    let renewed = world
        .subscribe(&ann, attempt("2", 7, 2))
        .await
        .expect("it replaces");
    drop(second);
    let refused = world
        .subscribe(&ann, attempt("3", 7, 1))
        .await
        .err()
        .expect("full");
    exhausted(refused, "streams", "2");
    drop(first);
    until("room", async || {
        world.subscribe(&ann, attempt("3", 7, 1)).await.ok()
    })
    .await;
    drop(renewed);
}

#[tokio::test]
async fn a_caller_follows_as_many_filters_as_it_may() {
    let world = World::new(&format!("{EVERYTHING}[quotas]\nfilters = 3\n")).await;
    let ann = world.token("ann");
    let four = request("s", &["a", "b", "c", "d"]);
    exhausted(
        world.subscribe(&ann, four).await.err().expect("too many"),
        "filters",
        "3",
    );
    let (requests, said) = tokio::sync::mpsc::channel(4);
    let ask = async |request| {
        let request = v1::SessionRequest {
            request: Some(request),
        };
        requests.send(request).await.unwrap();
    };
    ask(Request::Open(request("s", &["a", "b"]))).await;
    let said = tokio_stream::wrappers::ReceiverStream::new(said);
    let session = within(
        "the headers",
        world.subscriptions().session(with(&ann, said)),
    )
    .await;
    let mut session = Stream::new(session.unwrap().into_inner());
    session.welcome().await;
    for (request, expected) in [
        (Request::Add(subscription("c")), ChangeState::Added),
        (Request::Add(subscription("d")), ChangeState::Refused),
        (Request::Add(subscription("c")), ChangeState::Refused),
        (
            Request::RemoveTopicFilter("a".to_owned()),
            ChangeState::Removed,
        ),
        (Request::Add(subscription("d")), ChangeState::Added),
        (Request::Add(subscription("e")), ChangeState::Refused),
    ] {
        ask(request.clone()).await;
        assert_eq!(session.change().await.state(), expected, "{request:?}");
    }
    let other = world.subscribe(&ann, request("t", &["a"])).await;
    exhausted(other.err().expect("too many"), "filters", "3");
    drop((requests, session));
    until("room", async || {
        world
            .subscribe(&ann, request("t", &["a", "b", "c"]))
            .await
            .ok()
    })
    .await;
}

async fn publish(channel: &Channel, token: &str) -> Result<(), Status> {
    let mut client = PublishServiceClient::new(channel.clone());
    let published = client.publish(with(token, message("news", "x")));
    within("an answer", published).await.map(drop)
}

#[tokio::test]
async fn a_message_above_the_rate_is_refused_with_a_wait_after_which_it_is_taken() {
    let world = World::new(&format!("{EVERYTHING}[quotas]\npublish_messages = 5\n")).await;
    let (ann, bob) = (world.token("ann"), world.token("bob"));
    let refused = loop {
        if let Err(refused) = publish(&world.channel, &ann).await {
            break refused;
        }
    };
    let wait = exhausted(refused, "publish_messages", "5");
    assert!(wait <= Duration::from_millis(201), "{wait:?}");
    publish(&world.channel, &bob).await.expect("another caller");
    until("room", async || publish(&world.channel, &ann).await.ok()).await;
}

#[tokio::test]
async fn a_stream_above_the_rates_or_the_room_is_read_later_and_loses_nothing() {
    for quota in [
        "publish_messages = 100",
        "publish_bytes = 20000",
        "in_flight_bytes = 1024",
    ] {
        let world = World::new(&format!("{EVERYTHING}[quotas]\n{quota}\n")).await;
        let ann = world.token("ann");
        let payload = "x".repeat(100);
        let messages = || {
            stream::iter(
                (0..250)
                    .map(|_| message("news", &payload))
                    .collect::<Vec<_>>(),
            )
        };
        let mut client = PublishServiceClient::new(world.channel.clone());
        let answers = within("the headers", client.publish_stream(with(&ann, messages()))).await;
        let answers = answers.unwrap().into_inner();
        let answers = within("all answers", answers.collect::<Vec<_>>()).await;
        assert!(answers.iter().all(Result::is_ok), "{quota}: {answers:?}");
        assert_eq!(answers.len(), 250, "{quota}");
        let bulk = within("an answer", client.bulk_publish(with(&ann, messages()))).await;
        assert_eq!(bulk.unwrap().into_inner().published, 250, "{quota}");
    }
}

#[tokio::test]
async fn without_an_auth_file_no_quota_holds() {
    let server = super::support::Server::start(&[]).await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address));
    let channel = endpoint.unwrap().connect_lazy();
    for _ in 0..1_000 {
        publish(&channel, "ignored").await.unwrap();
    }
}

#[tokio::test]
async fn attempts_that_are_not_current_yet_are_no_way_around_a_quota() {
    let world = World::new(&format!("{EVERYTHING}[quotas]\nstreams = 1\nfilters = 2\n")).await;
    let ann = world.token("ann");
    // More than the window of a stream (2 MiB): one that reads from the first on, and whose client takes nothing, does not become current.
    let mut client = PublishServiceClient::new(world.channel.clone());
    let large = stream::iter(
        (0..64)
            .map(|_| message("a", &"x".repeat(64 << 10)))
            .collect::<Vec<_>>(),
    );
    within("an answer", client.bulk_publish(with(&ann, large)))
        .await
        .unwrap();
    let open = async |number, filters: &[&str]| {
        let asked = v1::SubscribeRequest {
            instance: 7,
            attempt: number,
            start: Some(longlived_testkit::requests::earliest()),
            ..request("s", filters)
        };
        let mut client = world.subscriptions();
        within("the headers", client.subscribe(with(&ann, asked))).await
    };
    let _first = open(1, &["a"]).await.unwrap();
    let many = open(2, &["a", "b", "c"])
        .await
        .expect_err("more than are left");
    exhausted(many, "filters", "2");
    let _second = open(3, &["a"]).await.unwrap();
    let third = open(4, &["a"]).await.expect_err("one is free, and no more");
    exhausted(third, "streams", "1");
}

#[tokio::test]
async fn a_stream_of_a_caller_that_may_publish_nothing_is_refused_and_does_not_wait() {
    let world = World::new(&format!("{EVERYTHING}[quotas]\npublish_messages = 0\n")).await;
    let ann = world.token("ann");
    let mut client = PublishServiceClient::new(world.channel.clone());
    let messages = stream::iter([message("news", "x")]);
    let refused = within("an answer", client.bulk_publish(with(&ann, messages))).await;
    exhausted(refused.expect_err("never"), "publish_messages", "0");
}
