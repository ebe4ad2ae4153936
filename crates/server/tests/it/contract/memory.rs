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
fn subscribers(address: SocketAddr, ids: &[String], token: Option<&str>) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = hello(65_535);
    bytes.extend(window_update(0, 1 << 20));
    for (number, id) in (0u32..).zip(ids) {
        let message = request(id, &["news"]).encode_to_vec();
        let mut head = Block::grpc(SUBSCRIBE);
        if let Some(token) = token {
            head = head.field("authorization", format!("Bearer {token}"));
        }
        bytes.extend(head.headers(2 * number + 1, 0));
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
    added_by(connections, streams, None)
}

/// The same of callers with this token, on a node with these rules.
fn added_by(connections: usize, streams: usize, checked: Option<(&str, &'static str)>) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let node = runtime.block_on(async {
        match checked {
            Some((rules, _)) => Node::start_checked(rules).await,
            None => Node::start(),
        }
    });
    let token = checked.map(|(_, token)| token);
    let mut kept = Vec::new();
    let mut open = |round: usize| {
        let address = node.address;
        let (opened, sockets) = tokio::sync::oneshot::channel();
        let peers = std::thread::spawn(move || {
            let sockets = (0..connections).map(|connection| {
                let id = |stream| format!("{round}-{connection}-{stream}");
                subscribers(address, &(0..streams).map(id).collect::<Vec<_>>(), token)
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

#[test]
fn a_stream_of_a_caller_whose_credential_ends_takes_hardly_more() {
    const TOKEN: &str = "llt_bench_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let rules = |expires: &str| {
        format!(
            "[tokens.bench]\nsha256 = \"573ff0c8cec0bff8f65043cf67eff4a675c5d9362e3597f7665be9f39419338c\"\n{expires}\n\
             subscribe = {{ allow = [\"news\"] }}\n"
        )
    };
    let without = added(20, 100);
    for (expires, percent_max) in [("", 3), ("expires = 2100-01-01T00:00:00Z", 3)] {
        let with = added_by(20, 100, Some((&rules(expires), TOKEN)));
        let percent = 100.0 * (with - without) as f64 / without as f64;
        println!(
            "{percent:.1} % more with {expires:?}: {} bytes a stream",
            (with - without) / 2_000
        );
        assert!(
            percent <= f64::from(percent_max),
            "{percent:.1} % {expires}"
        );
    }
}
