//! A client of the server: HTTP/2 with the windows of the client library, gRPC by hand, and a count of the responses.
//!
//! Does not: resume by itself, back off, or keep responses; its work is never counted.

use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::Request;
use longlived_api::v1::{
    Position, PublishRequest, PublishResponse, SubscribeRequest, SubscribeResponse, Subscription,
    subscribe_response::Frame,
};
use longlived_broker::encode;
use parking_lot::Mutex;
use prost::Message;
use tokio_util::task::TaskTracker;

use crate::network::Socket;
use crate::world::{TOPIC, message};

const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// The flag and the length before each gRPC message.
const PREFIX_BYTES: usize = 5;

/// One connection. Its methods must be called inside the clients' runtime.
pub(crate) struct Client {
    requests: SendRequest<Bytes>,
    tasks: TaskTracker,
    // Sent with each call.
    token: Option<&'static str>,
}

/// The state of a stream, from its responses so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    pub(crate) welcomes: usize,
    pub(crate) events: usize,
    pub(crate) answers: usize,
    /// Of the last event or answer.
    pub(crate) sequence: u64,
    /// Identity of the history, as Welcome says.
    pub(crate) epoch: u64,
}

/// A stream that is read as it comes.
pub(crate) struct Reader {
    told: Arc<Mutex<Told>>,
}

impl Reader {
    pub(crate) fn told(&self) -> Told {
        *self.told.lock()
    }
}

impl Client {
    /// Says the preface; `tasks` drive the connection.
    pub(crate) async fn new(socket: Socket, tasks: &TaskTracker) -> Self {
        let mut builder = Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .enable_push(false);
        let handshake = builder.handshake(socket).await;
        let (requests, connection) = handshake.expect("the socket takes everything");
        tasks.spawn(async move {
            // Streams find out for themselves when the server ends it.
            connection.await.ok();
        });
        let tasks = tasks.clone();
        Self {
            requests,
            tasks,
            token: None,
        }
    }

    /// Brings a token with each call.
    pub(crate) fn with_token(mut self, token: &'static str) -> Self {
        self.token = Some(token);
        self
    }

    /// Follows the topic from the next event on, or after a position.
    pub(crate) fn subscribe(&mut self, number: usize, after: Option<Position>) -> Reader {
        let request = SubscribeRequest {
            subscriber_id: format!("subscriber-{number:04}"),
            subscriptions: vec![Subscription {
                topic_filter: TOPIC.to_owned(),
            }],
            resume_after: after,
            instance: 1,
            attempt: 1,
            ..SubscribeRequest::default()
        };
        self.call("SubscriptionService/Subscribe", &request, |told, bytes| {
            let response = SubscribeResponse::decode(bytes).expect("a response is one");
            match response.frame.expect("a response says something") {
                Frame::Welcome(welcome) => {
                    told.welcomes += 1;
                    told.epoch = welcome.epoch;
                }
                Frame::Event(event) => {
                    told.events += 1;
                    told.sequence = event.sequence;
                }
                Frame::Progress(_) => {}
                other => unreachable!("nothing is missing and nobody is sent away: {other:?}"),
            }
        })
    }

    /// Publishes one message.
    pub(crate) fn publish(&mut self) -> Reader {
        let request = PublishRequest {
            topic: TOPIC.to_owned(),
            payload: message().payload,
            ..PublishRequest::default()
        };
        self.call("PublishService/Publish", &request, |told, bytes| {
            let response = PublishResponse::decode(bytes).expect("a response is one");
            told.answers += 1;
            told.sequence = response.position.map_or(0, |position| position.sequence);
        })
    }

    fn call(&mut self, method: &str, message: &impl Message, note: fn(&mut Told, Bytes)) -> Reader {
        let mut request = Request::post(format!("http://127.0.0.1:7070/longlived.v1.{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "longlived-instructions");
        if let Some(token) = self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(()).expect("a request of our own");
        let sent = self.requests.send_request(request, false);
        let (response, mut body) = sent.expect("the connection is open");
        body.send_data(encode(message), true)
            .expect("the stream is open");
        let told = Arc::new(Mutex::new(Told::default()));
        self.tasks.spawn(read(response, told.clone(), note));
        Reader { told }
    }
}

async fn read(response: ResponseFuture, told: Arc<Mutex<Told>>, note: fn(&mut Told, Bytes)) {
    let response = response.await.expect("the server answers");
    let mut body = response.into_body();
    let mut unread = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.expect("the server does not break off");
        let released = body.flow_control().release_capacity(data.len());
        released.expect("no more than came is given back");
        unread.extend_from_slice(&data);
        while let Some(message) = take_message(&mut unread) {
            note(&mut told.lock(), message);
        }
    }
    let trailers = body
        .trailers()
        .await
        .expect("the server does not break off");
    let status = trailers
        .as_ref()
        .and_then(|trailers| trailers.get("grpc-status"));
    assert!(status.is_some_and(|status| status == "0"), "{trailers:?}");
}

/// The first message, if it has come whole.
fn take_message(unread: &mut BytesMut) -> Option<Bytes> {
    let prefix = unread.first_chunk::<PREFIX_BYTES>()?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if unread.len() < PREFIX_BYTES + length {
        return None;
    }
    unread.advance(PREFIX_BYTES);
    Some(unread.split_to(length).freeze())
}
