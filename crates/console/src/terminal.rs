//! Standard output, line by line, in colour where a person looks at it.
//!
//! Holds: a line is flushed before the call returns; a reader that went away is an error, never a panic.

use std::io::{self, IsTerminal as _, Write as _};

use crate::sink::{self, OutputError};

/// The kind of a piece of text, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Ordinary text.
    Plain,
    /// Beside the point: times, borders, reasons.
    Dim,
    /// The subject of the line.
    Strong,
    /// A heading.
    Heading,
    /// As it should be.
    Good,
    /// Waiting, missing but announced.
    Wait,
    /// As it must not be.
    Bad,
}

impl Tone {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Dim => Some("2"),
            Self::Strong => Some("1"),
            Self::Heading => Some("1;36"),
            Self::Good => Some("32"),
            Self::Wait => Some("33"),
            Self::Bad => Some("31"),
        }
    }
}

/// Standard output.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    terminal: bool,
    colours: bool,
}

impl Output {
    /// As it is now, with the environment that the user has set.
    pub fn stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        // The two conventions every terminal program follows; they are nobody's configuration.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            terminal,
            colours: terminal && !refused,
        }
    }

    /// As in a pipe.
    pub fn plain() -> Self {
        Self {
            terminal: false,
            colours: false,
        }
    }

    /// True when a person looks at it.
    pub fn is_terminal(self) -> bool {
        self.terminal
    }

    /// Columns of the terminal.
    pub fn width(self) -> Option<usize> {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        Some(usize::from(size.ws_col)).filter(|width| self.terminal && *width > 0)
    }

    /// The text in its colour, or as it is where there are none.
    pub fn paint(self, tone: Tone, text: impl AsRef<str>) -> String {
        let text = text.as_ref();
        match tone.code() {
            Some(code) if self.colours && !text.is_empty() => {
                format!("\u{1b}[{code}m{text}\u{1b}[0m")
            }
            _ => text.to_owned(),
        }
    }
}

/// Prints one line, or several that belong together, and flushes.
pub fn print_line(text: impl AsRef<str>) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_ref().as_bytes())?;
    stdout.write_all(b"\n")?;
    Ok(stdout.flush()?)
}

/// Prints text as it is, and flushes.
pub fn print(text: &str) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Says something beside the output. A standard error that is not read is no reason to stop, or to wait.
pub fn note(text: impl AsRef<str>) {
    sink::stderr().offer(format!("longlived: {}\n", text.as_ref()).as_bytes());
}

/// The reader of standard output went away, as `head` does: nothing to complain about. A connection that broke is
/// something else.
pub fn reader_has_gone(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<OutputError>())
        .any(OutputError::reader_has_gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_stand_only_where_a_terminal_is() {
        let (pipe, terminal) = (
            Output {
                terminal: false,
                colours: false,
            },
            Output {
                terminal: true,
                colours: true,
            },
        );
        assert_eq!(pipe.paint(Tone::Bad, "x"), "x");
        assert_eq!(terminal.paint(Tone::Bad, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(terminal.paint(Tone::Plain, "x"), "x");
        assert_eq!(terminal.paint(Tone::Bad, ""), "");
    }

    #[test]
    fn only_standard_output_has_a_reader_that_goes() {
        use anyhow::Context as _;
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        let output: Result<(), OutputError> = Err(broken().into());
        let error = output.context("writing").context("event 7").unwrap_err();
        assert!(reader_has_gone(&error));
        let connection: Result<(), _> = Err(broken());
        let error = connection.context("asking the server").unwrap_err();
        assert!(!reader_has_gone(&error));
        let full = OutputError::from(io::Error::from(io::ErrorKind::StorageFull));
        assert!(!reader_has_gone(&full.into()));
    }
}
