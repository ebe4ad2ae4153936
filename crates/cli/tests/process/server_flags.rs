//! Flags, their environment variables, and the errors about wrong ones.

use longlived_api::{protos, v1};
use tonic::Code;

use super::cli_support::{Process, run};
use super::support::{Frame, Server, longlived, request, run_to_end, within};
use tokio::io::{AsyncBufReadExt as _, BufReader};

#[tokio::test]
async fn it_names_its_addresses_and_its_history_in_one_line_each() {
    let server = Server::start(&["--generate-every", "250ms", "--generate-topic", "ticks"]).await;
    let address = server.address.to_string();
    for parts in [
        ["listening on", &address],
        ["serving", "longlived.v1.SubscriptionService"],
        ["protos.Longlived", "history in memory"],
        ["generating every 250ms", "ticks"],
    ] {
        server
            .line(parts[0], |line| {
                parts.iter().all(|part| line.contains(part))
            })
            .await;
    }
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    if let Some(hard) = hard {
        let files = format!("open files: up to {hard}");
        server.line(&files, |line| line.contains(&files)).await;
    }
    assert!(
        server.lines().iter().all(|line| !line.contains('\u{1b}')),
        "no colours where there is no terminal: {:?}",
        server.lines()
    );
}

#[tokio::test]
async fn an_address_in_use_is_named_and_the_exit_code_is_1() {
    let server = Server::start(&[]).await;
    let address = server.address.to_string();
    let (code, out, err) = run_to_end(longlived().args(["serve", "--listen", &address])).await;
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(out, "");
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(err.contains(&address), "{err}");
    assert!(err.contains("in use"), "{err}");
}

#[tokio::test]
async fn an_address_that_is_not_this_machines_is_named_and_the_exit_code_is_1() {
    let (code, _, err) =
        run_to_end(longlived().args(["serve", "--listen", "192.0.2.1:7070"])).await;
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(err.contains("192.0.2.1:7070"), "{err}");
}

#[tokio::test]
async fn wrong_flags_are_one_clear_line_and_exit_code_2() {
    let cases: [&[&str]; 52] = [
        &["--listen", "nonsense"],
        &["--log-rate-max", "1KiB"],
        &["--listen", "127.0.0.1"],
        &["--listen", "127.0.0.1:99999"],
        &["--listen", ""],
        &["--listen", "tls://127.0.0.1:7443"],
        &["--listen", "unix:relative.sock"],
        &["--listen", "unix:/tmp/a?mod=0600"],
        &["--listen", "127.0.0.1:0 unix:/tmp/a?mode=9"],
        &["--generate-every", "0s"],
        &["--generate-every", "soon"],
        &["--generate-topic", "t"],
        &["--generate-every", "1s", "--generate-topic", "a..b"],
        &["--generate-every", "1s", "--generate-topic", "$sys.x"],
        &["--generate-every", "1s", "--generate-topic", "a.*"],
        &["--legacy-topics", "inbox.1"],
        &["--legacy-topics", "$sys.>"],
        &["--legacy-topics", "a..b"],
        &["--history", "orders"],
        &["--history", "a..b=events:1"],
        &["--history", "a=events:many"],
        &["--history", "a=bytes:1XB"],
        &["--history", "a=age:soon"],
        &["--history", "a=colour:red"],
        &["--history", "a=events:0"],
        &["--history", "a=age:0s"],
        &["--history", "a=bytes:1MiB,bytes:2MiB"],
        &["--tail-bytes-max", "1XB"],
        &["--topics-max", "1.5"],
        &["--topics-max", "many"],
        &["--topics-max", "-1"],
        &["--drain-timeout", "x"],
        &["--drain-timeout", "25h"],
        &["--drain-overlap", "10s"],
        &["--drain-timeout", "2s", "--drain-overlap", "1m"],
        &["--drain-overlap", "soon"],
        &["--max-stream-age", "10ms"],
        &["--max-stream-age", "25h"],
        &["--stall-timeout", "2d"],
        &["--request-timeout", "86401s"],
        &["--handshake-timeout", "100d"],
        &["--keepalive-interval", "1month"],
        &["--keepalive-timeout", "48h"],
        &["--publish-queue-bytes-max", "1048575"],
        &["--max-silence", "1ms"],
        &["--compression", "br"],
        &["--compression", "zstd,off"],
        &["--compression", "gzip,gzip"],
        &["--compressed-bytes-max", "15MiB"],
        &["--log-format", "xml"],
        &["--nonsense"],
        &["surplus"],
    ];
    for args in cases {
        let (code, out, err) = run_to_end(longlived().arg("serve").args(args)).await;
        assert_eq!(code, Some(2), "{args:?}: {err}");
        assert_eq!(out, "", "{args:?}");
        assert_eq!(err.lines().count(), 1, "{args:?}: {err}");
        let (flag, value) = (args[args.len().saturating_sub(2)], args[args.len() - 1]);
        assert!(err.contains(value) || value.is_empty(), "{args:?}: {err}");
        // A flag that needs another names that one.
        assert!(
            err.contains(flag) || err.contains("--generate-every"),
            "{args:?}: {err}"
        );
    }
}

#[tokio::test]
async fn a_limit_that_is_too_high_or_too_low_for_another_is_named_with_its_bound() {
    for (args, bound) in [
        (vec!["--stall-timeout", "25h"], "from 1ms to 24h"),
        (
            vec![
                "--event-bytes-max",
                "100000",
                "--publish-queue-bytes-max",
                "99999",
            ],
            "at least --event-bytes-max, which is 100000",
        ),
    ] {
        let (code, _, err) = run_to_end(longlived().arg("serve").args(&args)).await;
        assert_eq!(code, Some(2), "{args:?}: {err}");
        assert!(err.contains(bound), "{args:?}: {err}");
    }
    // The bounds themselves are let in.
    let args = [
        "--stall-timeout",
        "24h",
        "--event-bytes-max",
        "100000",
        "--publish-queue-bytes-max",
        "100000",
    ];
    Server::start(&args).await;
}

#[tokio::test]
async fn a_wrong_environment_variable_is_one_clear_line_and_exit_code_2() {
    for (name, value, flag) in [
        ("LONGLIVED_LISTEN", "nonsense", "--listen"),
        ("LONGLIVED_GENERATE_EVERY", "soon", "--generate-every"),
        ("LONGLIVED_HISTORY", "a=events:1;b", "--history"),
        ("LONGLIVED_TOPICS_MAX", "many", "--topics-max"),
        ("LONGLIVED_METRICS_LISTEN", "9464", "--metrics-listen"),
    ] {
        let (code, _, err) = run_to_end(longlived().arg("serve").env(name, value)).await;
        assert_eq!(code, Some(2), "{name}: {err}");
        assert_eq!(err.lines().count(), 1, "{name}: {err}");
        assert!(err.contains(flag), "{name}: {err}");
    }
}

#[tokio::test]
async fn a_wrong_rust_log_is_one_clear_line_with_the_directive_that_is_wrong() {
    for (value, wrong) in [
        ("longlived=loud", "`longlived=loud`"),
        ("info,h2=warn,a=b=c", "`a=b=c`"),
        ("longlived::call=debug, =info=,debug", "`=info=`"),
        ("info[", "`info[`"),
    ] {
        let (code, _, err) = run_to_end(longlived().arg("serve").env("RUST_LOG", value)).await;
        assert_eq!(code, Some(2), "{value}: {err}");
        assert_eq!(err.lines().count(), 1, "{value}: {err}");
        for part in ["RUST_LOG", value, wrong] {
            assert!(err.contains(part), "{value}: {err}");
        }
    }
}

#[tokio::test]
async fn a_rust_log_that_most_likely_means_something_else_is_told_with_any_filter() {
    for format in ["text", "json"] {
        // Most likely a level, but it is the name of a target, and with it nothing would ever be logged.
        let address = super::cli_support::free_address().to_string();
        let mut command = longlived();
        command
            .args(["serve", "--listen", &address, "--log-format", format])
            .env("RUST_LOG", "debgu")
            .stderr(std::process::Stdio::piped());
        let mut server = command.spawn().expect("it can be started");
        let mut stderr = BufReader::new(server.stderr.take().expect("it is piped")).lines();
        let line = within("a line", stderr.next_line())
            .await
            .unwrap()
            .expect("a line");
        for part in ["WARN", "RUST_LOG", "debgu"] {
            assert!(line.contains(part), "{line}");
        }
        if format == "json" {
            serde_json::from_str::<serde_json::Value>(&line).expect("JSON");
        }
    }
    for harmless in [
        "",
        "info",
        "longlived::call=debug,warn",
        "h2=info",
        "off,longlived_server=INFO",
    ] {
        let mut command = longlived();
        command
            .args(["serve", "--listen", "nowhere"])
            .env("RUST_LOG", harmless);
        let (_, _, err) = run_to_end(&mut command).await;
        assert!(!err.contains("RUST_LOG"), "{harmless}: {err}");
    }
}

#[tokio::test]
async fn an_empty_rust_log_is_none() {
    let mut command = longlived();
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("RUST_LOG", "");
    Server::of(&mut command).await;
}

/// The payload sequences kept of a topic.
async fn kept(server: &Server, topic: &str) -> Vec<u64> {
    let earliest = v1::SubscribeRequest {
        start: Some(v1::Start {
            at: Some(v1::start::At::Earliest(true)),
        }),
        ..request("kept", &[topic])
    };
    let (mut stream, _) = server.open(earliest).await;
    let mut sequences = Vec::new();
    loop {
        match stream.frame().await {
            Frame::Event(event) => sequences.push(event.sequence),
            Frame::Progress(progress) if progress.current => return sequences,
            Frame::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn every_flag_has_an_environment_variable() {
    let mut command = longlived();
    command.arg("serve").envs([
        ("LONGLIVED_LISTEN", "127.0.0.1:0"),
        ("LONGLIVED_GENERATE_EVERY", "40ms"),
        ("LONGLIVED_GENERATE_TOPIC", "ticks"),
        ("LONGLIVED_LEGACY_TOPICS", "news.>,prices"),
        ("LONGLIVED_HISTORY", "a=events:2,bytes:1MiB;b=events:3"),
        ("LONGLIVED_TOPICS_MAX", "7"),
        ("LONGLIVED_DRAIN_TIMEOUT", "1s"),
        ("LONGLIVED_REQUEST_TIMEOUT", "9s"),
        ("LONGLIVED_EVENT_BYTES_MAX", "1000"),
        ("LONGLIVED_SUBSCRIBERS_MAX", "10"),
        ("LONGLIVED_CONNECTIONS_MAX", "100"),
        ("LONGLIVED_STREAMS_MAX", "10"),
        ("LONGLIVED_MAX_SILENCE", "7s"),
        ("LONGLIVED_STALL_TIMEOUT", "5s"),
        ("LONGLIVED_KEEPALIVE_INTERVAL", "5s"),
        ("LONGLIVED_KEEPALIVE_TIMEOUT", "5s"),
        ("LONGLIVED_HANDSHAKE_TIMEOUT", "5s"),
        ("LONGLIVED_PUBLISH_QUEUE_BYTES_MAX", "1000000"),
        ("LONGLIVED_TAIL_BYTES_MAX", "1000000"),
        ("LONGLIVED_LOG_FORMAT", "json"),
    ]);
    let server = Server::of(&mut command).await;
    let (mut ticks, welcome) = server.open(request("s", &["ticks"])).await;
    assert_eq!(welcome.max_silence.expect("it promises").seconds, 7);
    assert_eq!(&ticks.event().await.payload[..], b"data mock for: ticks");

    let mut legacy = protos::longlived_client::LonglivedClient::new(server.channel());
    let stream = legacy.subscribe(protos::Request { id: 1 }).await;
    let mut stream = stream.expect("let in").into_inner();
    server.publish("news.local", "news").await.expect("stored");
    server.publish("prices", "prices").await.expect("stored");
    let mut heard = Vec::new();
    let mut ticked = false;
    while heard.len() < 2 || !ticked {
        let next = within("a response", stream.message()).await;
        let next = next.expect("no error").expect("the stream goes on").data;
        if next == "data mock for: 1" {
            ticked = true;
        } else {
            heard.push(next);
        }
    }
    assert_eq!(heard, ["news", "prices"]);

    for topic in ["a", "b"] {
        for _ in 0..5 {
            server.publish(topic, "x").await.expect("stored");
        }
    }
    assert_eq!(kept(&server, "a").await.len(), 2);
    assert_eq!(kept(&server, "b").await.len(), 3);

    // ticks, inbox.1, news.local, prices, a, b: there is room for one more.
    server.publish("c", "x").await.expect("the seventh topic");
    let status = server.publish("d", "x").await.expect_err("the eighth");
    assert_eq!(status.code(), Code::ResourceExhausted);
    let status = server.publish("a", &"x".repeat(1_000)).await;
    assert_eq!(status.expect_err("large").code(), Code::ResourceExhausted);

    let line = server.lines().remove(0);
    serde_json::from_str::<serde_json::Value>(&line).expect("every line is JSON");
}

#[tokio::test]
async fn a_flag_beats_its_environment_variable() {
    let mut command = longlived();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--max-silence", "3s"])
        .env("LONGLIVED_LISTEN", "192.0.2.1:1")
        .env("LONGLIVED_MAX_SILENCE", "9s");
    let server = Server::of(&mut command).await;
    let (_, welcome) = server.open(request("s", &["t"])).await;
    assert_eq!(welcome.max_silence.expect("it promises").seconds, 3);
}

#[tokio::test]
async fn history_may_be_given_several_times_and_the_first_that_matches_holds() {
    let server = Server::start(&["--history", "a.b=events:1", "--history", "a.>=events:4"]).await;
    for topic in ["a.b", "a.c"] {
        for _ in 0..6 {
            server.publish(topic, "x").await.expect("stored");
        }
    }
    assert_eq!(kept(&server, "a.b").await, [6]);
    assert_eq!(kept(&server, "a.c").await, [9, 10, 11, 12]);
}

/// The addresses of a name that this machine has.
fn addresses_of(name: &str) -> Vec<std::net::IpAddr> {
    let found = std::net::ToSocketAddrs::to_socket_addrs(&(name, 0)).expect("a name");
    let mut addresses = Vec::new();
    for address in found.map(|address| address.ip()) {
        let is_here = std::net::TcpListener::bind((address, 0)).is_ok();
        if is_here && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

#[tokio::test]
async fn a_name_is_listened_on_at_each_of_its_addresses_with_one_port() {
    let addresses = addresses_of("localhost");
    assert!(!addresses.is_empty());
    let server = Process::start(&["serve", "--listen", "localhost:0"]);
    let lines = server.stderr.until("all addresses", |lines| {
        let said = lines.iter().filter(|line| line.contains("listening on "));
        said.count() == addresses.len()
    });
    let listening: Vec<std::net::SocketAddr> = lines
        .iter()
        .filter_map(|line| line.split_once("listening on "))
        .map(|(_, address)| address.trim().parse().expect("an address"))
        .collect();
    let mut ips: Vec<_> = listening.iter().map(std::net::SocketAddr::ip).collect();
    let mut wanted = addresses.clone();
    ips.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(ips, wanted);
    let port = listening[0].port();
    assert!(
        listening.iter().all(|address| address.port() == port),
        "{listening:?}"
    );
    // Each is served, again and again.
    for _ in 0..3 {
        for address in &listening {
            let address = address.to_string();
            let ended = run(&["publish", "a", "x", "--server", &address]);
            assert_eq!(ended.code, Some(0), "{address}: {ended:?}");
        }
    }
    // One of them is enough to be in the way of another server.
    let taken = listening[listening.len() - 1].to_string();
    let second = format!("localhost:{port}");
    for listen in [taken.as_str(), &second] {
        let ended = run(&["serve", "--listen", listen]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr[0].contains("--listen"), "{ended:?}");
        assert!(ended.stderr[0].contains("in use"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_named_and_the_exit_code_is_1() {
    let (code, _, err) =
        run_to_end(longlived().args(["serve", "--listen", "nowhere.invalid:7070"])).await;
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    for part in ["--listen", "`nowhere.invalid` has no address"] {
        assert!(err.contains(part), "{part}: {err}");
    }
}
