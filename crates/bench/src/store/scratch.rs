//! A directory that a measurement may fill.
//!
//! Holds: nothing that was there before is touched, since nothing was.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

/// A folder of its own in the directory that was named; removed with this value.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(dir: &Path) -> anyhow::Result<Self> {
        let shown = dir.display();
        fs::create_dir_all(dir).with_context(|| format!("making {shown}"))?;
        let empty = fs::read_dir(dir)
            .with_context(|| format!("reading {shown}"))?
            .next()
            .is_none();
        ensure!(empty, "{shown} is not empty, and its files are not ours");
        let own = dir.join("bench");
        fs::create_dir(&own).with_context(|| format!("making {}", own.display()))?;
        Ok(Self(own))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Files that cannot be removed are seen by the next run, which refuses to begin.
        let _ = fs::remove_dir_all(&self.0);
    }
}
