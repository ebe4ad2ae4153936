//! `Session`: a client that talks while it listens.

use longlived_api::v1::{self, session_request::Request};
use longlived_topic::TopicName;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::support::{
    ChangeState, Frame, Node, Outcome, Raw, RawReply, Stream, assert_says, framed, position,
    request, subscription, within,
};

const PATH: &str = "/longlived.v1.SubscriptionService/Session";

pub(super) struct Talk {
    say: mpsc::Sender<v1::SessionRequest>,
    pub(super) hear: Stream,
}

impl Talk {
    /// The headers are there before anything was said.
    pub(super) async fn begin(node: &Node) -> Self {
        let (say, said) = mpsc::channel(64);
        let mut client = node.subscriptions();
        let call = client.session(ReceiverStream::new(said));
        let response = within("headers before `open`", call)
            .await
            .expect("it answers");
        Self {
            say,
            hear: Stream::new(response.into_inner()),
        }
    }

    async fn open(node: &Node, open: v1::SubscribeRequest) -> (Self, v1::Welcome) {
        let mut talk = Self::begin(node).await;
        talk.say(Request::Open(open)).await;
        let welcome = talk.hear.welcome().await;
        (talk, welcome)
    }

    pub(super) async fn say(&self, request: Request) {
        let request = v1::SessionRequest {
            request: Some(request),
        };
        self.say.send(request).await.expect("the call stands");
    }

    async fn add(&mut self, filter: &str) -> v1::SubscriptionChange {
        self.say(Request::Add(subscription(filter))).await;
        let change = self.hear.change().await;
        assert_eq!(change.topic_filter, filter);
        change
    }

    async fn remove(&mut self, filter: &str) -> v1::SubscriptionChange {
        self.say(Request::RemoveTopicFilter(filter.to_owned()))
            .await;
        let change = self.hear.change().await;
        assert_eq!(change.topic_filter, filter);
        change
    }
}

#[tokio::test]
async fn headers_come_before_open_and_welcome_after_it() {
    let node = Node::start();
    let (mut talk, welcome) = Talk::open(&node, request("s", &["t"])).await;
    assert_eq!(welcome.outcome(), Outcome::New);
    let sequence = node.publish("t", "x").await;
    assert_eq!(talk.hear.event().await.sequence, sequence);
}

#[tokio::test]
async fn an_added_filter_holds_for_events_after_the_position_it_names() {
    let node = Node::start();
    let (mut talk, welcome) = Talk::open(&node, request("s", &["a"])).await;
    let epoch = welcome.position.expect("a position").epoch;
    node.publish("b", "before").await;
    let change = talk.add("b").await;
    assert_eq!(change.state(), ChangeState::Added);
    assert_eq!(change.after, Some(position(epoch, 1)));
    let sequence = node.publish("b", "after").await;
    let event = talk.hear.event().await;
    assert_eq!(event.sequence, sequence);
    assert_eq!(
        event.previous_sequence, 1,
        "not above SubscriptionChange.after"
    );
    let sequence = node.publish("a", "still").await;
    assert_eq!(talk.hear.event().await.sequence, sequence);
}

#[tokio::test]
async fn a_removed_filter_is_no_longer_delivered_and_can_be_added_again() {
    let node = Node::start();
    let (mut talk, _) = Talk::open(&node, request("s", &["a", "b"])).await;
    node.publish("b", "x").await;
    talk.hear.event().await;
    let change = talk.remove("b").await;
    assert_eq!(change.state(), ChangeState::Removed);
    assert!(change.after.is_some());
    node.publish("b", "not delivered").await;
    let sequence = node.publish("a", "x").await;
    assert_eq!(talk.hear.event().await.sequence, sequence);
    let change = talk.add("b").await;
    assert_eq!(change.state(), ChangeState::Added);
    let sequence = node.publish("b", "x").await;
    assert_eq!(talk.hear.event().await.sequence, sequence);
}

#[tokio::test]
async fn a_session_may_be_left_without_filters_and_goes_on() {
    let node = Node::start();
    let (mut talk, _) = Talk::open(&node, request("s", &["a"])).await;
    talk.remove("a").await;
    let head = node.publish("a", "not delivered").await;
    talk.say(Request::Progress(true)).await;
    let progress = talk.hear.progress().await;
    assert!(progress.current);
    assert_eq!(progress.position.expect("a position").sequence, head);
    talk.add("a").await;
    let sequence = node.publish("a", "x").await;
    assert_eq!(talk.hear.event().await.sequence, sequence);
}

#[tokio::test]
async fn a_refused_change_says_why_and_the_stream_goes_on() {
    let node = Node::start();
    let (mut talk, _) = Talk::open(&node, request("anna", &["a"])).await;
    for (filter, why) in [
        ("", "empty"),
        ("a..b", "empty token"),
        ("a.>.b", "last"),
        ("ä", "character"),
        ("inbox.bert", "inbox"),
        ("a", "already"),
    ] {
        let change = talk.add(filter).await;
        assert_eq!(change.state(), ChangeState::Refused, "{filter}");
        assert_eq!(change.after, None);
        assert!(change.message.contains("topic_filter"), "{change:?}");
        assert!(change.message.contains(why), "{change:?}");
    }
    for filter in ["never.added", "", ">>"] {
        let change = talk.remove(filter).await;
        assert_eq!(change.state(), ChangeState::Refused, "{filter}");
        assert!(change.message.contains("remove_topic_filter"), "{change:?}");
    }
    let sequence = node.publish("a", "x").await;
    assert_eq!(talk.hear.event().await.sequence, sequence);
}

#[tokio::test]
async fn the_sixty_fifth_filter_is_refused_and_the_limit_named() {
    let node = Node::start();
    let filters: Vec<String> = (0..64).map(|n| format!("t.{n}")).collect();
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    let (mut talk, _) = Talk::open(&node, request("s", &filters)).await;
    let change = talk.add("t.64").await;
    assert_eq!(change.state(), ChangeState::Refused);
    assert!(change.message.contains("64"), "{change:?}");
    talk.remove("t.0").await;
    assert_eq!(talk.add("t.64").await.state(), ChangeState::Added);
}

#[tokio::test]
async fn progress_and_token_are_answered() {
    let node = Node::start();
    let (mut talk, _) = Talk::open(&node, request("s", &["t"])).await;
    let head = node.publish("elsewhere", "x").await;
    talk.say(Request::Progress(true)).await;
    let progress = talk.hear.progress().await;
    assert!(progress.current);
    assert_eq!(progress.position.expect("a position").sequence, head);
    assert!(progress.server_time.is_some());
    talk.say(Request::Token("fresh".to_owned())).await;
    match talk.hear.frame().await {
        Frame::CredentialNotice(_) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn progress_never_claims_more_than_was_sent() {
    let node = Node::start();
    let (mut talk, _) = Talk::open(&node, request("s", &["t"])).await;
    for n in 1..=50 {
        node.publish("t", "x").await;
        talk.say(Request::Progress(true)).await;
        let mut seen = n - 1;
        loop {
            match talk.hear.frame().await {
                Frame::Event(event) => seen = event.sequence,
                Frame::Progress(progress) => {
                    assert_eq!(progress.position.expect("a position").sequence, seen);
                    assert_eq!(progress.current, seen == n);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        while seen < n {
            seen = talk.hear.event().await.sequence;
        }
    }
}

#[tokio::test]
async fn half_closing_the_request_side_leaves_the_stream_as_it_is() {
    let node = Node::start();
    let (talk, _) = Talk::open(&node, request("s", &["t"])).await;
    let Talk { say, mut hear } = talk;
    drop(say);
    for _ in 0..3 {
        let sequence = node.publish("t", "x").await;
        assert_eq!(hear.event().await.sequence, sequence);
    }
    node.unsubscribe("s").await.expect("it is live");
    hear.go_away().await;
    hear.end().await.expect("OK");
}

#[tokio::test]
async fn a_session_that_is_half_closed_with_its_open_works_like_subscribe() {
    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    let mut reply = raw.call(PATH, &[], open_bytes("s", &["t"])).await;
    assert!(matches!(reply.frame().await, Frame::Welcome(_)));
    let sequence = node.publish("t", "x").await;
    assert!(matches!(reply.frame().await, Frame::Event(event) if event.sequence == sequence));
}

fn session_bytes(request: Option<Request>) -> Vec<u8> {
    framed(&prost::Message::encode_to_vec(&v1::SessionRequest {
        request,
    }))
    .to_vec()
}

fn open_bytes(id: &str, filters: &[&str]) -> Vec<u8> {
    session_bytes(Some(Request::Open(request(id, filters))))
}

#[tokio::test]
async fn everything_may_be_said_at_once_before_anything_is_read() {
    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    let (response, mut stream) = raw.begin(PATH, &[]).await;
    let mut said = open_bytes("s", &["a"]);
    said.extend(session_bytes(Some(Request::Add(subscription("b")))));
    said.extend(session_bytes(Some(Request::Progress(true))));
    said.extend(session_bytes(Some(Request::RemoveTopicFilter(
        "a".to_owned(),
    ))));
    stream
        .send_data(said.into(), false)
        .expect("the stream stands");
    let mut reply = RawReply::of(response).await;
    assert!(matches!(reply.frame().await, Frame::Welcome(_)));
    let added = reply.frame().await;
    assert!(matches!(&added, Frame::SubscriptionChange(change)
        if change.state() == ChangeState::Added && change.topic_filter == "b"));
    assert!(matches!(reply.frame().await, Frame::Progress(_)));
    let removed = reply.frame().await;
    assert!(matches!(&removed, Frame::SubscriptionChange(change)
        if change.state() == ChangeState::Removed && change.topic_filter == "a"));
}

#[tokio::test]
async fn a_request_that_arrives_byte_by_byte_is_understood() {
    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    let (response, mut stream) = raw.begin(PATH, &[]).await;
    for byte in open_bytes("s", &["t"]) {
        stream
            .send_data(vec![byte].into(), false)
            .expect("the stream stands");
        tokio::task::yield_now().await;
    }
    let mut reply = RawReply::of(response).await;
    assert!(matches!(reply.frame().await, Frame::Welcome(_)));
}

#[tokio::test]
async fn a_forbidden_request_on_a_session_is_named_and_ends_it() {
    let node = Node::start();
    let open = || Request::Open(request("s", &["t"]));

    let (mut talk, _) = Talk::open(&node, request("s", &["t"])).await;
    talk.say(open()).await;
    let status = talk.hear.ends_with(Code::InvalidArgument).await;
    assert_says(&status, Code::InvalidArgument, &["`open`", "once"]);

    for first in [
        Request::Add(subscription("t")),
        Request::RemoveTopicFilter("t".to_owned()),
        Request::Progress(true),
        Request::Token("t".to_owned()),
    ] {
        let mut talk = Talk::begin(&node).await;
        talk.say(first).await;
        let status = talk.hear.ends_with(Code::InvalidArgument).await;
        assert_says(&status, Code::InvalidArgument, &["`open`"]);
    }

    let mut talk = Talk::begin(&node).await;
    let unset = v1::SessionRequest { request: None };
    talk.say.send(unset).await.expect("the call stands");
    let status = talk.hear.ends_with(Code::InvalidArgument).await;
    assert_says(&status, Code::InvalidArgument, &["`request`", "not set"]);

    let Talk { say, mut hear } = Talk::begin(&node).await;
    drop(say);
    let status = hear.ends_with(Code::InvalidArgument).await;
    assert_says(&status, Code::InvalidArgument, &["SessionRequest"]);

    // A session that ended badly holds no place.
    let gone = node.unsubscribe("s").await.expect_err("no stream is left");
    assert_eq!(gone.code(), Code::NotFound);
}

#[tokio::test]
async fn an_unknown_request_of_a_newer_client_is_refused_by_its_number_and_the_stream_goes_on() {
    // Field 15 of a later contract, with a message in it.
    const NEWER: &[u8] = b"\x7a\x03\x0a\x01x";

    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    let (response, mut stream) = raw.begin(PATH, &[]).await;
    let mut said = open_bytes("s", &["a"]);
    said.extend(framed(NEWER));
    said.extend(session_bytes(Some(Request::Add(subscription("b")))));
    said.extend(session_bytes(None));
    said.extend(session_bytes(Some(Request::Progress(true))));
    said.extend(framed(NEWER));
    stream
        .send_data(said.into(), false)
        .expect("the stream stands");
    let mut reply = RawReply::of(response).await;
    assert!(matches!(reply.frame().await, Frame::Welcome(_)));
    let mut refused = Vec::new();
    let mut others = Vec::new();
    for _ in 2..=6 {
        match reply.frame().await {
            Frame::RequestRefused(refusal) => {
                assert!(refusal.message.contains("`request`"), "{refusal:?}");
                refused.push(refusal.number);
            }
            other => others.push(other),
        }
    }
    assert_eq!(refused, [2, 4, 6]);
    assert!(
        matches!(&others[..], [Frame::SubscriptionChange(change), Frame::Progress(_)]
            if change.state() == ChangeState::Added),
        "{others:?}"
    );
    for topic in ["a", "b"] {
        let sequence = node.publish(topic, "x").await;
        assert!(matches!(reply.frame().await, Frame::Event(event) if event.sequence == sequence));
    }
}

#[tokio::test]
async fn a_bad_open_is_refused_like_a_bad_subscribe() {
    let node = Node::start();
    let mut talk = Talk::begin(&node).await;
    talk.say(Request::Open(request("", &["t"]))).await;
    let status = talk.hear.ends_with(Code::InvalidArgument).await;
    assert_says(&status, Code::InvalidArgument, &["subscriber_id", "128"]);
    let mut talk = Talk::begin(&node).await;
    talk.say(Request::Open(request("anna", &["inbox.bert"])))
        .await;
    talk.hear.ends_with(Code::PermissionDenied).await;
}

#[tokio::test]
async fn the_inbox_is_generated_for_from_the_moment_it_is_followed() {
    let node = Node::start_with(|config| {
        config.generator = Some(longlived_server::GeneratorConfig {
            every: std::time::Duration::from_millis(30),
            topic: Some(TopicName::parse("ticks").expect("a topic")),
        });
    });
    let (mut talk, _) = Talk::open(&node, request("anna", &["ticks"])).await;
    for _ in 0..3 {
        let event = talk.hear.event().await;
        assert_eq!(event.topic, "ticks", "the inbox is not followed");
    }
    talk.say(Request::Add(subscription("inbox.anna"))).await;
    loop {
        if let Frame::Event(event) = talk.hear.frame().await
            && event.topic == "inbox.anna"
        {
            assert_eq!(&event.payload[..], b"data mock for: anna");
            break;
        }
    }
}
