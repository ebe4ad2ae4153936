//! Writes a history, line by line.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use super::{Header, Record};

/// Writes a history into a file or another writer. Buffered: a line is there for certain after
/// [`Writer::flush`] or [`Writer::finish`].
pub struct Writer<W: Write = File> {
    out: BufWriter<W>,
}

impl Writer {
    /// A new file that begins with the header; one that exists is replaced.
    pub fn create(path: impl AsRef<Path>, header: &Header) -> io::Result<Self> {
        Self::new(File::create(path)?, header)
    }
}

impl<W: Write> Writer<W> {
    /// Begins with the header.
    pub fn new(out: W, header: &Header) -> io::Result<Self> {
        let mut writer = Self {
            out: BufWriter::with_capacity(64 << 10, out),
        };
        writer.line(header)?;
        Ok(writer)
    }

    /// One more line.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        self.line(record)
    }

    /// Hands all lines so far to the system.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Hands all lines to the system and gives back the writer.
    pub fn finish(self) -> io::Result<W> {
        self.out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
    }

    fn line(&mut self, value: &impl serde::Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }
}
