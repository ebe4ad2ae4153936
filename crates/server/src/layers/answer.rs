//! A call that is either passed on or answered on the spot.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use pin_project_lite::pin_project;

pin_project! {
    /// The future of a layer that may answer by itself.
    #[project = PassOrAnswerProjected]
    #[derive(Debug)]
    pub enum PassOrAnswer<F, B> {
        /// The call goes on to the inner service.
        Pass {
            #[pin]
            call: F,
        },
        /// The inner service never hears of it. Boxed: this is the rare case, and every call pays for its size.
        Answer { response: Option<Box<Response<B>>> },
    }
}

impl<F, B> PassOrAnswer<F, B> {
    pub(super) fn answer(response: Response<B>) -> Self {
        Self::Answer {
            response: Some(Box::new(response)),
        }
    }
}

impl<F, B, E> Future for PassOrAnswer<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            PassOrAnswerProjected::Pass { call } => call.poll(cx),
            PassOrAnswerProjected::Answer { response } => Poll::Ready(Ok(*response
                .take()
                .expect("a future is not polled after it was ready"))),
        }
    }
}
