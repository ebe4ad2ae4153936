//! A store that waits, takes nothing for a while, for good, or panics: the view of publishers, subscribers and probes.

use std::{iter, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};
use longlived_api::v1;
use longlived_broker::{
    AppendError, Environment, Store,
    storage::{Appended, MemoryStore, NewMessage, Own, RetentionConfig},
    testkit::Delegate,
};
use longlived_server::{SERVICES, ServeError};
use tokio::{sync::watch, task::JoinHandle};
use tonic::{Code, Streaming};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

use super::support::{
    Frame, Node, PATIENCE, assert_says, earliest, message, position, request, spawn, within,
};

const PUBLISHING: &str = "longlived.v1.PublishService";

/// The behaviour of `append`.
#[derive(Clone, Copy)]
pub(super) enum Mood {
    Takes,
    /// Until it is told something else.
    Waits,
    Full,
    /// All of a batch but its first message.
    Partly,
    Broken,
    Panics,
}

/// A memory store that takes nothing when it is told to.
pub(super) struct Moody {
    inner: MemoryStore,
    mood: watch::Sender<Mood>,
    /// Batches that were given to it since its mood was set.
    batches: watch::Sender<usize>,
}

impl Moody {
    pub(super) fn new() -> Arc<Self> {
        let retention = RetentionConfig::new(Vec::new());
        Arc::new(Self {
            inner: MemoryStore::new(Environment::system(), retention, 1_000),
            mood: watch::Sender::new(Mood::Takes),
            batches: watch::Sender::new(0),
        })
    }

    pub(super) fn set(&self, mood: Mood) {
        self.batches.send_replace(0);
        self.mood.send_replace(mood);
    }

    /// Returns when it has been given a batch since its mood was set.
    pub(super) async fn given(&self) {
        let mut batches = self.batches.subscribe();
        let given = within("a batch", batches.wait_for(|&batches| batches > 0)).await;
        given.expect("the store is there");
    }

    fn trouble(&self) -> Result<(), AppendError> {
        match *self.mood.borrow() {
            Mood::Takes | Mood::Waits | Mood::Partly | Mood::Panics => Ok(()),
            Mood::Full => Err(AppendError::Full {
                available: 7,
                reserve: 11,
            }),
            Mood::Broken => Err(AppendError::Broken("on purpose".to_owned())),
        }
    }

    async fn append_all_but_one(&self, messages: &[NewMessage]) -> Result<Appended, AppendError> {
        let taken = &messages[1..];
        let frames = match taken {
            [] => None,
            taken => self.inner.append(taken).await?.frames().cloned(),
        };
        let failed = Own::Failed(AppendError::Unavailable("on purpose".to_owned()));
        let own = iter::once(failed).chain((0..).map(Own::New).take(taken.len()));
        Ok(Appended::among_others(frames, own.collect()))
    }
}

impl Delegate for Moody {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    fn append<'a>(
        &'a self,
        messages: &'a [NewMessage],
    ) -> BoxFuture<'a, Result<Appended, AppendError>> {
        assert!(!matches!(*self.mood.borrow(), Mood::Panics), "on purpose");
        self.batches.send_modify(|batches| *batches += 1);
        let mut mood = self.mood.subscribe();
        async move {
            let opened = mood.wait_for(|mood| !matches!(mood, Mood::Waits)).await;
            drop(opened.expect("the store has the other end"));
            self.trouble()?;
            if matches!(*self.mood.borrow(), Mood::Partly) {
                return self.append_all_but_one(messages).await;
            }
            self.inner.append(messages).await
        }
        .boxed()
    }

    fn writable(&self) -> Result<(), AppendError> {
        self.trouble()
    }
}

struct Health(Streaming<HealthCheckResponse>);

impl Health {
    async fn watch(node: &Node, service: &str) -> Self {
        let mut client = HealthClient::new(node.channel());
        let asking = HealthCheckRequest {
            service: service.to_owned(),
        };
        Self(client.watch(asking).await.expect("known").into_inner())
    }

    async fn next(&mut self) -> ServingStatus {
        let news = within("news of health", self.0.message()).await;
        news.expect("no error").expect("news").status()
    }
}

async fn overall(node: &Node, service: &str) -> ServingStatus {
    let mut client = HealthClient::new(node.channel());
    let asking = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = client.check(asking).await.expect("it answers");
    answer.into_inner().status()
}

fn identified(id: &str, payload: &str) -> v1::PublishRequest {
    v1::PublishRequest {
        message_id: id.to_owned(),
        ..message("t", payload)
    }
}

#[tokio::test]
async fn a_full_store_refuses_publishers_at_once_and_disturbs_nobody_else() {
    let store = Moody::new();
    let node = Node::start_over(store.clone());
    let mut health = Health::watch(&node, PUBLISHING).await;
    assert_eq!(health.next().await, ServingStatus::Serving);
    let (mut live, welcome) = node.open(request("live", &["t"])).await;
    let epoch = welcome.position.expect("a position").epoch;
    assert_eq!(node.publish("t", "one").await, 1);
    live.event().await;

    store.set(Mood::Full);
    // The call has no deadline, and nothing makes room: an answer that comes at all did not wait for any.
    let refused = within("a refusal", node.try_publish(identified("id", "two"))).await;
    let refused = refused.expect_err("it is full");
    assert_says(
        &refused,
        Code::ResourceExhausted,
        &["7 bytes left", "disk_reserve", "11"],
    );
    let wait = refused.metadata().get("grpc-retry-pushback-ms");
    assert!(wait.is_some(), "it may be tried again");
    // A topic that nobody has published to yet is not known by a message that was refused.
    let refused = node.try_publish(message("new", "x")).await;
    assert_eq!(
        refused.expect_err("it is full").code(),
        Code::ResourceExhausted
    );
    assert_eq!(health.next().await, ServingStatus::NotServing);
    for service in ["", SERVICES[0], SERVICES[2]] {
        let status = overall(&node, service).await;
        assert_eq!(status, ServingStatus::Serving, "`{service}`");
    }
    // New, returning and present subscribers are served.
    let resume = v1::SubscribeRequest {
        resume_after: Some(position(epoch, 0)),
        ..request("resumes", &["t"])
    };
    let (mut resumes, _) = node.open(resume).await;
    assert_eq!(resumes.event().await.sequence, 1);

    // Nobody publishes: the store's word alone is enough.
    store.set(Mood::Takes);
    assert_eq!(health.next().await, ServingStatus::Serving);
    let stored = node.try_publish(identified("id", "two")).await;
    let stored = stored.expect("there is room");
    assert!(!stored.duplicate, "the refused one was not stored");
    assert_eq!(
        stored.position,
        Some(position(epoch, 2)),
        "no number is lost"
    );
    let event = live.event().await;
    assert_eq!(event.sequence, 2);
    assert_eq!(event.previous_sequence, 1, "nor is the topic's last event");
    let again = node.try_publish(identified("id", "two")).await;
    assert!(again.expect("it is known").duplicate);
    assert_eq!(node.publish("new", "x").await, 3);
    let (mut first, _) = node
        .open(v1::SubscribeRequest {
            start: Some(earliest()),
            ..request("first", &["new"])
        })
        .await;
    let event = first.event().await;
    assert_eq!((event.sequence, event.previous_sequence), (3, 0));
}

type Answer = Result<v1::PublishResponse, tonic::Status>;

/// Three publishers of `id`, the first of which is being stored while the others come; and two of `other`, which come
/// meanwhile too and wait for the next batch.
async fn five_while_it_waits(node: &Node, store: &Moody) -> Vec<JoinHandle<Answer>> {
    store.set(Mood::Waits);
    let publisher = |id: &'static str| {
        let mut client = node.publishing();
        spawn(async move {
            let answer = client.publish(identified(id, "x")).await;
            answer.map(tonic::Response::into_inner)
        })
    };
    let mut publishers = vec![publisher("id")];
    store.given().await;
    publishers.extend(["id", "id", "other", "other"].map(publisher));
    // On the same connection, after them.
    overall(node, "").await;
    assert!(!publishers.iter().any(JoinHandle::is_finished), "too early");
    publishers
}

async fn answers(publishers: Vec<JoinHandle<Answer>>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for publisher in publishers {
        let answer = within("an answer", publisher).await;
        answers.push(answer.expect("no panic"));
    }
    answers
}

#[tokio::test]
async fn publishers_of_a_message_that_is_being_stored_get_its_position_when_it_is() {
    let store = Moody::new();
    let node = Node::start_over(store.clone());
    let publishers = five_while_it_waits(&node, &store).await;
    store.set(Mood::Takes);
    let answers = answers(publishers).await.into_iter();
    let answers: Vec<_> = answers.map(|answer| answer.expect("stored")).collect();
    let at = |sequence| Some(position(store.inner.epoch().get(), sequence));
    let (id, other) = answers.split_at(3);
    assert!(id.iter().all(|answer| answer.position == at(1)), "{id:?}");
    let duplicates = id.iter().map(|answer| answer.duplicate);
    assert!(duplicates.eq([false, true, true]), "{id:?}");
    assert!(
        other.iter().all(|answer| answer.position == at(2)),
        "{other:?}"
    );
    assert_ne!(other[0].duplicate, other[1].duplicate, "with any one first");
    assert_eq!(store.inner.last_sequence(), 2, "each is stored once");
}

#[tokio::test]
async fn publishers_of_a_message_that_is_being_stored_are_refused_when_it_is_not() {
    let store = Moody::new();
    let node = Node::start_over(store.clone());
    let publishers = five_while_it_waits(&node, &store).await;
    store.set(Mood::Full);
    for answer in answers(publishers).await {
        let refused = answer.expect_err("it is full");
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    }
    assert_eq!(store.inner.last_sequence(), 0, "nothing is stored");

    store.set(Mood::Takes);
    for duplicate in [false, true] {
        let stored = node.try_publish(identified("id", "x")).await;
        let stored = stored.expect("there is room");
        assert_eq!(
            stored.position,
            Some(position(store.inner.epoch().get(), 1))
        );
        assert_eq!(stored.duplicate, duplicate, "the refused ones left nothing");
    }
}

#[tokio::test]
async fn subscribers_come_and_are_served_while_the_store_takes_its_time() {
    let store = Moody::new();
    let node = Node::start_over(store.clone());
    assert_eq!(node.publish("t", "one").await, 1);
    store.set(Mood::Waits);
    let mut client = node.publishing();
    let publisher = spawn(async move { client.publish(message("t", "two")).await });
    store.given().await;
    let begin = v1::SubscribeRequest {
        start: Some(earliest()),
        ..request("first", &["t"])
    };
    let (mut first, _) = node.open(begin).await;
    assert_eq!(first.event().await.sequence, 1);
    assert!(matches!(first.frame().await, Frame::Progress(_)), "live");
    let (mut next, _) = node.open(request("next", &["*"])).await;
    store.set(Mood::Takes);
    let answer = within("an answer", publisher).await.expect("no panic");
    let answer = answer.expect("stored").into_inner();
    assert_eq!(answer.position.expect("a position").sequence, 2);
    for stream in [&mut first, &mut next] {
        assert_eq!(stream.event().await.sequence, 2);
    }
}

#[tokio::test]
async fn a_batch_that_does_not_fit_is_refused_as_a_whole_and_a_stream_ends_at_its_first_message() {
    let store = Moody::new();
    let node = Node::start_over(store.clone());
    node.publish("t", "one").await;
    store.set(Mood::Full);
    let messages = (0..10).map(|n| identified(&format!("id-{n}"), "x"));
    let mut client = node.publishing();
    let refused = client
        .bulk_publish(tokio_stream::iter(messages.clone()))
        .await;
    let refused = refused.expect_err("it is full");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let stored = refused.metadata().get("longlived-published");
    assert_eq!(stored.expect("how many").as_bytes(), b"0");
    store.set(Mood::Takes);
    let answer = client.bulk_publish(tokio_stream::iter(messages)).await;
    let answer = answer.expect("there is room").into_inner();
    assert_eq!((answer.published, answer.duplicates), (10, 0));
    assert_eq!(answer.last_position.expect("a position").sequence, 11);
}

#[tokio::test]
async fn a_broken_store_ends_the_node_at_once_and_nothing_is_acknowledged_after_it() {
    let store = Moody::new();
    // Nobody waits for the end of this drain.
    let mut node = Node::start_with_store(store.clone(), |config| {
        config.drain_timeout = 24 * PATIENCE;
    });
    let (mut live, _) = node.open(request("live", &["t"])).await;
    node.publish("t", "one").await;
    live.event().await;
    store.set(Mood::Broken);
    let publishers: Vec<_> = (0..20)
        .map(|n| {
            let mut client = node.publishing();
            spawn(async move { client.publish(message("t", &n.to_string())).await })
        })
        .collect();
    for publisher in publishers {
        let answer = within("an answer", publisher).await.expect("no panic");
        let refused = answer.expect_err("nothing is acknowledged");
        assert!(
            matches!(refused.code(), Code::Internal | Code::Unavailable),
            "{refused:?}"
        );
    }
    assert!(matches!(live.frame().await, Frame::GoAway(_)));
    live.end().await.expect("OK");
    match node.outcome().await {
        Err(ServeError::Store(AppendError::Broken(why))) => assert_eq!(why, "on purpose"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_bulk_that_a_broken_store_may_have_kept_is_told_no_number() {
    let store = Moody::new();
    let node = Node::start_over(store.clone());
    store.set(Mood::Broken);
    let messages = (0..10).map(|n| message("t", &n.to_string()));
    let mut client = node.publishing();
    let refused = client.bulk_publish(tokio_stream::iter(messages)).await;
    let refused = refused.expect_err("it is broken");
    assert!(
        refused.metadata().get("longlived-published").is_none(),
        "unsynced messages may be found at the next start: {refused:?}"
    );
}

#[tokio::test]
async fn a_bulk_of_which_a_message_failed_within_a_batch_is_told_no_number() {
    let store = Moody::new();
    let node = Node::start_over(store.clone());
    store.set(Mood::Partly);
    let messages = (0..10).map(|n| message("t", &n.to_string()));
    let mut client = node.publishing();
    let refused = client.bulk_publish(tokio_stream::iter(messages)).await;
    let refused = refused.expect_err("the first one failed");
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(
        refused.metadata().get("longlived-published").is_none(),
        "messages behind it may be stored: {refused:?}"
    );
}

#[tokio::test]
async fn a_panic_of_the_task_that_writes_the_log_ends_the_node() {
    let store = Moody::new();
    let mut node = Node::start_over(store.clone());
    let (mut live, _) = node.open(request("live", &["t"])).await;
    store.set(Mood::Panics);
    let refused = node.try_publish(message("t", "x")).await;
    assert_eq!(
        refused.expect_err("nobody answers").code(),
        Code::Unavailable
    );
    assert!(matches!(live.frame().await, Frame::GoAway(_)));
    match node.outcome().await {
        Err(ServeError::TaskEnded(name)) => assert_eq!(name, "sequencer"),
        other => panic!("{other:?}"),
    }
}
