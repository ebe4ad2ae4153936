//! The responses of a subscription, one by one; an unexpected one fails the test.

use longlived_api::v1::{self, subscribe_response::Frame};
use tonic::{Code, Status, Streaming};

use crate::statuses::told;
use crate::wait::within;

/// The responses of one `Subscribe` or `Session` call.
pub struct Stream {
    inner: Streaming<v1::SubscribeResponse>,
}

impl Stream {
    /// Of a call that was answered.
    pub fn new(inner: Streaming<v1::SubscribeResponse>) -> Self {
        Self { inner }
    }

    /// The next response, or how the stream ended.
    pub async fn next(&mut self) -> Result<Frame, Result<(), Status>> {
        match within("a response", self.inner.message()).await {
            Ok(Some(response)) => Ok(response.frame.expect("every response says something")),
            Ok(None) => Err(Ok(())),
            Err(status) => Err(Err(status)),
        }
    }

    /// The next response.
    pub async fn frame(&mut self) -> Frame {
        match self.next().await {
            Ok(frame) => frame,
            Err(end) => panic!("a response was expected; the stream ended: {end:?}"),
        }
    }

    /// The Welcome, which must come now.
    pub async fn welcome(&mut self) -> v1::Welcome {
        match self.frame().await {
            Frame::Welcome(welcome) => welcome,
            other => panic!("Welcome was expected, not {other:?}"),
        }
    }

    /// The event that must come now.
    pub async fn event(&mut self) -> v1::Event {
        match self.frame().await {
            Frame::Event(event) => event,
            other => panic!("an event was expected, not {other:?}"),
        }
    }

    /// The sequences of the next events, nothing else among them.
    pub async fn events(&mut self, count: usize) -> Vec<u64> {
        let mut sequences = Vec::with_capacity(count);
        for _ in 0..count {
            sequences.push(self.event().await.sequence);
        }
        sequences
    }

    /// The Gap that must come now.
    pub async fn gap(&mut self) -> v1::Gap {
        match self.frame().await {
            Frame::Gap(gap) => gap,
            other => panic!("a Gap was expected, not {other:?}"),
        }
    }

    /// The Progress that must come now.
    pub async fn progress(&mut self) -> v1::Progress {
        match self.frame().await {
            Frame::Progress(progress) => progress,
            other => panic!("Progress was expected, not {other:?}"),
        }
    }

    /// The GoAway that must come now.
    pub async fn go_away(&mut self) -> v1::GoAway {
        match self.frame().await {
            Frame::GoAway(go_away) => go_away,
            other => panic!("GoAway was expected, not {other:?}"),
        }
    }

    /// The GoAway that comes after nothing but events and Progress.
    pub async fn until_go_away(&mut self) -> v1::GoAway {
        loop {
            match self.frame().await {
                Frame::GoAway(go_away) => return go_away,
                Frame::Event(_) | Frame::Progress(_) => {}
                other => panic!("GoAway was expected, not {other:?}"),
            }
        }
    }

    /// The SubscriptionChange that must come now.
    pub async fn change(&mut self) -> v1::SubscriptionChange {
        match self.frame().await {
            Frame::SubscriptionChange(change) => change,
            other => panic!("a SubscriptionChange was expected, not {other:?}"),
        }
    }

    /// The end, which must come now.
    pub async fn end(&mut self) -> Result<(), Status> {
        match self.next().await {
            Err(end) => end,
            Ok(frame) => panic!("the end was expected, not {frame:?}"),
        }
    }

    /// The end with this code, which must come now; its status.
    pub async fn ends_with(&mut self, code: Code) -> Status {
        let status = self.end().await.expect_err("it does not end with OK");
        assert_eq!(status.code(), code, "{status:?}");
        told(status)
    }
}
