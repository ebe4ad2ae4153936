//! Where `longlived serve` keeps history, and how much of the disk it may use.

use std::{
    io::ErrorKind as ErrorKindOfDisk,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, error::ErrorKind};
use longlived_server::{DiskConfig, OpenError, StoreConfig};

use crate::values;

#[derive(Clone, Debug, Args)]
pub(crate) struct DiskArgs {
    /// Keep history in this directory, synced before a publish is answered. It is created if it does not exist.
    /// Without it history is in memory and is lost when the process ends.
    #[arg(long, env = "LONGLIVED_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Bytes of free disk space that publishing does not use. With less free, publishing is refused until there is
    /// space again.
    #[arg(
        long,
        env = "LONGLIVED_DISK_RESERVE",
        value_name = "BYTES",
        requires = "data_dir",
        value_parser = values::bytes::<u64>(1 << 20..=1 << 50),
        default_value_t = usual().reserve_bytes
    )]
    disk_reserve: u64,

    /// Size of a segment of the log, in bytes. A full segment is moved into history files.
    #[arg(
        long,
        env = "LONGLIVED_SEGMENT_BYTES",
        value_name = "BYTES",
        requires = "data_dir",
        value_parser = values::bytes::<u64>(64 << 10..=1 << 30),
        default_value_t = usual().segment_bytes
    )]
    segment_bytes: u64,

    /// Bytes of stored history that are cached in memory for readers.
    #[arg(
        long,
        env = "LONGLIVED_CACHE_BYTES",
        value_name = "BYTES",
        requires = "data_dir",
        value_parser = values::bytes::<u64>(1 << 20..=1 << 40),
        default_value_t = usual().cache_bytes
    )]
    cache_bytes: u64,
}

fn usual() -> DiskConfig {
    DiskConfig::new(PathBuf::new())
}

/// Bytes of the whole disk that a directory is, or will be, on. `None` if there is none or it is not known.
fn disk_bytes(dir: &Path) -> Option<u64> {
    let stat = dir
        .ancestors()
        .map(|dir| {
            if dir.as_os_str().is_empty() {
                Path::new(".")
            } else {
                dir
            }
        })
        .find_map(|dir| rustix::fs::statvfs(dir).ok())?;
    let bytes = stat.f_blocks.saturating_mul(stat.f_frsize);
    (bytes > 0).then_some(bytes)
}

/// A path that is no directory is refused before anything begins.
pub(crate) fn may_be_a_directory(dir: &Path) -> Result<(), clap::Error> {
    if !dir.exists() || dir.is_dir() {
        return Ok(());
    }
    let wrong = format!(
        "invalid value '{}' for '--data-dir': it is not a directory",
        dir.display()
    );
    Err(clap::Error::raw(ErrorKind::ValueValidation, wrong))
}

/// A refusal of a directory is an error of the flag that names it.
pub(crate) fn refused(error: &OpenError) -> anyhow::Error {
    // As text: the error says its own cause, and the chain would say it again.
    let OpenError::Io { source, .. } = error else {
        return anyhow::anyhow!("--data-dir: {error}");
    };
    let hint = match source.kind() {
        ErrorKindOfDisk::StorageFull | ErrorKindOfDisk::QuotaExceeded => {
            "; a start needs room for two segments (--segment-bytes): make some and start again"
        }
        _ => "",
    };
    anyhow::anyhow!("--data-dir: it cannot be used: {error}{hint}")
}

impl DiskArgs {
    /// Checks that concern several flags.
    pub(crate) fn check(&self) -> Result<(), clap::Error> {
        let Some(dir) = &self.data_dir else {
            return Ok(());
        };
        let wrong = |wrong: String| Err(clap::Error::raw(ErrorKind::ValueValidation, wrong));
        may_be_a_directory(dir)?;
        let reserve = self.disk_reserve;
        match disk_bytes(dir) {
            Some(disk) if reserve >= disk => wrong(format!(
                "invalid value '{reserve}' for '--disk-reserve': must be less than the {disk} bytes of the disk that {} \
                 is on",
                dir.display()
            )),
            _ => Ok(()),
        }
    }

    pub(crate) fn config(self, retention_interval: Duration) -> StoreConfig {
        let Some(dir) = self.data_dir else {
            return StoreConfig::Memory;
        };
        StoreConfig::Disk(DiskConfig {
            segment_bytes: self.segment_bytes,
            reserve_bytes: self.disk_reserve,
            cache_bytes: self.cache_bytes,
            retention_interval,
            ..DiskConfig::new(dir)
        })
    }
}
