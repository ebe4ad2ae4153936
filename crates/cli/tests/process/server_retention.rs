//! Retention that runs all the time against subscribers that pause: a subscriber that comes back gets its events, or a
//! Gap that names exactly the removed ones.

use std::time::Duration;

use futures_util::future::join_all;
use longlived_checker::history::GapReason as Recorded;
use longlived_client::{
    BackoffOptions, Client, Event, Gap, GapReason, Item, Message, Notice, Outcome, Position,
    PositionCheck, Subscriber, TopicsQuery,
};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::support::{Server, spawn, until, within};
use super::tape::Tape;

const SUBSCRIBERS: usize = 500;
const TOPICS: usize = 5;
/// The events that retention keeps.
const KEPT: u64 = 100;
/// The messages published while all subscribers pause: more than are kept.
const PUBLISHED: u64 = 160;
const CYCLES: usize = 4;
const EVERYTHING: &str = "news.>";

fn topic(number: u64) -> String {
    format!("news.t{}", number % TOPICS as u64)
}

/// Where a subscriber resumes. `Own`: where it was when it paused. At the other places the subscriber is new: a
/// position that a subscriber has not reached is known from another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Own,
    Floor,
    BelowFloor,
    Head,
    AboveHead,
}

impl Place {
    const ALL: [Self; 5] = [
        Self::Own,
        Self::Floor,
        Self::BelowFloor,
        Self::Head,
        Self::AboveHead,
    ];

    fn of(subscriber: usize) -> Self {
        Self::ALL[subscriber % Self::ALL.len()]
    }

    fn position(self, known: &PositionCheck, own: Position) -> Position {
        let (floor, head) = (known.earliest.sequence, known.head.sequence);
        let at = |sequence| Position::new(known.head.epoch, sequence);
        match self {
            Self::Own => own,
            Self::Floor => at(floor),
            Self::BelowFloor => at(floor - 1),
            Self::Head => at(head),
            Self::AboveHead => at(head + 1),
        }
    }
}

fn topic_of(subscriber: usize) -> u64 {
    (subscriber / Place::ALL.len() / 2 % TOPICS) as u64
}

fn filter(subscriber: usize) -> String {
    // Half of each kind follows everything.
    match subscriber / Place::ALL.len() % 2 {
        0 => EVERYTHING.to_owned(),
        _ => topic(topic_of(subscriber)),
    }
}

/// The responses to a subscriber from its Welcome until it was at a position.
#[derive(Debug)]
struct Told {
    outcome: Outcome,
    gaps: Vec<Gap>,
    events: Vec<Event>,
}

async fn catch_up(subscriber: &mut Subscriber, head: u64) -> Told {
    let mut told = Told {
        outcome: Outcome::New,
        gaps: Vec::new(),
        events: Vec::new(),
    };
    let mut current = false;
    while !current || subscriber.position().is_none_or(|at| at.sequence < head) {
        let item = subscriber.next().await.expect("it goes on");
        match item.expect("it is let in") {
            Item::Event(event) => told.events.push(event),
            Item::Gap(gap) => told.gaps.push(gap),
            Item::Notice(Notice::Connected { outcome, .. }) => told.outcome = outcome,
            Item::Notice(Notice::Current { .. }) => current = true,
            Item::Notice(_) => {}
            Item::Violation(violation) => panic!("{violation}"),
        }
    }
    told
}

async fn publish(client: &Client, count: u64) {
    let messages = (0..count).map(|n| Message::new(topic(n), format!("{n:0200}")));
    let messages = tokio_stream::iter(messages.collect::<Vec<_>>());
    let mut answers = client.publisher().publish_stream(messages, 64);
    while let Some(answer) = within("an answer", answers.next()).await {
        answer.expect("it is stored");
    }
}

/// The floor and the head, as the server says.
async fn look(client: &Client) -> PositionCheck {
    let newest = client.topics(&TopicsQuery::new(EVERYTHING)).await;
    let head = newest.expect("it lists its topics").head;
    let check = client.check_position("", [EVERYTHING], head).await;
    check.expect("it lists its topics")
}

/// The same when retention has nothing more to do.
async fn look_when_trimmed(client: &Client) -> PositionCheck {
    until("retention is done", async || {
        let known = look(client).await;
        let kept = known.head.sequence - known.earliest.sequence;
        (kept <= KEPT).then_some(known)
    })
    .await
}

/// The server's word on its kept events: with it the checker knows a gap over events that are there.
async fn what_is_kept(client: &Client, tape: &Tape) {
    let known = look_when_trimmed(client).await;
    let kept = client.topics(&TopicsQuery::new(EVERYTHING)).await;
    let kept = kept.expect("it lists its topics").topics;
    assert_eq!(kept.len(), TOPICS);
    for topic in kept {
        let first = topic.first.expect("some of each are kept");
        tape.trimmed(known.head.epoch, &topic.name, first - 1);
    }
}

/// The responses that must come at a place while nothing is published and retention has nothing to do.
fn expect_exactly(place: Place, told: &Told, known: &PositionCheck, own: Position) {
    let (epoch, floor, head) = (
        known.head.epoch,
        known.earliest.sequence,
        known.head.sequence,
    );
    let sequences: Vec<u64> = told
        .events
        .iter()
        .map(|event| event.position.sequence)
        .collect();
    let kept: Vec<u64> = (floor + 1..=head).collect();
    let (outcome, gap, events) = match place {
        Place::Floor => (Outcome::Resumed, None, kept),
        Place::Own => (
            Outcome::Reset,
            Some((GapReason::Trimmed, own.sequence, floor)),
            kept,
        ),
        Place::BelowFloor => (
            Outcome::Reset,
            Some((GapReason::Trimmed, floor - 1, floor)),
            kept,
        ),
        Place::Head => (Outcome::Resumed, None, Vec::new()),
        Place::AboveHead => (
            Outcome::Reset,
            Some((GapReason::Future, head + 1, head)),
            Vec::new(),
        ),
    };
    let gaps = told.gaps.iter().map(|gap| {
        assert_eq!(gap.through.epoch, epoch);
        let after = gap.after.expect("it had a position").sequence;
        // The number may be unknown.
        let all = gap.through.sequence.saturating_sub(after);
        assert!(gap.events.is_none_or(|events| events == all), "{gap}");
        (gap.reason, after, gap.through.sequence)
    });
    let gaps: Vec<_> = gaps.collect();
    assert_eq!(
        (told.outcome, gaps, sequences),
        (outcome, gap.into_iter().collect(), events),
        "{place:?} with floor {floor} and head {head}"
    );
}

async fn pausing_subscribers(name: &str, disk: bool) {
    let folder = tempfile::tempdir().unwrap();
    let history = format!("{EVERYTHING}=events:{KEPT}");
    let mut flags = vec!["--retention-interval", "50ms", "--history", &history];
    // The live tails end before history does, or the floor could not be met.
    flags.extend(["--tail-bytes-max", "4096"]);
    if disk {
        let data = folder.path().to_str().unwrap();
        flags.extend(["--data-dir", data, "--segment-bytes", "65536"]);
    }
    let server = Server::start(&flags).await;
    let tape = Tape::new();
    let client = Client::builder(format!("http://{}", server.address))
        .connections(10)
        .backoff(BackoffOptions {
            initial: Duration::from_millis(100),
            max: Duration::from_millis(500),
            ..BackoffOptions::default()
        })
        .recording(tape.recording())
        .build()
        .unwrap();
    publish(&client, 1).await;
    let mut own = vec![look(&client).await.head; SUBSCRIBERS];
    for cycle in 0..CYCLES {
        // Nobody reads: the last cycle's subscribers are gone.
        publish(&client, PUBLISHED).await;
        let quiet = cycle % 2 == 0;
        let go_on = CancellationToken::new();
        let more = (!quiet).then(|| {
            let (client, stop) = (client.clone(), go_on.clone());
            spawn(async move {
                while !stop.is_cancelled() {
                    publish(&client, 10).await;
                }
            })
        });
        let known = if quiet {
            look_when_trimmed(&client).await
        } else {
            look(&client).await
        };
        let resumed = (0..SUBSCRIBERS).map(|number| {
            let place = Place::of(number);
            let subscriber = client.subscriber(match place {
                Place::Own => format!("s-{number}"),
                _ => format!("s-{number}-{cycle}"),
            });
            let position = place.position(&known, own[number]);
            let subscriber = subscriber.filter(filter(number)).resume_after(position);
            let mut subscriber = subscriber.build().expect("a subscription");
            async move {
                let told = catch_up(&mut subscriber, known.head.sequence).await;
                (subscriber, told)
            }
        });
        let mut resumed = within("everybody is at the head", join_all(resumed)).await;
        if quiet {
            for (number, (_, told)) in resumed.iter().enumerate() {
                if filter(number) == EVERYTHING {
                    expect_exactly(Place::of(number), told, &known, own[number]);
                }
            }
        }
        go_on.cancel();
        if let Some(more) = more {
            more.await.expect("all was stored");
        }
        // Live once more, then they pause.
        tape.faults_over();
        publish(&client, TOPICS as u64).await;
        let head = look(&client).await.head.sequence;
        let live = resumed.iter_mut().enumerate();
        let live = live.map(async |(number, (subscriber, _))| {
            // The last events are one of each topic.
            let last = match filter(number).as_str() {
                EVERYTHING => head,
                _ => head + 1 - TOPICS as u64 + topic_of(number),
            };
            while subscriber.position().is_none_or(|at| at.sequence < last) {
                let item = subscriber.next().await.expect("it goes on");
                item.expect("it is let in");
            }
        });
        within("everybody is live", join_all(live)).await;
        for (own, (subscriber, _)) in own.iter_mut().zip(&resumed) {
            *own = subscriber.position().expect("it has come somewhere");
        }
    }
    what_is_kept(&client, &tape).await;
    drop(client);
    let summary = tape.lawful(name).summary;
    assert_eq!(summary.epochs, 1);
    let told = |reason| summary.gaps.get(&reason).copied().unwrap_or(0);
    // At each place half of the subscribers follow everything. They miss events one below the floor and at their own
    // place. Above the last sequence there is nothing while nobody publishes.
    let half = (SUBSCRIBERS / Place::ALL.len() / 2 * CYCLES) as u64;
    assert!(told(Recorded::Trimmed) >= half * 2);
    assert!(told(Recorded::Future) >= half / 2);
    let all: u64 = summary.gaps.values().sum();
    assert_eq!(told(Recorded::Trimmed) + told(Recorded::Future), all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_resumes_around_the_floor_or_the_end_gets_its_events_or_an_exact_gap_from_memory()
 {
    pausing_subscribers("server_retention_memory", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_resumes_around_the_floor_or_the_end_gets_its_events_or_an_exact_gap_from_disk()
 {
    pausing_subscribers("server_retention_disk", true).await;
}
