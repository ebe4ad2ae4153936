//! The most natural client: it stores each position at the moment it is told it, dies, and resumes there with its
//! filters. After a death behind any response it misses no event and no Gap, and no earlier one comes again.

use longlived_api::v1::{self, session_request::Request};

use super::{
    random::{Dice, matches},
    sessions::Talk,
    support::{
        ChangeState, Frame, GapReason, Node, Outcome, earliest, history, position, request,
        subscription,
    },
};

const TOPICS: [&str; 5] = ["a.1", "a.2", "b.1", "b.2", "c"];
const FILTERS: [&str; 7] = ["a.*", "a.1", "b.1", ">", "*.2", "c", "b.*"];
const ROUNDS: u64 = 24;

/// The state of a client.
#[derive(Clone, Default)]
struct Client {
    epoch: u64,
    stored: Option<v1::Position>,
    filters: Vec<String>,
    // The Welcome was a reset: nothing but its gap may come now.
    gap_first: bool,
    events: Vec<u64>,
    gaps: Vec<(u64, u64)>,
    last: u64,
}

impl Client {
    /// Takes a response, as a client does that knows nothing but the contract.
    fn hear(&mut self, frame: &Frame) {
        assert!(
            !self.gap_first || matches!(frame, Frame::Gap(_)),
            "after a reset came {frame:?}"
        );
        match frame {
            Frame::Welcome(welcome) => {
                self.epoch = welcome.epoch;
                self.stored = welcome.position;
                self.gap_first = welcome.outcome() == Outcome::Reset;
                let at = welcome.position.expect("a position");
                self.last = if at.epoch == self.epoch {
                    at.sequence
                } else {
                    0
                };
            }
            Frame::Event(event) => {
                assert!(event.sequence > self.last, "{} again", event.sequence);
                self.reached(event.sequence);
                self.events.push(event.sequence);
            }
            Frame::Gap(gap) => {
                self.gap_first = false;
                let changed = gap.reason() == GapReason::EpochChanged;
                if changed {
                    let asked = self.stored.expect("a position");
                    assert_eq!(gap.after_sequence, asked.sequence);
                    assert_eq!(gap.through_epoch, self.epoch);
                } else {
                    assert!(
                        gap.after_sequence >= self.last,
                        "{gap:?} after {}",
                        self.last
                    );
                }
                let after = if changed { 0 } else { gap.after_sequence };
                self.gaps.push((after, gap.through_sequence));
                self.reached(gap.through_sequence);
            }
            Frame::Progress(progress) => self.told(progress.position),
            Frame::SubscriptionChange(change) => match change.state() {
                ChangeState::Added => {
                    self.filters.push(change.topic_filter.clone());
                    self.told(change.after);
                }
                ChangeState::Removed => {
                    self.filters.retain(|filter| *filter != change.topic_filter);
                    self.told(change.after);
                }
                _ => {}
            },
            Frame::GoAway(go_away) => self.told(go_away.position),
            Frame::CredentialNotice(_) | Frame::RequestRefused(_) => {}
        }
    }

    fn told(&mut self, at: Option<v1::Position>) {
        let at = at.expect("a position");
        assert_eq!(at.epoch, self.epoch);
        assert!(at.sequence >= self.last);
        self.reached(at.sequence);
    }

    fn reached(&mut self, sequence: u64) {
        self.stored = Some(position(self.epoch, sequence));
        self.last = sequence;
    }
}

/// The published messages, sequence by sequence.
type Published = Vec<(u64, &'static str)>;

/// Dies, comes back as another call, and receives all responses up to now.
async fn dies(node: &Node, client: &Client, published: &Published, number: &mut u64) {
    *number += 1;
    if client.filters.is_empty() {
        return;
    }
    let filters: Vec<&str> = client.filters.iter().map(String::as_str).collect();
    let stored = client.stored.expect("the first response has one");
    let resume = v1::SubscribeRequest {
        resume_after: Some(stored),
        ..request(&format!("back-{number}"), &filters)
    };
    let mut stream = node.subscribe(resume).await.expect("it is let in");
    let mut back = Client {
        filters: client.filters.clone(),
        ..Client::default()
    };
    loop {
        let frame = stream.frame().await;
        back.hear(&frame);
        if let Frame::Welcome(welcome) = &frame {
            assert_eq!(welcome.position, Some(stored));
        }
        if matches!(frame, Frame::Progress(progress) if progress.current) {
            break;
        }
    }
    let from = if stored.epoch == back.epoch {
        stored.sequence
    } else {
        0
    };
    let wanted = |topic: &str| filters.iter().any(|filter| matches(filter, topic));
    for &(sequence, topic) in published {
        let covered = |&(after, through): &(u64, u64)| after < sequence && sequence <= through;
        let announced = back.gaps.iter().any(covered);
        let came = back.events.contains(&sequence);
        let expected = sequence > from && wanted(topic);
        assert!(
            came || announced || !expected,
            "{sequence} on {topic} is missing after {stored:?} for {filters:?}"
        );
        assert!(
            expected || !came,
            "{sequence} on {topic} came to {filters:?} after {stored:?}"
        );
    }
}

async fn publish(node: &Node, dice: &mut Dice, count: u64, published: &mut Published) {
    for _ in 0..count {
        let topic = dice.pick(&TOPICS);
        published.push((node.publish(topic, "x").await, topic));
    }
}

#[tokio::test]
async fn a_client_that_stores_every_position_it_is_told_misses_nothing_after_any_death() {
    let mut number = 0;
    for round in 0..ROUNDS {
        let mut dice = Dice(round);
        let node = Node::start_with(|config| {
            config.history = vec![history("a.>", 3), history("b.>", 9)];
            // Some read the tails, some history.
            config.log.tail_bytes_max = if round % 3 == 0 { 1 << 20 } else { 0 };
        });
        let mut published = Published::new();
        publish(&node, &mut dice, 20 + round % 7, &mut published).await;
        let (_, welcome) = node.open(request("epoch", &["nothing"])).await;
        let epoch = welcome.epoch;
        let filter = dice.pick(&FILTERS);
        let mut open = request("s", &[filter]);
        match round % 4 {
            0 => open.resume_after = Some(position(epoch ^ 1, 5)),
            1 => open.start = Some(earliest()),
            _ => open.resume_after = Some(position(epoch, dice.below(10))),
        }
        let mut client = Client {
            filters: vec![filter.to_owned()],
            ..Client::default()
        };
        let mut talk = Talk::begin(&node).await;
        talk.say(Request::Open(open)).await;
        // Asked for before the first word, so that it meets a stream that has everything still to say.
        for _ in 0..dice.below(4) {
            talk.say(change(&mut dice)).await;
        }
        let mut asked = 0;
        loop {
            let frame = talk.hear.frame().await;
            client.hear(&frame);
            dies(&node, &client, &published, &mut number).await;
            let current = matches!(frame, Frame::Progress(progress) if progress.current);
            if current && asked > 12 {
                break;
            }
            if dice.one_in(4) {
                talk.say(change(&mut dice)).await;
            }
            if dice.one_in(5) {
                let count = dice.below(6);
                publish(&node, &mut dice, count, &mut published).await;
            }
            asked += 1;
            talk.say(Request::Progress(true)).await;
        }
        node.unsubscribe("s").await.expect("it is live");
        loop {
            let frame = talk.hear.frame().await;
            client.hear(&frame);
            if matches!(frame, Frame::GoAway(_)) {
                break;
            }
        }
        dies(&node, &client, &published, &mut number).await;
    }
}

fn change(dice: &mut Dice) -> Request {
    let filter = dice.pick(&FILTERS);
    if dice.one_in(2) {
        Request::Add(subscription(filter))
    } else {
        Request::RemoveTopicFilter(filter.to_owned())
    }
}

/// A request at once, or an order from outside, waits for the gap that a reset has announced.
#[tokio::test]
async fn after_a_reset_the_next_response_is_its_gap_before_all_others() {
    let node = Node::start_with(|config| {
        config.history = vec![history("a", 1)];
        config.log.tail_bytes_max = 0;
    });
    for _ in 0..5 {
        node.publish("a", "x").await;
    }
    let (_, welcome) = node.open(request("epoch", &["nothing"])).await;
    let epoch = welcome.epoch;
    for asked in [
        position(epoch, 2),
        position(epoch ^ 1, 2),
        position(epoch, 99),
    ] {
        let mut talk = Talk::begin(&node).await;
        let open = v1::SubscribeRequest {
            resume_after: Some(asked),
            ..request("s", &["a"])
        };
        talk.say(Request::Open(open)).await;
        // The filter that has lost something goes, and still the loss is told.
        talk.say(Request::RemoveTopicFilter("a".to_owned())).await;
        talk.say(Request::Progress(true)).await;
        talk.say(Request::Add(subscription("b"))).await;
        let welcome = talk.hear.welcome().await;
        assert_eq!(welcome.outcome(), Outcome::Reset);
        let gap = talk.hear.gap().await;
        assert_eq!(gap.after_sequence, asked.sequence);
        let removed = talk.hear.frame().await;
        assert!(
            matches!(&removed, Frame::SubscriptionChange(change)
            if change.state() == ChangeState::Removed),
            "{removed:?}"
        );
    }
}
