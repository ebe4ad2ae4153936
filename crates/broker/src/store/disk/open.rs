//! Opening a data directory: its owner, its format, and its content.
//!
//! Holds: a directory of a newer format, of another process, or with other things in it is refused before anything in
//! it is touched; the log of an earlier process is sealed anew, so that this process has synced all events that it
//! serves.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use longlived_topic::TopicName;
use parking_lot::{Mutex, RwLock};
use quick_cache::sync::Cache;
use rustc_hash::FxHashSet;
use tokio::sync::Semaphore;

use super::{
    Bell, ByBytes, Counters, DiskConfig, DiskStore, READS_MAX, Shared,
    files::{Files, Lock, LockError, SystemFiles},
    format::{self, FORMAT, FileRef, Ids, Meta, State},
    head::{Head, HeadFile},
    history::{History, Recent},
    maintenance::Runner,
    sealed::{self, Footer, Sealed, SealedTopic},
    segment,
    writer::Commits,
};
use crate::{
    environment::Environment,
    message::MessageKey,
    position::{Epoch, Sequence},
    store::RetentionConfig,
    store::clock::{AgeClock, Lasting},
};

/// Bytes of the indices by topic that are kept in memory, beside `cache_bytes`.
const POSTINGS_BYTES: u64 = 32 << 20;
/// Bytes of answers to "which topics of this file match" that are kept, beside `cache_bytes` too.
const MATCHES_BYTES: u64 = 16 << 20;
/// How many of them the cache is prepared for at once.
const MATCHES_EXPECTED: usize = 256;
/// How many blocks the cache is prepared for at once.
const BLOCKS_EXPECTED: usize = 2_048;
const OWN_NAMES: [&str; 10] = [
    "LOCK",
    "META",
    "META.copy",
    "STATE",
    "STATE.copy",
    "IDS",
    "HEAD",
    "FLOORS",
    "log",
    "sealed",
];

/// Why a directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another server has it.
    #[error("the data directory {} is in use by {holder}", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The text that the server wrote into the lock.
        holder: String,
    },
    /// A later version of this program wrote it.
    #[error(
        "the data directory {} has format {found}, and this version reads up to {FORMAT}; it was not touched",
        dir.display()
    )]
    NewerFormat {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It is not one of ours.
    #[error("the directory {} holds `{name}` and is no data directory; it was not touched", dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// Something in it.
        name: String,
    },
    /// Both copies of a file that nothing can replace are damaged.
    #[error("{} and its copy are damaged; restore them, or begin with an empty directory", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// An operation of the disk failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or operation.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError + '_ {
    |source| OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

impl DiskStore {
    /// Opens a directory, or makes it. Reads the log of the last process; at most `topics_max` topics are known at a
    /// time, those on the disk included.
    pub fn open(
        config: DiskConfig,
        environment: Environment,
        retention: RetentionConfig,
        topics_max: usize,
    ) -> Result<Self, OpenError> {
        let files = Arc::new(SystemFiles);
        Self::open_with(files, config, environment, retention, topics_max)
    }

    /// The same over any file system.
    pub fn open_with(
        files: Arc<dyn Files>,
        config: DiskConfig,
        environment: Environment,
        retention: RetentionConfig,
        topics_max: usize,
    ) -> Result<Self, OpenError> {
        #[cfg(longlived_faults)]
        let files = Arc::new(crate::faults::FaultyFiles(files));
        let dir = config.dir.clone();
        files.create_dir(&dir).map_err(at(&dir))?;
        refuse_foreign(&*files, &dir)?;
        let lock = lock(&*files, &dir)?;
        let meta = read_or_make_meta(&*files, &dir, &environment)?;
        let secret = |index: usize| meta.message_key_secret.get(index).copied().unwrap_or(0);
        let shared = Shared {
            epoch: Epoch::new(meta.epoch).ok_or_else(|| OpenError::Damaged {
                path: dir.join("META"),
            })?,
            record_secret: meta.record_secret,
            message_key_secret: [secret(0), secret(1)],
            last: AtomicU64::new(0),
            history: RwLock::new(History::new(retention, topics_max)),
            blocks: Cache::with_weighter(BLOCKS_EXPECTED, config.cache_bytes, ByBytes),
            postings: Cache::with_weighter(64, POSTINGS_BYTES, ByBytes),
            matches: Cache::with_weighter(MATCHES_EXPECTED, MATCHES_BYTES, ByBytes),
            reads: Arc::new(Semaphore::new(READS_MAX)),
            counters: Counters::default(),
            damaged: Mutex::default(),
            floors_written: Mutex::default(),
            lost: Mutex::default(),
            doomed: Mutex::default(),
            broken: OnceLock::new(),
            prepared: Mutex::new(None),
            next_segment: AtomicU64::new(1),
            next_file: AtomicU64::new(1),
            bell: Bell::default(),
            head_file: HeadFile::new(&dir, meta.record_secret),
            lock,
            files,
            clock: AgeClock::new(environment.clone()),
            environment,
            config,
        };
        let had_head = shared.load()?;
        shared.recover_log(had_head)?;
        // A class may be smaller now than it was.
        shared.enforce_retention().map_err(at(&dir))?;
        let shared = Arc::new(shared);
        Ok(Self {
            commits: Commits::start(shared.clone()).map_err(at(&dir))?,
            maintenance: Runner::start(&shared).map_err(at(&dir))?,
            shared,
        })
    }
}

/// The text that this process writes into the lock. With the host: in containers nearly every server is process 1.
pub(super) fn owner() -> String {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    format!("process {} on {host}", std::process::id())
}

/// Takes the directory for this process.
pub(super) fn lock(files: &dyn Files, dir: &Path) -> Result<Box<dyn Lock>, OpenError> {
    let path = dir.join("LOCK");
    files.lock(&path, &owner()).map_err(|error| match error {
        LockError::Held(holder) => OpenError::InUse {
            dir: dir.to_owned(),
            // It has the lock and has not written its text yet.
            holder: if holder.is_empty() {
                "another process".to_owned()
            } else {
                holder
            },
        },
        LockError::Replaced => OpenError::Io {
            path,
            source: io::ErrorKind::NotFound.into(),
        },
        LockError::Io(source) => OpenError::Io { path, source },
    })
}

/// Asked before the lock, which would leave a trace.
pub(super) fn refuse_foreign(files: &dyn Files, dir: &Path) -> Result<(), OpenError> {
    let path = dir.join("META");
    let metas: [Option<Meta>; 2] = format::read_pair(files, &path).map_err(at(&path))?;
    if let Some(found) = metas.iter().flatten().map(|meta| meta.format).max() {
        if found > FORMAT {
            return Err(OpenError::NewerFormat {
                dir: dir.to_owned(),
                found,
            });
        }
        return Ok(());
    }
    let names = files.list(dir).map_err(at(dir))?;
    let own = |name: &String| OWN_NAMES.contains(&name.trim_end_matches(".new"));
    // A file system may put this one into an empty disk.
    let foreign = names
        .iter()
        .find(|name| !own(name) && *name != "lost+found");
    match foreign {
        Some(name) => Err(OpenError::Foreign {
            dir: dir.to_owned(),
            name: name.clone(),
        }),
        None => Ok(()),
    }
}

/// One of two copies is enough, but the next damage would be fatal: an operator should know.
fn say_replaced(path: &Path, lacks_one: bool) {
    let what = if lacks_one {
        "damaged or missing"
    } else {
        "older than the other"
    };
    tracing::warn!(file = %path.display(), "one of its two copies was {what}; it is rewritten");
}

/// The copy of `META` that was written later. So neither a crash between the two nor a restored old copy brings back an
/// earlier state.
pub(super) fn prevailing(metas: [Option<Meta>; 2]) -> Option<Meta> {
    let later = |known: Meta, other: Meta| {
        let age = |meta: &Meta| (meta.format, meta.epoch_changes);
        if age(&other) > age(&known) {
            other
        } else {
            known
        }
    };
    metas.into_iter().flatten().reduce(later)
}

fn read_or_make_meta(
    files: &dyn Files,
    dir: &Path,
    environment: &Environment,
) -> Result<Meta, OpenError> {
    let path = dir.join("META");
    let metas: [Option<Meta>; 2] = format::read_pair(files, &path).map_err(at(&path))?;
    let is_new = |meta: &Option<Meta>| meta.as_ref().is_some_and(|meta| meta.format == FORMAT);
    let both = metas.iter().all(is_new) && metas[0] == metas[1];
    let differ = metas[0] != metas[1];
    let lacks_one = metas.iter().any(Option::is_none);
    let known = prevailing(metas);
    if known.is_some() && differ {
        say_replaced(&path, lacks_one);
    }
    let names = files.list(dir).map_err(at(dir))?;
    if known.is_none() && names.iter().any(|name| name == "META" || name == "STATE") {
        return Err(OpenError::Damaged { path });
    }
    if let Some(meta) = known.as_ref().filter(|meta| meta.format < FORMAT) {
        tracing::info!(
            from = meta.format,
            to = FORMAT,
            "the data directory has an older format and gets this one; older versions do not read it any more"
        );
    }
    let known = known.map(|meta| Meta {
        format: FORMAT,
        ..meta
    });
    let meta = known.unwrap_or_else(|| Meta {
        format: FORMAT,
        epoch: Epoch::from_random(environment.random()).get(),
        record_secret: environment.random(),
        message_key_secret: vec![environment.random(), environment.random()],
        epoch_changes: 0,
    });
    if !both {
        format::write_pair(files, &path, &meta).map_err(at(&path))?;
        // The directory may be new itself.
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            files.sync_dir(parent).map_err(at(parent))?;
        }
    }
    Ok(meta)
}

impl Shared {
    /// Reads `STATE`, the sealed files it names, and `IDS`. Whether the directory has had a `HEAD`.
    fn load(&self) -> Result<bool, OpenError> {
        for dir in [self.log_dir(), self.sealed_dir()] {
            self.files.create_dir(&dir).map_err(at(&dir))?;
        }
        let dir = &self.config.dir;
        self.files.sync_dir(dir).map_err(at(dir))?;
        let path = dir.join("STATE");
        let states: [Option<State>; 2] =
            format::read_pair(&*self.files, &path).map_err(at(&path))?;
        let differ = states[0] != states[1];
        let lacks_one = states.iter().any(Option::is_none);
        if lacks_one && states.iter().any(Option::is_some) {
            say_replaced(&path, lacks_one);
        }
        let state = states
            .into_iter()
            .flatten()
            .max_by_key(|state| state.version);
        let Some(state) = state else {
            let names = self.files.list(dir).map_err(at(dir))?;
            // A new directory gets its STATE before anything else, so history without one has lost it.
            let mut has_history = names.iter().any(|name| name == "STATE");
            for dir in [self.log_dir(), self.sealed_dir()] {
                has_history |= !self.files.list(&dir).map_err(at(&dir))?.is_empty();
            }
            if has_history {
                return Err(OpenError::Damaged { path });
            }
            // Before the file that says that there is one.
            self.begin_head(Head::default()).map_err(at(dir))?;
            self.write_state().map_err(at(&path))?;
            return Ok(true);
        };
        if differ {
            // An older copy names files that are removed from here on.
            format::write_pair(&*self.files, &path, &state).map_err(at(&path))?;
        }
        let floors: Option<format::Floors> =
            format::read(&*self.files, &self.floors_path()).map_err(at(&self.floors_path()))?;
        {
            let history = &mut *self.history.write();
            history.recall(&state);
            history.recall_floors(&state, floors.as_ref());
        }
        self.floors_are_written(&state.classes);
        self.floors_are_written(floors.as_ref().map_or(&[], |floors| &floors.classes));
        let clock = state.clock.as_ref().map(Lasting::from);
        self.clock.resume(clock.unwrap_or_else(|| Lasting {
            last: state.sealed_time,
            ..Lasting::default()
        }));
        let names = self.files.list(&self.sealed_dir()).map_err(at(dir))?;
        let highest = names
            .iter()
            .filter_map(|name| segment::number_in(name))
            .max();
        let next_file = state
            .next_file
            .max(highest.map_or(1, |highest| highest + 1));
        self.next_file.store(next_file, Ordering::Relaxed);
        let holes = state.holes.len() as u64;
        self.counters.damaged.store(holes, Ordering::Relaxed);
        let mut salvaged = false;
        for file in &state.files {
            salvaged |= self.load_sealed(file, &state)?;
        }
        if salvaged {
            // Only now does memory know every file that is to be named.
            self.write_state().map_err(at(&path))?;
        }
        self.remove_unnamed()?;
        self.load_ids(state.sealed_through)?;
        Ok(state.has_head)
    }

    /// Whether the file had to be salvaged.
    fn load_sealed(&self, file: &FileRef, state: &State) -> Result<bool, OpenError> {
        let path = segment::path(&self.sealed_dir(), file.number);
        let opened = self.files.open(&path, super::OpenMode::Read);
        let found = match opened {
            Ok(opened) => {
                let summary = sealed::read_summary(&*opened, file).map_err(at(&path))?;
                summary.and_then(|(summary, postings)| {
                    let names = summary.topics.iter();
                    let names: Result<Vec<_>, _> =
                        names.map(|topic| TopicName::parse(&topic.name)).collect();
                    Some((opened, summary, names.ok()?, postings))
                })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(at(&path)(error)),
        };
        let Some((opened, summary, names, postings)) = found else {
            self.salvage(file, &path, state).map_err(at(&path))?;
            return Ok(true);
        };
        let history = &mut *self.history.write();
        let topics: Vec<_> = summary
            .topics
            .iter()
            .zip(names)
            .map(|(topic, name)| {
                let id = history.known(&name);
                SealedTopic {
                    id,
                    // One name for all files that have it.
                    name: history.topics.get(id).name.clone(),
                    events: topic.events,
                    bytes: topic.bytes,
                    last: topic.last,
                }
            })
            .collect();
        let sealed = Sealed::new(
            file.number,
            path,
            opened,
            Footer {
                topics,
                blocks: summary.blocks,
                last_time: summary.last_time,
                postings,
            },
            self.record_secret,
        );
        history.count_sealed(&file.class, &Arc::new(sealed));
        Ok(false)
    }

    /// Sealed files that `STATE` does not name were being written, or being removed.
    fn remove_unnamed(&self) -> Result<(), OpenError> {
        let dir = self.sealed_dir();
        let history = self.history.read();
        let files = history.classes.iter().flat_map(|class| class.files.iter());
        let named: FxHashSet<_> = files.map(|file| &file.path).collect();
        for name in self.files.list(&dir).map_err(at(&dir))? {
            let path = dir.join(name);
            if !named.contains(&path) {
                self.files.remove(&path).map_err(at(&path))?;
            }
        }
        Ok(())
    }

    /// The log has those of the events that are not sealed yet.
    fn load_ids(&self, sealed_through: Sequence) -> Result<(), OpenError> {
        let path = self.config.dir.join("IDS");
        let found: Option<(Vec<Ids>, bool)> =
            format::read_parts(&*self.files, &path).map_err(at(&path))?;
        let parts = match found {
            // It is written whenever something is sealed.
            None if self.history.read().last_sealed() > 0 => {
                tracing::error!(file = %path.display(), "gone: message ids from before are forgotten");
                return Ok(());
            }
            None => return Ok(()),
            Some((parts, damaged)) => {
                // A file that was cut between two parts.
                let lacks = |ids: &Ids| ids.parts as usize > parts.len();
                if damaged || parts.is_empty() || parts.iter().any(lacks) {
                    let kept: usize = parts.iter().map(|ids| ids.sequence.len()).sum();
                    tracing::error!(
                        file = %path.display(), kept,
                        "damaged: some message ids from before are forgotten"
                    );
                }
                parts
            }
        };
        let last_sealed = self.history.read().last_sealed();
        // Before anything that it goes with counts it is written.
        let through = parts.iter().map(|ids| ids.through).max().unwrap_or(0);
        if through > 0 && through < last_sealed {
            tracing::error!(
                file = %path.display(), through, last_sealed,
                "an older copy: message ids of later events are forgotten"
            );
        }
        let recent = parts.iter().flat_map(|ids| {
            let keys = ids.key_low.iter().zip(&ids.key_high);
            let places = ids.sequence.iter().zip(&ids.taken);
            keys.zip(places)
                .map(|((&low, &high), (&sequence, &taken))| Recent {
                    key: MessageKey(u128::from(low) | u128::from(high) << 64),
                    sequence,
                    taken,
                })
        });
        let recent = recent.filter(|recent| recent.sequence <= sealed_through);
        let ages = self.clock.ages();
        let mut history = self.history.write();
        history.remember(recent, &self.config, &ages);
        Ok(())
    }
}
