//! Limits of the whole node, and the statuses at them.

use longlived_api::v1::{self, session_request::Request};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::support::{
    ChangeState, Node, Stream, assert_says, message, request, subscription, within,
};

#[tokio::test]
async fn a_filter_that_would_need_a_further_channel_is_refused_and_the_session_goes_on() {
    let node = Node::start_with(|config| config.log.channels_max = 2);
    let (say, said) = mpsc::channel(8);
    let say = async |request| {
        let request = v1::SessionRequest {
            request: Some(request),
        };
        say.send(request).await.expect("the call stands");
    };
    say(Request::Open(request("talks", &["a"]))).await;
    let mut subscriptions = node.subscriptions();
    let session = subscriptions.session(ReceiverStream::new(said));
    let session = within("an answer", session).await.expect("it is let in");
    let mut session = Stream::new(session.into_inner());
    session.welcome().await;
    say(Request::Add(subscription("b.*"))).await;
    assert_eq!(session.change().await.state(), ChangeState::Added);
    say(Request::Add(subscription("c"))).await;
    let refused = session.change().await;
    assert_eq!(refused.state(), ChangeState::Refused);
    assert!(refused.message.contains("channels_max of 2"), "{refused:?}");

    let refused = node.subscribe(request("s", &["a", "d"])).await;
    let status = match refused {
        Err(status) => status,
        Ok(mut stream) => stream.ends_with(Code::ResourceExhausted).await,
    };
    assert_says(&status, Code::ResourceExhausted, &["channels_max of 2"]);
    let wait = status.metadata().get("grpc-retry-pushback-ms");
    assert!(wait.is_some(), "{status:?}");

    // A followed filter takes any number of streams, and the session is as it was.
    let (mut other, _) = node.open(request("t", &["a"])).await;
    let sequence = node.publish("b.x", "x").await;
    assert_eq!(session.event().await.sequence, sequence);
    let sequence = node.publish("a", "x").await;
    assert_eq!(session.event().await.sequence, sequence);
    assert_eq!(other.event().await.sequence, sequence);
}

#[tokio::test]
async fn an_inbox_that_nobody_can_follow_takes_no_message() {
    let node = Node::start();
    for topic in ["inbox", "inbox.a.b", "inbox.a.b.c"] {
        let refused = node.try_publish(message(topic, "x")).await;
        let status = refused.expect_err("nobody could read it");
        assert_says(&status, Code::InvalidArgument, &["`topic`", "inbox"]);
    }
    for topic in [
        "inbox.a",
        "inboxes",
        "inboxes.a.b",
        "inbox-a",
        "a.inbox.b.c",
    ] {
        assert!(
            node.try_publish(message(topic, "x")).await.is_ok(),
            "{topic}"
        );
    }
}
