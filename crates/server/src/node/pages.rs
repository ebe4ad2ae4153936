//! The memory of all pages together. A page is made whole, and stays until its reader has taken it. Without a budget a
//! reader that takes nothing would hold as many pages as it has streams.
//!
//! Holds: the pages of a node, those being made and those not yet taken, are at most the budget.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    contract::PagesExhausted,
    limits::{PAGE_BYTES_MAX, PAGE_OVERHEAD_BYTES_MAX, PAGE_WAIT},
};

/// The budget. One per node.
pub(crate) struct PageBudget {
    free: Arc<Semaphore>,
    bytes_max: usize,
}

impl PageBudget {
    /// A budget of `bytes_max`, but at least one page.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let one = (PAGE_BYTES_MAX + PAGE_OVERHEAD_BYTES_MAX) as usize;
        let bytes_max = bytes_max.clamp(one, Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(bytes_max)),
            bytes_max,
        }
    }

    /// Reserves the bytes of the largest page.
    pub(crate) async fn reserve(&self) -> Result<Reserved, PagesExhausted> {
        let bytes = PAGE_BYTES_MAX + PAGE_OVERHEAD_BYTES_MAX;
        let permit = timeout(PAGE_WAIT, self.free.clone().acquire_many_owned(bytes)).await;
        match permit {
            Ok(Ok(permit)) => Ok(Reserved(permit)),
            Ok(Err(_)) | Err(_) => Err(PagesExhausted(self.bytes_max)),
        }
    }
}

/// Bytes of the budget; dropping it releases them.
pub(crate) struct Reserved(OwnedSemaphorePermit);

impl Reserved {
    /// Keeps `bytes` of the budget for as long as the body lives, and gives back the rest.
    pub(crate) fn held<B>(mut self, bytes: usize, body: B) -> Held<B> {
        let kept = self.0.split(bytes.min(self.0.num_permits()));
        Held {
            body,
            _reserved: kept.unwrap_or(self.0),
        }
    }
}

/// A body that holds its bytes of the budget.
pub(crate) struct Held<B> {
    body: B,
    _reserved: OwnedSemaphorePermit,
}

impl<B: Body<Data = Bytes, Error = Infallible> + Unpin> Body for Held<B> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
