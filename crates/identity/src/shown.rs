//! What an error or a log line shows of a peer's text.

use std::fmt;

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
