//! File systems of their own for tests that need a small disk, or one that can be copied.
//!
//! Holds: a file system is unmounted when its value is dropped. Does not: work without the right to mount; a test then
//! says so and is skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A mounted file system.
pub(crate) struct Mounted {
    folder: TempDir,
}

impl Mounted {
    /// An empty file system in memory, of this number of MiB; or why there is none.
    pub(crate) fn in_memory(mebibytes: u32) -> Result<Self, String> {
        let size = format!("size={mebibytes}m");
        Self::mount(&["-t", "tmpfs", "-o", &size, "tmpfs"])
    }

    /// The file system in an image.
    pub(crate) fn image(image: &Path) -> Result<Self, String> {
        Self::mount(&["-o", "loop", path(image)])
    }

    fn mount(arguments: &[&str]) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        run("mount", &[arguments, &[path(folder.path())]].concat())?;
        Ok(Self { folder })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a server that was just killed may be on its way out.
        if let Err(error) = run("umount", &["-l", path(self.path())]) {
            eprintln!("{error}");
        }
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of this test")
}

/// Runs a command of the system to its end; its output where it failed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{program} {}: {}",
        arguments.join(" "),
        said.trim()
    ))
}
