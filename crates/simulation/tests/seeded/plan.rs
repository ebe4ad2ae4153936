//! The plan that follows from a seed: the number of everything, the network, the store, and the faults with their
//! times.

use std::time::Duration;

use longlived_broker::{HistoryClass, Limits};
use longlived_client::GapPolicy;
use longlived_topic::TopicFilter;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::network::{Host, Weather};

/// Topics that are published to.
pub(crate) const TOPICS: [&str; 6] = [
    "orders.eu",
    "orders.us",
    "orders.eu.created",
    "prices.gold",
    "prices.tin",
    "inbox.s1",
];

/// First host of the publishers, and of the processes that take over.
pub(crate) const PUBLISHERS: Host = 100;
pub(crate) const OTHERS: Host = 150;

/// The largest event that a subscriber with a low limit takes; the largest messages are larger.
pub(crate) const EVENT_BYTES_SMALL: u32 = 10_000;

/// The filters that subscribers choose from.
const FILTERS: [&[&str]; 8] = [
    &[">"],
    &["orders.>"],
    &["orders.*"],
    &["orders.eu"],
    &["prices.*", "orders.eu.>"],
    &["prices.gold", "prices.>"],
    &["*.eu", "prices.tin"],
    &["orders.us", "prices.tin"],
];

/// A run, as its seed has it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) subscribers: Vec<SubscriberPlan>,
    pub(crate) publishers: usize,
    /// Messages of each publisher come after pauses up to this many milliseconds.
    pub(crate) pause_max: u64,
    /// The store outlives the server.
    pub(crate) durable: bool,
    /// Few events are kept, so that gaps occur.
    pub(crate) retention: Option<Limits>,
    pub(crate) weather: Weather,
    /// See `Witness`.
    pub(crate) slowness: u64,
    /// See `Witness`.
    pub(crate) fails_one_in: u64,
    /// Bytes the live tails keep; small ones send readers to the store.
    pub(crate) tail_bytes_max: usize,
    /// Some ends of a server damage a byte of what its disk holds, or take the end of its log.
    pub(crate) damages: bool,
    /// Bytes of the disk that the server leaves free.
    pub(crate) reserve_bytes: u64,
    /// In the order of their time.
    pub(crate) faults: Vec<(Duration, Fault)>,
    /// When every fault is mended.
    pub(crate) calm: Duration,
}

#[derive(Debug)]
pub(crate) struct SubscriberPlan {
    pub(crate) host: Host,
    pub(crate) filters: Vec<String>,
    pub(crate) earliest: bool,
    pub(crate) disconnect_when_slow: bool,
    pub(crate) gap_policy: GapPolicy,
    pub(crate) event_bytes_max: Option<u32>,
    /// It saves its position after this number of items.
    pub(crate) saves_in: u32,
}

/// A fault, or the end of one.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Kill,
    CutPower,
    Drain,
    StartServer,
    /// The disk takes this number of bytes more.
    FillDisk(u64),
    /// Nothing that is written can be synced.
    FailSyncs,
    /// The disk is repaired. A server that could not sync is ended if it has not ended by itself.
    MendDisk,
    Hold(Host, Host),
    Heal(Host, Host),
    Lose(Host),
    Storm,
    Fair,
    Slow(usize, Duration),
    /// The subscriber alone: the same program makes it anew.
    Restart(usize),
    /// The whole program of a host.
    RestartHost(Host),
    Refilter(usize, Vec<String>),
    Takeover(usize),
    Unsubscribe(usize),
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let hosts: Host = rng.random_range(2..=4);
        let subscribers: Vec<_> = (0..rng.random_range(4..=10))
            .map(|_| SubscriberPlan {
                host: rng.random_range(1..=hosts),
                filters: filters(&mut rng),
                earliest: rng.random(),
                disconnect_when_slow: rng.random_ratio(1, 4),
                gap_policy: match rng.random_range(0..8) {
                    0 => GapPolicy::Fail,
                    1 => GapPolicy::Latest,
                    _ => GapPolicy::Earliest,
                },
                event_bytes_max: rng.random_ratio(1, 4).then_some(EVENT_BYTES_SMALL),
                saves_in: rng.random_range(1..=5),
            })
            .collect();
        let retention = rng.random_ratio(1, 3).then(|| Limits {
            events: rng.random_range(5..100),
            bytes: rng.random_range(2_000..100_000),
            age: rng.random_ratio(1, 2).then_some(Duration::from_secs(5)),
        });
        let latency_min = rng.random_range(0..5);
        let weather = Weather {
            latency_min,
            latency_max: latency_min + rng.random_range(0..50),
            buffer_bytes: 1 << rng.random_range(12..18),
        };
        let faulty = Duration::from_millis(rng.random_range(5_000..20_000));
        let mut plan = Self {
            publishers: rng.random_range(1..=3),
            pause_max: rng.random_range(50..400),
            durable: rng.random(),
            retention,
            weather,
            slowness: *[0, 0, 3, 30].choose(&mut rng).expect("it is not empty"),
            fails_one_in: *[0, 0, 0, 50].choose(&mut rng).expect("it is not empty"),
            tail_bytes_max: *[2_000, 64 << 20].choose(&mut rng).expect("it is not empty"),
            damages: false,
            reserve_bytes: 0,
            faults: Vec::new(),
            calm: faulty,
            subscribers,
        };
        for _ in 0..rng.random_range(1..=12) {
            let at = Duration::from_millis(rng.random_range(500..faulty.as_millis() as u64));
            plan.break_something(&mut rng, at, hosts);
        }
        if plan.durable {
            plan.break_disk(&mut rng, faulty);
        }
        plan.faults.sort_by_key(|(at, _)| *at);
        plan.faults.retain(|(at, _)| *at < faulty);
        plan
    }

    /// One fault and, where it has an end, its end.
    fn break_something(&mut self, rng: &mut StdRng, at: Duration, hosts: Host) {
        let lasts = Duration::from_millis(rng.random_range(1..4_000));
        // Programs that publish are cut off as well.
        let publishers = PUBLISHERS..PUBLISHERS + self.publishers as Host;
        let all: Vec<Host> = (1..=hosts).chain(publishers).collect();
        let host = *all.choose(rng).expect("it is not empty");
        let who = rng.random_range(0..self.subscribers.len());
        let mut add = |at: Duration, fault: Fault| self.faults.push((at, fault));
        match rng.random_range(0..14) {
            0..=2 => {
                add(at, Fault::Kill);
                add(at + lasts, Fault::StartServer);
            }
            3 => {
                add(at, Fault::CutPower);
                add(at + lasts, Fault::StartServer);
            }
            4 => {
                add(at, Fault::Drain);
                add(at + lasts, Fault::StartServer);
            }
            5 => {
                let both = rng.random_ratio(2, 3);
                let inward: bool = rng.random();
                for (from, to) in [(host, 0), (0, host)] {
                    if both || (from == 0) == inward {
                        add(at, Fault::Hold(from, to));
                        add(at + lasts, Fault::Heal(from, to));
                    }
                }
            }
            6 => add(at, Fault::Lose(host)),
            7 => {
                add(at, Fault::Storm);
                add(at + lasts, Fault::Fair);
            }
            8 => add(at, Fault::Slow(who, lasts)),
            9 => add(at, Fault::Restart(who)),
            10 => add(at, Fault::RestartHost(1 + host % hosts)),
            11 => add(at, Fault::Refilter(who, filters(rng))),
            12 => add(at, Fault::Unsubscribe(who)),
            _ => add(at, Fault::Takeover(who)),
        }
    }

    /// The faults of a disk. Drawn last, so that it changes nothing else of a seed.
    fn break_disk(&mut self, rng: &mut StdRng, faulty: Duration) {
        self.damages = rng.random_ratio(1, 3);
        self.reserve_bytes = *[0, 64 << 10].choose(rng).expect("it is not empty");
        let mut somewhen = || {
            let at = Duration::from_millis(rng.random_range(500..faulty.as_millis() as u64));
            let lasts = Duration::from_millis(rng.random_range(500..4_000));
            rng.random_ratio(1, 3).then_some((at, at + lasts))
        };
        let (full, failing) = (somewhen(), somewhen());
        if let Some((at, end)) = full {
            // At once, or after some batches, or in the middle of one.
            let bytes = self.reserve_bytes + rng.random_range(0..8_000);
            self.faults.push((at, Fault::FillDisk(bytes)));
            self.faults.push((end, Fault::MendDisk));
        }
        if let Some((at, end)) = failing {
            self.faults.push((at, Fault::FailSyncs));
            self.faults.push((end, Fault::MendDisk));
            self.faults.push((end, Fault::StartServer));
        }
    }

    /// The classes of the server's history.
    pub(crate) fn classes(&self) -> Vec<HistoryClass> {
        let class = |filter: &str, limits| HistoryClass {
            filter: TopicFilter::parse(filter).expect("a filter of our own"),
            limits,
        };
        self.retention
            .map(|limits| class("orders.>", limits))
            .into_iter()
            .collect()
    }
}

fn filters(rng: &mut StdRng) -> Vec<String> {
    let chosen = FILTERS.choose(rng).expect("it is not empty");
    chosen.iter().map(|&filter| filter.to_owned()).collect()
}
