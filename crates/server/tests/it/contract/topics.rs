//! `TopicService`: which topics there are, history page by page, and whether a position still holds.

use longlived_api::v1::{
    self, check_position_response::State, history_entry::Entry,
    topic_service_client::TopicServiceClient,
};
use longlived_server::HistoryClass;
use prost::Message as _;
use tonic::{Code, Status, transport::Channel};

use super::support::{
    Frame, GapReason, Node, Raw, RawReply, assert_says, earliest, framed, history, message,
    position, request, spawn, subscription, text, until, within,
};

fn client(node: &Node) -> TopicServiceClient<Channel> {
    TopicServiceClient::new(node.channel())
}

async fn list_page(
    node: &Node,
    request: v1::ListTopicsRequest,
) -> Result<v1::ListTopicsResponse, Status> {
    let mut client = client(node);
    let answer = within("an answer to ListTopics", client.list_topics(request)).await?;
    Ok(answer.into_inner())
}

fn listing(filter: &str) -> v1::ListTopicsRequest {
    v1::ListTopicsRequest {
        topic_filter: filter.to_owned(),
        ..v1::ListTopicsRequest::default()
    }
}

/// All topics of a filter, in one page.
async fn list(node: &Node, filter: &str) -> Vec<v1::Topic> {
    let page = list_page(node, listing(filter)).await.expect("listed");
    assert_eq!(page.next_page_token, "");
    page.topics
}

fn names(topics: &[v1::Topic]) -> Vec<&str> {
    topics.iter().map(|topic| topic.name.as_str()).collect()
}

fn reading(filters: &[&str]) -> v1::ReadHistoryRequest {
    v1::ReadHistoryRequest {
        subscriptions: filters.iter().map(|filter| subscription(filter)).collect(),
        ..v1::ReadHistoryRequest::default()
    }
}

async fn read_page(
    node: &Node,
    request: v1::ReadHistoryRequest,
) -> Result<v1::ReadHistoryResponse, Status> {
    let mut client = client(node);
    let answer = within("an answer to ReadHistory", client.read_history(request)).await?;
    Ok(answer.into_inner())
}

fn entries(page: &v1::ReadHistoryResponse) -> Vec<Entry> {
    let entries = page.entries.iter().map(|entry| entry.entry.clone());
    entries
        .map(|entry| entry.expect("an event or a gap"))
        .collect()
}

/// Pages of one size, one after the other, from the earliest on.
async fn read_all(node: &Node, request: v1::ReadHistoryRequest) -> Vec<Entry> {
    let mut request = request;
    let mut all = Vec::new();
    loop {
        let page = read_page(node, request.clone()).await.expect("read");
        let size = request.page_size as usize;
        assert!(size == 0 || page.entries.len() <= size);
        all.extend(entries(&page));
        assert!(page.end || page.next != request.after, "it goes on");
        request.after = page.next;
        if page.end {
            assert_eq!(page.next, page.head);
            return all;
        }
    }
}

/// The events of a subscription until it is current.
async fn subscribed(node: &Node, request: v1::SubscribeRequest) -> Vec<Entry> {
    let (mut stream, _) = node.open(request).await;
    let mut all = Vec::new();
    loop {
        match stream.frame().await {
            Frame::Event(event) => all.push(Entry::Event(event)),
            Frame::Gap(gap) => all.push(Entry::Gap(gap)),
            Frame::Progress(progress) if progress.current => return all,
            Frame::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn check(node: &Node, filters: &[&str], position: v1::Position) -> v1::CheckPositionResponse {
    let request = v1::CheckPositionRequest {
        subscriptions: filters.iter().map(|filter| subscription(filter)).collect(),
        position: Some(position),
        ..v1::CheckPositionRequest::default()
    };
    let mut client = client(node);
    let answer = within("an answer to CheckPosition", client.check_position(request)).await;
    answer.expect("checked").into_inner()
}

async fn epoch(node: &Node) -> u64 {
    let page = list_page(node, listing("")).await.expect("listed");
    page.head.expect("a position").epoch
}

#[tokio::test]
async fn topics_are_listed_page_by_page_with_the_kept_events_of_each() {
    let node = Node::start_with(|config| config.history = vec![history("small.>", 2)]);
    for n in 0..4 {
        node.publish("small.a", &n.to_string()).await;
        node.publish("orders.eu", &n.to_string()).await;
    }
    node.publish("orders.us", "x").await;
    let all = list(&node, "").await;
    assert_eq!(names(&all), ["orders.eu", "orders.us", "small.a"]);
    let numbers = |topic: &v1::Topic| (topic.first_sequence, topic.last_sequence, topic.events);
    assert_eq!(numbers(&all[0]), (2, 8, 4));
    assert_eq!(numbers(&all[1]), (9, 9, 1));
    assert_eq!(numbers(&all[2]), (5, 7, 2), "two were let go");
    assert!(all.iter().all(|topic| topic.subscribers == 0));
    let kept = read_all(&node, reading(&["small.a"])).await;
    let bytes: usize = kept
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Event(event) => Some(v1::SubscribeResponse {
                frame: Some(Frame::Event(event)),
            }),
            Entry::Gap(_) => None,
        })
        .map(|response| response.encoded_len() + 5)
        .sum();
    assert_eq!(all[2].bytes, bytes as u64);

    let mut request = v1::ListTopicsRequest {
        page_size: 1,
        ..listing("*.*")
    };
    let mut paged = Vec::new();
    loop {
        let page = list_page(&node, request.clone()).await.expect("listed");
        assert_eq!(page.head.expect("a position").sequence, 9);
        assert_eq!(page.topics.len(), 1);
        paged.extend(page.topics);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, all);
    assert_eq!(names(&list(&node, "orders.us").await), ["orders.us"]);
    assert_eq!(names(&list(&node, "nothing.>").await), Vec::<&str>::new());
}

#[tokio::test]
async fn a_stream_counts_once_for_each_topic_that_its_filters_match_until_it_leaves() {
    let node = Node::start();
    for topic in ["a.x", "a.y", "b.x"] {
        node.publish(topic, "x").await;
    }
    let counted = async |node: &Node| -> Vec<u64> {
        let topics = list(node, ">").await;
        topics.iter().map(|topic| topic.subscribers).collect()
    };
    assert_eq!(counted(&node).await, [0, 0, 0]);
    let (exact, _) = node.open(request("exact", &["a.x"])).await;
    let (wild, _) = node.open(request("wild", &["a.*"])).await;
    let (_both, _) = node.open(request("both", &["a.x", "a.>", ">"])).await;
    assert_eq!(counted(&node).await, [3, 2, 1]);
    // Reading and checking are no streams.
    read_all(&node, reading(&["a.x", "b.>"])).await;
    check(&node, &["b.*"], position(epoch(&node).await, 1)).await;
    assert_eq!(counted(&node).await, [3, 2, 1]);
    drop(exact);
    drop(wild);
    until("both have left", async || {
        (counted(&node).await == [1, 1, 1]).then_some(())
    })
    .await;
    node.unsubscribe("both").await.expect("it is live");
    until("nobody is there", async || {
        (counted(&node).await == [0, 0, 0]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_number_of_a_page_is_beyond_the_visible_end_while_messages_are_published() {
    let node = Node::start();
    let mut publishing = node.publishing();
    let publisher = spawn(async move {
        let messages = (0..20_000).map(|n| message(&format!("t.{}", n % 7), "x"));
        let answer = publishing.bulk_publish(tokio_stream::iter(messages)).await;
        answer.expect("stored");
    });
    let mut looks = 0;
    loop {
        let done = publisher.is_finished();
        let page = list_page(&node, listing("t.>")).await.expect("listed");
        let head = page.head.expect("a position").sequence;
        for topic in &page.topics {
            assert!(topic.last_sequence <= head, "{topic:?} {head}");
            assert!(topic.first_sequence <= topic.last_sequence, "{topic:?}");
        }
        let events: u64 = page.topics.iter().map(|topic| topic.events).sum();
        assert!(events <= head, "{events} {head}");
        looks += 1;
        if done {
            assert_eq!((events, head), (20_000, 20_000));
            break;
        }
    }
    assert!(looks > 1, "it was looked at on the way");
    within("the end of publishing", publisher)
        .await
        .expect("it does not panic");
}

#[tokio::test]
async fn other_peoples_inboxes_and_sys_are_not_among_everything_and_inboxes_not_on_request() {
    let node = Node::start();
    for topic in ["inbox.me", "inbox.you", "orders"] {
        node.publish(topic, "x").await;
    }
    assert_eq!(names(&list(&node, "").await), ["orders"]);
    assert_eq!(names(&list(&node, "*.>").await), Vec::<&str>::new());
    assert!(list(&node, "$sys.>").await.is_empty());
    let mine = v1::ListTopicsRequest {
        subscriber_id: "me".to_owned(),
        ..listing("inbox.me")
    };
    let page = list_page(&node, mine.clone()).await.expect("its own");
    assert_eq!(names(&page.topics), ["inbox.me"]);
    let read = |filter: &str, id: &str| v1::ReadHistoryRequest {
        subscriber_id: id.to_owned(),
        ..reading(&["orders", filter])
    };
    let own = read_page(&node, read("inbox.me", "me"))
        .await
        .expect("its own");
    assert_eq!(own.entries.len(), 2);
    let everything = read_all(&node, reading(&[">"])).await;
    assert_eq!(everything.len(), 1);
    for (filter, id) in [
        ("inbox.>", ""),
        ("inbox.*", "me"),
        ("inbox.you", "me"),
        ("inbox.you", ""),
        ("inbox", "me"),
    ] {
        let listing = v1::ListTopicsRequest {
            subscriber_id: id.to_owned(),
            ..listing(filter)
        };
        let checking = v1::CheckPositionRequest {
            subscriptions: vec![subscription(filter)],
            subscriber_id: id.to_owned(),
            position: Some(position(1, 1)),
        };
        let listed = list_page(&node, listing).await.expect_err("refused");
        let read = read_page(&node, read(filter, id))
            .await
            .expect_err("refused");
        let checked = client(&node).check_position(checking).await;
        for status in [listed, read, checked.expect_err("refused")] {
            assert_says(&status, Code::PermissionDenied, &["`topic_filter`", filter]);
        }
    }
}

/// Classes that are trimmed apart: between kept events of one there are holes of another.
fn uneven() -> Vec<HistoryClass> {
    vec![history("a.>", 3), history("b.>", 9)]
}

async fn uneven_history(node: &Node) {
    for n in 0..30 {
        let topic = ["a.x", "b.x", "c", "b.y"][n % 4];
        node.publish(topic, &n.to_string()).await;
    }
}

#[tokio::test]
async fn pages_of_any_size_together_are_the_events_of_a_subscription_from_the_earliest_on() {
    let node = Node::start_with(|config| config.history = uneven());
    uneven_history(&node).await;
    for (turn, filters) in [&[">"][..], &["a.>", "c"], &["b.*"], &["a.x", "b.>", "b.x"]]
        .into_iter()
        .enumerate()
    {
        let from_earliest = v1::SubscribeRequest {
            start: Some(earliest()),
            ..request(&turn.to_string(), filters)
        };
        let expected = subscribed(&node, from_earliest).await;
        let gaps = expected
            .iter()
            .filter(|entry| matches!(entry, Entry::Gap(_)));
        assert_eq!(gaps.count() > 0, filters.len() != 1 || filters == [">"]);
        for page_size in [1, 2, 3, 7, 0] {
            let request = v1::ReadHistoryRequest {
                page_size,
                ..reading(filters)
            };
            assert_eq!(read_all(&node, request).await, expected, "{page_size}");
        }
        let bytes = v1::ReadHistoryRequest {
            page_bytes: 60,
            ..reading(filters)
        };
        assert_eq!(read_all(&node, bytes).await, expected);
    }
}

#[tokio::test]
async fn reading_goes_on_after_the_end_with_later_messages() {
    let node = Node::start();
    let empty = read_page(&node, reading(&["t"])).await.expect("read");
    assert!(empty.entries.is_empty() && empty.end);
    assert_eq!(empty.next.expect("a position").sequence, 0);
    node.publish("t", "x").await;
    node.publish("other", "x").await;
    let next = v1::ReadHistoryRequest {
        after: empty.next,
        ..reading(&["t"])
    };
    let page = read_page(&node, next).await.expect("read");
    assert_eq!((page.entries.len(), page.end), (1, true));
    assert_eq!(page.next.expect("a position").sequence, 2, "past the other");
}

#[tokio::test]
async fn a_page_is_full_at_its_bytes_but_takes_one_event_however_large() {
    let node = Node::start_with(|config| config.event_bytes_max = 5 << 20);
    for size in [100, 40_000, 100, 300_000, 100] {
        node.publish("t", &"x".repeat(size)).await;
    }
    let mut request = v1::ReadHistoryRequest {
        page_bytes: 45_000,
        ..reading(&["t"])
    };
    let mut pages = Vec::new();
    loop {
        let page = read_page(&node, request.clone()).await.expect("read");
        pages.push(page.entries.len());
        request.after = page.next;
        if page.end {
            break;
        }
    }
    assert_eq!(pages, [3, 1, 1]);
    // An event that no page can carry is announced.
    node.publish("t", &"x".repeat(3 << 20)).await;
    node.publish("t", "after").await;
    let page = read_page(&node, request).await.expect("read");
    let [Entry::Gap(gap), Entry::Event(event)] = &entries(&page)[..] else {
        panic!("{:?}", page.entries.len());
    };
    assert_eq!(gap.reason(), GapReason::TooLarge);
    assert_eq!(
        (gap.after_sequence, gap.through_sequence, gap.events),
        (5, 6, 1)
    );
    assert_eq!(event.sequence, 7);
}

#[tokio::test]
async fn a_position_of_another_history_or_of_none_begins_with_the_gap_that_says_so() {
    let node = Node::start();
    node.publish("t", "x").await;
    let epoch = epoch(&node).await;
    let after = |position| v1::ReadHistoryRequest {
        after: Some(position),
        page_size: 1,
        ..reading(&["t"])
    };
    let page = read_page(&node, after(position(epoch ^ 1, 40)))
        .await
        .expect("read");
    let [Entry::Gap(gap)] = &entries(&page)[..] else {
        panic!("{page:?}");
    };
    assert_eq!(gap.reason(), GapReason::EpochChanged);
    assert_eq!((gap.after_sequence, gap.through_sequence), (40, 0));
    assert_eq!(gap.through_epoch, epoch);
    assert_eq!(page.next, Some(position(epoch, 0)));
    let page = read_page(&node, after(position(epoch, 0)))
        .await
        .expect("read");
    assert!(matches!(&entries(&page)[..], [Entry::Event(event)] if event.sequence == 1));
    let page = read_page(&node, after(position(epoch, 40)))
        .await
        .expect("read");
    let [Entry::Gap(gap)] = &entries(&page)[..] else {
        panic!("{page:?}");
    };
    assert_eq!(gap.reason(), GapReason::Future);
    assert_eq!((gap.after_sequence, gap.through_sequence), (40, 1));
    assert!(page.end);
}

#[tokio::test]
async fn a_check_says_for_every_position_the_same_as_a_subscriber_that_resumes_there_is_told() {
    let node = Node::start_with(|config| config.history = uneven());
    uneven_history(&node).await;
    let epoch = epoch(&node).await;
    for (turn, filters) in [&[">"][..], &["a.>", "c"], &["b.*"], &["c"]]
        .into_iter()
        .enumerate()
    {
        let mut states = std::collections::BTreeSet::new();
        let positions = (0..=32).map(|sequence| position(epoch, sequence));
        for asked in positions.chain([position(epoch ^ 1, 7)]) {
            let resumed = v1::SubscribeRequest {
                resume_after: Some(asked),
                ..request(&format!("{turn}-{}", asked.sequence), filters)
            };
            let told = subscribed(&node, resumed).await;
            let told = told.into_iter().find_map(|entry| match entry {
                Entry::Gap(gap) => Some(gap),
                Entry::Event(_) => None,
            });
            let answer = check(&node, filters, asked).await;
            assert_eq!(answer.gap, told, "{filters:?} {asked:?}");
            let expected = match told.map(|gap| gap.reason()) {
                None => State::Resumable,
                Some(GapReason::Trimmed) => State::Missing,
                Some(GapReason::EpochChanged) => State::EpochChanged,
                Some(GapReason::Future) => State::Future,
                Some(other) => panic!("{other:?}"),
            };
            assert_eq!(answer.state(), expected);
            assert_eq!(answer.head, Some(position(epoch, 30)));
            if expected == State::Resumable {
                assert_eq!(answer.checked, answer.head, "nothing is left unread");
            }
            states.insert(expected as i32);
        }
        let never_missing = filters == ["c"];
        assert_eq!(
            states.len(),
            if never_missing { 3 } else { 4 },
            "{filters:?}"
        );
    }
}

#[tokio::test]
async fn the_earliest_position_of_a_check_misses_nothing_and_none_before_it_is_complete() {
    let node = Node::start_with(|config| config.history = vec![history("t", 3)]);
    for _ in 0..10 {
        node.publish("t", "x").await;
    }
    let epoch = epoch(&node).await;
    let answer = check(&node, &["t"], position(epoch, 2)).await;
    assert_eq!(answer.earliest, Some(position(epoch, 7)));
    let gap = answer.gap.expect("the missing events");
    assert_eq!((gap.after_sequence, gap.through_sequence), (2, 7));
    let state = async |sequence| {
        check(&node, &["t"], position(epoch, sequence))
            .await
            .state()
    };
    assert_eq!(state(6).await, State::Missing);
    assert_eq!(state(7).await, State::Resumable);
}

#[tokio::test]
async fn a_gap_too_far_ahead_to_be_looked_for_is_a_range_that_holds_it() {
    let node = Node::start_with(|config| config.history = vec![history("a", 1)]);
    // More deliveries that are kept than one call looks at, before the first that is gone.
    let large = "x".repeat(96 << 10);
    node.publish_all(vec![message("b", &large); 70]).await;
    for _ in 0..3 {
        node.publish("a", "x").await;
    }
    let epoch = epoch(&node).await;
    let answer = check(&node, &["a", "b"], position(epoch, 0)).await;
    assert_eq!(answer.state(), State::Missing);
    let gap = answer.gap.expect("the missing events");
    assert!((1..70).contains(&gap.after_sequence), "{gap:?}");
    assert_eq!((gap.through_sequence, gap.events), (72, 0));
    assert_eq!(
        check(&node, &["b"], position(epoch, 0)).await.state(),
        State::Resumable
    );
}

#[tokio::test]
async fn a_bad_request_is_named_with_its_field_and_limit() {
    let node = Node::start();
    let many: Vec<String> = (0..65).map(|n| format!("t.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let list = |change: fn(&mut v1::ListTopicsRequest)| {
        let mut request = listing("t");
        change(&mut request);
        request
    };
    for (request, says) in [
        (listing("a..b"), vec!["`topic_filter`", "empty token"]),
        (listing("a.>.b"), vec!["`topic_filter`", "last"]),
        (
            list(|it| it.page_size = 1_001),
            vec!["`page_size`", "1001", "1000"],
        ),
        (
            list(|it| it.page_size = u32::MAX),
            vec!["`page_size`", "1000"],
        ),
        (
            list(|it| it.page_token = "a.*".to_owned()),
            vec!["`page_token`", "*"],
        ),
        (
            list(|it| it.page_token = "a b".to_owned()),
            vec!["`page_token`", "' '"],
        ),
        (
            list(|it| it.subscriber_id = "a/b".to_owned()),
            vec!["`subscriber_id`", "'/'"],
        ),
        (
            list(|it| it.subscriber_id = "s".repeat(129)),
            vec!["`subscriber_id`", "129"],
        ),
    ] {
        let shown = format!("{request:?}");
        let status = list_page(&node, request).await.expect_err(&shown);
        assert_says(&status, Code::InvalidArgument, &says);
    }
    let read = |change: fn(&mut v1::ReadHistoryRequest)| {
        let mut request = reading(&["t"]);
        change(&mut request);
        request
    };
    for (request, says) in [
        (reading(&[]), vec!["`subscriptions`", "0", "64"]),
        (reading(&many), vec!["`subscriptions`", "65", "64"]),
        (reading(&["t", ""]), vec!["`topic_filter`", "empty"]),
        (
            read(|it| it.page_size = 10_001),
            vec!["`page_size`", "10001", "10000"],
        ),
        (
            read(|it| it.page_bytes = (3 << 20) + 1),
            vec!["`page_bytes`", "3145729", "3145728"],
        ),
        (
            read(|it| it.subscriber_id = "ü".to_owned()),
            vec!["`subscriber_id`", "'ü'"],
        ),
    ] {
        let shown = format!("{request:?}");
        let status = read_page(&node, request).await.expect_err(&shown);
        assert_says(&status, Code::InvalidArgument, &says);
    }
    let check = |filters: &[&str], position| v1::CheckPositionRequest {
        subscriptions: filters.iter().map(|filter| subscription(filter)).collect(),
        position,
        ..v1::CheckPositionRequest::default()
    };
    for (request, says) in [
        (check(&["t"], None), vec!["`position`", "not set"]),
        (
            check(&[], Some(position(1, 1))),
            vec!["`subscriptions`", "0", "64"],
        ),
        (
            check(&["a.b*"], Some(position(1, 1))),
            vec!["`topic_filter`", "'*'"],
        ),
    ] {
        let shown = format!("{request:?}");
        let answer = client(&node).check_position(request).await;
        assert_says(&answer.expect_err(&shown), Code::InvalidArgument, &says);
    }
    let oversize = listing(&"a".repeat(1 << 20));
    let status = list_page(&node, oversize).await.expect_err("too large");
    assert_says(
        &status,
        Code::ResourceExhausted,
        &["ListTopicsRequest", "limit"],
    );
    list_page(&node, listing("t")).await.expect("it goes on");
}

#[tokio::test]
async fn pages_that_nobody_takes_are_bounded_for_the_node_and_release_their_budget() {
    let node = Node::start_with(|config| config.page_bytes_max = 1);
    for _ in 0..3 {
        node.publish("t", &"x".repeat(900 << 10)).await;
    }
    let mut raw = Raw::connect(node.address).await;
    let whole = v1::ReadHistoryRequest {
        page_bytes: 3 << 20,
        ..reading(&["t"])
    };
    let path = "/longlived.v1.TopicService/ReadHistory";
    let mut stalled = raw.call(path, &[], framed(&whole.encode_to_vec())).await;
    stalled.bytes(5).await;
    let status = read_page(&node, reading(&["t"]))
        .await
        .expect_err("no room");
    assert_says(&status, Code::ResourceExhausted, &["page_bytes_max"]);
    let pushback = status.metadata().get("grpc-retry-pushback-ms");
    assert_eq!(pushback.expect("a wait"), "1000");
    let status = list_page(&node, listing("t")).await.expect_err("no room");
    assert_says(&status, Code::ResourceExhausted, &["page_bytes_max"]);
    // The rest is taken, and the next has its turn.
    let (_, trailers) = stalled.rest().await;
    assert_eq!(text(&trailers, "grpc-status"), Some("0"));
    let page = read_page(&node, reading(&["t"]))
        .await
        .expect("there is room");
    assert_eq!(page.entries.len(), 1);
    let mut stalled = raw.call(path, &[], framed(&whole.encode_to_vec())).await;
    stalled.bytes(5).await;
    drop(stalled);
    raw.vanish();
    read_page(&node, whole).await.expect("there is room");
}

#[tokio::test]
async fn the_callers_deadline_ends_each_of_the_calls() {
    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    for method in ["ListTopics", "ReadHistory", "CheckPosition"] {
        let path = format!("/longlived.v1.TopicService/{method}");
        let (response, _request) = raw.begin(&path, &[("grpc-timeout", "50m")]).await;
        let reply = RawReply::of(response).await;
        assert_eq!(reply.header("grpc-status"), Some("4"), "{path}");
        let reply = raw.call(&path, &[], framed(b"\xff\xff")).await;
        assert_ne!(reply.header("grpc-status"), Some("0"), "{path}");
    }
}
