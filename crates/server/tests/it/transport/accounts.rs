//! What requests and answers make the node hold is counted while it is held, and no longer.

use std::sync::Arc;

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use http::{HeaderMap, HeaderName, HeaderValue};
use longlived_server::testkit::acceptor::AcceptorSettings;
use longlived_server::testkit::connection::{ConnectionHeld, Kind};
use longlived_testkit::frames::{CONTINUATION, HEADERS, frame, hello};
use proptest::test_runner::{Config, TestRunner};
use proptest::{collection, prelude::*};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::support::{Client, Node, Reply, Windows, node, node_with, until};

/// Fields that HTTP/2 counts as 7 KiB and that hold five times as much.
fn fields() -> HeaderMap {
    let field = |number| {
        let name = HeaderName::try_from(format!("x-{number:03}")).expect("a name");
        (name, HeaderValue::from_static("v"))
    };
    (0..200).map(field).collect()
}

async fn begin(client: &mut Client, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
    let fields = fields();
    let headers: Vec<_> = (fields.keys()).map(|name| (name.as_str(), "v")).collect();
    client.begin(path, &headers).await
}

/// A connection of it may hold the fields of six calls, at some 42 KiB each.
fn node_for_six_calls() -> Node {
    let mut settings = AcceptorSettings::default();
    Arc::make_mut(&mut settings.connection).connection_bytes_max = 280 << 10;
    node_with(settings)
}

/// The numbers of the only connection, when they are so.
async fn numbers(node: &Node, is_so: impl Fn(&ConnectionHeld) -> bool) -> ConnectionHeld {
    let only = || {
        let mut listed = node.accounts.connections();
        assert!(listed.len() <= 1);
        listed.pop()
    };
    until("the numbers", || only().is_some_and(|held| is_so(&held))).await;
    only().expect("it is listed")
}

/// Returns when no connection holds anything.
async fn nothing_is_held(node: &Node) {
    let is_empty = |held: &ConnectionHeld| Kind::ALL.into_iter().all(|kind| held.of(kind) == 0);
    until("nothing is held", || {
        node.accounts.connections().iter().all(is_empty)
    })
    .await;
}

#[tokio::test]
async fn an_open_call_counts_with_all_that_was_sent_for_it() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let (_response, mut stream) = begin(&mut client, "/test/never").await;
    let held = numbers(&node, |held| held.of(Kind::Fields) > 30_000).await;
    assert!(held.of(Kind::Fields) < 60_000, "{held}");
    let sent = stream.send_data(vec![0; 10_000].into(), false);
    sent.expect("the stream stands");
    numbers(&node, |held| held.of(Kind::Content) >= 10_000).await;
    stream.send_trailers(fields()).expect("the stream stands");
    let held = numbers(&node, |held| held.of(Kind::Trailers) > 30_000).await;
    assert!(held.of(Kind::Trailers) < 60_000, "{held}");
    assert!(node.accounts.bytes() > 70_000);
    stream.send_reset(h2::Reason::CANCEL);
    nothing_is_held(&node).await;
    assert_eq!(node.accounts.bytes(), 0);
}

#[tokio::test]
async fn fields_count_until_their_call_drops_them() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let (response, _stream) = begin(&mut client, "/test/quiet").await;
    response.await.expect("a response");
    // It has dropped its request, which goes on.
    nothing_is_held(&node).await;
}

#[tokio::test]
async fn of_calls_that_hold_too_many_fields_the_newest_end() {
    let node = node_for_six_calls();
    let mut client = Client::connect(node.address).await;
    let mut calls = Vec::new();
    for _ in 0..12 {
        calls.push(begin(&mut client, "/test/echo").await);
        client.ask("/test/unknown").await;
    }
    // They are equal, so those that come last end.
    for (response, _stream) in calls.split_off(6) {
        let status = Reply::of(response).await.all().await.1;
        assert_eq!(status.as_deref(), Some("8"));
    }
    for (response, mut stream) in calls {
        let sent = stream.send_data(Bytes::from_static(b"hello"), true);
        sent.expect("the stream stands");
        let reply = Reply::of(response).await.all().await;
        assert_eq!(reply, (b"hello".to_vec(), Some("0".to_owned())));
    }
    nothing_is_held(&node).await;
}

/// Such calls read nothing in which they could be told.
#[tokio::test]
async fn of_calls_whose_requests_have_ended_the_newest_are_let_go() {
    let node = node_for_six_calls();
    let mut client = Client::connect(node.address).await;
    let mut calls = Vec::new();
    for _ in 0..12 {
        let (response, mut stream) = begin(&mut client, "/test/never").await;
        let ended = stream.send_data(Bytes::new(), true);
        ended.expect("the stream stands");
        calls.push(response);
        client.ask("/test/unknown").await;
    }
    for response in calls.split_off(6) {
        let error = response.await.expect_err("it is let go");
        assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
    }
    assert_eq!(node.calls.live(), 6);
    drop(calls);
    nothing_is_held(&node).await;
}

#[tokio::test]
async fn what_a_call_no_longer_reads_is_not_held() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let (response, mut stream) = begin(&mut client, "/test/quiet").await;
    response.await.expect("a response");
    for _ in 0..20 {
        let sent = stream.send_data(vec![0; 100_000].into(), false);
        sent.expect("the stream stands");
    }
    stream.send_trailers(fields()).expect("the stream stands");
    // Answered after all of it has come.
    client.ask("/test/unknown").await;
    nothing_is_held(&node).await;
}

#[tokio::test]
async fn a_header_block_that_has_not_come_whole_counts() {
    let node = node();
    let mut socket = TcpStream::connect(node.address).await.expect("it listens");
    let mut bytes = hello(65_535);
    bytes.extend(frame(HEADERS, 0, 1, &[0x83, 0x86, 0x84, 0x01, 1, b't']));
    // A value of 8,000 octets, of which 6,000 come.
    let mut value = vec![0x00, 1, b'a', 0x7f, 0xc1, 0x3d];
    value.extend(vec![b'v'; 6_000]);
    bytes.extend(frame(CONTINUATION, 0, 1, &value));
    socket.write_all(&bytes).await.expect("it is taken");
    numbers(&node, |held| held.of(Kind::Frames) > 6_000).await;
    drop(socket);
    until("the connection goes", || {
        node.accounts.connections().is_empty()
    })
    .await;
    assert_eq!(node.accounts.bytes(), 0);
}

#[tokio::test]
async fn frames_that_the_socket_does_not_take_are_shown_and_since_when() {
    let node = node();
    let windows = Windows {
        stream_window: 8 << 20,
        connection_window: 8 << 20,
        socket_bytes: Some(64 << 10),
    };
    let mut client = Client::connect_with(node.address, windows).await;
    let (response, _stream) = client.begin("/test/endless", &[]).await;
    let reply = response.await.expect("a response");
    client.freeze();
    let held = numbers(&node, |held| held.blocked_for.is_some()).await;
    assert!(held.of(Kind::Unsent) > 0, "{held}");
    assert!(held.of(Kind::Tables) > 0, "{held}");
    assert!(held.receive_window > 0 && held.send_window > 0, "{held}");
    // They are bounded by themselves: only the answer that waits behind them counts.
    let counted = numbers(&node, |held| held.of(Kind::Answers) > 0).await;
    assert!(
        node.accounts.bytes() <= counted.of(Kind::Answers),
        "{counted}"
    );
    drop(reply);
    client.vanish();
    until("the connection goes", || {
        node.accounts.connections().is_empty()
    })
    .await;
}

#[derive(Clone, Debug)]
enum Step {
    Begin(bool),
    Send(usize, usize),
    Trailers(usize),
    Reset(usize),
    End(usize),
    Vanish,
}

fn step() -> impl Strategy<Value = Step> {
    let call = || 0..8_usize;
    prop_oneof![
        3 => any::<bool>().prop_map(Step::Begin),
        5 => (call(), 0..40_000_usize).prop_map(|(call, bytes)| Step::Send(call, bytes)),
        1 => call().prop_map(Step::Trailers),
        1 => call().prop_map(Step::Reset),
        1 => call().prop_map(Step::End),
        1 => Just(Step::Vanish),
    ]
}

async fn run(node: &Node, steps: Vec<Step>) {
    let mut client = Client::connect(node.address).await;
    let mut calls: Vec<(ResponseFuture, SendStream<Bytes>)> = Vec::new();
    for step in steps {
        let at = |call: usize, calls: &[_]| (!calls.is_empty()).then(|| call % calls.len());
        match step {
            Step::Begin(reads) => {
                let path = if reads { "/test/echo" } else { "/test/never" };
                calls.push(begin(&mut client, path).await);
            }
            Step::Send(call, bytes) => {
                if let Some(at) = at(call, &calls) {
                    // One that has ended takes nothing.
                    let _ = calls[at].1.send_data(vec![0; bytes].into(), false);
                }
            }
            Step::Trailers(call) => {
                if let Some(at) = at(call, &calls) {
                    let _ = calls[at].1.send_trailers(fields());
                }
            }
            Step::Reset(call) => {
                if let Some(at) = at(call, &calls) {
                    calls.remove(at).1.send_reset(h2::Reason::CANCEL);
                }
            }
            Step::End(call) => {
                if let Some(at) = at(call, &calls) {
                    let _ = calls[at].1.send_data(Bytes::new(), true);
                }
            }
            Step::Vanish => {
                calls.clear();
                let old = std::mem::replace(&mut client, Client::connect(node.address).await);
                old.vanish();
            }
        }
        tokio::task::yield_now().await;
    }
    // The connection stays, and its calls go.
    calls.clear();
    until("all calls end", || node.calls.live() == 0).await;
    until("nothing is held", || node.accounts.bytes() == 0).await;
    nothing_is_held(node).await;
    client.vanish();
    until("the connection goes", || {
        node.accounts.connections().is_empty()
    })
    .await;
}

#[test]
fn whatever_calls_do_nothing_stays_counted_when_they_are_over() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let _guard = runtime.enter();
    let node = node();
    let mut runner = TestRunner::new(Config::with_cases(40));
    let ran = runner.run(&collection::vec(step(), 1..40), |steps| {
        runtime.block_on(run(&node, steps));
        Ok(())
    });
    ran.expect("it holds");
}
