//! The scenarios in the broker alone: the log, its store in memory, live tails and cursors.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use longlived_broker::{
    Begin, Compression, Cursor, Delivery, Encoding, GapPolicy, Log, LogConfig, Opened, Outcome,
    Position, PublishOptions, ReadOptions, Signal, SlowPolicy,
};
use longlived_topic::TopicFilter;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::counted::counted;
use crate::world::{TOPIC, environment, message, runtime, store_with};
use crate::{EVENTS, MESSAGES, RESUMPTIONS, SUBSCRIBERS};

/// Messages that are published before counting begins.
const WARM_UP: usize = 5;
/// Resumptions before counting begins.
const WARM_UP_RESUMPTIONS: usize = 20;

/// A log whose sequencer runs.
struct Broker {
    runtime: Runtime,
    log: Log,
}

impl Broker {
    fn new(events: usize) -> Self {
        let runtime = runtime();
        let store = store_with(events, &environment(&runtime));
        let (log, sequencer) = Log::new(store, LogConfig::default());
        let tasks = TaskTracker::new();
        tasks.spawn_on(
            async move {
                let end = sequencer.run(CancellationToken::new()).await;
                unreachable!("nobody stops the sequencer: {end:?}");
            },
            runtime.handle(),
        );
        Self { runtime, log }
    }

    fn publish(&self) {
        let published = self.log.publish(message(), PublishOptions::default());
        let published = self.runtime.block_on(published);
        published.expect("the store takes everything");
    }

    fn open(&self, begin: Begin) -> Opened {
        let filters = [TopicFilter::parse(TOPIC).expect("a filter of our own")];
        let options = ReadOptions {
            gap_policy: GapPolicy::Earliest,
            slow_policy: SlowPolicy::Park,
            message_bytes_max: 4 << 20,
            encoding: Encoding::V1,
            compression: Compression::Identity,
        };
        let signal = Arc::new(Signal::default());
        let opened = Cursor::open(&self.log, &filters, begin, options, signal);
        self.runtime.block_on(opened).expect("the log is open")
    }

    fn position(&self) -> Position {
        self.log.position_at(self.log.visible())
    }
}

/// Delivers all pending events of a cursor, and counts them.
fn read(cursor: &mut Cursor) -> usize {
    // The wake-ups themselves are not the broker's work.
    let mut cx = Context::from_waker(Waker::noop());
    let mut events = 0;
    while let Poll::Ready(delivery) = cursor.poll_next(&mut cx) {
        match delivery.expect("memory can be read") {
            Delivery::Events { count, .. } => events += count,
            Delivery::Current => {}
            other => unreachable!("nothing is missing: {other:?}"),
        }
    }
    events
}

/// One message after the other to all cursors.
pub(crate) fn publish() -> usize {
    let broker = Broker::new(0);
    let mut cursors: Vec<Cursor> = (0..SUBSCRIBERS)
        .map(|_| broker.open(Begin::Next).cursor)
        .collect();
    let mut deliver = || {
        broker.publish();
        let events: usize = cursors.iter_mut().map(read).sum();
        assert_eq!(SUBSCRIBERS, events);
    };
    for _ in 0..WARM_UP {
        deliver();
    }
    for _ in 0..MESSAGES {
        counted(&mut deliver);
    }
    MESSAGES * SUBSCRIBERS
}

/// One cursor that reads everything that is kept.
pub(crate) fn catch_up() -> usize {
    let broker = Broker::new(EVENTS);
    let mut cursor = broker.open(Begin::Earliest).cursor;
    let mut events = 0;
    counted(&mut || events = read(&mut cursor));
    assert_eq!(events, EVENTS);
    events
}

/// One cursor after the other comes back to a live tail that others read, and gets the events that it missed.
pub(crate) fn resume() -> usize {
    let broker = Broker::new(0);
    let current = broker.open(Begin::Next);
    for _ in 0..WARM_UP {
        broker.publish();
    }
    let after = broker.position();
    broker.publish();
    // Those that came back stay.
    let mut resumed = vec![current.cursor];
    for number in 0..WARM_UP_RESUMPTIONS + RESUMPTIONS {
        let mut resume = || {
            let Opened {
                mut cursor,
                outcome,
                ..
            } = broker.open(Begin::After(after));
            assert_eq!(outcome, Outcome::Resumed);
            assert_eq!(read(&mut cursor), 1);
            resumed.push(cursor);
        };
        if number < WARM_UP_RESUMPTIONS {
            resume();
        } else {
            counted(&mut resume);
        }
    }
    RESUMPTIONS
}
