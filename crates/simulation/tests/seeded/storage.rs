//! The storage that keeps the log of a simulated node from one life to the next.
//!
//! A store that is to be run here stands behind [`Storage`]. It is opened anew for each life. It is told how the last
//! life ended, so that it can lose the events that such an end loses.

use std::path::Path;
use std::sync::Arc;

use longlived_broker::storage::{DiskStore, Files as _, MemoryStore, RetentionConfig};
use longlived_broker::testkit::{Faults, MemoryFiles};
use longlived_broker::{DiskConfig, Environment, HistoryClass, Store};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngExt as _};

/// Topics known at a time.
pub(crate) const TOPICS_MAX: usize = 1_000;

/// Small, so that a run seals many segments and reads most from the disk.
const SEGMENT_BYTES: u64 = 8 << 10;
/// Of the first, so that segments get more space while they fill.
const SEGMENT_BEGIN_BYTES: u64 = 1 << 10;
const CACHE_BYTES: u64 = 16 << 10;

const DIR: &str = "/data";
/// Where published events are. The small files beside it have copies, and tests of their own.
const DAMAGED: [&str; 2] = [LOG, "sealed"];
const LOG: &str = "log";
/// Where the records of a segment begin.
const SEGMENT_HEADER_BYTES: usize = 64;

/// How the trace begins to tell of a damage.
pub(crate) const DAMAGE: &str = "damage";
/// How it begins to tell of the damage that takes the end of the log.
pub(crate) const DAMAGED_END: &str = "damage of the end";
/// One damage in this number takes the end of the log.
const ENDS_ONE_IN: u32 = 4;

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// By a drain: everything was handed over.
    Drained,
    /// The process was killed; its machine goes on.
    Killed,
    /// The machine lost its power.
    PowerCut,
}

/// Gives each life of a node its store.
pub(crate) trait Storage {
    /// The store of a life that begins. No earlier one writes any more.
    fn open(&mut self, environment: &Environment) -> Arc<dyn Store>;

    /// A life has ended. Returns the damage beyond that of such an end, in words.
    fn ended(&mut self, death: Death) -> Option<String>;

    /// The faults from now on, until the next life.
    fn set_faults(&mut self, faults: Faults);
}

/// Memory: each life begins with nothing.
pub(crate) struct Forgetful {
    pub(crate) history: Vec<HistoryClass>,
}

impl Storage for Forgetful {
    fn open(&mut self, environment: &Environment) -> Arc<dyn Store> {
        Arc::new(MemoryStore::new(
            environment.clone(),
            RetentionConfig::new(self.history.clone()),
            TOPICS_MAX,
        ))
    }

    fn ended(&mut self, _: Death) -> Option<String> {
        None
    }

    fn set_faults(&mut self, _: Faults) {}
}

/// The disk store, over a disk that keeps the synced bytes when its power is cut, and any part of the rest.
pub(crate) struct OnDisk {
    pub(crate) files: MemoryFiles,
    pub(crate) history: Vec<HistoryClass>,
    /// Some ends damage a byte, or take the newest segment of the log.
    pub(crate) damages: bool,
    /// The bytes that are left free.
    pub(crate) reserve_bytes: u64,
    /// The bytes that survive a power cut, and the damage.
    pub(crate) rng: StdRng,
}

impl Storage for OnDisk {
    fn open(&mut self, environment: &Environment) -> Arc<dyn Store> {
        let config = DiskConfig {
            segment_bytes: SEGMENT_BYTES,
            segment_begin_bytes: SEGMENT_BEGIN_BYTES,
            cache_bytes: CACHE_BYTES,
            reserve_bytes: self.reserve_bytes,
            inline: true,
            ..DiskConfig::new(DIR.into())
        };
        let store = DiskStore::open_with(
            Arc::new(self.files.clone()),
            config,
            environment.clone(),
            RetentionConfig::new(self.history.clone()),
            TOPICS_MAX,
        );
        Arc::new(store.expect("the directory can be opened after any end"))
    }

    fn ended(&mut self, death: Death) -> Option<String> {
        // Nobody begins a life on a disk that is known to fail.
        self.files.set_faults(Faults::default());
        match death {
            Death::Drained | Death::Killed => self.files.kill(),
            Death::PowerCut => self.files.cut_power(|| self.rng.next_u64()),
        }
        if !self.damages || self.rng.random() {
            None
        } else if self.rng.random_ratio(1, ENDS_ONE_IN) {
            self.take_end()
        } else {
            self.damage()
        }
    }

    fn set_faults(&mut self, faults: Faults) {
        self.files.set_faults(faults);
    }
}

impl OnDisk {
    /// Takes the newest segment that holds anything.
    fn take_end(&mut self) -> Option<String> {
        let dir = Path::new(DIR).join(LOG);
        let mut names = self.files.list(&dir).ok()?.into_iter().rev();
        let is_written = |path: &Path| {
            let mut written = false;
            self.files.damage(path, |content| {
                let records = content.get(SEGMENT_HEADER_BYTES..).unwrap_or_default();
                written = records.iter().any(|&byte| byte != 0);
            });
            written
        };
        let path = names
            .by_ref()
            .map(|name| dir.join(name))
            .find(|path| is_written(path))?;
        let how = match self.rng.random_range(0..3) {
            0 => {
                self.files.remove(&path).ok()?;
                "gone"
            }
            1 => {
                self.files.damage(&path, Vec::clear);
                "empty"
            }
            _ => {
                self.files.damage(&path, |content| content.fill(0));
                "zeros"
            }
        };
        Some(format!("{DAMAGED_END}: {} is {how}", path.display()))
    }

    /// Flips one of the written bits, somewhere.
    fn damage(&mut self) -> Option<String> {
        let dir = Path::new(DIR).join(DAMAGED.choose(&mut self.rng)?);
        let names = self.files.list(&dir).ok()?;
        let path = dir.join(names.choose(&mut self.rng)?);
        let mut turned = None;
        self.files.damage(&path, |content| {
            // Behind it lies space that nobody has used.
            let Some(last) = content.iter().rposition(|&byte| byte != 0) else {
                return;
            };
            let (at, bit) = (self.rng.random_range(0..=last), self.rng.random_range(0..8));
            content[at] ^= 1 << bit;
            turned = Some(at);
        });
        let path = path.display();
        turned.map(|at| format!("{DAMAGE} of {path} at {at}"))
    }
}
