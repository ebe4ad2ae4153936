//! Calls of several principals, by the doors of one node: each caller has its own, behind the layers of every call.

mod http1;
mod requests;

use std::time::{Duration, UNIX_EPOCH};

use futures_util::StreamExt as _;
use longlived_api::{
    protos::{self, longlived_client::LonglivedClient},
    v1::{
        self, publish_service_client::PublishServiceClient, subscribe_response::Frame as Told,
        subscription_service_client::SubscriptionServiceClient,
        topic_service_client::TopicServiceClient,
    },
};
use longlived_authorize::{Grants, RuleSet, Rules};
use longlived_broker::{Environment, Log, Principal};
use longlived_testkit::{
    requests::{message, request, subscription},
    responses::Stream,
    statuses::{cause, told},
    wait::within,
};
use longlived_topic::TopicFilter;
use tokio::time::Instant;
use tonic::Code;
use tower::Layer as _;

use super::*;
use crate::{
    callers::Callers,
    config::Config,
    contract::{Caller, Credential, Rights},
    layers::{Layered, Layers},
    lifecycle::Drain,
    tasks::Tasks,
};

/// A node without sockets, whose tasks end with the test.
struct World {
    node: Arc<Node>,
    router: Router,
    tasks: Tasks,
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

/// Puts its caller into each request, as a layer does that finds the caller.
#[derive(Clone)]
struct Known {
    router: Router,
    caller: Option<Arc<Caller>>,
}

impl Service<Request<Body>> for Known {
    type Response = Response<NodeBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<NodeBody>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.router.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(caller) = &self.caller {
            request.extensions_mut().insert(caller.clone());
        }
        self.router.call(request)
    }
}

/// The clients of one caller.
struct Door(Layered<Known>);

impl World {
    async fn new() -> Self {
        let config = Config::default();
        let environment = Environment::seeded(1, UNIX_EPOCH + Duration::from_secs(1_000));
        let store = config.open_store(&environment).await.expect("in memory");
        let (log, sequencer) = Log::new(store, config.log.clone());
        let tasks = Tasks::new();
        let run = sequencer.run(tasks.cancel_token());
        tasks.spawn("sequencer", async { run.await.expect("in memory") });
        let drain = Drain::new();
        let timeout = config.acceptor.connection.request_timeout;
        let probes = Probes::new(drain.clone(), timeout).await.expect("probes");
        let node = Node::new(config, environment, log, Callers::unchecked(), drain);
        let maintenance = node.maintenance.clone().run(tasks.cancel_token());
        tasks.spawn("maintenance", maintenance);
        Self {
            router: Router::new(node.clone(), probes),
            node,
            tasks,
        }
    }

    /// Of a caller; without one nobody was found to call.
    fn door(&self, caller: Option<Caller>) -> Door {
        let known = Known {
            router: self.router.clone(),
            caller: caller.map(Arc::new),
        };
        let layers = Layers::new(|| 1, self.node.drain.clone(), || Duration::ZERO);
        Door(layers.layer(known))
    }

    fn door_of(&self, principal: &str) -> Door {
        self.door(Some(caller(principal, &[])))
    }
}

/// A caller that may publish and follow everything, and these inboxes.
fn caller(principal: &str, inboxes: &[&str]) -> Caller {
    let filters = inboxes.iter().chain(&[">"]);
    let parsed = filters.map(|filter| TopicFilter::parse(filter).expect("a filter"));
    let rules = Rules {
        allow: parsed.collect(),
        ..Rules::default()
    };
    let own = RuleSet {
        publish: rules.clone(),
        subscribe: rules,
        ..RuleSet::default()
    };
    Caller {
        principal: Principal::named(principal).expect("a name"),
        rights: Rights::Granted(Arc::new(Grants { own, most: None })),
        credential: None,
        usage: None,
    }
}

impl Door {
    /// A stream of this id, by an attempt of an instance.
    async fn try_subscribe(&self, id: &str, instance: u64, attempt: u64) -> Result<Stream, Status> {
        let asked = v1::SubscribeRequest {
            instance,
            attempt,
            ..request(id, &["news"])
        };
        let mut client = SubscriptionServiceClient::new(self.0.clone());
        let answered = within("the headers", client.subscribe(asked)).await;
        let mut stream = Stream::new(answered.map_err(told)?.into_inner());
        stream.welcome().await;
        Ok(stream)
    }

    /// By the first attempt.
    async fn subscribe(&self, id: &str, instance: u64) -> Stream {
        let stream = self.try_subscribe(id, instance, 1).await;
        stream.expect("it is let in")
    }

    async fn unsubscribe(&self, id: &str) -> Result<(), Status> {
        let subscriber_id = id.to_owned();
        let asked = v1::UnsubscribeRequest {
            subscriber_id,
            ..v1::UnsubscribeRequest::default()
        };
        let mut client = SubscriptionServiceClient::new(self.0.clone());
        let answered = within("an answer", client.unsubscribe(asked)).await;
        answered.map(drop).map_err(told)
    }

    async fn publish(&self, message: v1::PublishRequest) -> v1::PublishResponse {
        let mut client = PublishServiceClient::new(self.0.clone());
        let answered = within("an answer", client.publish(message)).await;
        answered.expect("it is stored").into_inner()
    }

    /// The same by each of the calls that publish; whether each was a duplicate.
    async fn publish_by_all(&self, message: &v1::PublishRequest) -> [bool; 3] {
        let mut client = PublishServiceClient::new(self.0.clone());
        let unary = self.publish(message.clone()).await;
        let stream = futures_util::stream::iter([message.clone()]);
        let answered = within("the headers", client.publish_stream(stream)).await;
        let mut answers = answered.expect("it is taken").into_inner();
        let streamed = within("an answer", answers.message()).await;
        let streamed = streamed.expect("no error").expect("an answer");
        let stream = futures_util::stream::iter([message.clone()]);
        let bulk = within("an answer", client.bulk_publish(stream)).await;
        let bulk = bulk.expect("it is stored").into_inner();
        [unary.duplicate, streamed.duplicate, bulk.duplicates == 1]
    }
}

/// Everything that is published reaches this stream: nobody has ended it.
async fn goes_on(stream: &mut Stream, by: &Door) {
    let published = by.publish(message("news", "x")).await;
    let sequence = published.position.expect("a position").sequence;
    assert_eq!(stream.event().await.sequence, sequence);
}

#[tokio::test]
async fn one_id_of_two_principals_is_two_subscribers_and_of_anonymous_callers_is_one() {
    let world = World::new().await;
    let (ann, bob) = (world.door_of("ann"), world.door_of("bob"));
    let (nobody, anybody) = (world.door(None), world.door(None));
    let mut anns = ann.subscribe("s", 7).await;
    let mut bobs = bob.subscribe("s", 8).await;
    let mut first = nobody.subscribe("s", 9).await;
    assert_eq!(world.node.registry.live(), 3);
    let mut second = anybody.subscribe("s", 10).await;
    let reason = first.go_away().await.reason();
    assert_eq!(reason, v1::go_away::Reason::TakenOver);
    let status = first.ends_with(Code::Aborted).await;
    assert_eq!(cause(&status).reason, "TAKEN_OVER");
    let published = nobody.publish(message("news", "x")).await;
    let sequence = published.position.expect("a position").sequence;
    for stream in [&mut anns, &mut bobs, &mut second] {
        assert_eq!(stream.event().await.sequence, sequence);
    }
}

#[tokio::test]
async fn a_fight_over_an_id_and_its_attempts_concern_one_principal() {
    let world = World::new().await;
    let (ann, nobody) = (world.door_of("ann"), world.door(None));
    let mut streams = Vec::new();
    let refused = loop {
        match nobody.try_subscribe("s", streams.len() as u64 + 1, 9).await {
            Ok(stream) => streams.push(stream),
            Err(refused) => break refused,
        }
    };
    assert_eq!(cause(&refused).reason, "TAKEOVER_TOO_OFTEN");
    let last = streams.len() as u64;
    let older = nobody.try_subscribe("s", last, 8).await;
    let older = older.map(drop).expect_err("a newer attempt was seen");
    assert_eq!(cause(&older).reason, "ATTEMPT_NOT_NEWEST");
    for instance in [last, last + 1] {
        goes_on(&mut ann.subscribe("s", instance).await, &ann).await;
    }
}

#[tokio::test]
async fn nobody_unsubscribes_the_subscriber_of_another_principal() {
    let world = World::new().await;
    let (ann, bob, nobody) = (world.door_of("ann"), world.door_of("bob"), world.door(None));
    let mut stream = ann.subscribe("7", 7).await;
    for other in [&bob, &nobody] {
        let status = other.unsubscribe("7").await.expect_err("nobody is there");
        assert_eq!(cause(&status).reason, "SUBSCRIBER_NOT_FOUND");
        let mut frozen = LonglivedClient::new(other.0.clone());
        let refused = within("an answer", frozen.unsubscribe(protos::Request { id: 7 })).await;
        assert_eq!(refused.expect_err("nobody is there").code(), Code::NotFound);
    }
    goes_on(&mut stream, &bob).await;
    ann.unsubscribe("7").await.expect("it is there");
    let reason = stream.go_away().await.reason();
    assert_eq!(reason, v1::go_away::Reason::Unsubscribed);
    stream.end().await.expect("it ends with OK");
}

#[tokio::test]
async fn a_subscriber_that_is_away_is_unsubscribed_by_its_principal_only() {
    let world = World::new().await;
    let (ann, bob) = (world.door_of("ann"), world.door_of("bob"));
    drop(ann.subscribe("s", 7).await);
    within("it has left", world.node.registry.emptied()).await;
    let status = bob.unsubscribe("s").await.expect_err("nobody is expected");
    assert_eq!(cause(&status).reason, "SUBSCRIBER_NOT_FOUND");
    ann.unsubscribe("s").await.expect("it is expected back");
    // The same instance of another principal is another process, and changes nothing.
    goes_on(&mut bob.subscribe("s", 7).await, &bob).await;
    let mut stream = ann.subscribe("s", 7).await;
    let reason = stream.go_away().await.reason();
    assert_eq!(reason, v1::go_away::Reason::Unsubscribed);
}

#[tokio::test]
async fn the_same_message_id_is_stored_once_for_each_principal() {
    let world = World::new().await;
    let once = v1::PublishRequest {
        message_id: "1".to_owned(),
        ..message("news", "x")
    };
    for door in [world.door_of("ann"), world.door_of("bob"), world.door(None)] {
        assert_eq!(door.publish_by_all(&once).await, [false, true, true]);
    }
    // In whichever call it comes first.
    let twice = v1::PublishRequest {
        message_id: "2".to_owned(),
        ..once
    };
    let mut client = PublishServiceClient::new(world.door_of("ann").0);
    let stream = futures_util::stream::iter([twice.clone()]);
    let bulk = within("an answer", client.bulk_publish(stream)).await;
    assert_eq!(bulk.expect("it is stored").into_inner().duplicates, 0);
    let bobs = world.door_of("bob").publish_by_all(&twice).await;
    assert_eq!(bobs, [false, true, true]);
    let anns = world.door_of("ann").publish_by_all(&twice).await;
    assert_eq!(anns, [true; 3]);
}

/// The answers of each way to an inbox: to follow it from the begin, to follow it later, to look at it, and to follow
/// it by the frozen contract.
async fn inbox(door: &Door, id: i32) -> [Result<(), String>; 4] {
    let refused = |status: Status| {
        assert_eq!(status.code(), Code::PermissionDenied);
        cause(&status).reason
    };
    let (id, frozen_id) = (id.to_string(), id);
    let inbox = format!("inbox.{id}");
    let mut client = SubscriptionServiceClient::new(door.0.clone());
    let asked = request(&id, &[&inbox]);
    let followed = within("the headers", client.subscribe(asked)).await;

    let open = v1::session_request::Request::Open(request(&id, &["news"]));
    let add = v1::session_request::Request::Add(subscription(&inbox));
    let said = [open, add].map(|one| v1::SessionRequest { request: Some(one) });
    let said = futures_util::stream::iter(said).chain(futures_util::stream::pending());
    let session = within("the headers", client.session(said)).await;
    let mut session = Stream::new(session.expect("it begins").into_inner());
    session.welcome().await;
    let change = session.change().await;
    let is_added = change.state() == v1::subscription_change::State::Added;

    let asked = v1::ReadHistoryRequest {
        subscriptions: vec![subscription(&inbox)],
        subscriber_id: id,
        ..v1::ReadHistoryRequest::default()
    };
    let mut client = TopicServiceClient::new(door.0.clone());
    let looked = within("an answer", client.read_history(asked)).await;

    let mut client = LonglivedClient::new(door.0.clone());
    let frozen = protos::Request { id: frozen_id };
    let frozen = within("the headers", client.subscribe(frozen)).await;
    [
        followed.map(drop).map_err(refused),
        is_added.then_some(()).ok_or(change.message),
        looked.map(drop).map_err(refused),
        frozen.map(drop).map_err(|status| status.code().to_string()),
    ]
}

#[tokio::test]
async fn an_inbox_is_followed_by_the_callers_that_are_granted_it_whatever_id_they_claim() {
    let world = World::new().await;
    let anns = world.door(Some(caller("ann", &["inbox.7", "inbox.8"])));
    let bobs = world.door(Some(caller("bob", &["inbox.9"])));
    let all = world.door(Some(caller("all", &["inbox.>"])));
    let nobodys = world.door(None);
    for (door, id) in [(&anns, 7), (&anns, 8), (&bobs, 9), (&all, 7), (&nobodys, 7)] {
        assert_eq!(inbox(door, id).await, [const { Ok(()) }; 4], "{id}");
    }
    for (name, door, id) in [
        ("ann", &anns, 9),
        ("bob", &bobs, 7),
        ("carl", &world.door_of("carl"), 7),
    ] {
        let not_granted = format!(
            "`topic_filter` inbox.{id} is not granted: {name} may not subscribe there: no filter of `subscribe.allow` \
             covers `inbox.{id}` in the grants of the credential"
        );
        let refused = [
            "NOT_GRANTED",
            &not_granted,
            "NOT_GRANTED",
            &Code::PermissionDenied.to_string(),
        ];
        let refused = refused.map(|why| Err(why.to_owned()));
        assert_eq!(inbox(door, id).await, refused, "{id}");
    }
}

/// What is proved of a caller in these tests.
fn proof() -> Arc<longlived_identity::Proof> {
    let rules = "[anonymous]\nsubscribe = { allow = [\">\"] }";
    let rules = longlived_identity::AuthRules::parse(rules, &mut |_| unreachable!());
    let anonymous = rules.expect("rules").anonymous();
    anonymous.expect("they have it").proof
}

#[tokio::test(start_paused = true)]
async fn the_subscriptions_of_a_caller_hear_that_its_credential_expires_and_end_after_it() {
    let world = World::new().await;
    let lasting = Duration::from_secs(60);
    let begin = Instant::now();
    let expiring = world.door(Some(Caller {
        credential: Some(Credential {
            verified: Instant::now(),
            expires: Some(begin + lasting),
            expires_at: None,
            proof: proof(),
            rules: 0,
        }),
        ..caller("ann", &["inbox.7"])
    }));
    let told = Some(prost_types::Timestamp {
        seconds: 1_060,
        nanos: 0,
    });
    let nobody = world.door(None);
    let mut stays = nobody.subscribe("s", 7).await;

    let open = v1::session_request::Request::Open(request("s", &["news"]));
    let token = v1::session_request::Request::Token("fresh".to_owned());
    let said = [open, token].map(|one| v1::SessionRequest { request: Some(one) });
    let said = futures_util::stream::iter(said).chain(futures_util::stream::pending());
    let mut client = SubscriptionServiceClient::new(expiring.0.clone());
    let session = within("the headers", client.session(said)).await;
    let mut session = Stream::new(session.expect("it begins").into_inner());
    assert_eq!(session.welcome().await.credential_expires, told);
    match session.frame().await {
        Told::CredentialNotice(notice) => assert_eq!(notice.expires, told),
        other => panic!("{other:?}"),
    }
    assert!(begin.elapsed() < Duration::from_secs(1), "it is an answer");
    let mut client = LonglivedClient::new(expiring.0.clone());
    let frozen = within("the headers", client.subscribe(protos::Request { id: 7 })).await;
    let mut frozen = frozen.expect("it begins").into_inner();

    loop {
        match session.frame().await {
            Told::Progress(_) => {}
            Told::CredentialNotice(notice) => break assert_eq!(notice.expires, told),
            other => panic!("{other:?}"),
        }
    }
    let share = begin.elapsed().as_secs_f64() / lasting.as_secs_f64();
    assert!((0.75..0.87).contains(&share), "{share}");
    let go_away = session.until_go_away().await;
    let ends = lasting + longlived_identity::LEEWAY;
    assert!((ends..ends + Duration::from_secs(1)).contains(&begin.elapsed()));
    assert_eq!(go_away.reason(), v1::go_away::Reason::CredentialExpired);
    assert!(go_away.reconnect, "with another credential");
    assert!(go_away.reconnect_after.is_some(), "at its turn");
    session.end().await.expect("it ends with OK");
    let ended = within("the end", frozen.message()).await;
    assert_eq!(ended.expect_err("it comes back").code(), Code::Unavailable);
    while let Told::Progress(_) = stays.frame().await {
        if begin.elapsed() > 3 * lasting {
            return;
        }
    }
    panic!("something else than Progress");
}
