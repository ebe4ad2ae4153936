//! The judgement on a position: whether any server gave it, and whether the events after it can be had.

use longlived_api::v1::{
    self, check_position_response::State, session_request::Request,
    topic_service_client::TopicServiceClient,
};
use tonic::{Code, Status};

use super::{
    random::Dice,
    sessions::Talk,
    support::{
        Frame, GapPolicy, GapReason, Node, Outcome, assert_says, earliest, history, position,
        request, subscription, within,
    },
};

async fn epoch_of(node: &Node) -> u64 {
    let (_, welcome) = node.open(request("epoch", &["nothing"])).await;
    welcome.epoch
}

async fn check(
    node: &Node,
    filters: &[&str],
    position: v1::Position,
) -> Result<v1::CheckPositionResponse, Status> {
    let mut client = TopicServiceClient::new(node.channel());
    let asked = v1::CheckPositionRequest {
        subscriptions: filters.iter().map(|filter| subscription(filter)).collect(),
        position: Some(position),
        ..v1::CheckPositionRequest::default()
    };
    let answer = within("an answer to CheckPosition", client.check_position(asked)).await?;
    Ok(answer.into_inner())
}

#[tokio::test]
async fn a_position_that_no_server_gave_is_refused_with_its_field_and_the_range() {
    let node = Node::start();
    let epoch = epoch_of(&node).await;
    let most = (1 << 53) - 1;
    let range = most.to_string();
    for (bad, part, value) in [
        (v1::Position::default(), "epoch", 0),
        (position(0, 7), "epoch", 0),
        (position(1 << 53, 7), "epoch", 1 << 53),
        (position(1 << 60, 7), "epoch", 1 << 60),
        (position(epoch, 1 << 53), "sequence", 1 << 53),
        (position(epoch, 1 << 60), "sequence", 1 << 60),
        (position(epoch, u64::MAX), "sequence", u64::MAX),
    ] {
        let value = format!("is {value}");
        let says = |status: &Status, field: &str| {
            let field = format!("`{field}.{part}`");
            assert_says(status, Code::InvalidArgument, &[&field, &value, &range]);
        };
        let resume = v1::SubscribeRequest {
            resume_after: Some(bad),
            // It is not looked at beside a position, so it does not help either.
            start: Some(earliest()),
            ..request("s", &["t"])
        };
        let refused = node.subscribe(resume.clone()).await;
        says(&refused.err().expect("it is refused"), "resume_after");
        let mut talk = Talk::begin(&node).await;
        talk.say(Request::Open(resume)).await;
        says(
            &talk.hear.ends_with(Code::InvalidArgument).await,
            "resume_after",
        );
        let mut client = TopicServiceClient::new(node.channel());
        let page = v1::ReadHistoryRequest {
            subscriptions: vec![subscription("t")],
            after: Some(bad),
            ..v1::ReadHistoryRequest::default()
        };
        let refused = within("an answer to ReadHistory", client.read_history(page)).await;
        says(&refused.expect_err("it is refused"), "after");
        says(
            &check(&node, &["t"], bad).await.expect_err("it is refused"),
            "position",
        );
    }
    for far in [position(most, most), position(epoch, most), position(1, 0)] {
        let state = check(&node, &["t"], far)
            .await
            .expect("it may be one")
            .state();
        let expected = if far.epoch == epoch {
            State::Future
        } else {
            State::EpochChanged
        };
        assert_eq!(state, expected, "{far:?}");
    }
}

/// Any history of two classes, any position: the answers of Welcome, FAIL and CheckPosition agree, and are true.
#[tokio::test]
async fn welcome_fail_and_check_position_agree_about_every_position() {
    const TOPICS: [&str; 4] = ["a.1", "a.2", "b.1", "c"];
    const FILTERS: [&[&str]; 5] = [&[">"], &["a.*", "b.1"], &["a.1"], &["b.1"], &["*.1", "c"]];
    let mut number = 0;
    for round in 0..6 {
        let mut dice = Dice(round);
        let node = Node::start_with(|config| {
            config.history = vec![history("a.>", 3), history("b.>", 6)];
            config.log.tail_bytes_max = 0;
        });
        for _ in 0..12 + dice.below(30) {
            node.publish(dice.pick(&TOPICS), "x").await;
        }
        let epoch = epoch_of(&node).await;
        for sequence in 0..12 {
            let filters = FILTERS[dice.below(5) as usize];
            let resume = |policy: GapPolicy, number: u64| v1::SubscribeRequest {
                resume_after: Some(position(epoch, sequence)),
                gap_policy: policy.into(),
                ..request(&format!("s-{number}"), filters)
            };
            number += 3;
            let (mut stream, welcome) = node.open(resume(GapPolicy::Earliest, number)).await;
            let mut gap = None;
            let mut first = None;
            loop {
                match stream.frame().await {
                    Frame::Gap(it) => {
                        first.get_or_insert(true);
                        gap.get_or_insert(it);
                    }
                    Frame::Event(_) => {
                        first.get_or_insert(false);
                    }
                    Frame::Progress(progress) if progress.current => break,
                    other => panic!("{other:?}"),
                }
            }
            let reset = welcome.outcome() == Outcome::Reset;
            assert_eq!(
                reset,
                first == Some(true),
                "{filters:?} after {sequence}: {welcome:?}"
            );
            let checked = check(&node, filters, position(epoch, sequence))
                .await
                .expect("checked");
            let failing = node.subscribe(resume(GapPolicy::Fail, number + 1)).await;
            if gap.is_some() {
                assert_eq!(checked.state(), State::Missing);
                assert_eq!(checked.gap, gap);
                let status = failing.err().expect("something is gone");
                assert_says(&status, Code::OutOfRange, &["retention has removed"]);
            } else {
                assert_eq!(checked.state(), State::Resumable);
                assert_eq!(
                    failing.expect("nothing is gone").welcome().await.outcome(),
                    Outcome::Resumed
                );
            }
        }
    }
}

#[tokio::test]
async fn events_still_in_a_live_tail_are_missing_to_no_subscriber() {
    let node = Node::start_with(|config| config.history = vec![history("t", 2)]);
    let (_live, welcome) = node.open(request("live", &["t"])).await;
    for _ in 0..10 {
        node.publish("t", "x").await;
    }
    let asked = position(welcome.epoch, 3);
    let checked = check(&node, &["t"], asked).await.expect("checked");
    assert_eq!(checked.state(), State::Resumable);
    let failing = v1::SubscribeRequest {
        resume_after: Some(asked),
        gap_policy: GapPolicy::Fail.into(),
        ..request("s", &["t"])
    };
    let (mut stream, _) = node.open(failing).await;
    assert_eq!(stream.events(7).await, [4, 5, 6, 7, 8, 9, 10]);
    // No tail has both.
    let checked = check(&node, &["t", "u"], asked).await.expect("checked");
    assert_eq!(checked.state(), State::Missing);
}

#[tokio::test]
async fn earliest_with_fail_is_told_of_losses_between_kept_events_and_refused_at_later_ones() {
    let node = Node::start_with(|config| {
        config.history = vec![history("a", 1)];
        config.log.tail_bytes_max = 0;
    });
    for topic in ["a", "b", "a", "a", "b", "a"] {
        node.publish(topic, "x").await;
    }
    let open = v1::SubscribeRequest {
        start: Some(earliest()),
        gap_policy: GapPolicy::Fail.into(),
        ..request("s", &["a", "b"])
    };
    let (mut stream, welcome) = node.open(open).await;
    assert_eq!(welcome.outcome(), Outcome::New);
    assert_eq!(stream.event().await.sequence, 2);
    let gap = stream.gap().await;
    assert_eq!(gap.reason(), GapReason::Trimmed);
    assert_eq!(
        (gap.after_sequence, gap.through_sequence, gap.events),
        (2, 4, 2)
    );
    assert_eq!(stream.events(2).await, [5, 6]);
}
