//! The client's end: h2, with calls that follow the plans.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::DuplexStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::ledger::Ledger;
use super::plan::{self, Plan, Run};

/// The code of the client's resets, which no other end uses.
const CLIENT_RESETS: u32 = 0x0bee;
const CANCEL: u32 = 8;

/// Makes all calls, and closes the pipe.
pub(super) async fn call_all(io: DuplexStream, run: &Run, ledger: &Arc<Ledger>, seed: u64) {
    let rng = &mut SmallRng::seed_from_u64(seed);
    let mut builder = Builder::new();
    builder
        .initial_window_size(run.stream_window)
        .initial_connection_window_size(run.connection_window)
        .max_frame_size(run.frame_max)
        .max_concurrent_reset_streams(10_000)
        // Its own guard against many small frames: here its windows ask for them.
        .data_frame_budget(usize::MAX)
        .initial_max_send_streams(rng.random_range(1..200))
        .enable_push(false);
    let Ok((send_request, connection)) = builder.handshake::<_, Bytes>(io).await else {
        panic!("the first frames cannot be written");
    };
    let mut tasks = JoinSet::new();
    let moves = run.window_moves || run.stream_window == 0;
    let windows = if moves { run.windows } else { &[] };
    tasks.spawn(drive(connection, windows, rng.random()));
    let at_once = Arc::new(Semaphore::new(run.at_once));
    for number in 0..run.calls {
        let call = Caller {
            number,
            plan: Arc::new(run.plan(number)),
            ledger: Arc::clone(ledger),
            rng: SmallRng::seed_from_u64(rng.random()),
        };
        let (at_once, send_request) = (Arc::clone(&at_once), send_request.clone());
        tasks.spawn(async move {
            let _permit = at_once.acquire().await.expect("it stays open");
            call.run(send_request).await;
        });
    }
    drop(send_request);
    while let Some(done) = tasks.join_next().await {
        if let Err(error) = done {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// Drives the connection, and moves its windows while streams are under way.
async fn drive(
    mut connection: Connection<DuplexStream, Bytes>,
    windows: &'static [u32],
    seed: u64,
) {
    let rng = &mut SmallRng::seed_from_u64(seed);
    let mut tick = tokio::time::interval(Duration::from_millis(7));
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                // The server closes the pipe after its GOAWAY.
                if let Err(error) = ended {
                    assert!(error.is_io() || error.is_go_away() && error.reason() == Some(Reason::NO_ERROR), "{error:?}");
                }
                return;
            }
            _ = tick.tick(), if !windows.is_empty() => {
                let size = windows[rng.random_range(0..windows.len())];
                // Refused while the change before is under way.
                let _ = connection.set_initial_window_size(size);
                if rng.random_bool(0.1) {
                    connection.set_target_window_size(rng.random_range(65_535..500_000));
                }
            }
        }
    }
}

struct Caller {
    number: usize,
    plan: Arc<Plan>,
    ledger: Arc<Ledger>,
    rng: SmallRng,
}

impl Caller {
    async fn run(mut self, send_request: SendRequest<Bytes>) {
        let begun = match send_request.ready().await {
            Ok(mut ready) => {
                let (request, end) = self.request();
                let begun = ready.send_request(request, end);
                if begun.is_ok() && end {
                    self.ledger
                        .note(self.number, |it| it.client.sent_end = Some(false));
                }
                begun
            }
            Err(error) => Err(error),
        };
        match begun {
            Ok((response, stream)) => {
                let seed = self.rng.random();
                let sending = self.send(stream, seed);
                let receiving = self.receive(response);
                // What is dropped before its end is reset: the sending half is kept until the response has come.
                let (stream, stops) = tokio::join!(sending, receiving);
                if stops && let Some(stream) = stream {
                    self.stop(stream);
                }
            }
            Err(error) => {
                assert!(
                    error.is_go_away() || error.is_io() || !error.is_reset(),
                    "{error:?}"
                );
                self.ledger.note(self.number, |it| it.refused = true);
            }
        }
        self.ledger.note(self.number, |it| it.done = true);
    }

    fn request(&self) -> (Request<()>, bool) {
        let total = self.plan.request_bytes();
        let mut request = Request::builder()
            .method(if self.plan.head { "HEAD" } else { "POST" })
            .uri("http://a.test/call")
            .header("x-call", self.number.to_string())
            .header("x-same", "the same in each call")
            .header("x-other", "x".repeat(self.number % 50));
        if self.plan.says_length {
            request = request.header("content-length", total);
        }
        let end = total == 0 && !self.plan.request_trailers;
        (request.body(()).expect("a request"), end)
    }

    /// Sends the request, and gives its half back unless the stream was reset.
    async fn send(&self, mut stream: SendStream<Bytes>, seed: u64) -> Option<SendStream<Bytes>> {
        let rng = &mut SmallRng::seed_from_u64(seed);
        let (number, plan) = (self.number, &self.plan);
        let total = plan.request_bytes();
        if total == 0 && !plan.request_trailers {
            return Some(stream);
        }
        let mut sent = 0;
        for piece in &plan.request {
            let mut left = *piece;
            while left > 0 {
                if plan.client_resets_sending.is_some_and(|at| sent >= at) {
                    self.reset(stream);
                    return None;
                }
                // With and without regard to the window.
                let mut n = left;
                if rng.random_bool(0.8) {
                    stream.reserve_capacity(left);
                    match poll_fn(|cx| stream.poll_capacity(cx)).await {
                        Some(Ok(capacity)) => n = capacity.min(left),
                        _ => return Some(stream),
                    }
                }
                let end = n == left && sent + n == total && !plan.request_trailers;
                let bytes = plan::content(number, sent, n).into();
                self.ledger.note(number, |it| {
                    it.client.sent += n;
                    if end {
                        it.client.sent_end = Some(false);
                    }
                });
                if stream.send_data(bytes, end).is_err() {
                    return Some(stream);
                }
                (sent, left) = (sent + n, left - n);
                if rng.random_bool(0.2) {
                    tokio::time::sleep(Duration::from_millis(rng.random_range(0..9))).await;
                }
            }
        }
        if plan.request_trailers {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-call", number.into());
            if stream.send_trailers(trailers).is_ok() {
                self.ledger
                    .note(number, |it| it.client.sent_end = Some(true));
            }
        }
        Some(stream)
    }

    fn reset(&self, mut stream: SendStream<Bytes>) {
        let note = |it: &mut super::ledger::Call| it.client.sent_reset = Some(CLIENT_RESETS);
        self.ledger.note(self.number, note);
        stream.send_reset(CLIENT_RESETS.into());
    }

    /// The client wants no more of the response.
    fn stop(&self, stream: SendStream<Bytes>) {
        if self.plan.client_drops {
            let note = |it: &mut super::ledger::Call| it.client.sent_reset = Some(CANCEL);
            self.ledger.note(self.number, note);
            drop(stream);
        } else {
            self.reset(stream);
        }
    }

    /// Receives the response. True: it stopped amid it.
    async fn receive(&self, response: ResponseFuture) -> bool {
        match response.await {
            Ok(response) => {
                assert_eq!(response.status(), 200);
                self.receive_content(response.into_body()).await
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    async fn receive_content(&self, mut body: RecvStream) -> bool {
        let stops = self.plan.client_resets_receiving;
        while let Some(received) = body.data().await {
            let bytes = match received {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.failed(&error);
                    return false;
                }
            };
            let received = self.ledger.note(self.number, |it| {
                let from = it.client.received;
                let right = plan::is_content(self.number, from, &bytes);
                assert!(right, "other content");
                it.client.received += bytes.len();
                it.client.received
            });
            // It fails for a stream that is over.
            let _ = body.flow_control().release_capacity(bytes.len());
            if stops.is_some_and(|at| received > at) {
                return true;
            }
        }
        match body.trailers().await {
            Ok(trailers) => {
                let trailers = Some(trailers.is_some());
                (self.ledger).note(self.number, |it| it.client.received_end = trailers);
            }
            Err(error) => self.failed(&error),
        }
        false
    }

    /// The stream was cut.
    fn failed(&self, error: &h2::Error) {
        let code = error.reason().map(u32::from);
        self.ledger.note(self.number, |it| {
            if error.is_go_away() || code == Some(7) || error.is_io() {
                it.refused = true;
            } else if error.is_remote() {
                it.client.received_reset = code;
            } else {
                assert!(
                    it.client.sent_reset.is_some() || code == Some(CANCEL),
                    "{error:?}"
                );
            }
        });
    }
}
