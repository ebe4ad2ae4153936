//! The real subscriber, and an application that saves its position, is slow at times, and goes on after it was
//! started anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use longlived_client::{
    Client, Item, Notice, Position, SlowPolicy, SubscribeError, Subscriber, SubscriberHandle,
};
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tokio_stream::StreamExt as _;
use tokio_util::task::TaskTracker;

use crate::plan::SubscriberPlan;
use crate::trace::{Began, End, Incarnation, Record, Trace};

/// Everything under one subscriber id.
pub(crate) struct Desk {
    pub(crate) id: String,
    pub(crate) filters: Vec<String>,
    plan: SubscriberPlan,
    shared: Arc<Shared>,
    trace: Trace,
    alive: Vec<Alive>,
}

/// The state that all incarnations of one subscriber share: the application's own storage, and its pace.
struct Shared {
    /// Everything up to here is processed.
    saved: Mutex<Option<Position>>,
    slow_until: Mutex<Instant>,
    /// How often it was told that it cannot begin, or go on, where it wants.
    refused: AtomicU32,
}

struct Alive {
    incarnation: Incarnation,
    task: AbortHandle,
    handle: SubscriberHandle,
    /// Its own account of itself.
    stands: Arc<Mutex<Option<Position>>>,
    ended: Arc<Mutex<Option<End>>>,
}

impl Desk {
    pub(crate) fn new(number: usize, plan: SubscriberPlan, trace: Trace) -> Self {
        Self {
            id: format!("s{number}"),
            filters: plan.filters.clone(),
            plan,
            shared: Arc::new(Shared {
                saved: Mutex::new(None),
                slow_until: Mutex::new(Instant::now()),
                refused: AtomicU32::new(0),
            }),
            trace,
            alive: Vec::new(),
        }
    }

    pub(crate) fn host(&self) -> u16 {
        self.plan.host
    }

    /// An application begins where the last one under this id has saved its position.
    pub(crate) fn begin(&mut self, incarnation: Incarnation, client: &Client, tasks: &TaskTracker) {
        let after = *self.shared.saved.lock();
        // Damage behind the earliest event is announced on each attempt. In the end the subscriber accepts the gap.
        let earliest = self.plan.earliest && self.shared.refused.load(Ordering::Relaxed) < 2;
        let mut builder = client
            .subscriber(&self.id)
            .filters(&self.filters)
            .max_silence(Duration::from_secs(2))
            .gap_policy(self.plan.gap_policy);
        if let Some(bytes) = self.plan.event_bytes_max {
            builder = builder.max_event_bytes(bytes);
        }
        if self.plan.disconnect_when_slow {
            builder = builder.slow_policy(SlowPolicy::Disconnect);
        }
        builder = match after {
            Some(position) => builder.resume_after(position),
            None if earliest => builder.earliest(),
            None => builder,
        };
        self.trace.add(Record::Began(Began {
            incarnation,
            subscriber: self.id.clone(),
            filters: self.filters.clone(),
            after,
            earliest,
            gap_policy: self.plan.gap_policy,
            event_bytes_max: self.plan.event_bytes_max,
        }));
        let app = App {
            incarnation,
            subscriber: builder.build().expect("there are filters"),
            saves_in: self.plan.saves_in,
            shared: self.shared.clone(),
            stands: Arc::new(Mutex::new(after)),
            ended: Arc::default(),
            trace: self.trace.clone(),
        };
        let handle = app.subscriber.handle();
        let (stands, ended) = (app.stands.clone(), app.ended.clone());
        let task = tasks.spawn(app.run()).abort_handle();
        self.alive.push(Alive {
            incarnation,
            task,
            handle,
            stands,
            ended,
        });
    }

    /// All its applications are gone at once.
    pub(crate) fn kill(&mut self) {
        for alive in self.alive.drain(..) {
            if alive.ended.lock().is_none() {
                alive.task.abort();
                let incarnation = alive.incarnation;
                let how = End::Stopped;
                self.trace.add(Record::Ended { incarnation, how });
            }
        }
    }

    /// Its applications are told to leave; they read on until they have.
    pub(crate) fn unsubscribe(&self, tasks: &TaskTracker) {
        for alive in &self.alive {
            let (handle, trace) = (alive.handle.clone(), self.trace.clone());
            tasks.spawn(async move {
                let id = handle.id().to_owned();
                let answer = handle.unsubscribe().await;
                trace.add(Record::Fault(format!("unsubscribed {id}: {answer:?}")));
            });
        }
    }

    /// Whether none of its applications goes on.
    pub(crate) fn is_deserted(&self) -> bool {
        self.alive.iter().all(|alive| alive.ended.lock().is_some())
    }

    /// It takes nothing until then.
    pub(crate) fn slow_until(&self, until: Instant) {
        *self.shared.slow_until.lock() = until;
    }

    /// Where each of its applications stands that goes on.
    pub(crate) fn standing(&self) -> Vec<Option<Position>> {
        let on = self
            .alive
            .iter()
            .filter(|alive| alive.ended.lock().is_none());
        on.map(|alive| *alive.stands.lock()).collect()
    }
}

struct App {
    incarnation: Incarnation,
    subscriber: Subscriber,
    saves_in: u32,
    shared: Arc<Shared>,
    stands: Arc<Mutex<Option<Position>>>,
    ended: Arc<Mutex<Option<End>>>,
    trace: Trace,
}

impl App {
    async fn run(mut self) {
        let incarnation = self.incarnation;
        let how = self.read().await;
        *self.ended.lock() = Some(how.clone());
        self.trace.add(Record::Ended { incarnation, how });
    }

    async fn read(&mut self) -> End {
        let mut unsaved = 0;
        let mut left = false;
        loop {
            let slow_until = *self.shared.slow_until.lock();
            sleep_until(slow_until).await;
            let item = match self.subscriber.next().await {
                Some(Ok(item)) => item,
                Some(Err(SubscribeError::TakenOver(_))) => return End::TakenOver,
                Some(Err(SubscribeError::OutOfRange { .. })) => {
                    // The application that asked for this begins anew.
                    *self.shared.saved.lock() = None;
                    self.shared.refused.fetch_add(1, Ordering::Relaxed);
                    return End::OutOfRange;
                }
                Some(Err(error)) => return End::Failed(error.to_string()),
                None if left => return End::Left,
                None => return End::Failed("it ended without a word".to_owned()),
            };
            left |= matches!(item, Item::Notice(Notice::Unsubscribed { .. }));
            let position = self.subscriber.position();
            self.trace.add(Record::Got {
                incarnation: self.incarnation,
                item,
                position,
            });
            *self.stands.lock() = position;
            unsaved += 1;
            if unsaved >= self.saves_in {
                unsaved = 0;
                *self.shared.saved.lock() = position;
            }
        }
    }
}
