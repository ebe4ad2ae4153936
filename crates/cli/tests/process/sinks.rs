//! Places that take nothing: the output of a process while a collector is stuck, gone, or out of space.

use std::fs::{File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::mounted::Mounted;
use super::support::skipped;

/// The obstacle to writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// A pipe that is full to the brim, and a reader that does not read.
    UnreadPipe,
    /// A pipe whose reader is gone.
    ClosedPipe,
    /// Each write fails: no space left on device.
    FullDevice,
    /// A file on a disk that is full.
    FullDisk,
}

impl Trouble {
    pub(crate) const ALL: [Self; 4] = [
        Self::UnreadPipe,
        Self::ClosedPipe,
        Self::FullDevice,
        Self::FullDisk,
    ];
}

/// A sink in trouble; it stays so while this lives.
pub(crate) struct Sink {
    end: OwnedFd,
    reader: Option<PipeReader>,
    disk: Option<Mounted>,
}

impl Sink {
    /// `None` where it cannot be had on this machine, which is said.
    pub(crate) fn open(trouble: Trouble) -> Option<Self> {
        let (mut reader, mut disk) = (None, None);
        let end: OwnedFd = match trouble {
            Trouble::UnreadPipe => {
                let (read, write) = std::io::pipe().unwrap();
                fill(&write);
                reader = Some(read);
                write.into()
            }
            Trouble::ClosedPipe => std::io::pipe().unwrap().1.into(),
            Trouble::FullDevice => OpenOptions::new()
                .write(true)
                .open("/dev/full")
                .unwrap()
                .into(),
            Trouble::FullDisk => {
                let small = Mounted::in_memory(1)
                    .inspect_err(|reason| skipped("a log on a full disk cannot be mounted", reason))
                    .ok()?;
                let file = File::create(small.join("log")).unwrap();
                fill_disk(&small);
                disk = Some(small);
                file.into()
            }
        };
        Some(Self { end, reader, disk })
    }

    /// For a process.
    pub(crate) fn stdio(&self) -> Stdio {
        self.end.try_clone().unwrap().into()
    }

    /// Removes the obstacle. Returns all bytes that were written from then on, once the last writer has ended.
    pub(crate) fn relieved(self) -> impl FnOnce() -> Vec<String> {
        let Self { end, reader, disk } = self;
        drop(end);
        let mut reader = reader.map(|mut reader| {
            std::thread::spawn(move || {
                let mut all = Vec::new();
                reader.read_to_end(&mut all).unwrap();
                all
            })
        });
        if let Some(disk) = &disk {
            std::fs::remove_file(disk.join("ballast")).unwrap();
        }
        move || {
            let all = match (reader.take(), &disk) {
                (Some(reader), _) => reader.join().unwrap(),
                (None, Some(disk)) => std::fs::read(disk.join("log")).unwrap(),
                (None, None) => Vec::new(),
            };
            let all = String::from_utf8_lossy(&all);
            let all = all.trim_start_matches(FILLING).lines();
            all.map(str::to_owned).collect()
        }
    }
}

/// The filling of a full pipe.
const FILLING: char = '\u{1}';

/// Until it takes nothing more.
fn fill(pipe: &PipeWriter) {
    let flags = fcntl_getfl(pipe).unwrap();
    fcntl_setfl(pipe, flags | OFlags::NONBLOCK).unwrap();
    let mut pipe = pipe;
    while pipe.write(&[FILLING as u8; 4096]).is_ok() {}
    while pipe.write(&[FILLING as u8]).is_ok() {}
    fcntl_setfl(pipe, flags).unwrap();
}

fn fill_disk(disk: &Mounted) {
    let mut ballast = File::create(disk.join("ballast")).unwrap();
    while ballast.write(&[0; 4096]).is_ok_and(|bytes| bytes > 0) {}
}
