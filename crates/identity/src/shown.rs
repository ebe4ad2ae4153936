//! What an error or a log line shows of a peer's text, or of a file's.

use std::fmt::{self, Write as _};

/// The most of a peer's text that is shown, in bytes.
const SHOWN_BYTES_MAX: usize = 256;

/// The beginning of a peer's text, without control characters.
#[derive(Clone, PartialEq, Eq)]
pub struct Shown(Box<str>);

impl From<&str> for Shown {
    fn from(text: &str) -> Self {
        let mut shown = String::with_capacity(text.len().min(SHOWN_BYTES_MAX));
        for c in text.chars() {
            let c = if c.is_control() { ' ' } else { c };
            if shown.len() + c.len_utf8() > SHOWN_BYTES_MAX {
                break;
            }
            shown.push(c);
        }
        Self(shown.into())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The most that is shown of a part of an error about a file, in bytes.
const LINE_BYTES_MAX: usize = 512;

/// A text as a part of one line: without control characters, and cut where it is long.
pub(crate) struct Line<'a, T: fmt::Display>(pub(crate) &'a T);

impl<T: fmt::Display> fmt::Display for Line<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cut = Cut {
            to: f,
            left: LINE_BYTES_MAX,
        };
        // A text that was cut ends with an error, and no more of it is asked for.
        match (write!(cut, "{}", self.0), cut.left) {
            (Err(_), 0) => f.write_char('…'),
            (written, _) => written,
        }
    }
}

/// Takes the beginning of a text, and fails behind it.
struct Cut<'a, 'f> {
    to: &'a mut fmt::Formatter<'f>,
    left: usize,
}

impl fmt::Write for Cut<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let c = if c.is_control() { ' ' } else { c };
            let Some(left) = self.left.checked_sub(c.len_utf8()) else {
                self.left = 0;
                return Err(fmt::Error);
            };
            self.left = left;
            self.to.write_char(c)?;
        }
        Ok(())
    }
}
