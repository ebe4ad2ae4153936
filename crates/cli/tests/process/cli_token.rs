//! The token of the client commands: sent with each call, never said, and what is said where it does not help.

use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use super::support::{longlived, run_to_end, spawn, until, within};

/// Refuses each call with UNAUTHENTICATED and a short wait, and keeps its path and its `authorization`.
struct Refusing {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<(String, String)>>>,
}

impl Refusing {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::default();
        let kept = Arc::clone(&calls);
        spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                spawn(refuse(socket, Arc::clone(&kept)));
            }
        });
        Self { address, calls }
    }

    /// A command that asks it.
    fn asked_by(&self, arguments: &[&str]) -> Command {
        let mut command = longlived();
        command.args(arguments);
        command.args(["--server", &self.address.to_string()]);
        command
    }
}

async fn refuse(socket: TcpStream, calls: Arc<Mutex<Vec<(String, String)>>>) {
    let mut connection = h2::server::handshake(socket).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let authorization = request.headers().get("authorization");
        let authorization = authorization.map_or("", |value| value.to_str().unwrap());
        let call = (request.uri().path().to_owned(), authorization.to_owned());
        calls.lock().push(call);
        let mut response = Response::new(());
        for (name, value) in [
            ("content-type", "application/grpc"),
            ("grpc-status", "16"),
            ("grpc-message", "by script"),
            ("grpc-retry-pushback-ms", "20"),
        ] {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        respond.send_response(response, true).unwrap();
        // What is left of the request is of no interest; without this it would be reset.
        spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                let bytes: Bytes = data;
                body.flow_control().release_capacity(bytes.len()).ok();
            }
        });
    }
}

/// A token file in a folder of its own.
fn token_file(token: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, token).unwrap();
    (folder, path.to_str().unwrap().to_owned())
}

const TOKEN: &str = "top-secret";

#[tokio::test]
async fn every_command_sends_the_token_and_says_what_gives_one_where_it_is_refused() {
    let (_folder, file) = token_file(&format!("{TOKEN}\n"));
    for (arguments, path) in [
        (&["subscribe", "a"][..], "SubscriptionService/Subscribe"),
        (&["publish", "a", "x"], "PublishService/Publish"),
        (&["publish", "a", "--lines"], "PublishService/PublishStream"),
        (&["topics"], "TopicService/ListTopics"),
        (&["topics", "a", "--history"], "TopicService/ReadHistory"),
        (
            &["topics", "a", "--check", "7/1"],
            "TopicService/CheckPosition",
        ),
        (&["healthcheck"], "Health/Check"),
        (
            &["simulate", "--clients", "1"],
            "SubscriptionService/Subscribe",
        ),
        (
            &["simulate", "--clients", "1", "--contract", "protos"],
            "protos.Longlived/Subscribe",
        ),
    ] {
        // With a file a subscriber waits for another token in it.
        let goes_on_with_a_file = path.ends_with("/Subscribe");
        for by in [
            "--token-file",
            "LONGLIVED_TOKEN_FILE",
            "--token",
            "LONGLIVED_TOKEN",
        ] {
            let is_file = by.to_ascii_lowercase().ends_with("file");
            if is_file && goes_on_with_a_file {
                continue;
            }
            let server = Refusing::start().await;
            let mut command = server.asked_by(arguments);
            let given = if is_file { &file } else { TOKEN };
            match by.strip_prefix("--") {
                Some(_) => command.args([by, given]),
                None => command.env(by, given),
            };
            let (folder, input) = token_file("one\n");
            command.stdin(fs::File::open(&input).unwrap());
            let (code, out, err) = run_to_end(&mut command).await;
            drop(folder);
            assert_eq!(code, Some(1), "{arguments:?}: {out}{err}");
            assert!(!(out + &err).contains(TOKEN), "{arguments:?}: {err}");
            let calls = server.calls.lock();
            assert!(!calls.is_empty(), "{arguments:?} {by}: {err}");
            for (called, authorization) in calls.iter() {
                assert!(called.ends_with(path), "{arguments:?}: {called}");
                assert_eq!(authorization, &format!("Bearer {TOKEN}"), "{by}");
            }
            let advises = ["subscribe", "publish", "topics"].contains(&arguments[0]);
            assert_eq!(
                err.contains("; --token-file FILE gives a token"),
                advises,
                "{arguments:?}: {err}"
            );
        }
    }
}

#[tokio::test]
async fn a_file_that_goes_bad_under_a_command_is_said_once_and_its_last_token_sent_on() {
    let (_folder, file) = token_file(TOKEN);
    let server = Refusing::start().await;
    let mut command = server.asked_by(&["subscribe", "a", "--token-file", &file]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut line = async || within("a line", lines.next_line()).await.unwrap().unwrap();
    let refused = line().await;
    assert!(
        refused.contains("UNAUTHENTICATED: by script; back in"),
        "{refused}"
    );
    fs::write(&file, "").unwrap();
    let expected = format!(
        "longlived: --token-file {file}: it is empty; the token that was read last is sent on"
    );
    until("it is said", async || {
        (line().await == expected).then_some(())
    })
    .await;
    // Some calls later it was not said again.
    let before = server.calls.lock().len();
    while server.calls.lock().len() < before + 5 {
        assert_ne!(line().await, expected);
    }
    fs::write(&file, "another").unwrap();
    until("the next token is sent", async || {
        line().await;
        let calls = server.calls.lock();
        let last = calls.last().map(|(_, authorization)| authorization.clone());
        (last? == "Bearer another").then_some(())
    })
    .await;
    child.kill().await.unwrap();
}

#[tokio::test]
async fn a_token_that_cannot_be_sent_is_named_by_its_flag_and_file_and_not_repeated() {
    let (folder, file) = token_file("one two");
    let large = format!("{}/large", folder.path().display());
    fs::write(&large, "x".repeat(9_000)).unwrap();
    let missing = format!("{}/missing", folder.path().display());
    let blank = "it has a blank or a line break inside";
    for (arguments, code, problem) in [
        (
            ["--token-file", &file],
            1,
            format!("--token-file {file}: {blank}"),
        ),
        (
            ["--token-file", &large],
            1,
            format!("--token-file {large}: it has more than 8192 bytes"),
        ),
        (
            ["--token-file", &missing],
            1,
            format!("--token-file {missing}: there is no such file"),
        ),
        (["--token", "one two"], 2, format!("--token: {blank}")),
        (["--token", ""], 2, "--token: it is empty".to_owned()),
    ] {
        let mut command = longlived();
        command
            .args(["topics", "--server", "127.0.0.1:1"])
            .args(arguments);
        let (ended, _, err) = run_to_end(&mut command).await;
        assert_eq!(ended, Some(code), "{err}");
        assert!(err.contains(&problem), "{problem}: {err}");
        assert!(!err.contains("one two"), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    let mut command = longlived();
    command.args(["topics", "--server", "127.0.0.1:1"]);
    command.env("LONGLIVED_TOKEN", "one two");
    let (_, _, err) = run_to_end(&mut command).await;
    let origin = "; --token is from the environment variable LONGLIVED_TOKEN";
    assert!(err.contains(origin) && !err.contains("one two"), "{err}");
}

#[tokio::test]
async fn one_token_is_given_and_the_help_has_none() {
    let mut command = longlived();
    command.args(["topics", "--token-file", "f"]);
    command.env("LONGLIVED_TOKEN", TOKEN);
    let (code, _, err) = run_to_end(&mut command).await;
    assert_eq!(code, Some(2), "{err}");
    assert!(
        err.contains("'--token-file <FILE>' cannot be used with '--token <TOKEN>'"),
        "{err}"
    );
    assert!(
        err.contains("--token is from the environment variable"),
        "{err}"
    );
    assert!(!err.contains(TOKEN), "{err}");

    for name in ["subscribe", "publish", "topics", "healthcheck", "simulate"] {
        let mut command = longlived();
        command.args([name, "--help"]).env("LONGLIVED_TOKEN", TOKEN);
        let (code, out, _) = run_to_end(&mut command).await;
        assert_eq!(code, Some(0), "{out}");
        let words = out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            words.contains("can read it with `ps`, so --token-file is better"),
            "{out}"
        );
        assert!(!out.contains(TOKEN), "{out}");
    }
}

#[tokio::test]
async fn a_token_in_the_clear_beyond_this_machine_is_warned_of_once() {
    let server = Refusing::start().await;
    // The same server by an address that is not one of loopback.
    let beyond = format!("http://0.0.0.0:{}", server.address.port());
    for (url, warnings) in [(beyond, 1), (format!("http://{}", server.address), 0)] {
        let mut command = longlived();
        command.args(["topics", "--server", &url, "--token", TOKEN]);
        let (code, _, err) = run_to_end(&mut command).await;
        assert_eq!(code, Some(1), "{err}");
        let warning = format!(
            "longlived: the token crosses the network readable: {url} is neither https:// nor this machine"
        );
        let told = err.lines().filter(|line| **line == warning).count();
        assert_eq!(told, warnings, "{err}");
    }
}
