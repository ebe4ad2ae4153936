//! Callers by the client library and the commands: a token that is renewed, and certificates that name their clients.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use longlived_client::{Client, Item, Notice, Token};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use tokio_stream::StreamExt as _;

use super::auth_support::{Auth, Token as Claims};
use super::server_auth::{EVERYTHING, World};
use super::server_tls::{Files, https};
use super::support::{Server, longlived, run_to_end, within};

#[tokio::test]
async fn a_subscriber_renews_its_token_by_a_second_stream_and_misses_and_repeats_nothing() {
    let world = World::new(EVERYTHING).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let short = Claims {
        lasts: 6,
        ..Claims::default()
    };
    fs::write(&file, world.auth.token(short)).unwrap();
    let url = format!("http://{}", world.server.address);
    let client = Client::builder(&url)
        .token(Token::file(&file).unwrap())
        .build()
        .unwrap();
    let mut subscriber = client.subscriber("s").filter("news").build().unwrap();
    let bob = world.token("bob");
    // The next one that is connected is the second.
    let handed_over = AtomicBool::new(false);
    let publish = async {
        let mut published = 0_u64;
        let mut after = 0;
        // On, until some have come by the second stream.
        while after < 50 {
            published = world.publish(&bob, "news").await.unwrap();
            after += u64::from(handed_over.load(Ordering::Relaxed));
        }
        published
    };
    let receive = async {
        let mut sequences = Vec::new();
        loop {
            match subscriber.next().await.unwrap().unwrap() {
                Item::Event(event) => sequences.push(event.position.sequence),
                Item::Gap(gap) => panic!("nothing is missing: {gap}"),
                Item::Notice(Notice::CredentialExpires { .. }) => {
                    fs::write(&file, world.token("ann")).unwrap();
                }
                Item::Notice(Notice::Connected { .. }) if !sequences.is_empty() => {
                    handed_over.store(true, Ordering::Relaxed);
                }
                Item::Notice(Notice::Disconnected { reason, .. }) => panic!("{reason}"),
                _ => {}
            }
            if handed_over.load(Ordering::Relaxed) && sequences.len() % 50 == 0 {
                return (sequences, subscriber);
            }
        }
    };
    let ((sequences, mut subscriber), last) =
        within("the renewal", async { tokio::join!(receive, publish) }).await;
    let rest = async {
        let mut sequences = sequences;
        while sequences.last() != Some(&last) {
            if let Item::Event(event) = subscriber.next().await.unwrap().unwrap() {
                sequences.push(event.position.sequence);
            }
        }
        sequences
    };
    let sequences = within("all events", rest).await;
    let first = sequences[0];
    let expected: Vec<u64> = (first..=last).collect();
    assert_eq!(sequences, expected);
    let replaced = |line: &str| line.contains("replaced by a newer attempt");
    world.server.line("the end of the first", replaced).await;
}

/// A certificate of a client with this name, in files.
fn certify(files: &Files, name: &str) -> [String; 2] {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, &files.authority).unwrap();
    let paths = [
        files.text(&format!("{name}.pem")),
        files.text(&format!("{name}.key")),
    ];
    fs::write(&paths[0], certificate.pem()).unwrap();
    fs::write(&paths[1], key.serialize_pem()).unwrap();
    paths
}

#[tokio::test]
async fn a_certificate_that_the_auth_file_knows_is_a_caller_and_another_is_none() {
    let files = Files::new();
    let rules = "[certificates.gateway]\ndns = \"gateway.example\"\npublish = { allow = [\"from.gateway\"] }\n\
                 [anonymous]\npublish = { allow = [\"from.anybody\"] }\n\
                 [issuers.acme.template]\npublish = { allow = [\"from.{sub}\"] }\n";
    let auth = Auth::with(&files, rules);
    let mut command = longlived();
    let listen = "tls://127.0.0.1:0?client-cert=optional";
    command.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--listen",
        listen,
        "--auth",
        &auth.path(),
    ]);
    command.args(["--tls-client-ca", &files.text("ca.pem")]);
    let server = Server::of(command.args(files.flags())).await;
    let url = https(&server).await;
    let (known, unknown) = (
        certify(&files, "gateway.example"),
        certify(&files, "other.example"),
    );
    fs::write(files.file("token"), auth.token(Claims::default())).unwrap();
    let publish = async |topic: &str, shown: Option<&[String; 2]>, token: bool| {
        let mut command = longlived();
        command.args([
            "publish",
            topic,
            "x",
            "--server",
            &url,
            "--tls-ca",
            &files.text("ca.pem"),
        ]);
        if let Some([certificate, key]) = shown {
            command.args(["--tls-cert", certificate, "--tls-key", key]);
        }
        if token {
            command.args(["--token-file", &files.text("token")]);
        }
        let (code, _, said) = run_to_end(&mut command).await;
        (code == Some(0)).then_some(()).ok_or(said)
    };
    publish("from.gateway", Some(&known), false)
        .await
        .expect("granted");
    let said = publish("from.anybody", Some(&known), false)
        .await
        .expect_err("not granted");
    assert!(
        said.contains("cert/gateway") && said.contains("publish.allow"),
        "{said}"
    );
    let said = publish("from.anybody", Some(&unknown), false)
        .await
        .expect_err("nobody");
    assert!(said.contains("no entry is for the certificate"), "{said}");
    publish("from.anybody", None, false)
        .await
        .expect("anybody may");
    publish("from.gateway", None, false)
        .await
        .expect_err("not anybody");
    for shown in [None, Some(&known), Some(&unknown)] {
        publish("from.ann", shown, true)
            .await
            .expect("the token says who");
        publish("from.gateway", shown, true)
            .await
            .expect_err("the token says who");
    }
}
