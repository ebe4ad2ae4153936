//! The position of a subscription, kept in a file so that another run continues there.
//!
//! Holds: the file always holds one whole position, the old or the new, after a kill at any moment; a position is
//! written only after the caller is done with the event it names.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use longlived_client::{ParsePositionError, Position};

/// The mistake in the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum PositionFileError {
    #[error("the position file {path} cannot be {verb}")]
    Io {
        path: PathBuf,
        verb: &'static str,
        #[source]
        cause: io::Error,
    },
    #[error("the position file {path} is not a regular file")]
    NotAFile { path: PathBuf },
    #[error("the position file {path} holds something else")]
    Content {
        path: PathBuf,
        #[source]
        cause: ParsePositionError,
    },
}

/// An open position file.
#[derive(Debug)]
pub(super) struct PositionFile {
    path: PathBuf,
    /// Beside it, so that renaming replaces it in one step.
    beside: PathBuf,
    saved: Option<Position>,
    was_empty: bool,
}

impl PositionFile {
    /// Reads the position that an earlier run saved, if there was one, and makes sure that this run can save. An empty
    /// file, as `touch` and `mktemp` make it, counts as one without a position: this never leaves one behind.
    pub(super) fn open(path: &Path) -> Result<Self, PositionFileError> {
        // A link stays a link: its target is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        // A device or a pipe would be replaced by a file, and reading a pipe waits for its writer.
        if fs::metadata(&path).is_ok_and(|it| !it.is_file()) {
            return Err(PositionFileError::NotAFile { path });
        }
        let text = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(cause) => return Err(failed(&path, "read", cause)),
        };
        let was_empty = text.as_deref().is_some_and(|text| text.trim().is_empty());
        let saved = text
            .filter(|_| !was_empty)
            .map(|text| text.parse::<Position>())
            .transpose()
            .map_err(|cause| PositionFileError::Content {
                path: path.clone(),
                cause,
            })?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let beside = path.with_file_name(name);
        File::create(&beside)
            .and_then(|_| fs::remove_file(&beside))
            .map_err(|cause| failed(&path, "written", cause))?;
        Ok(Self {
            path,
            beside,
            saved,
            was_empty,
        })
    }

    /// The warning about the file before it is used.
    pub(super) fn warning(&self) -> Option<String> {
        let path = self.path.display();
        self.was_empty
            .then(|| format!("the position file {path} is empty: this is a new subscription"))
    }

    /// The content of the file.
    pub(super) fn saved(&self) -> Option<Position> {
        self.saved
    }

    /// Replaces the content of the file.
    pub(super) fn save(&mut self, position: Position) -> Result<(), PositionFileError> {
        if self.saved == Some(position) {
            return Ok(());
        }
        self.write(position).map_err(|cause| {
            let _ = fs::remove_file(&self.beside);
            failed(&self.path, "written", cause)
        })?;
        self.saved = Some(position);
        Ok(())
    }

    fn write(&self, position: Position) -> io::Result<()> {
        let mut file = File::create(&self.beside)?;
        writeln!(file, "{position}")?;
        // A name must not reach the disk before its file.
        file.sync_data()?;
        fs::rename(&self.beside, &self.path)
    }
}

fn failed(path: &Path, verb: &'static str, cause: io::Error) -> PositionFileError {
    PositionFileError::Io {
        path: path.to_owned(),
        verb,
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_run_reads_the_saved_position() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.position");
        let mut file = PositionFile::open(&path).unwrap();
        assert_eq!(file.saved(), None);
        assert!(!path.exists(), "nothing was received, so nothing is saved");
        file.save(Position::new(7, 41)).unwrap();
        file.save(Position::new(7, 42)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "7/42\n");
        assert_eq!(
            PositionFile::open(&path).unwrap().saved(),
            Some(Position::new(7, 42))
        );
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_of_something_else_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letter.txt");
        fs::write(&path, "Dear reader").unwrap();
        let error = PositionFile::open(&path).unwrap_err();
        assert!(error.to_string().contains("letter.txt"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "Dear reader");
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_refused_and_stays() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        use std::os::unix::fs::FileTypeExt as _;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for refused in [path.as_path(), folder.path()] {
            let error = PositionFile::open(refused).unwrap_err();
            assert!(
                error.to_string().contains("is not a regular file"),
                "{error}"
            );
        }
        assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
    }

    #[test]
    fn a_file_without_a_word_is_a_new_subscription_and_said_to_be_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.position");
        for empty in ["", "\n", " \n"] {
            fs::write(&path, empty).unwrap();
            let file = PositionFile::open(&path).unwrap();
            assert_eq!(file.saved(), None);
            let warning = file.warning().expect("it is said");
            assert!(warning.contains("orders.position is empty"), "{warning}");
        }
        fs::write(&path, "7/1\n").unwrap();
        assert_eq!(PositionFile::open(&path).unwrap().warning(), None);
        fs::remove_file(&path).unwrap();
        assert_eq!(PositionFile::open(&path).unwrap().warning(), None);
    }

    #[test]
    fn a_folder_that_is_not_there_is_found_out_before_the_first_event() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("orders.position");
        let error = PositionFile::open(&path).unwrap_err();
        assert!(error.to_string().contains("cannot be written"), "{error}");
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "7/1\n").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mut file = PositionFile::open(&link).unwrap();
        file.save(Position::new(7, 2)).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&target).unwrap(), "7/2\n");
    }
}
