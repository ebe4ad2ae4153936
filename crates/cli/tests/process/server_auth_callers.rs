//! Who a caller is: apart from others, renewed, by which credential; and what nobody learns of it.

use longlived_api::protos::{self, longlived_client::LonglivedClient};
use longlived_api::v1::{
    self, go_away::Reason as GoAwayReason, publish_service_client::PublishServiceClient,
    session_request::Request, subscription_change::State as ChangeState,
    subscription_service_client::SubscriptionServiceClient,
};
use longlived_testkit::requests::{message, subscription};
use serde_json::json;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::auth_support::{Auth, Token, with};
use super::server_auth::{EVERYTHING, World, refusal};
use super::server_metrics::{scrape, told_at, value};
use super::server_tls::Files;
use super::support::{Frame, Server, Stream, longlived, request, run_to_end, within};

#[tokio::test]
async fn ids_and_message_ids_of_two_callers_are_apart_and_an_administrator_may_end_those_of_others()
{
    let admins = format!(
        "{EVERYTHING}admin = {{ allow = [\">\"] }}\n[issuers.acme.most]\npublish = {{ allow = [\">\"] }}\n\
         subscribe = {{ allow = [\">\"] }}\nadmin = {{ allow = [\">\"] }}\n"
    );
    let world = World::new(&admins).await;
    let (ann, bob) = (world.token("ann"), world.token("bob"));
    let mut anns = world
        .subscribe(&ann, request("s", &["news"]))
        .await
        .unwrap();
    let mut bobs = world
        .subscribe(&bob, request("s", &["news"]))
        .await
        .unwrap();
    let published = async |token: &str| {
        let mut client = PublishServiceClient::new(world.channel.clone());
        let once = v1::PublishRequest {
            message_id: "1".to_owned(),
            ..message("news", "x")
        };
        let answered = within("an answer", client.publish(with(token, once)))
            .await
            .unwrap();
        answered.into_inner().duplicate
    };
    assert_eq!(
        [
            published(&ann).await,
            published(&bob).await,
            published(&ann).await
        ],
        [false, false, true]
    );
    for stream in [&mut anns, &mut bobs] {
        assert_eq!(
            [stream.event().await.sequence, stream.event().await.sequence],
            [1, 2]
        );
    }
    let unsubscribe = async |token: &str, principal: &str| {
        let asked = v1::UnsubscribeRequest {
            subscriber_id: "s".to_owned(),
            principal: principal.to_owned(),
        };
        within(
            "an answer",
            world.subscriptions().unsubscribe(with(token, asked)),
        )
        .await
    };
    unsubscribe(&ann, "acme/bob").await.unwrap();
    assert_eq!(
        bobs.until_go_away().await.reason(),
        GoAwayReason::Unsubscribed
    );
    world.rules(EVERYTHING).await;
    let mut bobs = world
        .subscribe(&bob, request("s", &["news"]))
        .await
        .unwrap();
    let refused = unsubscribe(&ann, "acme/bob")
        .await
        .expect_err("not an administrator");
    assert_eq!(refusal(refused).0, "NOT_GRANTED");
    unsubscribe(&ann, "acme/ann").await.unwrap();
    assert_eq!(
        anns.until_go_away().await.reason(),
        GoAwayReason::Unsubscribed
    );
    world.publish(&bob, "news").await.unwrap();
    assert_eq!(bobs.event().await.topic, "news");
}

#[tokio::test]
async fn a_session_is_renewed_by_a_token_of_its_caller_and_by_no_other() {
    let world = World::new(EVERYTHING).await;
    let lasting = |subject, lasts, claims| {
        world.auth.token(Token {
            subject,
            lasts,
            claims,
            ..Token::default()
        })
    };
    let first = lasting("ann", 600, json!({}));
    let (requests, said) = tokio::sync::mpsc::channel(4);
    let ask = async |request| {
        requests
            .send(v1::SessionRequest {
                request: Some(request),
            })
            .await
            .unwrap();
    };
    ask(Request::Open(request("s", &["news", "other"]))).await;
    let said = tokio_stream::wrappers::ReceiverStream::new(said);
    let session = within(
        "the headers",
        world.subscriptions().session(with(&first, said)),
    )
    .await;
    let mut session = Stream::new(session.unwrap().into_inner());
    let expires = session.welcome().await.credential_expires.unwrap().seconds;
    let mut renewed = async |token: String| {
        ask(Request::Token(token)).await;
        loop {
            match session.frame().await {
                Frame::CredentialNotice(notice) => return notice.expires.unwrap().seconds,
                Frame::Progress(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(
        renewed(lasting("bob", 3_600, json!({}))).await,
        expires,
        "of another caller"
    );
    assert_eq!(renewed("nonsense".to_owned()).await, expires);
    assert_eq!(
        renewed(lasting("ann", -3_600, json!({}))).await,
        expires,
        "of the past"
    );
    let later = renewed(lasting("ann", 3_600, json!({}))).await;
    assert!(
        (2_990..=3_010).contains(&(later - expires)),
        "{}",
        later - expires
    );
    // One with fewer rights.
    let fewer = json!({ "longlived": { "subscribe": ["news"] } });
    renewed(lasting("ann", 3_600, fewer)).await;
    let change = session.change().await;
    assert_eq!(
        (&*change.topic_filter, change.state()),
        ("other", ChangeState::Refused)
    );
    ask(Request::Add(subscription("other"))).await;
    let change = session.change().await;
    assert_eq!(
        (&*change.topic_filter, change.state()),
        ("other", ChangeState::Refused)
    );
    assert!(change.after.is_none());
}

#[tokio::test]
async fn a_bad_token_is_refused_where_the_connection_would_prove_a_caller() {
    let files = Files::new();
    let uid = rustix::process::getuid().as_raw();
    let rules = format!(
        "[unix.{uid}]\nsubscribe = {{ allow = [\">\"] }}\n[anonymous]\nsubscribe = {{ allow = [\"news\"] }}\n"
    );
    let auth = Auth::with(&files, &rules);
    let socket = files.text("longlived.sock");
    let server = Server::start(&[
        "--listen",
        &format!("unix:{socket}"),
        "--auth",
        &auth.path(),
    ])
    .await;
    let connect = |target: String| Endpoint::from_shared(target).unwrap().connect_lazy();
    let by_unix = connect(format!("unix:{socket}"));
    let by_tcp = connect(format!("http://{}", server.address));
    let subscribe = async |channel: &Channel, headers: &[&str], filter: &str| {
        let mut asked = tonic::Request::new(request("s", &[filter]));
        for header in headers {
            asked
                .metadata_mut()
                .append("authorization", header.parse().unwrap());
        }
        let mut client = SubscriptionServiceClient::new(channel.clone());
        let answered = within("the headers", client.subscribe(asked)).await;
        answered.map(drop).map_err(|status| refusal(status).0)
    };
    let right = format!("Bearer {}", auth.token(Token::default()));
    for (channel, filter, expected) in [
        (&by_unix, "other", Ok(())),
        (&by_tcp, "news", Ok(())),
        (&by_tcp, "other", Err("NOT_GRANTED".to_owned())),
    ] {
        assert_eq!(subscribe(channel, &[], filter).await, expected, "{filter}");
    }
    // The template of the issuer gives nothing.
    for channel in [&by_unix, &by_tcp] {
        let found = subscribe(channel, &[&right], "news").await;
        assert_eq!(
            found,
            Err("NOT_GRANTED".to_owned()),
            "it is not the user, nor anonymous"
        );
        for wrong in [
            &["Bearer x"][..],
            &["Basic eDp5"],
            &["Bearer"],
            &[""],
            &[&right, &right],
        ] {
            let found = subscribe(channel, wrong, "news").await;
            assert_eq!(found, Err("CREDENTIAL_INVALID".to_owned()), "{wrong:?}");
        }
    }
}

#[tokio::test]
async fn programs_of_the_frozen_contract_have_the_rights_of_callers_without_a_credential() {
    let world = World::new("").await;
    let asked = async || {
        let mut client = LonglivedClient::new(world.channel.clone());
        within("the headers", client.subscribe(protos::Request { id: 7 }))
            .await
            .map(drop)
    };
    assert_eq!(
        asked().await.expect_err("none").code(),
        Code::Unauthenticated
    );
    world
        .rules("[anonymous]\nsubscribe = { allow = [\">\"] }\n")
        .await;
    assert_eq!(
        asked().await.expect_err("no inbox").code(),
        Code::PermissionDenied
    );
    world
        .rules("[anonymous]\nsubscribe = { allow = [\"inbox.*\"] }\n")
        .await;
    asked().await.expect("its inbox is granted");
}

#[tokio::test]
async fn the_log_and_metrics_show_no_token() {
    let world = World::new(EVERYTHING).await;
    let right = world.token("ann");
    let wrong = format!("{}x", &right[..right.len() - 1]);
    world.publish(&right, "news").await.unwrap();
    for token in [&wrong, "something-of-nobody"] {
        world.publish(token, "news").await.expect_err("refused");
    }
    let address = told_at(&world.server).await;
    let refused = value(address, "longlived_calls_unauthenticated_total").await;
    assert_eq!(refused, 2);
    let metrics = scrape(address).await;
    let (claims, said) = (
        right.split('.').nth(1).unwrap(),
        world.server.lines().join("\n"),
    );
    for secret in [
        claims,
        "something-of-nobody",
        right.rsplit('.').next().unwrap(),
    ] {
        assert!(!said.contains(secret) && !metrics.contains(secret));
    }
}

#[tokio::test]
async fn an_address_that_others_reach_needs_tls_and_an_auth_file_or_the_word_that_it_does_not() {
    let files = Files::new();
    let auth = Auth::new(&files);
    let auth = auth.path();
    let tls = files.flags();
    let tls: Vec<&str> = tls.iter().map(String::as_str).collect();
    let serve = async |flags: &[&str]| {
        let mut command = longlived();
        command.arg("serve").args(flags);
        run_to_end(&mut command).await
    };
    let secure = [&["--listen", "tls://0.0.0.0:0"], &tls[..]].concat();
    for (flags, missing, allowed) in [
        (
            vec!["--listen", "0.0.0.0:0"],
            "neither TLS",
            "no-tls,no-auth",
        ),
        (
            vec!["--listen", "0.0.0.0:0", "--insecure=no-tls"],
            "neither TLS",
            "no-tls,no-auth",
        ),
        (
            vec!["--listen", "127.0.0.1:0 [::]:0", "--auth", &auth],
            "no TLS",
            "no-tls",
        ),
        (secure.clone(), "no auth file", "no-auth"),
    ] {
        let (code, _, said) = serve(&flags).await;
        assert_eq!(code, Some(1), "{flags:?}: {said}");
        for word in [
            missing,
            &format!("--insecure={allowed} allows it"),
            "--listen",
        ] {
            assert!(said.contains(word), "{flags:?}: {said}");
        }
    }
    let (code, _, said) = serve(&["--insecure=no-lts"]).await;
    assert!(code == Some(2) && said.contains("no-tls"), "{said}");
    for flags in [
        vec!["--listen", "0.0.0.0:0", "--insecure=no-tls,no-auth"],
        vec![
            "--listen",
            "0.0.0.0:0",
            "--auth",
            &auth,
            "--insecure",
            "no-tls",
        ],
        [&secure[..], &["--insecure=no-auth"]].concat(),
        [&secure[..], &["--auth", &auth]].concat(),
    ] {
        let mut command = longlived();
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(&flags);
        let server = Server::of(&mut command).await;
        server
            .line("the other address", |line| line.contains("0.0.0.0:"))
            .await;
    }
    let (code, _, said) = serve(&["--auth", &files.text("nothing.toml")]).await;
    assert_eq!(code, Some(1));
    assert!(
        said.contains("--auth") && said.contains("nothing.toml"),
        "{said}"
    );
}

#[tokio::test]
async fn headers_that_claim_to_be_somebody_change_nothing() {
    let rules = "[anonymous]\nsubscribe = { allow = [\"news\"] }\n[issuers.acme.template]\nsubscribe = { allow = [\"of.{sub}\"] }\n";
    let world = World::new(rules).await;
    let ann = world.token("ann");
    let subscribe =
        async |token: Option<&str>, header: Option<(&'static str, &str)>, filter: &str| {
            let mut asked = tonic::Request::new(request("s", &[filter]));
            if let Some(token) = token {
                asked = with(token, request("s", &[filter]));
            }
            if let Some((name, value)) = header {
                asked.metadata_mut().append(name, value.parse().unwrap());
            }
            let answered = within("the headers", world.subscriptions().subscribe(asked)).await;
            answered.map(drop).map_err(|status| refusal(status).0)
        };
    let not_granted = Err("NOT_GRANTED".to_owned());
    for name in [
        "x-principal",
        "principal",
        "longlived-principal",
        "x-forwarded-user",
        "x-forwarded-client-cert",
        "x-authorization",
        "proxy-authorization",
        "cookie",
        "x-real-ip",
        "forwarded",
    ] {
        for value in [
            "acme/bob",
            &format!("Bearer {}", world.token("bob")),
            "unix/0",
            "cert/gateway",
        ] {
            let header = Some((name, value));
            assert_eq!(
                subscribe(None, header, "of.bob").await,
                not_granted,
                "{name}: {value}"
            );
            assert_eq!(
                subscribe(None, header, "news").await,
                Ok(()),
                "{name}: {value}"
            );
            assert_eq!(
                subscribe(Some(&ann), header, "of.bob").await,
                not_granted,
                "{name}: {value}"
            );
            assert_eq!(
                subscribe(Some(&ann), header, "of.ann").await,
                Ok(()),
                "{name}: {value}"
            );
        }
    }
}

#[tokio::test]
async fn a_subject_that_is_a_wildcard_or_no_token_is_granted_nothing_by_a_template() {
    let rules =
        "[issuers.acme.template]\nsubscribe = { allow = [\"users.{sub}.>\", \"inbox.{sub}\"] }\n";
    let world = World::new(rules).await;
    let long = "x".repeat(65);
    for subject in ["*", ">", "a.b", "inbox", "\u{e4}", "a b", &*long.leak()] {
        let token = world.token(subject);
        for filter in [
            "users.>",
            "users.*.>",
            "users.a.b",
            "users.a.>",
            "inbox.*",
            "inbox.a",
            ">",
        ] {
            let refused = world.subscribe(&token, request("s", &[filter])).await;
            assert_eq!(
                refusal(refused.err().expect("nothing")).0,
                "NOT_GRANTED",
                "{subject} {filter}"
            );
        }
    }
    world
        .subscribe(
            &world.token("ann"),
            request("s", &["users.ann.>", "inbox.ann"]),
        )
        .await
        .expect("its own");
}

#[tokio::test]
async fn a_flood_of_bad_tokens_is_a_line_a_second_and_honest_callers_are_served_beside_it() {
    const FLOOD: usize = 2_000;
    let world = World::new(EVERYTHING).await;
    let ann = world.token("ann");
    let mut stream = world
        .subscribe(&ann, request("s", &["news"]))
        .await
        .unwrap();
    let flood = async {
        for number in 0..FLOOD {
            // Each with a signature that has to be looked at.
            let bad = format!("{}.{number:086}", ann.rsplit_once('.').unwrap().0);
            let refused = world
                .publish(&bad, "news")
                .await
                .expect_err("it is not signed");
            assert_eq!(refused.code(), Code::Unauthenticated);
        }
    };
    let honest = async {
        for _ in 0..20 {
            world.publish(&world.token("bob"), "news").await.unwrap();
            assert_eq!(stream.event().await.topic, "news");
        }
    };
    tokio::join!(flood, honest);
    let lines = world.server.lines();
    let told = lines
        .iter()
        .filter(|line| line.contains("UNAUTHENTICATED") || line.contains("without a caller"));
    let told = told.count();
    assert!((1..FLOOD / 10).contains(&told), "{told} lines");
    let address = told_at(&world.server).await;
    let refused = value(address, "longlived_calls_unauthenticated_total").await;
    assert_eq!(refused, FLOOD as u64);
}
