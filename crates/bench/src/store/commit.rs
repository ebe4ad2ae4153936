//! `longlived bench commit`: the cost that the store on disk adds to a bare write and sync.
//!
//! Holds: commits and bare writes of the same size take turns, so that both meet the same disk; which of the two goes
//! first alternates. The store is used through its public door, as the log uses it, without a server.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use hdrhistogram::Histogram;
use longlived_server::storage::{DiskStore, NewMessage, RetentionConfig};
use longlived_server::{DiskConfig, Environment, HistoryClass, Limits, Message, Store as _};
use longlived_topic::{TopicFilter, TopicName};
use tokio::runtime::Handle;

use super::scratch::Scratch;
use crate::args::CommitArgs;
use crate::bare::Bare;
use crate::clock::monotonic_ns;
use crate::figures::Figures;
use crate::refuse::refuse;
use crate::repeat::repeat;
use crate::stop::Stop;

/// Header of a record, and its entry in the index, about.
const RECORD_HEADER_BYTES: usize = 64;
const INDEX_BYTES_EACH: usize = 6;
/// Records begin at multiples of this.
const RECORD_ALIGN: usize = 64;
/// Neither side is measured before this many turns.
const WARMUP: u64 = 50;
/// No commit should wait this long.
const LONG_NS: u64 = 20_000_000;
/// Latencies beyond it are counted as this.
const LATENCY_MAX_NS: u64 = 60_000_000_000;
/// How many topics take turns.
const TOPICS: usize = 100;

struct Size {
    name: &'static str,
    label: &'static str,
    events: usize,
    payload_bytes: usize,
}

/// Records of about 221 bytes, 4 KiB and 64 KiB.
const SIZES: [Size; 3] = [
    Size {
        name: "221b",
        label: "221 B",
        events: 1,
        payload_bytes: 112,
    },
    Size {
        name: "4kib",
        label: "4 KiB",
        events: 16,
        payload_bytes: 195,
    },
    Size {
        name: "64kib",
        label: "64 KiB",
        events: 256,
        payload_bytes: 195,
    },
];
/// Of the part in which segments end and retention works.
const BOUNDARY: Size = Size {
    name: "boundary",
    label: "boundaries, 4 KiB",
    ..SIZES[1]
};
const BOUNDARY_SEGMENT_BYTES: u64 = 1 << 20;
const BOUNDARY_KEPT_BYTES: u64 = 4 << 20;
const BOUNDARY_RETENTION: Duration = Duration::from_millis(50);

pub(crate) fn commit(args: &CommitArgs, stop: &Stop) -> anyhow::Result<ExitCode> {
    let common = &args.common;
    refuse(
        "commit",
        &[
            ("--server", common.server.is_some()),
            ("--server-pid", common.server_pid.is_some()),
            ("--server-arg", !common.server_args.is_empty()),
            ("--server-cores", common.server_cores.is_some()),
            ("--load-cores", common.load_cores.is_some()),
            ("--load-processes", common.load_processes > 0),
        ],
        "measures the store in its own process, without server and load",
    )?;
    let load = format!(
        "commit: {} commits of each size and as many bare writes in turn; {} with segments of {} KiB of which {} KiB are \
         kept; in {}",
        args.commits,
        args.boundary_commits,
        BOUNDARY_SEGMENT_BYTES >> 10,
        BOUNDARY_KEPT_BYTES >> 10,
        args.dir.display(),
    );
    repeat(load, &args.common, |_| {
        let scratch = Scratch::new(&args.dir)?;
        let mut figures = Figures::default();
        for size in &SIZES {
            let store = open(&scratch.path().join(size.name), |_| {}, Limits::DEFAULT)?;
            let times = Times::take(&store, size, args.commits, scratch.path(), stop)?;
            times.add_to(&mut figures, size);
        }
        let small = |config: &mut DiskConfig| {
            config.segment_bytes = BOUNDARY_SEGMENT_BYTES;
            config.retention_interval = BOUNDARY_RETENTION;
        };
        let limits = Limits {
            bytes: BOUNDARY_KEPT_BYTES,
            ..Limits::DEFAULT
        };
        let store = open(&scratch.path().join(BOUNDARY.name), small, limits)?;
        let commits = args.boundary_commits;
        let times = Times::take(&store, &BOUNDARY, commits, scratch.path(), stop)?;
        times.add_to(&mut figures, &BOUNDARY);
        Ok(figures)
    })
}

fn open(
    dir: &Path,
    change: impl FnOnce(&mut DiskConfig),
    limits: Limits,
) -> anyhow::Result<DiskStore> {
    let mut config = DiskConfig::new(dir.to_owned());
    change(&mut config);
    let class = HistoryClass {
        filter: TopicFilter::parse("bench.>").context("a filter")?,
        limits,
    };
    let retention = RetentionConfig::new(vec![class]);
    Ok(DiskStore::open(
        config,
        Environment::system(),
        retention,
        TOPICS,
    )?)
}

/// How long each took, in nanoseconds.
struct Times {
    store: Histogram<u64>,
    bare: Histogram<u64>,
    /// Above [`LONG_NS`].
    long: u64,
    bare_long: u64,
}

impl Times {
    fn take(
        store: &DiskStore,
        size: &Size,
        commits: u64,
        dir: &Path,
        stop: &Stop,
    ) -> anyhow::Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3);
        let mut times = Self {
            store: histogram()?,
            bare: histogram()?,
            long: 0,
            bare_long: 0,
        };
        let mut bare = Bare::new(dir.join("bare"))?;
        let mut batches = Vec::new();
        for turn in 0..TOPICS / size.events.min(TOPICS) {
            batches.push(batch(store, size, turn * size.events)?);
        }
        let mut bytes = 0;
        for turn in 0..WARMUP + commits {
            stop.check()?;
            let batch = &batches[(turn % batches.len() as u64) as usize];
            let append = || {
                let began = monotonic_ns();
                let appended = Handle::current().block_on(store.append(batch))?;
                let took = monotonic_ns() - began;
                let index_bytes = INDEX_BYTES_EACH * size.events;
                let record_bytes = RECORD_HEADER_BYTES
                    + index_bytes
                    + appended.frames().map_or(0, |f| f.len_bytes());
                anyhow::Ok((took, record_bytes.next_multiple_of(RECORD_ALIGN)))
            };
            let (committed, written);
            if turn % 2 == 0 {
                (committed, bytes) = append()?;
                bare.prepare(bytes)?;
                written = bare.write()?;
            } else {
                bare.prepare(bytes)?;
                written = bare.write()?;
                (committed, bytes) = append()?;
            }
            if turn >= WARMUP {
                times.store.saturating_record(committed);
                times.bare.saturating_record(written);
                times.long += u64::from(committed > LONG_NS);
                times.bare_long += u64::from(written > LONG_NS);
            }
        }
        Ok(times)
    }

    fn add_to(&self, figures: &mut Figures, size: &Size) {
        let us = |times: &Histogram<u64>, quantile| times.value_at_quantile(quantile) as f64 / 1e3;
        let mut add = |name: &str, label: &str, value| {
            let name = format!("{}_{name}", size.name);
            figures.add(name, format!("{}: {label}", size.label), value);
        };
        let sides = [("bare", &self.bare), ("commit", &self.store)];
        for (side, times) in sides {
            add(
                &format!("{side}_p50_us"),
                &format!("{side} p50 (us)"),
                us(times, 0.5),
            );
        }
        let ratio = us(&self.store, 0.5) / us(&self.bare, 0.5);
        add("p50_ratio", "commit / bare, p50", ratio);
        for (side, times) in sides {
            add(
                &format!("{side}_p99_us"),
                &format!("{side} p99 (us)"),
                us(times, 0.99),
            );
            add(
                &format!("{side}_max_us"),
                &format!("{side} max (us)"),
                us(times, 1.0),
            );
        }
        add(
            "bare_long",
            "bare writes above 20 ms",
            self.bare_long as f64,
        );
        add("commit_long", "commits above 20 ms", self.long as f64);
    }
}

fn batch(store: &DiskStore, size: &Size, first: usize) -> anyhow::Result<Vec<NewMessage>> {
    let payload = Bytes::from(vec![b'.'; size.payload_bytes]);
    let message = |number: usize| {
        let topic = TopicName::parse(&format!("bench.commit.{}", number % TOPICS))?;
        let id = store.topic_id(&topic)?;
        anyhow::Ok(NewMessage {
            topic: id,
            message: Message::new(topic, payload.clone()),
            message_key: None,
        })
    };
    (first..first + size.events).map(message).collect()
}
