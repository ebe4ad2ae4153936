//! A whole node on a free port, and generated clients to it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;
use longlived_api::{
    protos::longlived_client::LonglivedClient,
    v1::{
        self, publish_service_client::PublishServiceClient,
        subscription_service_client::SubscriptionServiceClient,
    },
};
use longlived_broker::Store;
use longlived_server::{Config, Environment, HistoryClass, Limits, ServeError, Server};
use longlived_topic::TopicFilter;
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{Status, transport::Channel, transport::Endpoint};

pub(super) use longlived_api::v1::{
    GapPolicy, gap::Reason as GapReason, go_away::Reason as GoAwayReason,
    subscribe_response::Frame, subscription_change::State as ChangeState, welcome::Outcome,
};
pub(super) use longlived_testkit::{
    grpc::framed,
    raw::{Client as Raw, Reply as RawReply, Windows, text},
    requests::{earliest, message, position, request, subscription},
    responses::Stream,
    statuses::{assert_says, cause, told},
    wait::{PATIENCE, pass, spawn, until, within},
};

pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A node that runs until it is told to drain, or the test ends.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Option<SocketAddr>,
    channel: Channel,
    stop: Option<oneshot::Sender<()>>,
    run: Option<JoinHandle<Result<(), ServeError>>>,
}

/// A store in memory is open at once.
fn bind(config: Config) -> Server {
    let bound = Server::bind(config, Environment::system()).now_or_never();
    bound.expect("nothing to wait for").expect("a free port")
}

impl Node {
    pub(super) fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            listen: vec![ANY_PORT.into()],
            metrics_listen: Some(ANY_PORT),
            ..Config::default()
        };
        change(&mut config);
        let server = bind(config);
        Self::run(server)
    }

    /// One that checks its callers by these rules.
    pub(crate) async fn start_checked(rules: &str) -> Self {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), rules).expect("a disk with room");
        let config = Config {
            listen: vec![ANY_PORT.into()],
            auth: Some(file.path().to_owned()),
            ..Config::default()
        };
        let server = Server::bind(config, Environment::system()).await;
        Self::run(server.expect("a free port"))
    }

    /// Over a store of the test's own.
    pub(super) fn start_over(store: Arc<dyn Store>) -> Self {
        Self::start_with_store(store, |_| {})
    }

    /// The same with a changed configuration.
    pub(super) fn start_with_store(
        store: Arc<dyn Store>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config {
            listen: vec![ANY_PORT.into()],
            metrics_listen: Some(ANY_PORT),
            stall_timeout: Duration::from_secs(1),
            ..Config::default()
        };
        change(&mut config);
        let server = bind(config);
        Self::run(server.with_store(store))
    }

    /// A node that the test has made itself.
    pub(crate) fn run(server: Server) -> Self {
        let address = server.local_addr().tcp().expect("it listens on TCP first");
        let metrics = server.metrics_addr();
        let (stop, stopped) = oneshot::channel();
        let run = spawn(async move {
            let stop = async { stopped.await.unwrap_or(()) };
            server.run(stop).await
        });
        Self {
            address,
            metrics,
            channel: endpoint(address).connect_lazy(),
            stop: Some(stop),
            run: Some(run),
        }
    }

    /// Tells it to drain; returns at once.
    pub(super) fn drain(&mut self) {
        self.stop
            .take()
            .expect("told once")
            .send(())
            .expect("it runs");
    }

    /// Returns when it has ended by itself.
    pub(super) async fn ended(&mut self) {
        self.outcome().await.expect("it serves to the end");
    }

    /// How it ended by itself.
    pub(super) async fn outcome(&mut self) -> Result<(), ServeError> {
        let run = self.run.take().expect("waited for once");
        within("the node ends", run)
            .await
            .expect("it does not panic")
    }

    /// The connection that the clients below share.
    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(super) fn subscriptions(&self) -> SubscriptionServiceClient<Channel> {
        SubscriptionServiceClient::new(self.channel())
    }

    pub(super) fn publishing(&self) -> PublishServiceClient<Channel> {
        PublishServiceClient::new(self.channel())
    }

    pub(super) fn legacy(&self) -> LonglivedClient<Channel> {
        LonglivedClient::new(self.channel())
    }

    /// Subscribes; the stream's first word is not read yet.
    pub(super) async fn subscribe(&self, request: v1::SubscribeRequest) -> Result<Stream, Status> {
        let mut client = self.subscriptions();
        let response = within("headers of Subscribe", client.subscribe(request)).await;
        let response = response.map_err(told)?;
        Ok(Stream::new(response.into_inner()))
    }

    /// Subscribes and reads the Welcome.
    pub(super) async fn open(&self, request: v1::SubscribeRequest) -> (Stream, v1::Welcome) {
        let mut stream = self.subscribe(request).await.expect("it is let in");
        let welcome = stream.welcome().await;
        (stream, welcome)
    }

    pub(super) async fn try_publish(
        &self,
        request: v1::PublishRequest,
    ) -> Result<v1::PublishResponse, Status> {
        let mut client = self.publishing();
        let response = within("an answer to Publish", client.publish(request)).await;
        Ok(response.map_err(told)?.into_inner())
    }

    /// Publishes; the sequence.
    pub(super) async fn publish(&self, topic: &str, payload: &str) -> u64 {
        let answer = self.try_publish(message(topic, payload)).await;
        answer
            .expect("it is stored")
            .position
            .expect("a position")
            .sequence
    }

    /// Publishes all of them, a few hundred in a call, each of which is answered in time beside slow readers.
    pub(super) async fn publish_all(&self, messages: Vec<v1::PublishRequest>) {
        for messages in messages.chunks(200) {
            let mut client = self.publishing();
            let stored = client.bulk_publish(tokio_stream::iter(messages.to_vec()));
            let stored = within("an answer to BulkPublish", stored).await;
            let stored = stored.expect("they are stored").into_inner();
            assert_eq!(stored.published, messages.len() as u64);
        }
    }

    /// The same, by a task of its own.
    pub(super) fn publishing_in_background(&self, topic: &str, payload: &str) -> Publishing {
        let mut client = self.publishing();
        let message = message(topic, payload);
        Publishing(spawn(
            async move { client.publish(message).await.map(drop) },
        ))
    }

    pub(super) async fn unsubscribe(&self, id: &str) -> Result<v1::Position, Status> {
        let request = v1::UnsubscribeRequest {
            subscriber_id: id.to_owned(),
            ..v1::UnsubscribeRequest::default()
        };
        let mut client = self.subscriptions();
        let response = within("an answer to Unsubscribe", client.unsubscribe(request)).await;
        let answer = response.map_err(told)?.into_inner();
        Ok(answer.position.expect("a position"))
    }
}

/// A message that is being published.
pub(super) struct Publishing(JoinHandle<Result<(), Status>>);

impl Publishing {
    pub(super) async fn stored(self) {
        let answer = within("an answer to Publish", self.0).await;
        answer.expect("no panic").expect("it is stored");
    }
}

pub(super) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).expect("an address is a URL")
}

/// A class that keeps this many events of any age.
pub(super) fn history(filter: &str, events: u64) -> HistoryClass {
    HistoryClass {
        filter: TopicFilter::parse(filter).expect("a filter"),
        limits: Limits {
            events,
            age: None,
            ..Limits::DEFAULT
        },
    }
}

/// The next response says that everything up to this sequence has been seen.
pub(super) async fn assert_current_at(stream: &mut Stream, sequence: u64) {
    let progress = stream.progress().await;
    assert!(progress.current, "{progress:?}");
    assert_eq!(progress.position.expect("a position").sequence, sequence);
}
