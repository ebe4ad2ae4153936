//! An answer that is lost on its way: the publisher sends its message again, and it is stored once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use longlived_client::{BackoffOptions, Client, Item, Message, Subscriber};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::support::{PATIENCE, Server, spawn, within};
use super::tape::Tape;

const TOPIC: &str = "orders.eu";
/// In one stream, of which the first answers come and the others do not.
const MANY: usize = 60;

/// A TCP proxy in front of the server. Its connections end with it.
struct Proxy {
    address: SocketAddr,
    /// Of the connections that are made now.
    way: Arc<Mutex<Way>>,
    task: JoinHandle<()>,
}

/// The fault of some connections.
#[derive(Clone, Default)]
struct Way {
    /// The publisher's requests arrive, the server's answers do not.
    answers_lost: CancellationToken,
    cut: CancellationToken,
}

impl Proxy {
    async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let way = Arc::new(Mutex::new(Way::default()));
        let now = way.clone();
        let task = spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let way = now.lock().clone();
                connections.spawn(relay(socket, server, way));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, way, task }
    }

    fn lose_answers(&self) {
        self.way.lock().answers_lost.cancel();
    }

    /// Cuts every connection; those that are made later are whole.
    fn cut(&self) {
        let way = std::mem::take(&mut *self.way.lock());
        way.cut.cancel();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(client: TcpStream, server: SocketAddr, way: Way) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async move { tokio::io::copy(&mut from_client, &mut to_server).await.ok() };
    let down = async move {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            if way.answers_lost.is_cancelled() {
                continue;
            }
            if to_client.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        _ = up => {}
        () = down => {}
        () = way.cut.cancelled() => {}
    }
}

fn client(address: SocketAddr, tape: &Tape) -> Client {
    let backoff = BackoffOptions {
        initial: Duration::from_millis(50),
        max: Duration::from_millis(200),
        ..BackoffOptions::default()
    };
    let client = Client::builder(format!("http://{address}")).backoff(backoff);
    client.recording(tape.recording()).build().unwrap()
}

/// Reads `count` further events; their payloads.
async fn events(subscriber: &mut Subscriber, count: usize) -> Vec<String> {
    let mut payloads = Vec::new();
    while payloads.len() < count {
        let item = within("an event", subscriber.next()).await;
        match item.expect("it goes on").expect("it is let in") {
            Item::Event(event) => {
                payloads.push(String::from_utf8(event.payload.to_vec()).unwrap());
            }
            Item::Gap(gap) => panic!("{gap}"),
            _ => {}
        }
    }
    payloads
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_answer_was_lost_is_stored_once_across_a_kill_too() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", folder.path().to_str().unwrap()];
    let mut server = Server::start(&flags).await;
    let proxy = Proxy::start(server.address).await;
    let tape = Tape::new();
    let publisher = client(proxy.address, &tape).publisher().timeout(PATIENCE);
    let direct = client(server.address, &tape);
    let mut subscriber = direct.subscriber("direct").filter(TOPIC).build().unwrap();
    let warm_up = Message::new(TOPIC, "first").message_id("first");
    // The subscriber begins after all events that are stored before its Welcome.
    let first = within("the Welcome", subscriber.next()).await;
    assert!(matches!(first, Some(Ok(Item::Notice(_)))), "{first:?}");
    publisher.publish(warm_up).await.expect("it is stored");
    assert_eq!(events(&mut subscriber, 1).await, ["first"]);

    for (name, kill) in [
        ("one", false),
        ("two", true),
        ("three", false),
        ("four", true),
    ] {
        proxy.lose_answers();
        let sender = publisher.clone();
        let sent = spawn(async move {
            sender
                .publish(Message::new(TOPIC, name).message_id(name))
                .await
        });
        // It was applied if a subscriber has it.
        assert_eq!(events(&mut subscriber, 1).await, [name]);
        let at = subscriber.position().expect("an event came");
        assert!(!sent.is_finished(), "its answer was not to come");
        tape.fault("reply_lost");
        proxy.cut();
        if kill {
            tape.fault("sigkill");
            server.kill().await;
            server = Server::start_on(server.address, &flags).await;
        }
        let answer = within("the answer", sent).await.expect("no panic");
        let answer = answer.expect("it is stored");
        assert!(answer.duplicate, "{name}");
        assert_eq!(answer.position, at, "{name}");
    }

    // Many in one stream, the second half of them unanswered when it is cut.
    let (may, gate) = watch::channel(MANY / 2);
    let messages =
        (0..MANY).map(|n| Message::new(TOPIC, format!("m{n}")).message_id(format!("m{n}")));
    let messages = stream::iter(messages.enumerate()).then(move |(n, message)| {
        let mut gate = gate.clone();
        async move {
            gate.wait_for(|may| n < *may).await.ok();
            message
        }
    });
    let mut answers = publisher.publish_stream(messages, MANY);
    for _ in 0..MANY / 2 {
        let answer = within("an answer", answers.next()).await;
        answer.expect("there are more").expect("it is stored");
    }
    proxy.lose_answers();
    may.send(MANY).expect("they are waited for");
    let rest = spawn(async move { answers.collect::<Vec<_>>().await });
    let stored = events(&mut subscriber, MANY).await;
    assert!(!rest.is_finished(), "their answers were not to come");
    tape.fault("reply_lost");
    proxy.cut();
    tape.fault("sigkill");
    server.kill().await;
    let _server = Server::start_on(server.address, &flags).await;
    let rest = within("the answers", rest).await.expect("no panic");
    assert_eq!(rest.len(), MANY / 2);
    for answer in rest {
        assert!(answer.expect("it is stored").duplicate);
    }
    tape.faults_over();

    let everything = ["first", "one", "two", "three", "four"].map(str::to_owned);
    let everything = [everything.to_vec(), stored].concat();
    let mut reader = direct
        .subscriber("reader")
        .filter(TOPIC)
        .earliest()
        .build()
        .unwrap();
    assert_eq!(events(&mut reader, everything.len()).await, everything);
    // The next is the one after them: nothing was stored twice.
    publisher
        .publish(Message::new(TOPIC, "last"))
        .await
        .expect("it is stored");
    assert_eq!(events(&mut reader, 1).await, ["last"]);
    assert_eq!(events(&mut subscriber, 1).await, ["last"]);
    let summary = tape.lawful("server_lost_reply").summary;
    assert_eq!((summary.epochs, summary.unknown), (1, 0));
    assert_eq!(summary.duplicates, 4 + MANY as u64 / 2);
    assert!(summary.gaps.is_empty(), "{:?}", summary.gaps);
}
