//! Honours `grpc-timeout`, for streams to their last byte.
//!
//! Holds: a call without the header pays nothing; before the response headers the answer is `DEADLINE_EXCEEDED` in
//! trailers-only form, after them the stream ends with it; a malformed header is `INVALID_ARGUMENT`. A stream whose
//! reader is stalled, so that its body is not polled, is ended by its [`StreamAbort`] when a grace is over too.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::{Layer, Service};

use super::answer::PassOrAnswer;
use crate::contract::{Contract, status};
use crate::limits;
use crate::transport::abort::StreamAbort;
use crate::transport::connection::{Follower, ResponseBody};

const HEADER: &str = "grpc-timeout";

/// When the caller stops waiting; in the request's extensions if it said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline(pub(crate) Instant);

pin_project! {
    /// When a call ends, and how it is told so.
    #[derive(Debug)]
    struct Expiry {
        // Wakes the call or its body, which has the status.
        #[pin]
        timer: Sleep,
        // Wakes nobody: it aborts the stream of a body that was not polled in the grace after the deadline. Set when the
        // body begins.
        #[pin]
        late: Option<Sleep>,
        abort: Option<StreamAbort>,
        contract: Contract,
    }
}

/// Aborts a stream when the timer is over that it was given to.
struct Late(StreamAbort);

impl Wake for Late {
    fn wake(self: Arc<Self>) {
        self.0.abort();
    }
}

impl Expiry {
    fn new(deadline: Instant, abort: Option<StreamAbort>, contract: Contract) -> Pin<Box<Self>> {
        Box::pin(Self {
            timer: sleep_until(deadline),
            late: None,
            abort,
            contract,
        })
    }

    /// Ready when the deadline has passed.
    fn poll_passed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().timer.poll(cx)
    }

    /// From now on the stream is aborted when the grace after the deadline is over, unless this is dropped before.
    fn abort_late(self: Pin<&mut Self>) {
        let mut this = self.project();
        let Some(abort) = this.abort.take() else {
            return;
        };
        let at = this.timer.deadline() + limits::STALLED_DEADLINE_GRACE;
        this.late.set(Some(sleep_until(at)));
        let waker = Waker::from(Arc::new(Late(abort)));
        // A task that has used up its budget would be woken at once for another try, and that is an abort here.
        let is_late = this.late.as_pin_mut().is_some_and(|late| {
            let mut cx = Context::from_waker(&waker);
            pin!(unconstrained(late)).poll(&mut cx).is_ready()
        });
        if is_late {
            waker.wake();
        }
    }
}

/// Wraps a service in `DeadlineService`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService { inner }
    }
}

/// See the file's head.
#[derive(Clone, Debug)]
pub struct DeadlineService<S> {
    inner: S,
}

impl<S, Q, B> Service<Request<Q>> for DeadlineService<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: Body + Default,
{
    type Response = Response<DeadlineBody<B>>;
    type Error = S::Error;
    type Future = PassOrAnswer<DeadlineFuture<S::Future>, DeadlineBody<B>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        let contract = Contract::of(request.uri().path());
        let timeout = match request.headers().get(HEADER) {
            None => None,
            Some(value) => match parse(value) {
                Ok(timeout) => Some(timeout),
                Err(error) => {
                    let status = status::malformed_timeout(error.to_string());
                    return PassOrAnswer::answer(status::trailers_only(&status, contract));
                }
            },
        };
        // A deadline that no clock can show is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let expiry = deadline.map(|deadline| {
            let extensions = request.extensions_mut();
            extensions.insert(Deadline(deadline));
            Expiry::new(deadline, extensions.get().cloned(), contract)
        });
        PassOrAnswer::Pass {
            call: DeadlineFuture {
                call: self.inner.call(request),
                expiry,
            },
        }
    }
}

pin_project! {
    /// The call until its response headers.
    #[derive(Debug)]
    pub struct DeadlineFuture<F> {
        #[pin]
        call: F,
        expiry: Option<Pin<Box<Expiry>>>,
    }
}

impl<F, B, E> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body + Default,
{
    type Output = Result<Response<DeadlineBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(expiry) = this.expiry
            && expiry.as_mut().poll_passed(cx).is_ready()
        {
            let status = status::deadline_passed();
            return Poll::Ready(Ok(status::trailers_only(&status, expiry.contract)));
        }
        let response = ready!(this.call.poll(cx))?;
        let mut expiry = this.expiry.take();
        if let Some(expiry) = &mut expiry
            && !response.body().is_end_stream()
        {
            expiry.as_mut().abort_late();
        }
        Poll::Ready(Ok(response.map(|body| DeadlineBody {
            body: Some(body),
            expiry,
        })))
    }
}

pin_project! {
    /// A body that ends with `DEADLINE_EXCEEDED` when its time is over.
    #[derive(Debug)]
    pub struct DeadlineBody<B> {
        // None once the time is over: the inner body is dropped before the trailers go out.
        #[pin]
        body: Option<B>,
        expiry: Option<Pin<Box<Expiry>>>,
    }
}

impl<B: Default> Default for DeadlineBody<B> {
    fn default() -> Self {
        Self {
            body: Some(B::default()),
            expiry: None,
        }
    }
}

impl<B: Body<Data = Bytes>> Body for DeadlineBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        if let Some(expiry) = this.expiry
            && expiry.as_mut().poll_passed(cx).is_ready()
        {
            let trailers = status::trailers(&status::deadline_passed(), expiry.contract);
            *this.expiry = None;
            this.body.set(None);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        match this.body.as_pin_mut() {
            Some(body) => body.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B: ResponseBody> ResponseBody for DeadlineBody<B> {
    type Reader = B::Reader;

    fn follower(&mut self) -> Option<&mut dyn Follower<B::Reader>> {
        self.body.as_mut()?.follower()
    }

    fn has_budget(&self) -> bool {
        self.body.as_ref().is_some_and(ResponseBody::has_budget)
    }

    fn poll_while_blocked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.body {
            Some(body) => body.poll_while_blocked(cx),
            None => Poll::Pending,
        }
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("grpc-timeout must be 1 to 8 digits and one of H, M, S, m, u, n")]
struct MalformedTimeout;

fn parse(value: &HeaderValue) -> Result<Duration, MalformedTimeout> {
    let (unit, digits) = value.as_bytes().split_last().ok_or(MalformedTimeout)?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(MalformedTimeout);
    }
    let count = digits
        .iter()
        .fold(0_u64, |count, digit| count * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Ok(Duration::from_secs(count * 3600)),
        b'M' => Ok(Duration::from_secs(count * 60)),
        b'S' => Ok(Duration::from_secs(count)),
        b'm' => Ok(Duration::from_millis(count)),
        b'u' => Ok(Duration::from_micros(count)),
        b'n' => Ok(Duration::from_nanos(count)),
        _ => Err(MalformedTimeout),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use longlived_testkit::wait::within;
    use tokio::task::coop;
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// A body that has nothing to say, and a deadline in a second; whether its stream was aborted.
    fn quiet() -> (DeadlineBody<tonic::body::Body>, CancellationToken) {
        let never = http_body_util::StreamBody::new(futures_util::stream::pending::<
            Result<Frame<Bytes>, tonic::Status>,
        >());
        let aborted = CancellationToken::new();
        let abort = StreamAbort::of(Arc::new(aborted.clone()));
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut expiry = Expiry::new(deadline, Some(abort), Contract::V1);
        expiry.as_mut().abort_late();
        let body = DeadlineBody {
            body: Some(tonic::body::Body::new(never)),
            expiry: Some(expiry),
        };
        (body, aborted)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_reader_is_waited_for_until_the_grace_is_over() {
        let (_body, aborted) = quiet();
        let begun = Instant::now();
        within("the abort", aborted.cancelled()).await;
        let grace = limits::STALLED_DEADLINE_GRACE;
        assert!(begun.elapsed() >= Duration::from_secs(1) + grace);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_was_stalled_gets_the_status_within_the_grace() {
        let (mut body, aborted) = quiet();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut body).poll_frame(&mut cx).is_pending());
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        assert!(!aborted.is_cancelled(), "within the grace");
        let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx) else {
            panic!("its time is over");
        };
        let trailers = frame.into_trailers().expect("trailers");
        assert_eq!(trailers["grpc-status"], "4");
        tokio::time::sleep(limits::STALLED_DEADLINE_GRACE * 2).await;
        assert!(!aborted.is_cancelled(), "it was told");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_has_used_up_its_budget_aborts_nothing_by_that() {
        while coop::has_budget_remaining() {
            coop::consume_budget().now_or_never();
        }
        let (_body, aborted) = quiet();
        assert!(!aborted.is_cancelled());
    }

    fn parsed(text: &'static str) -> Result<Duration, MalformedTimeout> {
        parse(&HeaderValue::from_static(text))
    }

    #[test]
    fn every_unit_is_understood() {
        assert_eq!(parsed("2H"), Ok(Duration::from_secs(7200)));
        assert_eq!(parsed("3M"), Ok(Duration::from_secs(180)));
        assert_eq!(parsed("4S"), Ok(Duration::from_secs(4)));
        assert_eq!(parsed("5m"), Ok(Duration::from_millis(5)));
        assert_eq!(parsed("6u"), Ok(Duration::from_micros(6)));
        assert_eq!(parsed("7n"), Ok(Duration::from_nanos(7)));
        assert_eq!(
            parsed("99999999H"),
            Ok(Duration::from_secs(99_999_999 * 3600))
        );
    }

    #[test]
    fn a_value_that_the_specification_forbids_is_malformed() {
        for text in [
            "",
            "S",
            "1",
            "123456789S",
            "-1S",
            "1.5S",
            "1s",
            "1 S",
            "1SS",
        ] {
            assert_eq!(parsed(text), Err(MalformedTimeout), "{text}");
        }
    }
}
