//! The kind of service that answers the calls of a connection.

use std::convert::Infallible;

use http::{Request, Response};
use tower::Service;

use super::ResponseBody;

/// A service for a connection: each call has a clone of it, and each ends with a response.
pub trait ConnectionService<B: ResponseBody>:
    Clone
    + Service<Request<tonic::body::Body>, Response = Response<B>, Error = Infallible, Future: Unpin>
{
}

impl<S, B> ConnectionService<B> for S
where
    S: Clone + Service<Request<tonic::body::Body>, Response = Response<B>, Error = Infallible>,
    S::Future: Unpin,
    B: ResponseBody,
{
}
