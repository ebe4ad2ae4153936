//! Clients of `Session` that take nothing and go on asking: their requests are served, and the answers come in their place
//! when they take something.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use h2::SendStream;
use longlived_api::v1::{
    self, SlowPolicy, session_request::Request, topic_service_client::TopicServiceClient,
};
use longlived_testkit::{
    block::Block,
    frames::{
        DATA, END_STREAM, FRAME_HEADER_BYTES, HEADERS, WINDOW_INITIAL, WINDOW_MAX, frame, hello,
        window_update,
    },
    grpc::Messages,
};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::support::{
    ChangeState, Frame, GapReason, Node, Outcome, Raw, RawReply, Windows, framed, message,
    position, request, spawn, subscription, until, within,
};

const PATH: &str = "/longlived.v1.SubscriptionService/Session";

fn bytes_of(request: Request) -> Bytes {
    let request = v1::SessionRequest {
        request: Some(request),
    };
    framed(&request.encode_to_vec())
}

fn add(filter: &str) -> Bytes {
    bytes_of(Request::Add(subscription(filter)))
}

fn remove(filter: &str) -> Bytes {
    bytes_of(Request::RemoveTopicFilter(filter.to_owned()))
}

/// How many follow each topic, as everybody is told.
async fn subscribers(node: &Node) -> BTreeMap<String, u64> {
    let mut client = TopicServiceClient::new(node.channel());
    let asked = client.list_topics(v1::ListTopicsRequest::default());
    let answer = within("an answer to ListTopics", asked).await;
    let topics = answer.expect("an answer").into_inner().topics;
    let counted = topics.into_iter().map(|it| (it.name, it.subscribers));
    counted.collect()
}

async fn until_followed_by(node: &Node, topic: &str, count: u64) {
    let counted = async || (subscribers(node).await[topic] == count).then_some(());
    until("it is followed", counted).await;
}

/// A client whose stream is full of events that it has not taken.
struct Stalled {
    say: SendStream<Bytes>,
    hear: RawReply,
    // Everything that it can take without releasing capacity.
    taken: u64,
    _connection: Raw,
}

impl Stalled {
    async fn open(node: &Node, open: v1::SubscribeRequest) -> Self {
        let mut raw = Raw::connect(node.address).await;
        let (response, mut say) = raw.begin(PATH, &[]).await;
        let open = bytes_of(Request::Open(open));
        say.send_data(open, false).expect("the stream stands");
        let mut hear = RawReply::of(response).await;
        assert!(matches!(hear.frame().await, Frame::Welcome(_)));
        let payload = "x".repeat(4 << 10);
        let taken = 40;
        node.publish_all((0..taken).map(|_| message("a", &payload)).collect())
            .await;
        hear.hold(Windows::default().stream_window as usize - 1024)
            .await;
        Self {
            say,
            hear,
            taken,
            _connection: raw,
        }
    }

    fn say(&mut self, request: Bytes) {
        let said = self.say.send_data(request, false);
        said.expect("the stream stands");
    }
}

/// Past whatever Progress says.
async fn next(hear: &mut RawReply) -> Frame {
    loop {
        match hear.frame().await {
            Frame::Progress(_) => {}
            other => return other,
        }
    }
}

#[tokio::test]
async fn a_reader_that_takes_nothing_adds_and_removes_topic_filters() {
    let node = Node::start();
    let before = node.publish("b", "before").await;
    let mut stalled = Stalled::open(&node, request("s", &["a"])).await;
    stalled.say(add("b"));
    until_followed_by(&node, "b", 1).await;
    stalled.say(remove("a"));
    until_followed_by(&node, "a", 0).await;
    stalled.say(bytes_of(Request::Token("fresh".to_owned())));
    let after = node.publish("b", "after").await;
    let last = node.publish("a", "no longer followed").await;

    // What was on its way comes first, without a hole.
    let hear = &mut stalled.hear;
    let mut at = before;
    let added = loop {
        match next(hear).await {
            Frame::Event(event) => {
                at += 1;
                assert_eq!((event.topic.as_str(), event.sequence), ("a", at));
            }
            Frame::SubscriptionChange(change) => break change,
            other => panic!("{other:?}"),
        }
    };
    assert!(at > before && at < before + stalled.taken, "{at}");
    // The changes hold from there on, and come before all that they change.
    let Frame::SubscriptionChange(removed) = next(hear).await else {
        panic!("the other change");
    };
    for (change, state, filter) in [
        (added, ChangeState::Added, "b"),
        (removed, ChangeState::Removed, "a"),
    ] {
        assert_eq!(change.state(), state);
        assert_eq!(change.topic_filter, filter);
        assert_eq!(change.after.expect("a position").sequence, at);
    }
    let notice = next(hear).await;
    assert!(matches!(notice, Frame::CredentialNotice(_)), "{notice:?}");
    match next(hear).await {
        Frame::Event(event) => assert_eq!((event.topic.as_str(), event.sequence), ("b", after)),
        other => panic!("{other:?}"),
    }
    stalled.say(bytes_of(Request::Progress(true)));
    let said = loop {
        match stalled.hear.frame().await {
            Frame::Progress(progress) if progress.current => break progress.position,
            Frame::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(said.expect("a position").sequence, last);
}

#[tokio::test]
async fn ten_thousand_requests_of_a_reader_that_takes_nothing_are_all_answered_in_the_end() {
    const REQUESTS: usize = 10_000;
    let node = Node::start();
    node.publish("early", "x").await;
    node.publish("late", "x").await;
    let mut stalled = Stalled::open(&node, request("s", &["a"])).await;
    stalled.say(add("early"));
    let name = |n| format!("never.followed.by.this.one.{n}");
    for n in 0..REQUESTS {
        stalled.say(remove(&name(n)));
    }
    stalled.say(add("late"));
    until_followed_by(&node, "early", 1).await;
    assert_eq!(subscribers(&node).await["late"], 0, "it waits its turn");

    let mut answers = Vec::new();
    while answers.len() < REQUESTS + 2 {
        match next(&mut stalled.hear).await {
            Frame::Event(event) => assert_eq!(event.topic, "a"),
            Frame::SubscriptionChange(change) => answers.push(change),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(answers[0].state(), ChangeState::Added);
    for (n, answer) in answers[1..=REQUESTS].iter().enumerate() {
        assert_eq!(answer.state(), ChangeState::Refused);
        assert_eq!(answer.topic_filter, name(n));
    }
    let last = answers.last().expect("they are not none");
    assert_eq!(
        (last.state(), &*last.topic_filter),
        (ChangeState::Added, "late")
    );
    until_followed_by(&node, "late", 1).await;
}

#[tokio::test]
async fn requests_are_no_sign_that_a_reader_takes_something() {
    let node = Node::start_with(|config| {
        config.stall_timeout = std::time::Duration::from_millis(250);
    });
    let disconnecting = v1::SubscribeRequest {
        slow_policy: SlowPolicy::Disconnect.into(),
        ..request("s", &["a"])
    };
    let Stalled {
        mut say,
        mut hear,
        _connection,
        ..
    } = Stalled::open(&node, disconnecting).await;
    let reset = spawn(async move { hear.reset().await });
    let asked_until_reset = async || {
        // Refused by HTTP/2 once the stream is over.
        let _ = say.send_data(bytes_of(Request::Progress(true)), false);
        reset.is_finished().then_some(())
    };
    until("it is reset", asked_until_reset).await;
}

/// A client whose windows and socket are the test's own.
struct ByHand {
    socket: TcpStream,
    read: BytesMut,
    data: BytesMut,
}

impl ByHand {
    /// Each of its streams has this window.
    async fn connect(node: &Node, window: u32) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        let small = socket.set_recv_buffer_size(16 << 10);
        small.expect("a size that the kernel accepts");
        let connected = socket.connect(node.address).await;
        let mut client = Self {
            socket: connected.expect("it listens"),
            read: BytesMut::new(),
            data: BytesMut::new(),
        };
        client.send(&hello(window)).await;
        client
    }

    async fn send(&mut self, bytes: &[u8]) {
        let sent = within("bytes are read", self.socket.write_all(bytes)).await;
        sent.expect("the connection stands");
    }

    async fn call(&mut self, stream: u32) {
        self.send(&Block::grpc(PATH).headers(stream, 0)).await;
    }

    async fn say(&mut self, stream: u32, request: &Bytes) {
        self.send(&frame(DATA, 0, stream, request)).await;
    }

    /// The next response of stream 1.
    async fn frame(&mut self) -> Frame {
        loop {
            if let Some(message) = Messages::take_first(&mut self.data) {
                let response = v1::SubscribeResponse::decode(message).expect("a response");
                return response.frame.expect("it says something");
            }
            self.receive().await;
        }
    }

    /// The type and the flags of the next frame of HTTP/2.
    async fn receive(&mut self) -> (u8, u8) {
        let whole = |read: &BytesMut| match read[..] {
            [a, b, c, ..] if read.len() >= FRAME_HEADER_BYTES => {
                let end = FRAME_HEADER_BYTES + u32::from_be_bytes([0, a, b, c]) as usize;
                (read.len() >= end).then_some(end)
            }
            _ => None,
        };
        let end = loop {
            if let Some(end) = whole(&self.read) {
                break end;
            }
            let more = within("bytes", self.socket.read_buf(&mut self.read)).await;
            assert!(more.expect("no error") > 0, "the connection stands");
        };
        let frame = self.read.split_to(end);
        if frame[3] == DATA && frame[5..FRAME_HEADER_BYTES] == [0, 0, 0, 1] {
            self.data.extend_from_slice(&frame[FRAME_HEADER_BYTES..]);
        }
        (frame[3], frame[4])
    }
}

#[tokio::test]
async fn a_session_that_cannot_begin_ends_although_its_client_gives_no_window() {
    let node = Node::start();
    let mut client = ByHand::connect(&node, 0).await;
    client.call(1).await;
    client.say(1, &bytes_of(Request::Progress(true))).await;
    loop {
        let (kind, flags) = client.receive().await;
        if kind == HEADERS && flags & END_STREAM != 0 {
            return;
        }
    }
}

#[tokio::test]
async fn a_session_begins_and_is_changed_before_its_client_gives_a_window() {
    let node = Node::start();
    for _ in 0..3 {
        node.publish("a", "x").await;
    }
    node.publish("b", "x").await;
    let (_, new) = node.open(request("other", &["b"])).await;
    let epoch = new.position.expect("a position").epoch;
    // Of a history that is gone: the stream begins with a Gap.
    let open = v1::SubscribeRequest {
        resume_after: Some(position(epoch ^ 1, 7)),
        ..request("s", &["a"])
    };
    let mut client = ByHand::connect(&node, 0).await;
    client.call(1).await;
    for request in [bytes_of(Request::Open(open)), add("b"), remove("a")] {
        client.say(1, &request).await;
    }
    until_followed_by(&node, "b", 1).await;
    until_followed_by(&node, "a", 0).await;

    client.send(&window_update(1, 1 << 20)).await;
    match client.frame().await {
        Frame::Welcome(welcome) => assert_eq!(welcome.outcome(), Outcome::Reset),
        other => panic!("{other:?}"),
    }
    match client.frame().await {
        Frame::Gap(gap) => assert_eq!(gap.reason(), GapReason::EpochChanged),
        other => panic!("{other:?}"),
    }
    for (state, filter) in [(ChangeState::Added, "b"), (ChangeState::Removed, "a")] {
        match client.frame().await {
            Frame::SubscriptionChange(change) => {
                assert_eq!((change.state(), &*change.topic_filter), (state, filter));
                assert_eq!(change.after, Some(position(epoch, 0)));
            }
            other => panic!("{other:?}"),
        }
    }
    match client.frame().await {
        Frame::Event(event) => assert_eq!((event.topic.as_str(), event.sequence), ("b", 4)),
        other => panic!("{other:?}"),
    }
}

/// Its windows are open, and its streams read together.
#[tokio::test]
async fn a_reader_whose_socket_is_full_adds_and_removes_topic_filters() {
    const STREAMS: [u32; 2] = [1, 3];
    let node = Node::start();
    node.publish("a", "x").await;
    node.publish("b", "x").await;
    let mut client = ByHand::connect(&node, WINDOW_MAX).await;
    client
        .send(&window_update(0, WINDOW_MAX - WINDOW_INITIAL))
        .await;
    for stream in STREAMS {
        client.call(stream).await;
        let open = request(&format!("s-{stream}"), &["a"]);
        client.say(stream, &bytes_of(Request::Open(open))).await;
    }
    until_followed_by(&node, "a", 2).await;
    // More than the kernel keeps for it.
    let payload = "x".repeat(128 << 10);
    let flood = (0..100).map(|_| message("a", &payload)).collect();
    node.publish_all(flood).await;
    for stream in STREAMS {
        client.say(stream, &add("b")).await;
        client.say(stream, &remove("a")).await;
    }
    until_followed_by(&node, "b", 2).await;
    until_followed_by(&node, "a", 0).await;
    let after = node.publish("b", "after").await;

    assert!(matches!(client.frame().await, Frame::Welcome(_)));
    let mut changes = Vec::new();
    loop {
        match client.frame().await {
            Frame::Event(event) if event.topic == "a" => assert!(changes.len() < 2),
            Frame::Event(event) => break assert_eq!(event.sequence, after),
            Frame::SubscriptionChange(change) => changes.push(change.state()),
            Frame::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(changes, [ChangeState::Added, ChangeState::Removed]);
}
