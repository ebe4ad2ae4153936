//! Answers requests that are not gRPC in plain HTTP, so that a browser or a probe sees its mistake.
//!
//! Holds: only `POST` with a gRPC content type goes on; else 405 or 415, without a body. Headers over their limit are answered here
//! too, in gRPC or in HTTP.

use std::task::{Context, Poll};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tower::{Layer, Service};

use super::answer::PassOrAnswer;
use crate::contract::{Contract, status};
use crate::transport::connection::HeadersTooLarge;

/// Wraps a service in `GrpcOnlyService`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GrpcOnlyLayer;

impl<S> Layer<S> for GrpcOnlyLayer {
    type Service = GrpcOnlyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GrpcOnlyService { inner }
    }
}

/// See the file's head.
#[derive(Clone, Debug)]
pub struct GrpcOnlyService<S> {
    inner: S,
}

impl<S, Q, B> Service<Request<Q>> for GrpcOnlyService<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: Default,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = PassOrAnswer<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        match refusal(&request) {
            None => PassOrAnswer::Pass {
                call: self.inner.call(request),
            },
            Some(response) => PassOrAnswer::answer(response),
        }
    }
}

fn refusal<Q, B: Default>(request: &Request<Q>) -> Option<Response<B>> {
    if let Some(too_large) = request.extensions().get() {
        return Some(headers_too_large(*too_large, request));
    }
    let mut response = Response::new(B::default());
    if request.method() != Method::POST {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("POST"));
    } else if !request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(is_grpc)
    {
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    } else {
        return None;
    }
    Some(response)
}

/// gRPC hears it in gRPC, and any other client in HTTP.
fn headers_too_large<Q, B: Default>(
    too_large: HeadersTooLarge,
    request: &Request<Q>,
) -> Response<B> {
    if request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(is_grpc)
    {
        let status = status::headers_too_large(too_large);
        return status::trailers_only(&status, Contract::of(request.uri().path()));
    }
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response
}

/// `application/grpc`, also with the format `+proto` or parameters; not `application/grpc-web`, nor a format that
/// would be taken for protobuf.
fn is_grpc(content_type: &HeaderValue) -> bool {
    let Some(rest) = content_type.as_bytes().strip_prefix(b"application/grpc") else {
        return false;
    };
    let rest = rest.strip_prefix(b"+proto").unwrap_or(rest);
    matches!(rest.trim_ascii_start().first(), None | Some(b';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(method: Method, content_type: Option<&'static str>) -> Option<u16> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        if let Some(value) = content_type {
            request
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
        }
        refusal::<(), ()>(&request).map(|response| response.status().as_u16())
    }

    #[test]
    fn grpc_in_every_spelling_goes_on() {
        for content_type in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc; charset=utf-8",
            "application/grpc+proto ;charset=utf-8",
        ] {
            assert_eq!(status_of(Method::POST, Some(content_type)), None);
        }
    }

    #[test]
    fn a_request_that_is_not_grpc_is_told_so_in_http() {
        assert_eq!(status_of(Method::GET, Some("application/grpc")), Some(405));
        assert_eq!(status_of(Method::POST, None), Some(415));
        assert_eq!(status_of(Method::POST, Some("application/json")), Some(415));
        for content_type in [
            "application/grpc-web",
            "application/grpc+json",
            "application/grpc+protobuf",
            "application/grpc proto",
        ] {
            assert_eq!(
                status_of(Method::POST, Some(content_type)),
                Some(415),
                "{content_type}"
            );
        }
    }
}
