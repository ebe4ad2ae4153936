//! The status of a call, which `h2` writes in its own way.

use http::Response;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::server::trailers;
use crate::http2::reader::{Reader, Sink, StreamEnd};
use crate::http2::request::{self, Windows};

#[test]
fn every_status_is_recognised_as_h2_writes_it() {
    // The codes are those of gRPC; `h2` writes name and value Huffman-coded.
    for status in 0..=16_u8 {
        let text: &'static str = Box::leak(status.to_string().into_boxed_str());
        assert_eq!(status_over_h2(text), Some(status));
    }
}

fn status_over_h2(status: &'static str) -> Option<u8> {
    struct Ends(Option<StreamEnd>);
    impl Sink for Ends {
        fn message(&mut self, _: u32, _: u32, _: &[u8]) {}
        fn stream_ended(&mut self, _: u32, end: StreamEnd) {
            self.0 = Some(end);
        }
        fn setting(&mut self, _: u16, _: u32) {}
        fn window_update(&mut self, _: Option<u32>, _: u32) {}
        fn going_away(&mut self, _: u32) {}
    }

    let windows = Windows {
        stream_bytes: 65_535,
        connection_bytes: 65_535,
    };
    let (client, server) = tokio::io::duplex(64 * 1024);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (mut from_server, mut to_server) = tokio::io::split(client);
        let mut out = Vec::new();
        request::open_connection(&mut out, windows);
        request::call_headers(&mut out, 1, "127.0.0.1:1", "/a/b");
        to_server.write_all(&out).await.unwrap();
        let answer = async {
            let mut connection = h2::server::handshake(server).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_trailers(trailers(status)).unwrap();
            std::future::poll_fn(|context| connection.poll_closed(context))
                .await
                .ok();
        };
        let read = async {
            let mut reader = Reader::new(1, windows);
            let (mut ends, mut reply) = (Ends(None), Vec::new());
            let mut chunk = [0; 1024];
            while ends.0.is_none() {
                let length = from_server.read(&mut chunk).await.unwrap();
                reader
                    .read(&chunk[..length], &mut ends, &mut reply)
                    .unwrap();
                to_server.write_all(&reply).await.unwrap();
                reply.clear();
            }
            ends.0
        };
        tokio::select! {
            () = answer => None,
            end = read => match end? {
                StreamEnd::Finished { grpc_status } => grpc_status,
                StreamEnd::Reset { .. } => None,
            },
        }
    })
}
