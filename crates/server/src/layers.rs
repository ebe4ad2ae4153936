//! The layers that every call of both contracts passes before it reaches its method.
//!
//! From the outside in: the request id, the log line, the check that it is gRPC at all, the refusal while
//! draining, the deadline, the caller. The log stands outside the layers that can refuse, so that a refused call has its line too.

mod answer;
mod authenticate;
mod call_log;
mod call_record;
mod deadline;
mod grpc_only;
mod refuse;
mod request_id;
mod sums;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower::Layer;

pub(crate) use authenticate::{AuthenticateLayer, AuthenticateService};
pub(crate) use call_log::{CallLogLayer, CallLogService};
pub use call_record::CallRecord;
#[cfg(test)]
pub(crate) use call_record::OfNode;
pub(crate) use deadline::{Deadline, DeadlineLayer, DeadlineService};
pub(crate) use grpc_only::{GrpcOnlyLayer, GrpcOnlyService};
pub(crate) use refuse::{Pushback, RefuseLayer, RefuseService};
pub(crate) use sums::{Kind, Sums};

pub(crate) use request_id::{IdSource, RequestIdLayer, RequestIdService};

use crate::callers::Callers;
use crate::lifecycle::Drain;

/// A service within all layers.
pub(crate) type Layered<S> = RequestIdService<
    CallLogService<GrpcOnlyService<RefuseService<DeadlineService<AuthenticateService<S>>>>>,
>;

/// All layers in their order.
#[derive(Clone)]
pub struct Layers {
    ids: IdSource,
    drain: Drain,
    pushback: Pushback,
    callers: Arc<Callers>,
    sums: Sums,
}

impl Layers {
    /// `ids` makes request ids for calls that bring none; `pushback` says how long a refused caller shall wait,
    /// spread so that not all come back together.
    pub fn new(
        ids: impl Fn() -> u64 + Send + Sync + 'static,
        drain: Drain,
        pushback: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Self {
        Self {
            ids: Arc::new(ids),
            drain,
            pushback: Arc::new(pushback),
            callers: Callers::unchecked(),
            sums: Sums::default(),
        }
    }

    /// Calls have these callers.
    pub(crate) fn with_callers(mut self, callers: Arc<Callers>) -> Self {
        self.callers = callers;
        self
    }

    /// Calls that have no line of their own are counted there.
    pub(crate) fn with_sums(mut self, sums: Sums) -> Self {
        self.sums = sums;
        self
    }
}

impl<S> Layer<S> for Layers {
    type Service = Layered<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let inner = AuthenticateLayer::new(Arc::clone(&self.callers)).layer(inner);
        let inner = DeadlineLayer.layer(inner);
        let inner = RefuseLayer::new(self.drain.clone(), Arc::clone(&self.pushback)).layer(inner);
        let inner = GrpcOnlyLayer.layer(inner);
        let inner = CallLogLayer::new(self.drain.clone(), self.sums.clone()).layer(inner);
        RequestIdLayer::new(Arc::clone(&self.ids)).layer(inner)
    }
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layers")
            .field("drain", &self.drain)
            .finish_non_exhaustive()
    }
}
