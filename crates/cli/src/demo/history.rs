//! Where the demo's server keeps its history, and the promise that follows.
//!
//! Holds: a directory that the demo made is gone when this value is removed or dropped.

use std::path::PathBuf;

use anyhow::Context as _;
use longlived_client::fleet::Verdict;
use tempfile::TempDir;

use super::Args;
use super::board::Board;

#[derive(Debug)]
pub(super) enum History {
    Memory,
    /// In a directory that stays.
    Kept(PathBuf),
    /// In a directory that is removed at the end.
    Temporary(TempDir),
}

impl History {
    pub(super) fn of(args: &Args) -> anyhow::Result<Self> {
        if args.memory {
            return Ok(Self::Memory);
        }
        if let Some(dir) = &args.data_dir {
            return Ok(Self::Kept(dir.clone()));
        }
        let dir = tempfile::Builder::new()
            .prefix("longlived-demo-")
            .tempdir()
            .context("a temporary directory for the server's history")?;
        Ok(Self::Temporary(dir))
    }

    /// `None` in memory.
    pub(super) fn dir(&self) -> Option<&std::path::Path> {
        match self {
            Self::Memory => None,
            Self::Kept(dir) => Some(dir),
            Self::Temporary(dir) => Some(dir.path()),
        }
    }

    /// Under the start of the server.
    pub(super) fn at_start(&self) -> &'static str {
        match self {
            Self::Memory => {
                "Its history is in memory: a kill loses it, and subscribers must be told of the loss."
            }
            Self::Kept(_) | Self::Temporary(_) => {
                "Its history is on disk, synced before it is acknowledged: a kill must cost nobody anything."
            }
        }
    }

    /// Beside the second start.
    pub(super) fn at_restart(&self) -> &'static str {
        match self {
            Self::Memory => "a new history begins",
            Self::Kept(_) | Self::Temporary(_) => "the same history goes on",
        }
    }

    /// The last word of a demo that came through.
    pub(super) fn success(&self) -> &'static str {
        match self {
            Self::Memory => "Every client came back by itself and got something before and after.",
            Self::Kept(_) | Self::Temporary(_) => {
                "Every client came back by itself and went on exactly where it was: no gap, the same epoch."
            }
        }
    }

    /// The promises that were not kept, a sentence each. Loss and repetition are judged elsewhere.
    pub(super) fn broken_promises(&self, board: &Board, verdict: &Verdict) -> Vec<String> {
        let mut broken = Vec::new();
        if matches!(self, Self::Memory) {
            return broken;
        }
        match verdict.gaps {
            0 => {}
            1 => broken.push("A gap was announced although history is on disk.".to_owned()),
            gaps => broken.push(format!(
                "{gaps} gaps were announced although history is on disk."
            )),
        }
        let not_on_disk = board.acknowledged_lines() - board.on_disk();
        if not_on_disk > 0 {
            broken.push(format!(
                "{not_on_disk} acknowledged lines were not said to be on disk."
            ));
        }
        if board.epochs() > 1 {
            broken.push(format!(
                "Positions had {} epochs instead of one.",
                board.epochs()
            ));
        }
        let owed = board.acknowledged_lines() as u64 * u64::from(verdict.clients);
        let missing = owed.saturating_sub(board.deliveries_made());
        if missing > 0 {
            broken.push(format!(
                "{missing} deliveries of acknowledged lines were not made."
            ));
        }
        if board.sent_again() > 0 {
            broken.push(format!(
                "{} lines are in the log twice although their message ids were stored with them.",
                board.sent_again()
            ));
        }
        broken
    }

    /// To be called when no server uses it any more.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        if let Self::Temporary(dir) = self {
            let path = dir.path().display().to_string();
            dir.close().with_context(|| format!("removing {path}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use longlived_client::{Durability, Position};

    use super::*;

    fn disk() -> History {
        History::Kept(PathBuf::from("data"))
    }

    fn verdict(gaps: u64) -> Verdict {
        Verdict {
            clients: 1,
            gaps,
            ..Verdict::default()
        }
    }

    /// One client, and one line that it got and that was acknowledged.
    fn board() -> Board {
        let mut board = Board::new("t", 1, 1);
        board.got(1, "t", Position::new(7, 1), 1);
        board.acknowledged(Position::new(7, 1), Durability::Disk);
        board
    }

    #[test]
    fn nothing_is_held_against_a_disk_that_kept_everything() {
        let broken = disk().broken_promises(&board(), &verdict(0));
        assert!(broken.is_empty(), "{broken:?}");
    }

    #[test]
    fn any_gap_breaks_the_promise_of_a_disk_and_not_that_of_memory() {
        for (gaps, said) in [(1, "A gap was"), (10, "10 gaps were")] {
            let broken = disk().broken_promises(&board(), &verdict(gaps));
            assert_eq!(broken.len(), 1, "{broken:?}");
            assert!(broken[0].starts_with(said), "{broken:?}");
            let memory = History::Memory.broken_promises(&board(), &verdict(gaps));
            assert!(memory.is_empty(), "{memory:?}");
        }
    }

    #[test]
    fn a_new_epoch_or_a_line_that_is_twice_missing_or_not_on_disk_breaks_it_too() {
        let mut other_epoch = board();
        other_epoch.got(1, "inbox.1", Position::new(8, 1), 0);
        let mut twice = board();
        twice.got(1, "t", Position::new(7, 2), 1);
        let mut missing = board();
        missing.acknowledged(Position::new(7, 3), Durability::Disk);
        let mut in_memory = Board::new("t", 1, 1);
        in_memory.got(1, "t", Position::new(7, 1), 1);
        in_memory.acknowledged(Position::new(7, 1), Durability::Memory);
        for (board, said) in [
            (other_epoch, "2 epochs"),
            (twice, "in the log twice"),
            (missing, "1 deliveries"),
            (in_memory, "not said to be on disk"),
        ] {
            let broken = disk().broken_promises(&board, &verdict(0));
            assert_eq!(broken.len(), 1, "{broken:?}");
            assert!(broken[0].contains(said), "{broken:?}");
        }
    }

    #[test]
    fn a_directory_of_its_own_goes_with_it() {
        let args = Args {
            file: None,
            data_dir: None,
            memory: false,
            tls: false,
            give_up_after: std::time::Duration::from_secs(25),
        };
        let history = History::of(&args).unwrap();
        let dir = history.dir().unwrap().to_owned();
        std::fs::write(dir.join("LOCK"), "x").unwrap();
        history.remove().unwrap();
        assert!(!dir.exists());
    }
}
