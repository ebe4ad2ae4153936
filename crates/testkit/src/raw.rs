//! An HTTP/2 client that does nothing by itself: the test decides on windows, requests and how much of an answer is
//! read.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use longlived_api::v1::{self, subscribe_response::Frame};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::grpc;
use crate::wait::{spawn, within};

/// The windows of a client, and its socket's receive buffer.
#[derive(Clone, Copy)]
pub struct Windows {
    /// Of each stream.
    pub stream_window: u32,
    /// Of all streams together.
    pub connection_window: u32,
    /// The receive buffer of the socket. Without it the kernel decides.
    pub socket_bytes: Option<u32>,
}

impl Default for Windows {
    /// Wide open for the connection, so that one stream alone can be stalled.
    fn default() -> Self {
        Self {
            stream_window: 64 << 10,
            connection_window: 16 << 20,
            socket_bytes: None,
        }
    }
}

/// A connection whose frames are read and written by a task of its own.
pub struct Client {
    requests: SendRequest<Bytes>,
    driver: JoinHandle<()>,
    frozen: watch::Sender<bool>,
}

impl Client {
    /// With a wide connection, so that one stream alone can be stalled.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, Windows::default()).await
    }

    /// With windows and a socket of these sizes.
    pub async fn connect_with(address: SocketAddr, windows: Windows) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(bytes) = windows.socket_bytes {
            let set = socket.set_recv_buffer_size(bytes);
            set.expect("a size that the kernel accepts");
        }
        let socket = socket.connect(address).await.expect("it listens");
        Self::over(socket, windows).await
    }

    /// Over a socket of the test's own.
    pub async fn over<T>(socket: T, windows: Windows) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_connection_window_size(windows.connection_window)
            .initial_window_size(windows.stream_window);
        let handshake = builder.handshake(socket);
        let (requests, connection) = handshake.await.expect("it speaks HTTP/2");
        let (frozen, mut asleep) = watch::channel(false);
        let driver = spawn(async move {
            let mut connection = std::pin::pin!(connection);
            loop {
                let thawed = asleep.wait_for(|asleep| !asleep).await;
                // A test that froze the client and dropped it wants it to stay frozen.
                if thawed.map(drop).is_err() {
                    std::future::pending::<()>().await;
                }
                tokio::select! {
                    biased;
                    Ok(()) = asleep.changed() => {}
                    _ = connection.as_mut() => return,
                }
            }
        });
        Self {
            requests,
            driver,
            frozen,
        }
    }

    /// From now on nothing is read from the socket, or written to it; it stays open.
    pub fn freeze(&self) {
        self.frozen.send_replace(true);
    }

    /// It is read and written again.
    pub fn thaw(&self) {
        self.frozen.send_replace(false);
    }

    /// Closes the socket without a word.
    pub fn vanish(self) {
        self.driver.abort();
    }

    /// Sends the request's headers; its body and the answer are the caller's matter.
    pub async fn begin(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut request = Request::post(format!("http://test{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut ready = self
            .requests
            .clone()
            .ready()
            .await
            .expect("the connection stands");
        let request = request.body(()).expect("a request");
        ready
            .send_request(request, false)
            .expect("the connection stands")
    }

    /// A request with another method or content type, without a body.
    pub async fn begin_with(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://test{path}"))
            .header("content-type", content_type)
            .body(())
            .expect("a request");
        let ready = self.requests.clone().ready().await;
        let mut ready = ready.expect("the connection stands");
        ready
            .send_request(request, true)
            .expect("the connection stands")
    }

    /// A request of any kind; the body ends it. How the connection or the stream ended, if there is no answer.
    pub async fn send(
        &mut self,
        request: Request<()>,
        body: Option<Bytes>,
    ) -> Result<Reply, h2::Error> {
        let mut ready = self.requests.clone().ready().await?;
        let (response, mut stream) = ready.send_request(request, body.is_none())?;
        if let Some(body) = body {
            stream.send_data(body, true)?;
        }
        let response = within("response headers", response).await?;
        let mut reply = Reply::read(response);
        reply.stream = Some(stream);
        Ok(reply)
    }

    /// A call without a message.
    pub async fn ask(&mut self, path: &str) -> Reply {
        let answer = self.send(request(path), None).await;
        answer.expect("there is a response")
    }

    /// A whole call: one request message, and the answer's headers.
    pub async fn call(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let (response, mut stream) = self.begin(path, headers).await;
        stream
            .send_data(body.into(), true)
            .expect("the stream stands");
        Reply::of(response).await
    }
}

/// One answer, read as the test asks for it.
pub struct Reply {
    /// Those that came first.
    pub headers: HeaderMap,
    /// 200 of every gRPC server.
    pub http_status: u16,
    /// The headers ended the stream.
    pub headers_only: bool,
    body: RecvStream,
    read: BytesMut,
    // Bytes in `read` whose capacity was not released.
    held: usize,
    stream: Option<SendStream<Bytes>>,
    connection: Option<Client>,
}

impl Reply {
    /// Waits for the headers.
    pub async fn of(response: ResponseFuture) -> Self {
        let response = within("response headers", response).await;
        Self::read(response.expect("an answer"))
    }

    fn read(response: Response<RecvStream>) -> Self {
        let headers_only = response.body().is_end_stream();
        let (head, body) = response.into_parts();
        Self {
            headers: head.headers,
            http_status: head.status.as_u16(),
            headers_only,
            body,
            read: BytesMut::new(),
            held: 0,
            stream: None,
            connection: None,
        }
    }

    /// Resets the stream of a request that [`Client::send`] has sent.
    pub fn cancel(&mut self) {
        let stream = self.stream.as_mut().expect("it was sent whole");
        stream.send_reset(Reason::CANCEL);
    }

    /// The connection lives as long as this reply.
    pub fn keep(&mut self, connection: Client) {
        self.connection = Some(connection);
    }

    /// The connection that was kept.
    pub fn connection(&mut self) -> &mut Client {
        self.connection.as_mut().expect("it was kept")
    }

    /// Closes the connection that was kept without a word.
    pub fn vanish(&mut self) {
        self.connection.take().expect("it was kept").vanish();
    }

    /// A header of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    /// Exactly this number of bytes of DATA.
    pub async fn bytes(&mut self, count: usize) -> Bytes {
        let held = std::mem::take(&mut self.held);
        self.body
            .flow_control()
            .release_capacity(held)
            .expect("it was received");
        while self.read.len() < count {
            let chunk = within("DATA", self.body.data())
                .await
                .expect("the stream goes on");
            let chunk = chunk.expect("no error");
            self.body
                .flow_control()
                .release_capacity(chunk.len())
                .expect("it was received");
            self.read.extend_from_slice(&chunk);
        }
        self.read.split_to(count).freeze()
    }

    /// Takes DATA without releasing its capacity, until this number of bytes of the stream is held.
    pub async fn hold(&mut self, bytes: usize) {
        while self.held < bytes {
            let chunk = within("DATA", self.body.data()).await;
            let chunk = chunk.expect("the stream goes on").expect("no error");
            self.read.extend_from_slice(&chunk);
            self.held += chunk.len();
        }
    }

    /// The next DATA, whose capacity is released; `None` at the end.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let chunk = within("DATA or the end", self.body.data()).await?;
        if let Ok(bytes) = &chunk {
            let credited = self.body.flow_control().release_capacity(bytes.len());
            credited.expect("it was received");
        }
        Some(chunk)
    }

    /// All data, and the status that follows it.
    pub async fn all(&mut self) -> (Vec<u8>, Option<String>) {
        let (data, trailers) = self.rest().await;
        (
            data.to_vec(),
            text(&trailers, "grpc-status").map(str::to_owned),
        )
    }

    /// The reason of the reset that ends the stream, past data that was on its way.
    pub async fn reset_reason(&mut self) -> Option<Reason> {
        loop {
            match within("DATA or a reset", self.body.data()).await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error.reason(),
                None => return None,
            }
        }
    }

    /// Bytes of the stream whose capacity was not released.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Returns when the stream is reset. Earlier DATA is kept, and its capacity is not released.
    pub async fn reset(&mut self) {
        while let Some(Ok(chunk)) = self.body.data().await {
            self.read.extend_from_slice(&chunk);
            self.held += chunk.len();
        }
    }

    /// The rest of the data, and the trailers (the headers if those ended the stream).
    pub async fn rest(&mut self) -> (Bytes, HeaderMap) {
        while let Some(chunk) = within("DATA or the end", self.body.data()).await {
            let chunk = chunk.expect("no error before the end");
            self.body
                .flow_control()
                .release_capacity(chunk.len())
                .expect("it was received");
            self.read.extend_from_slice(&chunk);
        }
        let trailers = within("trailers", self.body.trailers())
            .await
            .expect("no error");
        let trailers = trailers.unwrap_or_else(|| self.headers.clone());
        (self.read.split().freeze(), trailers)
    }

    /// The next message's bytes without the prefix.
    pub async fn message(&mut self) -> Bytes {
        let prefix = self.bytes(grpc::PREFIX_BYTES).await;
        self.bytes(grpc::announced(&prefix)).await
    }

    /// The next response of a subscription.
    pub async fn frame(&mut self) -> Frame {
        let message = self.message().await;
        let response = v1::SubscribeResponse::decode(message).expect("a SubscribeResponse");
        response.frame.expect("every response says something")
    }
}

/// `POST` of gRPC to a path.
pub fn request(path: &str) -> Request<()> {
    Request::post(format!("http://test{path}"))
        .header("content-type", "application/grpc")
        .body(())
        .expect("a request")
}

/// A header as text.
pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
