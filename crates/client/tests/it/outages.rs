//! Many subscribers behind a proxy that is not well, on a clock that moves only when nothing else does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use longlived_api::v1;
use longlived_client::{Client, Item, Notice};
use longlived_testkit::grpc::framed;
use prost::Message as _;
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_stream::StreamExt as _;

const CONNECTIONS: usize = 10;

/// The proxy's treatment of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    /// They live.
    Fair,
    /// They are ended, and new ones are answered with 502 at once.
    Down,
    /// They are cut so long after their Welcome.
    CutsAfter(Duration),
}

/// In place of a server: it runs in this process and speaks HTTP/2 over pipes.
#[derive(Clone)]
struct Proxy {
    weather: watch::Receiver<Weather>,
    tasks: Arc<parking_lot::Mutex<JoinSet<()>>>,
}

impl Proxy {
    fn new(weather: Weather) -> (watch::Sender<Weather>, Self) {
        let (sender, weather) = watch::channel(weather);
        let tasks = Arc::default();
        (sender, Self { weather, tasks })
    }

    fn client(&self, seed: u64) -> Client {
        let proxy = self.clone();
        let dial = move |_| std::future::ready(std::io::Result::Ok(proxy.dialled()));
        let client = Client::builder("http://127.0.0.1:1").connector(dial);
        client.connections(CONNECTIONS).seed(seed).build().unwrap()
    }

    fn dialled(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(64 << 10);
        let weather = self.weather.clone();
        self.tasks.lock().spawn(serve(far, weather));
        near
    }
}

async fn serve(socket: DuplexStream, weather: watch::Receiver<Weather>) {
    let Ok(mut connection) = h2::server::handshake(socket).await else {
        return;
    };
    let mut streams = JoinSet::new();
    while let Some(Ok((_request, respond))) = connection.accept().await {
        streams.spawn(answer(respond, weather.clone()));
    }
}

async fn answer(
    mut respond: h2::server::SendResponse<Bytes>,
    mut weather: watch::Receiver<Weather>,
) {
    let now = *weather.borrow_and_update();
    if now == Weather::Down {
        let head = Response::builder().status(502).body(()).unwrap();
        let _ = respond.send_response(head, true);
        return;
    }
    let head = Response::builder().header("content-type", "application/grpc");
    let Ok(mut stream) = respond.send_response(head.body(()).unwrap(), false) else {
        return;
    };
    let _ = stream.send_data(welcome(), false);
    if let Weather::CutsAfter(life) = now {
        sleep(life).await;
    } else {
        let _ = weather.wait_for(|weather| *weather == Weather::Down).await;
    }
    stream.send_reset(h2::Reason::INTERNAL_ERROR);
}

fn welcome() -> Bytes {
    let welcome = v1::Welcome {
        outcome: v1::welcome::Outcome::New.into(),
        position: Some(v1::Position {
            epoch: 1,
            sequence: 0,
        }),
        ..v1::Welcome::default()
    };
    let frame = Some(v1::subscribe_response::Frame::Welcome(welcome));
    framed(&v1::SubscribeResponse { frame }.encode_to_vec())
}

/// The notices of one subscriber: how often it lost a stream or failed to open one, and when it was connected last.
#[derive(Debug)]
struct Seen {
    losses: usize,
    streams: usize,
    connected: Instant,
}

/// Reads a subscriber until `until`.
async fn follow(client: Client, number: usize, until: Instant) -> Seen {
    let id = format!("s-{number}");
    let mut subscriber = client.subscriber(id).filter("t").build().unwrap();
    let mut seen = Seen {
        losses: 0,
        streams: 0,
        connected: Instant::now(),
    };
    while let Ok(item) = tokio::time::timeout_at(until, subscriber.next()).await {
        match item.expect("no end").expect("no error") {
            Item::Notice(Notice::Connected { .. }) => {
                seen.streams += 1;
                seen.connected = Instant::now();
            }
            Item::Notice(Notice::Disconnected { .. }) => seen.losses += 1,
            _ => {}
        }
    }
    seen
}

/// Far above the mean that the logarithm gives, and then one in each half of a minute.
fn tries_max(away: Duration) -> usize {
    let seconds = away.as_secs() as u32;
    let doublings = u32::BITS - seconds.min(120).leading_zeros();
    (16 + 9 * doublings + seconds / 30) as usize
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_is_answered_502_at_once_is_back_within_twice_the_outage_or_two_seconds_after_it()
 {
    const SUBSCRIBERS: usize = 500;
    for (seed, millis) in [(1, 200), (2, 3_000), (3, 3_000), (4, 20_000)] {
        let lasts = Duration::from_millis(millis);
        let (weather, proxy) = Proxy::new(Weather::Fair);
        let client = proxy.client(seed);
        let until = Instant::now() + Duration::from_secs(300);
        let mut all = JoinSet::new();
        for number in 0..SUBSCRIBERS {
            all.spawn(follow(client.clone(), number, until));
        }
        // Long enough for a stream to be a good one.
        sleep(Duration::from_secs(15)).await;
        let lost = Instant::now();
        weather.send_replace(Weather::Down);
        sleep(lasts).await;
        weather.send_replace(Weather::Fair);
        let latest = (2 * lasts).max(lasts + Duration::from_secs(2));
        for seen in all.join_all().await {
            let back = seen.connected - lost;
            assert_eq!(seen.streams, 2, "{seen:?}");
            assert!(
                back <= latest,
                "back {back:?} after the loss, which lasted {lasts:?}"
            );
            assert!(seen.losses <= tries_max(lasts), "{seen:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_cut_just_after_their_welcome_are_opened_ever_more_seldom() {
    const SUBSCRIBERS: usize = 50;
    let lasts = Duration::from_secs(3_600);
    for (seed, millis) in [(1, 0), (2, 700)] {
        let (_weather, proxy) = Proxy::new(Weather::CutsAfter(Duration::from_millis(millis)));
        let client = proxy.client(seed);
        let until = Instant::now() + lasts;
        let mut all = JoinSet::new();
        for number in 0..SUBSCRIBERS {
            all.spawn(follow(client.clone(), number, until));
        }
        for seen in all.join_all().await {
            let most = tries_max(lasts);
            assert!(
                seen.losses <= most,
                "{} losses in an hour, at most {most}",
                seen.losses
            );
        }
    }
}
