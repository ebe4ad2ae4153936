//! How a connection is made when it is not by TCP: to a Unix socket, through a proxy, a pipe, or a simulated network.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tower::Service;

/// Bytes in order, both ways.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

type Dialled = io::Result<Box<dyn Socket>>;

/// Dials with the application's own function. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connector {
    dial: Arc<dyn Fn(Uri) -> BoxFuture<'static, Dialled> + Send + Sync>,
}

impl Connector {
    /// Dials the Unix socket of that path.
    pub(crate) fn unix(path: PathBuf) -> Self {
        Self::new(move |_| UnixStream::connect(path.clone()))
    }

    pub(crate) fn new<F, Fut, S>(dial: F) -> Self
    where
        F: Fn(Uri) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let boxed = |socket| Box::new(socket) as Box<dyn Socket>;
        Self {
            dial: Arc::new(move |uri| dial(uri).map(move |dialled| dialled.map(boxed)).boxed()),
        }
    }
}

/// The time a dial may take is the transport's to watch.
impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Socket>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialled = (self.dial)(uri);
        async move { Ok(TokioIo::new(dialled.await?)) }.boxed()
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}
