//! Honest messages that are small, come in many DATA frames, and pile up because the store stands still, because answers
//! are not taken or because their stream has ended: the connection stays, with everything else on it, and each message is answered.
//!
//! The peer writes its frames by hand and keeps account of its windows, so that every frame is one that the server has
//! allowed.

use std::collections::BTreeMap;

use longlived_api::v1;
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    store_trouble::{Mood, Moody},
    support::{Frame, Node, framed, message, request, within},
};
use longlived_testkit::block::Block;
use longlived_testkit::frames::{
    ACK, DATA, END_STREAM, FRAME_HEADER_BYTES, GOAWAY, HEADERS, PADDED, PING, RST_STREAM, SETTINGS,
    WINDOW_INITIAL, WINDOW_MAX, WINDOW_UPDATE, frame, hello, window_update,
};

const PUBLISH_STREAM: &str = "/longlived.v1.PublishService/PublishStream";
const BULK_PUBLISH: &str = "/longlived.v1.PublishService/BulkPublish";
const SESSION: &str = "/longlived.v1.SubscriptionService/Session";
const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";

/// How a client puts a message into DATA frames.
#[derive(Clone, Copy)]
enum Shape {
    /// grpc-go, grpc-java and others, when they have one at a time.
    Whole,
    /// connect-go: the five bytes before it are a frame of their own.
    PrefixApart,
    /// With padding, and frames without a byte between them.
    Padded,
}

impl Shape {
    fn frames(self, stream: u32, message: &[u8]) -> Vec<Vec<u8>> {
        let data = |bytes: &[u8]| frame(DATA, 0, stream, bytes);
        match self {
            Self::Whole => vec![data(message)],
            Self::PrefixApart => vec![data(&message[..5]), data(&message[5..])],
            Self::Padded => {
                let mut padded = vec![3];
                padded.extend(message);
                padded.extend([0; 3]);
                let padding = frame(DATA, PADDED, stream, &[1, 0]);
                vec![frame(DATA, PADDED, stream, &padded), data(&[]), padding]
            }
        }
    }
}

#[derive(Default)]
struct Seen {
    /// Received bytes of a message that is not whole yet.
    partial: Vec<u8>,
    messages: Vec<Vec<u8>>,
    ended: bool,
}

/// The other end of one connection.
struct Peer {
    socket: TcpStream,
    partial: Vec<u8>,
    /// Of each stream, and of the connection as stream 0.
    windows: BTreeMap<u32, i64>,
    /// The initial window of each stream, as the server says.
    initial: i64,
    streams: BTreeMap<u32, Seen>,
    pings: u64,
    answered: u64,
}

impl Peer {
    async fn connect(node: &Node) -> Self {
        Self::connect_with(node, WINDOW_MAX).await
    }

    /// With this window for the responses of each stream.
    async fn connect_with(node: &Node, window: u32) -> Self {
        let socket = TcpStream::connect(node.address).await.expect("it listens");
        let mut peer = Self {
            socket,
            partial: Vec::new(),
            windows: BTreeMap::from([(0, WINDOW_INITIAL.into())]),
            initial: WINDOW_INITIAL.into(),
            streams: BTreeMap::new(),
            pings: 0,
            answered: 0,
        };
        peer.write(&hello(window)).await;
        peer.write(&window_update(0, WINDOW_MAX - WINDOW_INITIAL))
            .await;
        // Then its settings are known.
        peer.ping().await;
        peer
    }

    async fn write(&mut self, bytes: &[u8]) {
        let written = within("bytes are taken", self.socket.write_all(bytes)).await;
        written.expect("the connection stands");
    }

    async fn call(&mut self, path: &str) -> u32 {
        let stream = 2 * self.streams.len() as u32 + 1;
        self.streams.insert(stream, Seen::default());
        self.windows.insert(stream, self.initial);
        self.write(&Block::grpc(path).headers(stream, 0)).await;
        stream
    }

    /// Sends the message again and again while the windows have capacity, at most `most` times; returns how often.
    async fn send(&mut self, stream: u32, shape: Shape, message: &[u8], most: usize) -> usize {
        let frames = shape.frames(stream, message);
        let spends = |frame: &Vec<u8>| frame.len() - FRAME_HEADER_BYTES;
        let bytes = frames.iter().map(spends).sum::<usize>();
        let capacity = self.windows[&0].min(self.windows[&stream]);
        let times = most.min(usize::try_from(capacity).unwrap_or(0) / bytes);
        for number in [0, stream] {
            let left = self.windows.get_mut(&number).expect("it is known");
            *left -= i64::try_from(bytes * times).expect("within a window");
        }
        let once = frames.concat();
        for part in once.repeat(times).chunks(64 << 10) {
            self.write(part).await;
        }
        times
    }

    async fn end(&mut self, stream: u32) {
        self.write(&frame(DATA, END_STREAM, stream, &[])).await;
    }

    /// Returns when the server has read everything before.
    async fn ping(&mut self) {
        self.pings += 1;
        self.write(&frame(PING, 0, 0, &self.pings.to_be_bytes()))
            .await;
        while self.answered < self.pings {
            self.read().await;
        }
    }

    async fn read(&mut self) {
        let mut buffer = vec![0; 64 << 10];
        let count = within("frames", self.socket.read(&mut buffer)).await;
        let count = count.expect("the connection stands");
        assert!(count > 0, "the server has hung up");
        self.partial.extend_from_slice(&buffer[..count]);
        let bytes = std::mem::take(&mut self.partial);
        let mut rest = &bytes[..];
        while let [high, middle, low, kind, flags, a, b, c, d, after @ ..] = rest {
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if after.len() < length {
                break;
            }
            let stream = u32::from_be_bytes([*a, *b, *c, *d]);
            self.look_at(*kind, *flags, stream, &after[..length]);
            rest = &after[length..];
        }
        self.partial = rest.to_vec();
    }

    fn look_at(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let number = |at: usize| payload[at..at + 4].try_into().map(u32::from_be_bytes);
        match kind {
            GOAWAY => panic!("GOAWAY: {}", String::from_utf8_lossy(&payload[8..])),
            SETTINGS if flags & ACK == 0 => {
                const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
                for parameter in payload
                    .chunks(6)
                    .filter(|one| one[..2] == INITIAL_WINDOW_SIZE)
                {
                    let value = parameter[2..].try_into().map(u32::from_be_bytes);
                    self.initial = value.expect("four bytes").into();
                }
            }
            WINDOW_UPDATE => {
                let bytes = number(0).expect("four bytes");
                *self.windows.entry(stream).or_default() += i64::from(bytes);
                assert!(self.windows[&stream] <= WINDOW_MAX.into());
            }
            PING if flags & ACK != 0 => {
                self.answered = payload.try_into().map(u64::from_be_bytes).expect("ours");
            }
            RST_STREAM => self.seen(stream).ended = true,
            HEADERS => self.seen(stream).ended |= flags & END_STREAM != 0,
            DATA => {
                let seen = self.seen(stream);
                seen.ended |= flags & END_STREAM != 0;
                seen.partial.extend_from_slice(payload);
                while let [_, a, b, c, d, after @ ..] = &seen.partial[..] {
                    let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
                    if after.len() < length {
                        break;
                    }
                    seen.messages.push(after[..length].to_vec());
                    seen.partial = after[length..].to_vec();
                }
            }
            _ => {}
        }
    }

    fn seen(&mut self, stream: u32) -> &mut Seen {
        self.streams.get_mut(&stream).expect("it was called")
    }

    /// Reads until the stream has this number of messages.
    async fn messages(&mut self, stream: u32, count: usize) -> &[Vec<u8>] {
        while self.streams[&stream].messages.len() < count {
            assert!(!self.streams[&stream].ended, "stream {stream} has ended");
            self.read().await;
        }
        &self.streams[&stream].messages
    }

    async fn ended(&mut self, stream: u32) -> &[Vec<u8>] {
        while !self.streams[&stream].ended {
            self.read().await;
        }
        &self.streams[&stream].messages
    }

    /// Sends until the server sends no more WINDOW_UPDATEs; returns how often on each stream.
    async fn fill(&mut self, streams: &[u32], shape: Shape, message: &[u8]) -> Vec<usize> {
        let mut sent = vec![0; streams.len()];
        let mut without = 0;
        // The turn after the one that reads takes messages up, and releases their capacity.
        while without < 3 {
            let before: usize = sent.iter().sum();
            for (sent, stream) in sent.iter_mut().zip(streams) {
                *sent += self.send(*stream, shape, message, usize::MAX).await;
            }
            self.ping().await;
            without = if sent.iter().sum::<usize>() == before {
                without + 1
            } else {
                0
            };
        }
        sent
    }

    async fn subscribe(&mut self) -> u32 {
        let stream = self.call(SUBSCRIBE).await;
        let subscribe = request("live", &["t"]).encode_to_vec();
        self.send(stream, Shape::Whole, &framed(&subscribe), 1)
            .await;
        self.end(stream).await;
        self.messages(stream, 1).await;
        stream
    }
}

/// With its five bytes before it the smallest message that can be published: 11 bytes.
fn smallest() -> Vec<u8> {
    let bytes = framed(&message("t", "x").encode_to_vec()).to_vec();
    assert_eq!(bytes.len(), 11);
    bytes
}

/// A store that waits while it is given a message.
async fn waiting(node: &Node, store: &Moody) -> super::support::Publishing {
    store.set(Mood::Waits);
    let publishing = node.publishing_in_background("t", "first");
    store.given().await;
    publishing
}

async fn publish_while_the_store_stands_still(path: &str, shape: Shape, streams: usize) {
    let store = Moody::new();
    let node = Node::start_over(store.clone());
    let mut peer = Peer::connect(&node).await;
    let live = peer.subscribe().await;
    let first = waiting(&node, &store).await;

    let mut publishers = Vec::new();
    for _ in 0..streams {
        publishers.push(peer.call(path).await);
    }
    let sent = peer.fill(&publishers, shape, &smallest()).await;
    let all: usize = sent.iter().sum();
    assert!(all > 10_000 * streams, "{all}");
    // The other streams of the connection are served.
    let other = peer.call(SUBSCRIBE).await;
    let nonsense = framed(b"\xff");
    peer.send(other, Shape::Whole, &nonsense, 1).await;
    peer.ended(other).await;

    store.set(Mood::Takes);
    for stream in &publishers {
        peer.end(*stream).await;
    }
    for (stream, sent) in publishers.iter().zip(sent) {
        let answers = peer.ended(*stream).await;
        let answered = if path == BULK_PUBLISH {
            let answer = v1::BulkPublishResponse::decode(&answers[0][..]);
            answer.expect("a BulkPublishResponse").published as usize
        } else {
            answers.len()
        };
        assert_eq!(answered, sent, "each is answered");
    }
    // The Welcome, the first, and all the others.
    let mut events = 0;
    let mut read = 0;
    while events < 1 + all {
        for response in &peer.messages(live, read + 1).await[read..] {
            read += 1;
            let response = v1::SubscribeResponse::decode(&response[..]).expect("a response");
            events += usize::from(matches!(response.frame, Some(Frame::Event(_))));
        }
    }
    first.stored().await;
}

#[tokio::test]
async fn small_messages_of_a_publish_stream_end_no_connection_while_the_store_stands_still() {
    publish_while_the_store_stands_still(PUBLISH_STREAM, Shape::Whole, 1).await;
}

#[tokio::test]
async fn small_messages_of_a_bulk_publish_fill_the_connections_window_and_end_no_connection() {
    publish_while_the_store_stands_still(BULK_PUBLISH, Shape::PrefixApart, 4).await;
}

#[tokio::test]
async fn padding_and_empty_frames_end_no_connection_while_the_store_stands_still() {
    publish_while_the_store_stands_still(PUBLISH_STREAM, Shape::Padded, 1).await;
}

#[tokio::test]
async fn small_requests_of_a_session_end_no_connection_while_their_answers_are_not_taken() {
    let session = |request| {
        let request = v1::SessionRequest {
            request: Some(request),
        };
        framed(&request.encode_to_vec())
    };
    let node = Node::start();
    let mut peer = Peer::connect_with(&node, WINDOW_INITIAL).await;
    let stream = peer.call(SESSION).await;
    let open = session(v1::session_request::Request::Open(request("s", &["t"])));
    peer.send(stream, Shape::Whole, &open, 1).await;
    peer.messages(stream, 1).await;
    node.publish("t", "x").await;

    // Once the answers fill the stream's window no further request is read.
    let other = super::support::subscription("other");
    let add = session(v1::session_request::Request::Add(other));
    peer.send(stream, Shape::Whole, &add, 1).await;
    let progress = session(v1::session_request::Request::Progress(true));
    let sent = peer.fill(&[stream], Shape::Whole, &progress).await[0];
    assert!(sent > 30_000, "{sent}");

    let more = window_update(stream, WINDOW_MAX - WINDOW_INITIAL);
    peer.write(&more).await;
    // Welcome, SubscriptionChange, the event, and an answer to each.
    let answers = peer.messages(stream, 3 + sent).await;
    let of = |wanted: fn(&Frame) -> bool| {
        let responses = answers
            .iter()
            .map(|one| v1::SubscribeResponse::decode(&one[..]));
        let frames =
            responses.map(|one| one.expect("a response").frame.expect("it says something"));
        frames.filter(wanted).count()
    };
    assert!(of(|one| matches!(one, Frame::Progress(_))) >= sent);
    assert_eq!(of(|one| matches!(one, Frame::Event(_))), 1);
}

#[tokio::test]
async fn frames_for_streams_that_are_over_end_no_connection_and_their_window_bytes_are_returned() {
    const STREAMS: usize = 80;
    const LATE: usize = 4_000;
    let store = Moody::new();
    let node = Node::start_over(store.clone());
    let mut peer = Peer::connect(&node).await;
    let live = peer.subscribe().await;
    store.set(Mood::Full);
    for _ in 0..STREAMS {
        let stream = peer.call(PUBLISH_STREAM).await;
        peer.send(stream, Shape::Whole, &smallest(), 1).await;
        peer.ended(stream).await;
        // A client that has not read that it was refused.
        let late = peer.send(stream, Shape::Whole, &smallest(), LATE).await;
        assert_eq!(late, LATE, "there is room");
        peer.ping().await;
    }
    store.set(Mood::Takes);
    node.publish("t", "x").await;
    peer.messages(live, 2).await;
}
