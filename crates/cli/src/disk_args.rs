//! Where `longlived serve` keeps history, and how much of the disk it may use.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, builder::RangedU64ValueParser, error::ErrorKind};
use longlived_server::DiskConfig;

#[derive(Clone, Debug, Args)]
pub(crate) struct DiskArgs {
    /// Keep history in this directory, synced before a publish is answered; made when it does not exist. Without
    /// it history is in memory and ends with the process.
    #[arg(long, env = "LONGLIVED_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Bytes of the disk that publishing leaves free; with less left it is refused until there is room again.
    #[arg(
        long,
        env = "LONGLIVED_DISK_RESERVE",
        value_name = "BYTES",
        requires = "data_dir",
        value_parser = RangedU64ValueParser::<u64>::new().range(1 << 20..=1 << 50),
        default_value_t = usual().reserve_bytes
    )]
    disk_reserve: u64,

    /// Length of a segment of the log, in bytes: so much is moved into history files at a time.
    #[arg(
        long,
        env = "LONGLIVED_SEGMENT_BYTES",
        value_name = "BYTES",
        requires = "data_dir",
        value_parser = RangedU64ValueParser::<u64>::new().range(64 << 10..=1 << 30),
        default_value_t = usual().segment_bytes
    )]
    segment_bytes: u64,

    /// Bytes of stored history that are kept in memory for readers.
    #[arg(
        long,
        env = "LONGLIVED_CACHE_BYTES",
        value_name = "BYTES",
        requires = "data_dir",
        value_parser = RangedU64ValueParser::<u64>::new().range(1 << 20..=1 << 40),
        default_value_t = usual().cache_bytes
    )]
    cache_bytes: u64,
}

fn usual() -> DiskConfig {
    DiskConfig::new(PathBuf::new())
}

/// Bytes of the whole disk that a directory is, or will be, on. `None` where there is none or nobody says.
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

impl DiskArgs {
    /// What no flag can know of by itself.
    pub(crate) fn check(&self) -> Result<(), clap::Error> {
        let Some(dir) = &self.data_dir else {
            return Ok(());
        };
        let wrong = |wrong: String| Err(clap::Error::raw(ErrorKind::ValueValidation, wrong));
        if dir.exists() && !dir.is_dir() {
            let dir = dir.display();
            return wrong(format!(
                "invalid value '{dir}' for '--data-dir': it is not a directory"
            ));
        }
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

    pub(crate) fn config(self, retention_interval: Duration) -> Option<DiskConfig> {
        Some(DiskConfig {
            segment_bytes: self.segment_bytes,
            reserve_bytes: self.disk_reserve,
            cache_bytes: self.cache_bytes,
            retention_interval,
            ..DiskConfig::new(self.data_dir?)
        })
    }
}
