//! What connections and streams cost in heap. The node runs on the test's own thread, whose memory is counted; its peers are plain
//! sockets of another thread, whose memory is not.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use longlived_testkit::block::Block;
use longlived_testkit::frames::{DATA, FRAME_HEADER_BYTES, frame, hello, window_update};
use prost::Message as _;
use tokio::task::yield_now;

use super::support::{Node, PATIENCE, framed, request, within};

const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";

/// The budget of a connection with one live subscription, in bytes: the task 1,280, what the runtime knows of the socket 256, its timer
/// 112, the stream and its group 1,378, the wake-ups 250.
const CONNECTION_BYTES: i64 = 3_276;
/// The budget of one more stream of a connection.
const STREAM_BYTES: i64 = 970;

/// A connection with live subscriptions, each of which has said its first word.
fn subscribers(address: SocketAddr, ids: &[String]) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = hello(65_535);
    bytes.extend(window_update(0, 1 << 20));
    for (number, id) in (0u32..).zip(ids) {
        let message = request(id, &["news"]).encode_to_vec();
        bytes.extend(Block::grpc(SUBSCRIBE).headers(2 * number + 1, 0));
        bytes.extend(frame(DATA, 1, 2 * number + 1, &framed(&message)));
    }
    socket.write_all(&bytes)?;
    for _ in ids {
        skip_to_data(&mut socket)?;
    }
    Ok(socket)
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

/// The heap that connections with this number of streams each add to a node that has as many already: tables that grow have grown.
fn added(connections: usize, streams: usize) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let node = runtime.block_on(async { Node::start() });
    let mut kept = Vec::new();
    let mut open = |round: usize| {
        let address = node.address;
        let (opened, sockets) = tokio::sync::oneshot::channel();
        let peers = std::thread::spawn(move || {
            let sockets = (0..connections).map(|connection| {
                let id = |stream| format!("{round}-{connection}-{stream}");
                subscribers(address, &(0..streams).map(id).collect::<Vec<_>>())
            });
            let sockets = sockets.collect::<io::Result<Vec<_>>>();
            opened.send(sockets).expect("it is waited for");
        });
        runtime.block_on(async {
            let sockets = within("each says Welcome", sockets).await;
            let sockets = sockets.expect("the thread ends").expect("they are served");
            kept.push(sockets);
            // What the last of them still has to do.
            for _ in 0..1_000 {
                yield_now().await;
            }
        });
        peers.join().expect("it does not panic");
    };
    open(0);
    allocation_counter::measure(|| open(1)).bytes_current
}

#[test]
fn a_connection_with_one_subscription_stays_within_its_budget() {
    let added = added(256, 1) / 256;
    println!("{added} bytes a connection");
    assert!(added <= CONNECTION_BYTES, "{added} bytes");
}

#[test]
fn a_stream_among_many_stays_within_its_budget() {
    let added = (added(20, 100) / 20 - CONNECTION_BYTES) / 100;
    println!("{added} bytes a stream");
    assert!(added <= STREAM_BYTES, "{added} bytes");
}
