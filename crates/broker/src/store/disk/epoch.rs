//! Gives a data directory another epoch: for a copy that was brought back from a backup, or that is used beside the
//! original. Sequences behind the copy were, or will be, given out by the original too; without another epoch a
//! position from there would be taken for one of this history.
//!
//! Holds: all kept events stay; a directory that cannot be opened is not touched.
//! Does not: make a directory, or run beside a server.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{
    DiskStore,
    files::{Files, SystemFiles},
    format::{self, Meta},
    open::{OpenError, at, lock, prevailing, refuse_foreign},
};
use crate::{environment::Environment, position::Epoch};

/// The change of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochChange {
    /// Positions of this one are now of another history.
    pub before: Epoch,
    /// The one that positions have from now on.
    pub after: Epoch,
}

impl fmt::Display for EpochChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} is now epoch {}", self.before, self.after)
    }
}

/// Why a directory keeps its epoch.
#[derive(Debug, thiserror::Error)]
pub enum NewEpochError {
    /// It could not be opened either.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no history that could have an epoch.
    #[error("the directory {} holds no history", dir.display())]
    Empty {
        /// The directory.
        dir: PathBuf,
    },
}

impl DiskStore {
    /// Gives the history in a directory another epoch, once. No server may run on it.
    pub fn new_epoch(dir: &Path, environment: &Environment) -> Result<EpochChange, NewEpochError> {
        Self::new_epoch_with(&SystemFiles, dir, environment)
    }

    /// The same over any file system.
    pub fn new_epoch_with(
        files: &dyn Files,
        dir: &Path,
        environment: &Environment,
    ) -> Result<EpochChange, NewEpochError> {
        refuse_foreign(files, dir)?;
        let names = files.list(dir).map_err(at(dir))?;
        // Asked before the lock, which would leave a trace.
        if !names.iter().any(|name| name.starts_with("META")) {
            let dir = dir.to_owned();
            return Err(NewEpochError::Empty { dir });
        }
        let _lock = lock(files, dir)?;
        let path = dir.join("META");
        let metas: [Option<Meta>; 2] = format::read_pair(files, &path).map_err(at(&path))?;
        let known = prevailing(metas);
        let known = known.and_then(|meta| Some((Epoch::new(meta.epoch)?, meta)));
        let Some((before, meta)) = known else {
            return Err(OpenError::Damaged { path }.into());
        };
        let random = environment.random();
        let after = [random, random.wrapping_add(1)].map(Epoch::from_random);
        let after = if after[0] == before {
            after[1]
        } else {
            after[0]
        };
        let meta = Meta {
            epoch: after.get(),
            epoch_changes: meta.epoch_changes + 1,
            ..meta
        };
        format::write_pair(files, &path, &meta).map_err(at(&path))?;
        Ok(EpochChange { before, after })
    }
}
