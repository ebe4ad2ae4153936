//! The drawings of the progress bar, on their way to the terminal.
//!
//! Holds: a drawing reaches the terminal whole or not at all, so that the next finds the cursor in its place; a terminal
//! that takes nothing holds up no client.

use std::fmt::{self, Write as _};
use std::io;

use indicatif::TermLike;
use longlived_console::sink::Sink;
use parking_lot::Mutex;

use crate::show::Output;

/// Where the terminal does not say how wide it is.
const WIDTH: u16 = 80;

pub(super) struct Drawing {
    out: &'static Sink,
    output: Output,
    /// The output since the last flush.
    text: Mutex<String>,
}

impl Drawing {
    pub(super) fn new(out: &'static Sink, output: Output) -> Self {
        Self {
            out,
            output,
            text: Mutex::default(),
        }
    }

    fn draw(&self, what: fmt::Arguments<'_>) -> io::Result<()> {
        let drawn = self.text.lock().write_fmt(what);
        drawn.map_err(io::Error::other)
    }

    /// Nothing where the cursor does not move: terminals take 0 for 1.
    fn move_cursor(&self, cells: usize, direction: char) -> io::Result<()> {
        match cells {
            0 => Ok(()),
            cells => self.draw(format_args!("\u{1b}[{cells}{direction}")),
        }
    }
}

impl TermLike for Drawing {
    fn width(&self) -> u16 {
        let width = self.output.width().map(u16::try_from);
        width.and_then(Result::ok).unwrap_or(WIDTH)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'D')
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.draw(format_args!("{line}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.draw(format_args!("{text}"))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw(format_args!("\r\u{1b}[2K"))
    }

    fn flush(&self) -> io::Result<()> {
        let text = std::mem::take(&mut *self.text.lock());
        if !text.is_empty() {
            self.out.offer(text.as_bytes());
        }
        Ok(())
    }
}

impl fmt::Debug for Drawing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drawing").finish_non_exhaustive()
    }
}
