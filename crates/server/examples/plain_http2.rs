//! A server of plain HTTP/2 over the node's transport, which answers every request with a short body: what h2spec needs to try all of
//! its tests (`.ci/h2spec`, docs/TESTING.md).
//!
//! The answer waits for the end of the request, as that of a web server does: h2spec sends the second frame of a request after the first.

use std::convert::Infallible;
use std::net::SocketAddr;

use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use longlived_server::testkit::acceptor::{
    AcceptContext, AcceptorSettings, ConnectionCounts, accept,
};
use longlived_server::testkit::{Drain, Tasks, bind};
use tokio::net::TcpListener;
use tower::service_fn;

/// Bytes of each answer: enough for h2spec to see windows of a few bytes used up.
const ANSWER: &[u8] = b"HTTP/2 of longlived: see https://www.rfc-editor.org/rfc/rfc9113\n";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = "127.0.0.1:0".parse()?;
    let listener = TcpListener::from_std(bind(address)?)?;
    let address = listener.local_addr()?;
    let service = service_fn(|request: Request<tonic::body::Body>| {
        Box::pin(async move {
            // A request that fails has no answer that anybody reads.
            let _ = request.into_body().collect().await;
            let body =
                tonic::body::Body::new(Full::new(ANSWER.into()).map_err(|never| match never {}));
            let mut response = Response::new(body);
            let kind = header::HeaderValue::from_static("text/plain");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            Ok::<_, Infallible>(response)
        })
    });
    let drain = Drain::new();
    let shared = AcceptContext::new(
        service,
        AcceptorSettings::default(),
        ConnectionCounts::default(),
        drain,
        Tasks::new(),
    );
    println!("listening on {address}");
    accept(listener, address.into(), shared).await;
    Ok(())
}
