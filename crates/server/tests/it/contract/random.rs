//! Any mix of publishing, falling behind, trimming, leaving and resuming: sequences rise, nothing is repeated, and each
//! matching event was delivered or stands inside an announced Gap.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use longlived_api::v1::{self, session_request::Request};
use longlived_server::HistoryClass;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::support::{
    ChangeState, Frame, GapReason, Node, Outcome, Stream, history, message, position, request,
    spawn, subscription, within,
};

const TOPICS: [&str; 6] = ["a.1", "a.2", "b.1", "b.2", "c", "d.e.f"];
const FILTERS: [&str; 8] = ["a.*", "a.1", "b.1", ">", "*.2", "c", "d.>", "b.*"];
/// Published in all.
const MESSAGES: usize = 12_000;
/// The limit of some readers, which some messages exceed.
const SMALL_BYTES: u32 = 1_000;

/// Acknowledged messages: sequence -> topic.
type Ledger = Arc<Mutex<BTreeMap<u64, &'static str>>>;

/// A small generator of numbers, so that each task's choices can be repeated.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub(super) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(super) fn pick(&mut self, of: &[&'static str]) -> &'static str {
        of[self.below(of.len() as u64) as usize]
    }
}

/// Whether a filter means a topic, token by token.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    let (filter, topic): (Vec<_>, Vec<_>) =
        (filter.split('.').collect(), topic.split('.').collect());
    let open = filter.last() == Some(&">");
    let fixed = filter.len() - usize::from(open);
    (if open {
        topic.len() > fixed
    } else {
        topic.len() == fixed
    }) && filter[..fixed]
        .iter()
        .zip(&topic)
        .all(|(wanted, token)| *wanted == "*" || wanted == token)
}

/// When a filter was followed.
struct Followed {
    filter: &'static str,
    after: u64,
    until: Option<u64>,
}

/// One subscriber: the responses of all its streams, checked as they come.
struct Reader {
    node: Arc<Node>,
    ledger: Ledger,
    dice: Dice,
    id: String,
    talks: bool,
    /// How many messages are stored; closed when no more come.
    stored: watch::Receiver<usize>,
    event_bytes_max: u32,
    attempt: u64,
    epoch: u64,
    began: u64,
    position: u64,
    followed: Vec<Followed>,
    bases: HashMap<String, u64>,
    delivered: Vec<u64>,
    gaps: Vec<(u64, u64)>,
    resumed: u64,
    live: Option<(Stream, Option<mpsc::Sender<v1::SessionRequest>>)>,
}

impl Reader {
    fn new(number: u64, node: Arc<Node>, ledger: Ledger, stored: watch::Receiver<usize>) -> Self {
        let mut dice = Dice(number * 7_919);
        let mut filters: Vec<_> = (0..=dice.below(4)).map(|_| dice.pick(&FILTERS)).collect();
        filters.sort_unstable();
        filters.dedup();
        let followed = filters.into_iter().map(|filter| Followed {
            filter,
            after: 0,
            until: None,
        });
        Self {
            node,
            ledger,
            id: format!("reader-{number}"),
            talks: number % 2 == 1,
            stored,
            event_bytes_max: if number.is_multiple_of(3) {
                SMALL_BYTES
            } else {
                0
            },
            attempt: 0,
            epoch: 0,
            began: 0,
            position: 0,
            followed: followed.collect(),
            bases: HashMap::new(),
            delivered: Vec::new(),
            gaps: Vec::new(),
            resumed: 0,
            live: None,
            dice,
        }
    }

    fn filters(&self) -> Vec<&'static str> {
        let followed = self.followed.iter().filter(|it| it.until.is_none());
        followed.map(|it| it.filter).collect()
    }

    async fn connect(&mut self) {
        self.attempt += 1;
        let first = self.attempt == 1;
        let open = v1::SubscribeRequest {
            resume_after: (!first).then(|| position(self.epoch, self.position)),
            instance: 1,
            attempt: self.attempt,
            max_event_bytes: self.event_bytes_max,
            ..request(&self.id, &self.filters())
        };
        let (mut stream, say) = if self.talks {
            let (say, said) = mpsc::channel(8);
            let open = v1::SessionRequest {
                request: Some(Request::Open(open)),
            };
            say.send(open).await.expect("there is room");
            let mut client = self.node.subscriptions();
            let call = client.session(ReceiverStream::new(said));
            let response = within("headers of Session", call).await.expect("let in");
            (Stream::new(response.into_inner()), Some(say))
        } else {
            (self.node.subscribe(open).await.expect("let in"), None)
        };
        let welcome = stream.welcome().await;
        let at = welcome.position.expect("a position");
        if first {
            assert_eq!(welcome.outcome(), Outcome::New);
            self.epoch = at.epoch;
            self.began = at.sequence;
            self.position = at.sequence;
            for followed in &mut self.followed {
                followed.after = at.sequence;
            }
        } else {
            self.resumed += 1;
            assert_eq!((at.epoch, at.sequence), (self.epoch, self.position));
            assert_ne!(welcome.outcome(), Outcome::New);
            for followed in self.followed.iter_mut().filter(|it| it.until.is_none()) {
                // The whole stream continues after its position, a filter that was just added as well.
                followed.after = followed.after.min(self.position);
            }
        }
        self.live = Some((stream, say));
    }

    /// Whether the stream is current at `through` or beyond.
    async fn read(&mut self, through: u64) -> bool {
        let (stream, _) = self.live.as_mut().expect("it is connected");
        match stream.frame().await {
            Frame::Event(event) => self.take(&event),
            Frame::Gap(gap) => self.note(gap),
            Frame::SubscriptionChange(change) => self.change(&change),
            Frame::Progress(progress) => {
                let at = progress.position.expect("a position").sequence;
                assert!(at >= self.position, "{at} is before {}", self.position);
                self.position = at;
                return progress.current && at >= through;
            }
            other => panic!("{other:?}"),
        }
        false
    }

    fn take(&mut self, event: &v1::Event) {
        let sequence = event.sequence;
        assert!(
            sequence > self.position,
            "{}: {sequence} came after position {}",
            self.id,
            self.position
        );
        let meant = self.followed.iter().filter(|it| {
            matches(it.filter, &event.topic)
                && it.after < sequence
                && it.until.is_none_or(|until| sequence <= until)
        });
        let filter_base = meant.map(|it| it.after).min();
        let filter_base =
            filter_base.unwrap_or_else(|| panic!("{}: nobody asked for {event:?}", self.id));
        let seen = self.bases.get(&event.topic).copied().unwrap_or(0);
        assert!(
            event.previous_sequence <= seen.max(filter_base),
            "{}: {event:?} follows something after {seen} that was not seen",
            self.id
        );
        self.bases.insert(event.topic.clone(), sequence);
        self.position = sequence;
        self.delivered.push(sequence);
    }

    fn note(&mut self, gap: v1::Gap) {
        let (after, through) = (gap.after_sequence, gap.through_sequence);
        assert!(after >= self.position, "{gap:?} at {}", self.position);
        assert!(through > after, "{gap:?}");
        assert_eq!(gap.through_epoch, 0);
        match gap.reason() {
            GapReason::Trimmed => {}
            GapReason::TooLarge => {
                assert_ne!(self.event_bytes_max, 0);
                assert_eq!((through, gap.events), (after + 1, 1));
            }
            other => panic!("{other:?}"),
        }
        for topic in TOPICS {
            self.bases.insert(topic.to_owned(), through);
        }
        self.position = through;
        self.gaps.push((after, through));
    }

    fn change(&mut self, change: &v1::SubscriptionChange) {
        let filter = FILTERS.into_iter().find(|it| *it == change.topic_filter);
        let filter = filter.expect("one that was asked for");
        let after = change.after.map(|after| after.sequence);
        match (change.state(), after) {
            (ChangeState::Added, Some(after)) => self.followed.push(Followed {
                filter,
                after,
                until: None,
            }),
            (ChangeState::Removed, Some(after)) => {
                let live = |it: &&mut Followed| it.filter == filter && it.until.is_none();
                let followed = self.followed.iter_mut().find(live);
                followed.expect("it was followed").until = Some(after);
            }
            other => panic!("{other:?}: {change:?}"),
        }
    }

    /// Adds or removes one filter, and reads on until that is answered.
    async fn talk(&mut self) {
        let filter = self.dice.pick(&FILTERS);
        let follows = self.filters();
        let request = if !follows.contains(&filter) {
            Request::Add(subscription(filter))
        } else if follows.len() > 1 {
            Request::RemoveTopicFilter(filter.to_owned())
        } else {
            Request::Progress(true)
        };
        let waits_for_change = !matches!(request, Request::Progress(_));
        let Some((_, Some(say))) = &self.live else {
            return;
        };
        let request = v1::SessionRequest {
            request: Some(request),
        };
        say.send(request).await.expect("the call stands");
        let before = self.changes();
        while waits_for_change && self.changes() == before {
            self.read(0).await;
        }
    }

    fn changes(&self) -> usize {
        let removed = self.followed.iter().filter(|it| it.until.is_some());
        self.followed.len() + removed.count()
    }

    /// Does nothing while some more messages are stored, fewer than `messages`.
    async fn pause(&mut self, messages: u64) {
        let until = *self.stored.borrow() + self.dice.below(messages) as usize;
        // Nobody waits for messages that never come.
        let _ = self.stored.wait_for(|stored| *stored >= until).await;
    }

    async fn run(mut self, published: Arc<AtomicBool>) -> Self {
        while !published.load(Ordering::SeqCst) {
            if self.live.is_none() {
                self.connect().await;
            }
            for _ in 0..self.dice.below(60) {
                // A quiet stream must not keep it from leaving.
                let read = tokio::time::timeout(Duration::from_millis(20), self.read(0));
                if read.await.is_err() {
                    break;
                }
                if self.dice.one_in(30) {
                    self.pause(50).await;
                }
            }
            if self.talks && self.dice.one_in(2) {
                self.talk().await;
            }
            if self.dice.one_in(3) {
                self.live = None;
                self.pause(300).await;
            }
        }
        let head = self
            .ledger
            .lock()
            .last_key_value()
            .map_or(0, |last| *last.0);
        self.live = None;
        self.connect().await;
        while !self.read(head).await {}
        self
    }

    fn verdict(&self) {
        assert!(self.delivered.is_sorted_by(|one, next| one < next));
        for (&sequence, topic) in &*self.ledger.lock() {
            let meant = self.followed.iter().any(|it| {
                matches(it.filter, topic)
                    && it.after < sequence
                    && it.until.is_none_or(|until| sequence <= until)
            });
            if !meant || sequence <= self.began {
                continue;
            }
            let delivered = self.delivered.binary_search(&sequence).is_ok();
            let announced = self
                .gaps
                .iter()
                .any(|&(after, through)| after < sequence && sequence <= through);
            assert!(
                delivered || announced,
                "{}: {sequence} on {topic} is lost without a word",
                self.id
            );
        }
    }
}

async fn publish(number: u64, node: Arc<Node>, ledger: Ledger, stored: Arc<watch::Sender<usize>>) {
    let mut dice = Dice(number * 104_729);
    let (say, said) = mpsc::channel(64);
    let mut client = node.publishing();
    let answers = client.publish_stream(ReceiverStream::new(said)).await;
    let mut answers = answers.expect("it answers").into_inner();
    while *stored.borrow() < MESSAGES {
        let topics: Vec<_> = (0..=dice.below(30)).map(|_| dice.pick(&TOPICS)).collect();
        for topic in &topics {
            let size = if dice.one_in(40) {
                1_500
            } else {
                dice.below(200)
            };
            let payload = "x".repeat(size as usize);
            say.send(message(topic, &payload)).await.expect("it stands");
        }
        for topic in topics {
            let answer = within("an answer", answers.message()).await;
            let answer = answer.expect("no refusal").expect("one for each");
            let sequence = answer.position.expect("a position").sequence;
            let taken = ledger.lock().insert(sequence, topic);
            assert_eq!(taken, None, "one sequence for two messages");
            stored.send_modify(|stored| *stored += 1);
        }
        // The others have their turn.
        for _ in 0..dice.below(12) {
            tokio::task::yield_now().await;
        }
    }
}

async fn any_mix(history_classes: &[HistoryClass], tail_bytes_max: usize) {
    let node = Arc::new(Node::start_with(|config| {
        config.history = history_classes.to_vec();
        config.log.tail_bytes_max = tail_bytes_max;
        config.log.tail_age_max = Duration::from_millis(300);
        config.log.live_tail_linger = Duration::from_millis(100);
    }));
    let ledger = Ledger::default();
    let published = Arc::new(AtomicBool::new(false));
    let stored = Arc::new(watch::Sender::new(0));
    let readers: Vec<_> = (1..=9)
        .map(|number| {
            let reader = Reader::new(number, node.clone(), ledger.clone(), stored.subscribe());
            spawn(reader.run(published.clone()))
        })
        .collect();
    let publishers: Vec<_> = (1..=3)
        .map(|number| {
            spawn(publish(
                number,
                node.clone(),
                ledger.clone(),
                stored.clone(),
            ))
        })
        .collect();
    drop(stored);
    for publisher in publishers {
        publisher.await.expect("all of it was stored");
    }
    published.store(true, Ordering::SeqCst);
    let (mut delivered, mut gaps, mut resumed) = (0, 0, 0);
    for reader in readers {
        let reader = reader.await.expect("nothing was wrong on the way");
        reader.verdict();
        delivered += reader.delivered.len();
        gaps += reader.gaps.len();
        resumed += reader.resumed;
    }
    // That there was something to check.
    assert!(delivered > 500, "{delivered} were delivered");
    assert!(resumed > 30, "{resumed} resumes");
    assert!(gaps > 0, "nobody fell behind history");
}

#[tokio::test]
async fn with_little_history_everything_that_matched_is_delivered_or_announced() {
    any_mix(&[history(">", 150)], 4 << 10).await;
}

#[tokio::test]
async fn with_classes_that_keep_different_amounts_everything_is_delivered_or_announced() {
    let mut few_bytes = history("b.>", 1_000_000);
    few_bytes.limits.bytes = 8 << 10;
    any_mix(
        &[history("a.>", 20), few_bytes, history(">", 400)],
        64 << 10,
    )
    .await;
}
