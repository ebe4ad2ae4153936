//! How many connections fit into the files that the process may have open.
//!
//! Holds: connections, however many, leave the store, the log and metrics the files that they need.
//! Does not: read or change the limit of the process; the program that starts the node does.

use std::fmt;
use std::sync::Arc;

use crate::limits;

/// Says how many files are open now that are no connections: those of the store, which keeps one open for each sealed file.
pub(crate) type OtherFiles = Arc<dyn Fn() -> usize + Send + Sync>;

/// The files of a process. Without a known limit it limits nothing.
#[derive(Clone, Default)]
pub struct OpenFiles {
    max: Option<usize>,
    others: Option<OtherFiles>,
}

impl OpenFiles {
    /// As many files as the process may have open (`RLIMIT_NOFILE`).
    pub fn limited(max: u64) -> Self {
        Self {
            max: Some(usize::try_from(max).unwrap_or(usize::MAX)),
            others: None,
        }
    }

    /// Beside these.
    pub(crate) fn set_others(&mut self, others: OtherFiles) {
        self.others = Some(others);
    }

    /// How many connections may be open now, where `wanted` are allowed: at least one.
    pub fn connections_max(&self, wanted: usize) -> usize {
        let Some(max) = self.max else {
            return wanted;
        };
        let others = self.others.as_ref().map_or(0, |open| open());
        let left = max
            .saturating_sub(reserve(max))
            .saturating_sub(others)
            .max(1);
        wanted.min(left)
    }
}

impl fmt::Debug for OpenFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OpenFiles").field(&self.max).finish()
    }
}

/// Files that no connection gets.
fn reserve(max: usize) -> usize {
    let share = max / limits::OPEN_FILES_RESERVE_ONE_IN;
    // A process with very few has half of them for each.
    share
        .clamp(
            limits::OPEN_FILES_RESERVE_MIN,
            limits::OPEN_FILES_RESERVE_MAX,
        )
        .min(max / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        let fit = |max, wanted| OpenFiles::limited(max).connections_max(wanted);
        assert_eq!(fit(1 << 20, 100_000), 100_000);
        assert_eq!(fit(1_024, 100_000), 768);
        assert_eq!(fit(1_024, 10), 10);
        assert_eq!(fit(256, 100_000), 128);
        assert_eq!(fit(100, 100_000), 50);
        assert_eq!(fit(0, 100_000), 1);
        assert_eq!(
            fit(65_536, usize::MAX),
            65_536 - limits::OPEN_FILES_RESERVE_MAX
        );
        assert_eq!(OpenFiles::default().connections_max(7), 7);
    }
}
