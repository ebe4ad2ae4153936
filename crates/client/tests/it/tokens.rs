//! The bearer token of a client: sent with each call, read again from its file, and what follows when it is refused.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use longlived_api::{protos, v1};
use longlived_client::{
    CallError, Client, GoAwayReason, HistoryQuery, Lost, Message, Notice, Position, PublishError,
    SubscribeError, Token, TopicsQuery,
};
use longlived_testkit::wait::within;
use tokio_stream::StreamExt as _;
use tonic::Code;
use v1::subscribe_response::Frame;
use v1::welcome::Outcome::{New, Resumed};

use crate::scripted::{Call, DETAILS, Server, Watched, details};

const EPOCH: u64 = 7;

/// A token file in a folder of its own.
pub(crate) struct TokenFile {
    folder: PathBuf,
}

impl TokenFile {
    pub(crate) fn new(token: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("longlived-tokens-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let file = Self { folder };
        file.holds(token);
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.join("token")
    }

    /// Replaces the file, as programs that write tokens do.
    pub(crate) fn holds(&self, token: &str) {
        let next = self.folder.join("next");
        fs::write(&next, token).unwrap();
        fs::rename(next, self.path()).unwrap();
    }

    pub(crate) fn token(&self) -> Token {
        Token::file(self.path()).unwrap()
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

pub(crate) fn client(server: &Server, token: Token) -> Client {
    server.client().token(token).build().unwrap()
}

pub(crate) fn watched(client: &Client) -> Watched {
    Watched::new(client.subscriber("a").filter("t").build().unwrap())
}

pub(crate) fn refuse(call: &mut Call, code: Code, reason: &str) {
    call.refuse(code, &[(DETAILS, &details(code, reason, None))]);
}

/// The server's next call, which must have this token.
pub(crate) async fn call_with(server: &mut Server, token: &str) -> Call {
    let call = server.call().await;
    let bearer = format!("Bearer {token}");
    assert_eq!(call.authorization(), Some(bearer.as_str()), "{}", call.path);
    call
}

#[tokio::test]
async fn every_kind_of_call_has_the_token() {
    let mut server = Server::start().await;
    let client = client(&server, Token::new("secret").unwrap());
    let mut paths = Vec::new();
    let mut refused = async |server: &mut Server| {
        let mut call = call_with(server, "secret").await;
        paths.push(call.path.clone());
        call.refuse(Code::InvalidArgument, &[]);
    };
    let time = Duration::from_secs(60);
    let publisher = client.publisher();
    let messages = || tokio_stream::iter([Message::new("t", "x")]);

    let mut subscriber = client.subscriber("a").filter("t").build().unwrap();
    let (error, ()) = tokio::join!(subscriber.next(), refused(&mut server));
    assert!(matches!(error, Some(Err(SubscribeError::Refused(_)))));
    let handle = subscriber.handle();
    let (error, ()) = tokio::join!(handle.unsubscribe(), refused(&mut server));
    assert!(error.is_err());
    let (error, ()) = tokio::join!(
        publisher.publish(Message::new("t", "x")),
        refused(&mut server)
    );
    assert!(matches!(error, Err(PublishError::Refused(_))));
    let mut answers = publisher.publish_stream(messages(), 1);
    let (error, ()) = tokio::join!(answers.next(), refused(&mut server));
    assert!(matches!(error, Some(Err(PublishError::Refused(_)))));
    let (error, ()) = tokio::join!(publisher.bulk(messages()), refused(&mut server));
    assert!(matches!(error.unwrap_err().cause, CallError::Refused(_)));
    let topics = TopicsQuery::new(">");
    let (error, ()) = tokio::join!(client.topics(&topics), refused(&mut server));
    assert!(error.is_err());
    let history = HistoryQuery::new(["t"]);
    let (error, ()) = tokio::join!(client.read_history(&history), refused(&mut server));
    assert!(error.is_err());
    let checked = client.check_position("a", ["t"], Position::new(EPOCH, 1));
    let (error, ()) = tokio::join!(checked, refused(&mut server));
    assert!(error.is_err());
    let (error, ()) = tokio::join!(client.health("", time), refused(&mut server));
    assert!(error.is_err());
    let mut subscriber = client.legacy_subscriber(1).build();
    let (error, ()) = tokio::join!(subscriber.next(), refused(&mut server));
    assert!(matches!(error, Some(Err(SubscribeError::Refused(_)))));
    let handle = subscriber.handle();
    let (error, ()) = tokio::join!(handle.unsubscribe(), refused(&mut server));
    assert!(error.is_err());

    assert_eq!(
        paths,
        [
            "/longlived.v1.SubscriptionService/Subscribe",
            "/longlived.v1.SubscriptionService/Unsubscribe",
            "/longlived.v1.PublishService/Publish",
            "/longlived.v1.PublishService/PublishStream",
            "/longlived.v1.PublishService/BulkPublish",
            "/longlived.v1.TopicService/ListTopics",
            "/longlived.v1.TopicService/ReadHistory",
            "/longlived.v1.TopicService/CheckPosition",
            "/grpc.health.v1.Health/Check",
            "/protos.Longlived/Subscribe",
            "/protos.Longlived/Unsubscribe",
        ]
    );
}

#[tokio::test]
async fn a_subscriber_whose_token_is_refused_backs_off_until_its_file_has_another() {
    let mut server = Server::start().await;
    let file = TokenFile::new("old\n");
    let mut watched = watched(&client(&server, file.token()));
    // Longer than a client tries a token that it asks a program for.
    for reason in ["CREDENTIAL_MISSING", "CREDENTIAL_INVALID", "ANOTHER"] {
        let mut call = call_with(&mut server, "old").await;
        refuse(&mut call, Code::Unauthenticated, reason);
        match watched.notice().await {
            Notice::Disconnected {
                reason: Lost::Status(refusal),
                ..
            } => assert_eq!(refusal.reason.as_deref(), Some(reason)),
            other => panic!("{other:?}"),
        }
    }
    let mut call = call_with(&mut server, "old").await;
    file.holds("new\n");
    let wait = Some(Duration::from_millis(20));
    let details = details(Code::Unauthenticated, "CREDENTIAL_INVALID", wait);
    call.refuse(Code::Unauthenticated, &[(DETAILS, &details)]);
    let mut call = call_with(&mut server, "new").await;
    call.welcome(New, EPOCH, 0);
    call.event(1);
    assert_eq!(watched.event().await, 1);
}

#[tokio::test]
async fn a_subscriber_of_the_frozen_contract_whose_token_is_refused_backs_off_too() {
    let mut server = Server::start().await;
    let file = TokenFile::new("old");
    let client = client(&server, file.token());
    let mut subscriber = client.legacy_subscriber(1).build();
    let serving = async {
        for _ in 0..2 {
            let mut call = call_with(&mut server, "old").await;
            call.refuse(Code::Unauthenticated, &[]);
        }
        let mut call = call_with(&mut server, "old").await;
        file.holds("new");
        call.refuse(Code::Unauthenticated, &[]);
        let mut call = call_with(&mut server, "new").await;
        call.send(&protos::Response {
            data: "one".to_owned(),
        });
        call
    };
    let received = async {
        use longlived_client::legacy::LegacyItem;
        loop {
            match subscriber.next().await.unwrap().unwrap() {
                LegacyItem::Data(data) => return data,
                LegacyItem::Unsubscribed { .. } => panic!("it ended"),
                LegacyItem::Connected { .. } | LegacyItem::Disconnected { .. } => {}
            }
        }
    };
    let (_call, data) = within("the data", async { tokio::join!(serving, received) }).await;
    assert_eq!(data, "one");
}

#[tokio::test]
async fn without_a_file_a_refused_token_is_the_end_and_the_error_says_what_is_needed() {
    for (token, reason, help) in [
        (None, "CREDENTIAL_MISSING", "; this client needs a token"),
        (Some("secret"), "CREDENTIAL_INVALID", "another token"),
    ] {
        let mut server = Server::start().await;
        let client = match token {
            Some(token) => client(&server, Token::new(token).unwrap()),
            None => server.client().build().unwrap(),
        };
        let mut watched = watched(&client);
        refuse(&mut server.call().await, Code::Unauthenticated, reason);
        let error = watched.error().await;
        assert!(matches!(&error, SubscribeError::Unauthenticated(refusal)
            if refusal.reason.as_deref() == Some(reason)));
        let said = error.to_string();
        assert!(said.contains(help), "{said}");
        assert!(!format!("{said} {error:?}").contains("secret"), "{said}");
        assert!(server.is_left_alone().await);
    }
}

#[tokio::test]
async fn what_is_not_granted_or_was_withdrawn_is_the_end_with_a_file_too() {
    for reason in ["NOT_GRANTED", "CALLER_REVOKED"] {
        let mut server = Server::start().await;
        let file = TokenFile::new("one");
        let mut watched = watched(&client(&server, file.token()));
        refuse(&mut server.call().await, Code::PermissionDenied, reason);
        let error = watched.error().await;
        assert!(matches!(&error, SubscribeError::Refused(refusal)
            if refusal.reason.as_deref() == Some(reason)));
        assert!(server.is_left_alone().await);
    }
}

/// A subscriber with the token `old` of a file, and its stream.
pub(crate) async fn running(server: &mut Server, file: &TokenFile) -> (Watched, Call) {
    let mut watched = watched(&client(server, file.token()));
    let mut call = call_with(server, "old").await;
    call.welcome(New, EPOCH, 0);
    call.event(1);
    assert_eq!(watched.event().await, 1);
    (watched, call)
}

pub(crate) fn go_away(reason: v1::go_away::Reason, reconnect: bool) -> Frame {
    Frame::GoAway(v1::GoAway {
        reason: reason.into(),
        position: Some(v1::Position {
            epoch: EPOCH,
            sequence: 1,
        }),
        reconnect,
        ..v1::GoAway::default()
    })
}

#[tokio::test]
async fn a_stream_whose_credential_has_expired_is_come_back_from_with_what_the_file_has_then() {
    let mut server = Server::start().await;
    let file = TokenFile::new("old");
    let (mut watched, mut call) = running(&mut server, &file).await;
    file.holds("new");
    call.frame(go_away(v1::go_away::Reason::CredentialExpired, true));
    call.end(Code::Ok);
    let mut call = call_with(&mut server, "new").await;
    let request: v1::SubscribeRequest = call.message().await.unwrap();
    assert_eq!(request.resume_after.unwrap().sequence, 1);
    call.welcome(Resumed, EPOCH, 1);
    call.event(2);
    assert_eq!(watched.event().await, 2);
}

#[tokio::test]
async fn a_stream_that_is_lost_while_the_file_is_gone_is_come_back_from_with_the_last_token() {
    let mut server = Server::start().await;
    let file = TokenFile::new("old");
    let (mut watched, call) = running(&mut server, &file).await;
    fs::remove_file(file.path()).unwrap();
    call.kill_connection();
    let mut call = call_with(&mut server, "old").await;
    call.welcome(Resumed, EPOCH, 1);
    call.event(2);
    assert_eq!(watched.event().await, 2);
}

#[tokio::test]
async fn a_caller_that_was_revoked_is_not_come_back_for() {
    let mut server = Server::start().await;
    let file = TokenFile::new("old");
    let (mut watched, mut call) = running(&mut server, &file).await;
    file.holds("new");
    call.frame(go_away(v1::go_away::Reason::Revoked, false));
    call.end(Code::Ok);
    let error = watched.error().await;
    assert!(matches!(
        &error,
        SubscribeError::Dismissed(GoAwayReason::Revoked)
    ));
    assert!(error.to_string().contains("withdrawn"), "{error}");
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn a_call_that_is_refused_is_made_again_only_with_another_token() {
    let mut server = Server::start().await;
    let file = TokenFile::new("old");
    let client = client(&server, file.token());
    let time = Duration::from_secs(60);
    let (answer, ()) = tokio::join!(client.health("", time), async {
        let mut call = call_with(&mut server, "old").await;
        refuse(&mut call, Code::Unauthenticated, "CREDENTIAL_INVALID");
    });
    assert!(matches!(answer, Err(CallError::Refused(_))), "{answer:?}");
    let (answer, ()) = tokio::join!(client.health("", time), async {
        let mut call = call_with(&mut server, "old").await;
        file.holds("new");
        refuse(&mut call, Code::Unauthenticated, "CREDENTIAL_INVALID");
        let mut call = call_with(&mut server, "new").await;
        refuse(&mut call, Code::Unauthenticated, "CREDENTIAL_INVALID");
    });
    assert!(matches!(answer, Err(CallError::Refused(_))), "{answer:?}");
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn messages_of_a_stream_that_ends_with_its_token_are_sent_again_with_the_next() {
    let mut server = Server::start().await;
    let file = TokenFile::new("old");
    let publisher = client(&server, file.token()).publisher();
    let messages = tokio_stream::iter([Message::new("t", "x")]);
    let mut answers = publisher.publish_stream(messages, 4);
    let (answer, ()) = tokio::join!(answers.next(), async {
        let mut call = call_with(&mut server, "old").await;
        assert!(call.message::<v1::PublishRequest>().await.is_some());
        file.holds("new");
        refuse(&mut call, Code::Unauthenticated, "CREDENTIAL_INVALID");
        let mut call = call_with(&mut server, "new").await;
        assert!(call.message::<v1::PublishRequest>().await.is_some());
        call.send(&v1::PublishResponse {
            position: Some(v1::Position {
                epoch: EPOCH,
                sequence: 1,
            }),
            ..v1::PublishResponse::default()
        });
        call.end(Code::Ok);
    });
    assert_eq!(answer.unwrap().unwrap().position, Position::new(EPOCH, 1));

    // The same one again would be refused again.
    let messages = tokio_stream::iter([Message::new("t", "x")]);
    let mut answers = publisher.publish_stream(messages, 4);
    let (answer, ()) = tokio::join!(answers.next(), async {
        let mut call = call_with(&mut server, "new").await;
        refuse(&mut call, Code::Unauthenticated, "CREDENTIAL_INVALID");
    });
    assert!(matches!(answer, Some(Err(PublishError::Refused(_)))));
    assert!(server.is_left_alone().await);
}
