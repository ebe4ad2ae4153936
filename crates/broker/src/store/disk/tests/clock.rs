//! Ages while the wall clock is set.

use proptest::prelude::*;

use super::*;
use crate::store::{MemoryStore, clock::SETTLES};

/// How long events are kept.
const AGE: Duration = Duration::from_secs(5_400);
/// How often the stores look.
const LOOK: Duration = Duration::from_secs(30);
const YEARS: i64 = 10 * 365 * 86_400;

#[derive(Clone, Debug)]
enum Step {
    Publish,
    Pass(u64),
    /// The clock is wrong by this number of seconds for a while, then right again.
    Wrong(i64, u64),
    /// The clock is wrong from now on.
    Set(i64),
    Restart(u64),
}

fn steps(wrong_for: std::ops::Range<u64>) -> impl Strategy<Value = Vec<Step>> {
    let wrong = || prop::sample::select(vec![YEARS, -YEARS, 40_000, -40_000, 4 * YEARS]);
    prop::collection::vec(
        prop_oneof![
            4 => Just(Step::Publish),
            4 => (1..3_000_u64).prop_map(Step::Pass),
            2 => (wrong(), wrong_for).prop_map(|(by, seconds)| Step::Wrong(by, seconds)),
            1 => wrong().prop_map(Step::Set),
            2 => (0..9_000_u64).prop_map(Step::Restart),
        ],
        1..40,
    )
}

/// The fate of one event.
struct Published {
    at: Duration,
    process: usize,
}

/// Both stores, and the true times.
struct World {
    environment: Environment,
    files: MemoryFiles,
    disk: Option<DiskStore>,
    memory: MemoryStore,
    events: Vec<Published>,
    process: usize,
    began: Duration,
    /// When the process before began.
    before: Duration,
    /// The error of the clock, in seconds, and since when.
    wrong: i64,
    since: Duration,
    /// Some clock was wrong for so long that it was believed.
    misled: bool,
    /// Time before a restart that nobody may know of.
    unknown: Duration,
}

fn classes() -> RetentionConfig {
    RetentionConfig::new(vec![HistoryClass {
        filter: TopicFilter::parse(">").unwrap(),
        limits: Limits {
            age: Some(AGE),
            ..Limits::DEFAULT
        },
    }])
}

impl World {
    fn new() -> Self {
        // 2026.
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000);
        let environment = Environment::seeded(1, start);
        let mut world = Self {
            memory: MemoryStore::new(environment.clone(), classes(), 100),
            environment,
            files: MemoryFiles::new(),
            disk: None,
            events: Vec::new(),
            process: 0,
            began: Duration::ZERO,
            before: Duration::ZERO,
            wrong: 0,
            since: Duration::ZERO,
            misled: false,
            unknown: Duration::ZERO,
        };
        world.open();
        world
    }

    fn open(&mut self) {
        let files = Arc::new(self.files.clone());
        let environment = self.environment.clone();
        let store = DiskStore::open_with(files, config(), environment, classes(), 100);
        self.disk = Some(store.unwrap());
        self.began = self.environment.elapsed();
    }

    fn disk(&self) -> &DiskStore {
        self.disk.as_ref().unwrap()
    }

    fn set(&mut self, wrong: i64) {
        // A clock that is set to its own time goes on.
        if wrong == self.wrong {
            return;
        }
        let by = wrong - self.wrong;
        self.environment.set_clock_by(by * 1_000_000_000);
        self.wrong = wrong;
        self.since = self.environment.elapsed();
    }

    /// How long the clock has had its present error, in this process.
    fn unchanged_for(&self) -> Duration {
        (self.environment.elapsed()).saturating_sub(self.since.max(self.began))
    }

    fn publish(&mut self) {
        append(self.disk(), &["a.1"]).unwrap();
        let name = TopicName::parse("a.1").unwrap();
        let new = NewMessage {
            topic: self.memory.topic_id(&name).unwrap(),
            message: Message::new(name, "payload of a.1"),
            message_key: None,
        };
        let appended = self.memory.append(&[new]).now_or_never();
        appended.unwrap().unwrap();
        self.events.push(Published {
            at: self.environment.elapsed(),
            process: self.process,
        });
    }

    async fn pass(&mut self, seconds: u64) {
        let mut left = Duration::from_secs(seconds);
        while left > Duration::ZERO {
            let step = left.min(LOOK);
            tokio::time::advance(step).await;
            left -= step;
            self.disk().trim();
            self.memory.trim();
            self.misled |= self.wrong != 0 && self.unchanged_for() + 2 * LOOK >= SETTLES;
        }
    }

    async fn restart(&mut self, downtime: u64) {
        if self.wrong != 0 || self.unchanged_for() < SETTLES + 2 * LOOK {
            let now = self.environment.elapsed();
            let until = now + Duration::from_secs(downtime);
            self.unknown += until.saturating_sub(self.before);
        }
        self.before = self.began;
        self.files.kill();
        self.disk = None;
        tokio::time::advance(Duration::from_secs(downtime)).await;
        self.process += 1;
        self.open();
        self.disk().trim();
        self.memory.trim();
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let now = self.environment.elapsed();
        let (on_disk, _) = read_all(self.disk(), &[(">", 0)], 0, 1 << 20);
        let in_memory = {
            let filters = vec![FilterFrom {
                filter: TopicFilter::parse(">").unwrap(),
                after: 0,
            }];
            let through = self.memory.last_sequence();
            let query = Query {
                filters,
                after: 0,
                through,
                bytes_max: usize::MAX,
            };
            let page = self.memory.read(query).now_or_never().unwrap().unwrap();
            let entries = page.slices.iter().flat_map(Slice::entries);
            entries.map(|entry| entry.sequence).collect::<Vec<_>>()
        };
        for (sequence, event) in (1..).zip(&self.events) {
            let age = now.saturating_sub(event.at);
            let (young, old) = (age <= AGE, age > AGE + LOOK);
            let in_memory = in_memory.contains(&sequence);
            prop_assert!(
                !young || in_memory,
                "memory: {sequence} was let go after {age:?}"
            );
            prop_assert!(
                !old || !in_memory,
                "memory: {sequence} is kept after {age:?}"
            );
            let on_disk = on_disk.contains(&sequence);
            if event.process == self.process {
                prop_assert!(!young || on_disk, "{sequence} was let go after {age:?}");
                prop_assert!(!old || !on_disk, "{sequence} is kept after {age:?}");
                continue;
            }
            if self.misled {
                continue;
            }
            prop_assert!(
                !young || on_disk,
                "{sequence} was let go after {age:?}, and a restart"
            );
            let is_known = self.wrong == 0 && self.unchanged_for() >= SETTLES + 2 * LOOK;
            let old = is_known && age > AGE + LOOK + self.unknown;
            prop_assert!(
                !old || !on_disk,
                "{sequence} is kept after {age:?}, and a restart"
            );
        }
        Ok(())
    }
}

fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new();
        for step in steps {
            match *step {
                Step::Publish => world.publish(),
                Step::Pass(seconds) => world.pass(seconds).await,
                Step::Wrong(by, seconds) => {
                    world.set(by);
                    world.pass(seconds).await;
                    world.check()?;
                    world.set(0);
                    world.pass(1).await;
                }
                Step::Set(by) => world.set(by),
                Step::Restart(downtime) => world.restart(downtime).await,
            }
            world.check()?;
        }
        // However it was: once the clock is right and has been for a while, nothing outlives its age.
        world.set(0);
        world.pass((SETTLES + AGE + 3 * LOOK).as_secs()).await;
        let (kept, _) = read_all(world.disk(), &[(">", 0)], 0, 1 << 20);
        prop_assert_eq!(kept, Vec::<Sequence>::new());
        world.check()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A clock that is wrong for moments takes nothing away early, and lets nothing outlive its age.
    #[test]
    fn events_live_for_their_age_when_the_clock_is_wrong_for_a_moment(steps in steps(1..500)) {
        run(&steps)?;
    }

    /// The same of any clock for events of one process.
    #[test]
    fn events_of_one_process_live_for_their_age_under_any_clock(steps in steps(1..20_000)) {
        run(&steps)?;
    }
}

/// Ten years ahead for one publish, and right again.
#[test]
fn one_publish_while_the_clock_is_ten_years_ahead_keeps_nothing_for_ten_years() {
    let hour = 3_600;
    run(&[
        Step::Publish,
        Step::Set(YEARS),
        Step::Publish,
        Step::Set(0),
        Step::Publish,
        Step::Pass(hour),
        Step::Restart(60),
        Step::Publish,
        Step::Pass(2 * hour),
    ])
    .unwrap();
}

/// A machine without a battery begins in 1970, and is told the time after a minute.
#[test]
fn a_clock_that_begins_in_1970_makes_nothing_old() {
    let years = 1_780_000_000;
    run(&[
        Step::Publish,
        Step::Pass(700),
        Step::Set(-years),
        Step::Restart(120),
        Step::Pass(60),
        Step::Set(0),
        Step::Publish,
        Step::Pass(3_000),
        Step::Restart(10),
        Step::Pass(1_000),
    ])
    .unwrap();
}

/// A process that began while the clock was behind ends before the true time is known. Its events are not older for
/// that.
#[test]
fn events_taken_under_a_clock_that_is_behind_are_not_aged_by_the_time_before() {
    run(&[
        Step::Set(-YEARS),
        Step::Restart(2_202),
        Step::Publish,
        Step::Restart(2_178),
        Step::Wrong(YEARS, 230),
        Step::Pass(790),
    ])
    .unwrap();
}

#[test]
fn a_clock_that_is_set_to_its_own_time_has_been_wrong_all_the_time() {
    run(&[
        Step::Publish,
        Step::Restart(0),
        Step::Publish,
        Step::Set(40_000),
        Step::Pass(306),
        Step::Wrong(40_000, 324),
    ])
    .unwrap();
}

/// A real directory under `fixtures`, as the program of format 1 left it when it was killed: 60 events each of `kept.a`
/// and `aged.a` and one of `kept.k` of June 2026; 60 of `aged.b` and 10 of `kept.b`, published while the clock was ten
/// years ahead; 10 of `aged.c` and one of `kept.c` after that, the last still in the log.
fn of_format_1() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-1");
    for part in ["", "log", "sealed"] {
        std::fs::create_dir_all(dir.path().join(part)).unwrap();
        for entry in std::fs::read_dir(fixture.join(part)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), dir.path().join(part).join(entry.file_name())).unwrap();
            }
        }
    }
    dir
}

#[test]
fn a_directory_of_format_1_is_read_and_goes_on_and_its_ages_end() {
    let dir = of_format_1();
    let aged = HistoryClass {
        filter: TopicFilter::parse("aged.>").unwrap(),
        limits: Limits {
            age: Some(AGE),
            ..Limits::DEFAULT
        },
    };
    let kept = HistoryClass {
        filter: TopicFilter::parse("kept.>").unwrap(),
        limits: Limits {
            age: None,
            ..Limits::DEFAULT
        },
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let config = DiskConfig {
        dir: dir.path().to_owned(),
        ..config()
    };
    let count = |store: &DiskStore, filter: &str| {
        let filters = [(filter, 0)];
        let page = read(store, &filters, 0, usize::MAX);
        let entries = page.slices.iter().flat_map(Slice::entries);
        entries.count()
    };
    runtime.block_on(async {
        // Half an hour after it was killed.
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_317_000);
        let environment = Environment::seeded(1, start);
        let classes = RetentionConfig::new(vec![kept, aged]);
        let open = || {
            let environment = environment.clone();
            DiskStore::open(config.clone(), environment, classes.clone(), 100).unwrap()
        };
        let store = open();
        assert_eq!(store.last_sequence(), 202);
        assert_eq!(count(&store, "kept.>"), 72);
        assert_eq!(count(&store, "aged.b"), 60, "nothing says that it is old");
        assert_eq!(store.recent_ids().len(), 202 - 60 - 60 - 1);
        let ahead = store.publish_time_ahead();
        assert!(ahead > Duration::from_secs(9 * 365 * 86_400), "{ahead:?}");
        append(&store, &["kept.new", "aged.new"]).unwrap();
        drop(store);
        let mut left = AGE + LOOK;
        let mut store = open();
        while left > Duration::ZERO {
            tokio::time::advance(LOOK).await;
            left = left.saturating_sub(LOOK);
            store.trim();
            if left == AGE / 2 {
                drop(store);
                store = open();
            }
        }
        assert_eq!(count(&store, "aged.>"), 0, "not in ten years");
        assert_eq!(count(&store, "kept.>"), 73);
    });
    // The program of format 1 must not touch it any more.
    let meta: format::Meta = format::read(&SystemFiles, &dir.path().join("META"))
        .unwrap()
        .unwrap();
    assert_eq!(meta.format, 2);
}
