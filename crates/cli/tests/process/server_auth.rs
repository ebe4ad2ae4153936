//! What callers may: on every path that shows or takes a topic, before and after the rules change.

use futures_util::{StreamExt as _, stream};
use longlived_api::protos::{self, longlived_client::LonglivedClient};
use longlived_api::v1::{
    self, go_away::Reason as GoAwayReason, publish_service_client::PublishServiceClient,
    session_request::Request, subscription_change::State as ChangeState,
    subscription_service_client::SubscriptionServiceClient,
    topic_service_client::TopicServiceClient,
};
use longlived_testkit::requests::{earliest, message, subscription};
use longlived_testkit::statuses::{cause, told};
use rustix::process::Signal;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::auth_support::{Auth, Token, with};
use super::server_metrics::{told_at, value};
use super::server_tls::Files;
use super::support::{Server, Stream, request, spawn, until, within};

/// A server with an auth file, and its rights.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) auth: Auth,
    pub(crate) channel: Channel,
    _files: Files,
}

impl World {
    pub(crate) async fn new(rules: &str) -> Self {
        let files = Files::new();
        let auth = Auth::with(&files, rules);
        let server =
            Server::start(&["--auth", &auth.path(), "--metrics-listen", "127.0.0.1:0"]).await;
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
        Self {
            channel: endpoint.connect_lazy(),
            server,
            auth,
            _files: files,
        }
    }

    pub(crate) fn token(&self, subject: &'static str) -> String {
        let token = Token {
            subject,
            ..Token::default()
        };
        self.auth.token(token)
    }

    pub(crate) fn subscriptions(&self) -> SubscriptionServiceClient<Channel> {
        SubscriptionServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn subscribe(
        &self,
        token: &str,
        asked: v1::SubscribeRequest,
    ) -> Result<Stream, Status> {
        let mut client = self.subscriptions();
        let answered = within("the headers", client.subscribe(with(token, asked))).await?;
        let mut stream = Stream::new(answered.into_inner());
        stream.welcome().await;
        Ok(stream)
    }

    pub(crate) async fn publish(&self, token: &str, topic: &str) -> Result<u64, Status> {
        let mut client = PublishServiceClient::new(self.channel.clone());
        let answered = client.publish(with(token, message(topic, "hello"))).await?;
        Ok(answered.into_inner().position.unwrap().sequence)
    }

    /// Puts new rules into the auth file, and waits until they hold.
    pub(crate) async fn rules(&self, rules: &str) {
        let before = self.reloads();
        self.auth.write(rules);
        self.server.signal(Signal::HUP);
        until("the new rules", async || {
            (self.reloads() > before).then_some(())
        })
        .await;
    }

    fn reloads(&self) -> usize {
        let lines = self.server.lines();
        lines
            .iter()
            .filter(|line| line.contains("a new auth file holds"))
            .count()
    }
}

/// The reason of a refusal, and its text.
pub(crate) fn refusal(status: Status) -> (String, String) {
    let text = status.message().to_owned();
    (cause(&told(status)).reason, text)
}

const ALL_BUT_SECRETS: &str = r#"
[issuers.acme.template]
publish = { allow = [">"], deny = ["secret.>"] }
subscribe = { allow = [">"], deny = ["secret.>"] }
"#;

pub(crate) const EVERYTHING: &str = r#"
[issuers.acme.template]
publish = { allow = [">", "inbox.>"] }
subscribe = { allow = [">", "inbox.>"] }
"#;

/// What a caller comes to on every path that names the filter.
async fn refused_everywhere(world: &World, token: &str, filter: &str) {
    let asked = v1::SubscribeRequest {
        start: Some(earliest()),
        ..request("s", &[filter])
    };
    let resumed = v1::SubscribeRequest {
        resume_after: Some(v1::Position {
            epoch: 1,
            sequence: 0,
        }),
        ..request("s", &[filter])
    };
    // In the company of a filter that is granted.
    let joined = request("s", &["news", filter]);
    for asked in [asked, resumed, joined] {
        let refused = world.subscribe(token, asked).await.err().expect("refused");
        assert_eq!(refusal(refused).0, "NOT_GRANTED", "{filter}");
    }
    let open = Request::Open(request("s", &["news"]));
    let add = Request::Add(subscription(filter));
    let said = [open, add].map(|one| v1::SessionRequest { request: Some(one) });
    let said = stream::iter(said).chain(stream::pending());
    let session = within(
        "the headers",
        world.subscriptions().session(with(token, said)),
    )
    .await;
    let mut session = Stream::new(session.unwrap().into_inner());
    session.welcome().await;
    let change = session.change().await;
    assert_eq!(change.state(), ChangeState::Refused, "{filter}");
    assert!(change.message.contains("`subscribe."), "{}", change.message);

    let mut topics = TopicServiceClient::new(world.channel.clone());
    let read = v1::ReadHistoryRequest {
        subscriptions: vec![subscription(filter)],
        ..v1::ReadHistoryRequest::default()
    };
    let read = within("an answer", topics.read_history(with(token, read))).await;
    assert_eq!(
        refusal(read.expect_err("refused")).0,
        "NOT_GRANTED",
        "{filter}"
    );
    let check = v1::CheckPositionRequest {
        subscriptions: vec![subscription(filter)],
        position: Some(v1::Position {
            epoch: 1,
            sequence: 0,
        }),
        ..v1::CheckPositionRequest::default()
    };
    let checked = within("an answer", topics.check_position(with(token, check))).await;
    assert_eq!(
        refusal(checked.expect_err("refused")).0,
        "NOT_GRANTED",
        "{filter}"
    );
}

async fn listed(world: &World, token: &str, filter: &str, page_size: u32) -> Vec<String> {
    let mut topics = TopicServiceClient::new(world.channel.clone());
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let asked = v1::ListTopicsRequest {
            topic_filter: filter.to_owned(),
            page_size,
            page_token,
            ..v1::ListTopicsRequest::default()
        };
        let page = within("a page", topics.list_topics(with(token, asked))).await;
        let page = page.unwrap().into_inner();
        assert!(
            !page.next_page_token.starts_with("secret"),
            "it shows a name"
        );
        names.extend(page.topics.into_iter().map(|topic| topic.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return names;
        }
    }
}

#[tokio::test]
async fn a_deny_holds_for_live_events_and_for_replay_and_for_what_tells_of_topics() {
    let world = World::new(EVERYTHING).await;
    let token = world.token("ann");
    for topic in ["a", "secret.a", "secret.b", "t", "news", "secret.c", "z"] {
        world.publish(&token, topic).await.unwrap();
    }
    world.rules(ALL_BUT_SECRETS).await;
    for filter in ["secret.a", "secret.>", "*.a", ">", "*.*"] {
        refused_everywhere(&world, &token, filter).await;
    }
    for page_size in [1, 2, 100] {
        assert_eq!(
            listed(&world, &token, "", page_size).await,
            ["a", "news", "t", "z"]
        );
        assert_eq!(listed(&world, &token, "secret.>", page_size).await, [""; 0]);
    }
    let (reason, text) = refusal(world.publish(&token, "secret.a").await.expect_err("denied"));
    assert_eq!(reason, "NOT_GRANTED");
    assert!(
        text.contains("acme/ann") && text.contains("`publish.deny`"),
        "{text}"
    );
    assert!(text.contains("secret.>"), "{text}");
}

#[tokio::test]
async fn a_publishing_stream_stops_at_the_first_message_that_is_not_granted_also_when_the_rules_change()
 {
    let world = World::new(EVERYTHING).await;
    let token = world.token("ann");
    let mut client = PublishServiceClient::new(world.channel.clone());
    let (messages, said) = tokio::sync::mpsc::channel(4);
    let said = tokio_stream::wrappers::ReceiverStream::new(said);
    let answers = within("the headers", client.publish_stream(with(&token, said))).await;
    let mut answers = answers.unwrap().into_inner();
    for topic in ["news", "secret.a"] {
        messages.send(message(topic, "1")).await.unwrap();
        within("an answer", answers.message())
            .await
            .unwrap()
            .expect("it is stored");
    }
    world.rules(ALL_BUT_SECRETS).await;
    messages.send(message("news", "2")).await.unwrap();
    within("an answer", answers.message())
        .await
        .unwrap()
        .expect("it is stored");
    messages.send(message("secret.a", "2")).await.unwrap();
    let refused = within("the end", answers.message())
        .await
        .expect_err("denied");
    assert_eq!(refusal(refused).0, "NOT_GRANTED");

    let bulk = stream::iter(["news", "secret.a", "news"].map(|topic| message(topic, "3")));
    let refused = within("an answer", client.bulk_publish(with(&token, bulk))).await;
    let refused = refused.expect_err("denied");
    assert_eq!(refused.metadata().get("longlived-published").unwrap(), "1");
    assert_eq!(refusal(refused).0, "NOT_GRANTED");
}

#[tokio::test]
async fn a_live_stream_loses_the_filters_that_newer_rules_take_and_ends_with_the_last() {
    let world = World::new(EVERYTHING).await;
    let (ann, bob) = (world.token("ann"), world.token("bob"));
    let mut both = world
        .subscribe(&ann, request("both", &["news", "secret.a"]))
        .await
        .unwrap();
    let mut one = world
        .subscribe(&ann, request("one", &["secret.a"]))
        .await
        .unwrap();
    let mut other = world
        .subscribe(&bob, request("other", &["news"]))
        .await
        .unwrap();
    world.rules(ALL_BUT_SECRETS).await;
    let change = both.change().await;
    assert_eq!(
        (&*change.topic_filter, change.state()),
        ("secret.a", ChangeState::Refused)
    );
    assert!(change.after.is_some(), "from where on");
    let ended = one.end().await.expect_err("nothing is left");
    assert_eq!(ended.code(), Code::PermissionDenied);
    assert_eq!(cause(&told(ended)).reason, "NOT_GRANTED");

    world.rules(EVERYTHING).await;
    let sequence = world.publish(&ann, "secret.a").await.unwrap();
    world.publish(&ann, "news").await.unwrap();
    for stream in [&mut both, &mut other] {
        let event = stream.event().await;
        assert_eq!((&*event.topic, event.sequence), ("news", sequence + 1));
    }
}

#[tokio::test]
async fn a_revoked_caller_is_sent_away_for_good_and_others_do_not_notice() {
    let world = World::new(EVERYTHING).await;
    let (ann, bob) = (world.token("ann"), world.token("bob"));
    let mut revoked = world
        .subscribe(&ann, request("s", &["news"]))
        .await
        .unwrap();
    let mut stays = world
        .subscribe(&bob, request("s", &["news"]))
        .await
        .unwrap();
    let frozen = LonglivedClient::new(world.channel.clone());
    let asked = with(&ann, protos::Request { id: 7 });
    let mut frozen = within("the headers", frozen.clone().subscribe(asked))
        .await
        .unwrap()
        .into_inner();
    world
        .rules(&format!(
            "{EVERYTHING}\n[revoked]\nprincipals = [\"acme/ann\"]"
        ))
        .await;
    let go_away = revoked.until_go_away().await;
    assert_eq!(go_away.reason(), GoAwayReason::Revoked);
    assert!(!go_away.reconnect);
    let ended = revoked.end().await.expect_err("it is told why");
    assert_eq!(cause(&told(ended)).reason, "CALLER_REVOKED");
    let ended = within("the end", frozen.message())
        .await
        .expect_err("it is told why");
    assert_eq!(ended.code(), Code::PermissionDenied);
    let again = world
        .subscribe(&ann, request("s", &["news"]))
        .await
        .err()
        .expect("refused");
    assert_eq!(refusal(again).0, "CALLER_REVOKED");
    world.publish(&bob, "news").await.unwrap();
    assert_eq!(stays.event().await.topic, "news");
}

#[tokio::test]
async fn an_auth_file_that_cannot_be_used_keeps_the_rules_before_and_is_told_once() {
    let world = World::new(EVERYTHING).await;
    let ann = world.token("ann");
    let told_at = told_at(&world.server).await;
    let stale = async || value(told_at, "longlived_auth_file_stale").await;
    assert_eq!(stale().await, 0);
    world.auth.write("[issuers.acme.tmplate]\n");
    world.server.signal(Signal::HUP);
    let line = world
        .server
        .line("the trouble", |line| line.contains("cannot be used"))
        .await;
    assert!(
        line.contains("tmplate") && line.contains("template"),
        "{line}"
    );
    assert_eq!(stale().await, 1);
    world.publish(&ann, "secret.a").await.unwrap();
    world.rules(ALL_BUT_SECRETS).await;
    assert_eq!(stale().await, 0);
    world.publish(&ann, "secret.a").await.expect_err("denied");
}

#[tokio::test]
async fn calls_that_wait_for_their_message_or_say_nothing_are_decided_by_the_rules_of_then() {
    let world = World::new(EVERYTHING).await;
    let ann = world.token("ann");
    let (messages, said) = tokio::sync::mpsc::channel::<v1::PublishRequest>(4);
    let said = tokio_stream::wrappers::ReceiverStream::new(said);
    let mut client = PublishServiceClient::new(world.channel.clone());
    let answers = within("the headers", client.publish_stream(with(&ann, said))).await;
    let mut answers = answers.unwrap().into_inner();
    // Headers, and no message for now.
    let (late, body) = tokio::sync::mpsc::channel(1);
    let body = tokio_stream::wrappers::ReceiverStream::new(body);
    let waiting = {
        let channel = world.channel.clone();
        let asked = with(&ann, body);
        spawn(async move {
            let mut grpc = tonic::client::Grpc::new(channel);
            grpc.ready().await.unwrap();
            let path = "/longlived.v1.PublishService/Publish".parse().unwrap();
            let codec =
                tonic_prost::ProstCodec::<v1::PublishRequest, v1::PublishResponse>::default();
            grpc.client_streaming(asked, path, codec).await.map(drop)
        })
    };
    world
        .publish(&ann, "news")
        .await
        .expect("the headers before it have come");
    world
        .rules(&format!(
            "{EVERYTHING}\n[revoked]\nprincipals = [\"acme/ann\"]"
        ))
        .await;
    let ended = within("the end of one that says nothing", answers.message()).await;
    assert_eq!(
        refusal(ended.expect_err("it is told why")).0,
        "CALLER_REVOKED"
    );
    drop(messages);
    late.send(message("news", "late")).await.unwrap();
    drop(late);
    let refused = within("an answer", waiting)
        .await
        .unwrap()
        .expect_err("revoked");
    assert_eq!(refusal(refused).0, "CALLER_REVOKED");
}

#[tokio::test]
async fn an_end_that_a_static_token_gets_later_ends_its_streams_too() {
    let token = "llt_ci_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let sha256 = "a33ab53b99b395a6e5890e0b1e2ecec6a73b94aa720f379ac15ccfd8223f7635";
    let rules = |expires: &str| {
        format!(
            "[tokens.ci]\nsha256 = \"{sha256}\"\n{expires}\nsubscribe = {{ allow = [\">\"] }}\n"
        )
    };
    let world = World::new(&rules("")).await;
    let mut stream = world
        .subscribe(token, request("s", &["news"]))
        .await
        .unwrap();
    world.rules(&rules("expires = 2001-01-01T00:00:00Z")).await;
    let go_away = stream.until_go_away().await;
    assert_eq!(go_away.reason(), GoAwayReason::CredentialExpired);
}
