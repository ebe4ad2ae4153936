//! What connections and streams cost in heap, counted around the allocator. A program of its own: the count is that of the whole
//! process.
//!
//! The peers are plain sockets, which keep no memory here.

use std::alloc::System;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use cap::Cap;
use longlived_server::{Config, Environment, Server};
use longlived_testkit::frames::{DATA, FRAME_HEADER_BYTES, frame, grpc_call, hello, window_update};
use longlived_testkit::grpc::framed;
use longlived_testkit::requests::request;
use longlived_testkit::wait::until_so;
use prost::Message as _;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";

/// Connections that are counted, each with one stream.
const CONNECTIONS: usize = 256;
/// Connections that are counted, each with many streams.
const WIDE_CONNECTIONS: usize = 20;
const STREAMS: usize = 100;

/// The budget of a connection with one live subscription, in bytes: the task 1,280, what the runtime knows of the socket 256, the timer
/// 128, the stream and its group 1,400, the wake-ups 200.
const CONNECTION_BYTES: usize = 3_360;
/// The budget of one more stream of a connection.
const STREAM_BYTES: usize = 1_040;

/// Connections of peers that only subscribe.
struct Peers {
    address: SocketAddr,
    sockets: Vec<TcpStream>,
    subscribers: usize,
}

impl Peers {
    /// Opens connections with this number of live subscriptions each. They stand when each subscription has said its first word.
    fn open(&mut self, connections: usize, streams: usize) {
        for _ in 0..connections {
            let mut socket = TcpStream::connect(self.address).expect("it listens");
            let patience = Some(Duration::from_secs(120));
            socket.set_read_timeout(patience).expect("a socket");
            let mut bytes = hello(65_535);
            bytes.extend(window_update(0, 1 << 20));
            for stream in 0..streams as u32 {
                let id = format!("subscriber-{}", self.subscribers);
                self.subscribers += 1;
                let message = request(&id, &["news"]).encode_to_vec();
                bytes.extend(grpc_call(2 * stream + 1, SUBSCRIBE));
                bytes.extend(frame(DATA, 1, 2 * stream + 1, &framed(&message)));
            }
            socket.write_all(&bytes).expect("it is read");
            for _ in 0..streams {
                skip_to_data(&mut socket).expect("each says Welcome");
            }
            self.sockets.push(socket);
        }
    }
}

/// Reads frames to the end of the next DATA.
fn skip_to_data(mut socket: impl io::Read) -> io::Result<()> {
    let mut head = [0; FRAME_HEADER_BYTES];
    loop {
        socket.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        io::copy(&mut (&mut socket).take(length.into()), &mut io::sink())?;
        if head[3] == DATA {
            return Ok(());
        }
    }
}

/// What `opened` adds to the heap, once it has come to rest: it falls to the budget or the test fails.
async fn costs_at_most(budget: usize, what: &str, peers: &mut Peers, open: impl Fn(&mut Peers)) {
    // Tables that grow by doubling have grown.
    open(peers);
    let before = HEAP.allocated();
    open(peers);
    until_so(what, || HEAP.allocated() <= before + budget).await;
}

#[test]
fn connections_and_streams_stay_within_their_budgets() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let config = Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..Config::default()
    };
    runtime.block_on(async {
        let server = Server::bind(config, Environment::system())
            .await
            .expect("a free port");
        let mut peers = Peers {
            address: server.local_addr(),
            sockets: Vec::with_capacity(2 * (CONNECTIONS + WIDE_CONNECTIONS)),
            subscribers: 0,
        };
        let running = longlived_testkit::wait::spawn(server.run(std::future::pending()));
        let one = CONNECTIONS * CONNECTION_BYTES;
        costs_at_most(one, "a connection costs its budget", &mut peers, |peers| {
            peers.open(CONNECTIONS, 1);
        })
        .await;
        let wide = WIDE_CONNECTIONS * (CONNECTION_BYTES + STREAMS * STREAM_BYTES);
        costs_at_most(wide, "a stream costs its budget", &mut peers, |peers| {
            peers.open(WIDE_CONNECTIONS, STREAMS);
        })
        .await;
        running.abort();
    });
}
