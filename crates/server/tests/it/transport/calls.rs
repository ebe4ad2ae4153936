//! The shapes of answers, the request id, deadlines, and requests that are not gRPC.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use tokio::time::Instant;

use super::support::{Client, Reply, node, pass, request, spawn, until};

#[tokio::test]
async fn a_unary_call_is_answered_with_data_and_trailers() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let mut reply = client
        .send(request("/test/echo"), Some(Bytes::from_static(b"hello")))
        .await
        .expect("a response");
    assert_eq!(reply.all().await, (b"hello".to_vec(), Some("0".to_owned())));
}

#[tokio::test]
async fn a_request_larger_than_every_window_arrives() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let body = Bytes::from((0..5_000_000_u32).map(|n| n as u8).collect::<Vec<_>>());
    let mut reply = client
        .send(request("/test/echo"), Some(body.clone()))
        .await
        .expect("a response");
    let (echo, status) = reply.all().await;
    assert!(echo == body, "all bytes in their order");
    assert_eq!(status.as_deref(), Some("0"));
}

#[tokio::test]
async fn chunks_of_all_sizes_arrive_in_order_on_streams_side_by_side() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let mut replies = Vec::new();
    for _ in 0..4 {
        replies.push(client.ask("/test/sizes").await);
    }
    let mut all = Vec::new();
    for reply in &mut replies {
        all.push(reply.all().await);
    }
    let (bytes, status) = &all[0];
    assert_eq!(status.as_deref(), Some("0"));
    let mut counted = bytes.clone();
    counted.dedup();
    let expected: Vec<u8> = (1..=3_000_u32).rev().map(|left| left as u8).collect();
    assert_eq!(counted, expected);
    assert!(all.iter().all(|other| other == &all[0]));
}

/// A wake-up that got lost between the threads would leave a stream waiting for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_of_other_threads_wake_every_stream() {
    const MESSAGES: u64 = 300;
    let node = node();
    let mut replies = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = Client::connect(node.address).await;
        for _ in 0..20 {
            replies.push(client.ask("/test/feed").await);
        }
        clients.push(client);
    }
    for feed in std::mem::take(&mut *node.calls.feeds.lock()) {
        spawn(async move {
            for number in 0..MESSAGES {
                let message = Bytes::copy_from_slice(&number.to_be_bytes());
                feed.send(message).await.expect("the body is there");
                if number % 7 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    let expected: Vec<u8> = (0..MESSAGES).flat_map(u64::to_be_bytes).collect();
    for mut reply in replies {
        assert_eq!(reply.all().await, (expected.clone(), Some("0".to_owned())));
    }
}

#[tokio::test]
async fn a_status_without_data_is_one_headers_frame() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let reply = client.ask("/test/refused").await;
    assert!(reply.headers_only);
    assert_eq!(reply.header("grpc-status"), Some("8"));
    assert_eq!(reply.header("content-type"), Some("application/grpc"));
}

#[tokio::test]
async fn a_body_that_fails_resets_its_stream_only() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let failed = client
        .send(request("/test/fails"), None)
        .await
        .err()
        .expect("a reset");
    assert_eq!(failed.reason(), Some(Reason::INTERNAL_ERROR));
    assert_eq!(
        client.ask("/test/refused").await.header("grpc-status"),
        Some("8")
    );
}

#[tokio::test]
async fn the_request_id_comes_back_in_every_form_of_answer() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    for path in ["/test/echo", "/test/quiet", "/test/refused"] {
        let mut given = request(path);
        given
            .headers_mut()
            .insert("x-request-id", "order-17".parse().expect("a header value"));
        let reply = client.send(given, None).await.expect("a response");
        assert_eq!(reply.header("x-request-id"), Some("order-17"));
    }
    assert_eq!(
        client.ask("/test/refused").await.header("x-request-id"),
        Some("000000000000001d")
    );
}

#[tokio::test]
async fn a_request_that_is_not_grpc_is_answered_in_http() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let mut get = request("/test/echo");
    *get.method_mut() = http::Method::GET;
    let reply = client.send(get, None).await.expect("a response");
    assert_eq!((reply.http_status, reply.headers_only), (405, true));
    let mut json = request("/test/echo");
    json.headers_mut().insert(
        "content-type",
        "application/json".parse().expect("a header value"),
    );
    let reply = client.send(json, None).await.expect("a response");
    assert_eq!((reply.http_status, reply.headers_only), (415, true));
    assert_eq!(
        client.ask("/test/refused").await.header("grpc-status"),
        Some("8")
    );
}

async fn with_timeout(client: &mut Client, path: &str, value: &str) -> Reply {
    let mut request = request(path);
    request
        .headers_mut()
        .insert("grpc-timeout", value.parse().expect("a header value"));
    client.send(request, None).await.expect("a response")
}

#[tokio::test]
async fn a_deadline_before_the_response_is_a_status_alone() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let reply = with_timeout(&mut client, "/test/never", "50m").await;
    assert!(reply.headers_only);
    assert_eq!(reply.header("grpc-status"), Some("4"));
    assert_eq!(node.calls.live(), 0);
}

#[tokio::test]
async fn a_call_that_is_faster_than_its_deadline_is_not_touched_by_it() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let (mut reply, ()) = tokio::join!(with_timeout(&mut client, "/test/slow", "60S"), async {
        until("it is called", || node.calls.live() > 0).await;
        pass(Duration::from_secs(50)).await;
        node.calls.go_on.notify_one();
    });
    assert_eq!(reply.all().await, (b"late".to_vec(), Some("0".to_owned())));
}

#[tokio::test]
async fn a_deadline_ends_a_quiet_stream_with_its_status() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let mut reply = with_timeout(&mut client, "/test/quiet", "100m").await;
    assert!(!reply.headers_only);
    assert_eq!(reply.all().await, (Vec::new(), Some("4".to_owned())));
    assert_eq!(node.calls.live(), 0);
}

#[tokio::test]
async fn a_deadline_ends_a_busy_stream_with_its_status() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let started = Instant::now();
    let mut reply = with_timeout(&mut client, "/test/endless", "200m").await;
    let (data, status) = reply.all().await;
    assert!(!data.is_empty());
    assert_eq!(status.as_deref(), Some("4"));
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_malformed_timeout_is_named() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let reply = with_timeout(&mut client, "/test/echo", "soon").await;
    assert_eq!(reply.header("grpc-status"), Some("3"));
    assert!(
        reply
            .header("grpc-message")
            .expect("a message")
            .contains("grpc-timeout")
    );
}

#[tokio::test]
async fn headers_over_their_limit_are_refused_in_words_and_the_connection_goes_on() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    // One large header, and many small ones, which cost 32 bytes each beside their own.
    let large = vec![("x-large".to_owned(), "v".repeat(17_000))];
    let many = (0..500)
        .map(|n| (format!("x-{n}"), String::new()))
        .collect();
    for headers in [large, many] {
        let mut asked = request("/test/echo");
        for (name, value) in &headers {
            let name: http::HeaderName = name.parse().expect("a name");
            asked
                .headers_mut()
                .insert(name, value.parse().expect("a value"));
        }
        let reply = client.send(asked, None).await.expect("a response");
        assert_eq!(reply.http_status, 200);
        let grpc = |name| reply.headers[name].to_str().expect("text").to_owned();
        assert_eq!(grpc("grpc-status"), "8");
        assert!(grpc("grpc-message").contains("header_list_bytes_max"));
    }
    let mut reply = client
        .send(request("/test/echo"), Some(Bytes::from_static(b"hello")))
        .await
        .expect("a response");
    assert_eq!(reply.all().await, (b"hello".to_vec(), Some("0".to_owned())));
}
