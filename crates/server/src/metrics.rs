//! The listener for scrapers: `GET /metrics`, plain HTTP/1.1, in the Prometheus text format or in OpenMetrics.
//!
//! Holds: one request a connection, and each connection ends within a fixed time, so that neither many scrapers nor
//! silent ones harm the node. Of too many the oldest that has asked for nothing gives its place up, so that silent ones hold up nobody.
//! It answers until the very end of the drain.
//! Does not: know the metrics; `values` does. Nor who gives its place up; `places` does. Nor the differences of the two formats; `plain` does.

mod places;
mod plain;
mod values;

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, ALLOW, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use prometheus_client::{encoding::text, registry::Registry};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{limits, tasks::Tasks, throttle::Seldom, transport::acceptor::is_of_the_connection};

pub(crate) use values::{LogDrops, NodeValues};

use places::{Place, Places};
use values::Sample;

/// Before the name of every metric.
const PREFIX: &str = "longlived";
const PATH: &str = "/metrics";
const OPEN_METRICS: &str = "application/openmetrics-text";
const OPEN_METRICS_1: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const TEXT_0: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Answers until `tasks` are told to stop; each connection is one of them.
pub(crate) async fn serve(listener: TcpListener, values: NodeValues, tasks: Tasks) {
    let values = Arc::new(values);
    let mut places = Places::default();
    let stop = tasks.cancel_token();
    let mut failures = Seldom::new(limits::ACCEPT_LOG_INTERVAL);
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                let answers = answer_one(socket, values.clone(), places.take(), stop.clone());
                tasks.spawn("metrics connection", answers);
            }
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                if let Some(unlogged) = failures.now() {
                    tracing::warn!(%error, unlogged, "cannot accept connections for metrics");
                }
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = sleep(limits::ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}

/// One request and its answer.
async fn answer_one(
    socket: TcpStream,
    values: Arc<NodeValues>,
    place: Arc<Place>,
    stop: CancellationToken,
) {
    let asking = Arc::clone(&place);
    let service = service_fn(move |request: Request<_>| {
        asking.has_asked();
        let values = values.clone();
        async move { Ok::<_, Infallible>(answer(values, &request).await) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_headers(limits::METRICS_HEADERS_MAX)
        .max_buf_size(limits::METRICS_HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service);
    tokio::select! {
        biased;
        ended = timeout(limits::METRICS_TIMEOUT, connection) => match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "metrics connection ended"),
            Err(_) => tracing::debug!(timeout = ?limits::METRICS_TIMEOUT, "metrics connection timed out"),
        },
        // A request that has come is answered in a few turns; a request that has not is not waited for.
        () = stop.cancelled() => {}
        () = place.given_up.cancelled() => {}
    }
}

async fn answer<B>(values: Arc<NodeValues>, request: &Request<B>) -> Response<Full<Bytes>> {
    if request.uri().path() != PATH {
        return refusal(StatusCode::NOT_FOUND, "there is only /metrics here\n");
    }
    if request.method() != Method::GET {
        let mut refusal = refusal(StatusCode::METHOD_NOT_ALLOWED, "there is only GET here\n");
        let allowed = HeaderValue::from_static("GET");
        refusal.headers_mut().insert(ALLOW, allowed);
        return refusal;
    }
    let sample = Sample::take(values).await;
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(sample));
    let mut body = String::new();
    text::encode(&mut body, &registry).expect("a string takes everything");
    let content_type = if asks_for_open_metrics(request.headers()) {
        OPEN_METRICS_1
    } else {
        body = plain::plain(&body);
        TEXT_0
    };
    let mut answer = Response::new(Full::from(body));
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

fn asks_for_open_metrics(headers: &HeaderMap) -> bool {
    let mut accepts = headers.get_all(ACCEPT).iter();
    accepts.any(|accept| {
        let accept = accept.to_str();
        accept.is_ok_and(|accept| accept.contains(OPEN_METRICS))
    })
}

fn refusal(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut refusal = Response::new(Full::from(text));
    *refusal.status_mut() = status;
    refusal
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    use super::*;
    use crate::{
        callers::Callers, config::Config, lifecycle::Drain, node::Node,
        transport::acceptor::ConnectionCounts,
    };
    use longlived_broker::{Environment, Log};

    async fn values() -> NodeValues {
        let (config, environment) = (Config::default(), Environment::system());
        let store = config.open_store(&environment).await.expect("in memory");
        let (log, _) = Log::new(store, config.log.clone());
        let node = Node::new(config, environment, log, Callers::unchecked(), Drain::new());
        NodeValues::new(node, ConnectionCounts::default(), None, None)
    }

    #[tokio::test(start_paused = true)]
    async fn silent_watchers_hold_up_nobody_and_are_sent_away_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let tasks = Tasks::new();
        tasks.spawn("metrics", serve(listener, values().await, tasks.clone()));
        let begun = Instant::now();
        let mut silent = Vec::new();
        for _ in 0..200 {
            silent.push(TcpStream::connect(address).await.expect("it listens"));
        }
        let mut watcher = TcpStream::connect(address).await.expect("it listens");
        let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
        watcher.write_all(request).await.expect("it is taken");
        let mut answer = String::new();
        watcher.read_to_string(&mut answer).await.expect("text");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let took = begun.elapsed();
        assert!(took < limits::METRICS_TIMEOUT, "{took:?}");
        for mut silent in silent {
            // Those that gave their places up may see it as a reset.
            assert_eq!(silent.read(&mut [0]).await.unwrap_or(0), 0);
        }
        let took = begun.elapsed();
        assert!(
            took >= limits::METRICS_TIMEOUT,
            "the last had their time: {took:?}"
        );
        assert!(took <= limits::METRICS_TIMEOUT * 2, "{took:?}");
        tasks.stop();
        tasks.close_and_wait().await;
    }

    #[tokio::test(start_paused = true)]
    async fn watchers_that_take_no_answer_hold_up_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let tasks = Tasks::new();
        tasks.spawn("metrics", serve(listener, values().await, tasks.clone()));
        let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
        let mut slow = Vec::new();
        for _ in 0..200 {
            let mut socket = TcpStream::connect(address).await.expect("it listens");
            socket.write_all(request).await.expect("it is taken");
            slow.push(socket);
        }
        let begun = Instant::now();
        let mut watcher = TcpStream::connect(address).await.expect("it listens");
        watcher.write_all(request).await.expect("it is taken");
        let mut answer = String::new();
        watcher.read_to_string(&mut answer).await.expect("text");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let took = begun.elapsed();
        assert!(took < limits::METRICS_TIMEOUT, "{took:?}");
        drop(slow);
        tasks.stop();
        tasks.close_and_wait().await;
    }
}
