//! A place in the log: the pair of epoch and sequence a subscriber continues from.
//!
//! Holds: both numbers together name one event for ever; sequences of two epochs are not comparable.

use std::fmt;
use std::str::FromStr;

use longlived_api::v1;

/// A place in the log, written `EPOCH/SEQUENCE`.
///
/// ```
/// use longlived_client::Position;
///
/// let position: Position = "81985529216486895/42".parse()?;
/// assert_eq!(position.sequence, 42);
/// assert_eq!(position.to_string(), "81985529216486895/42");
/// # Ok::<(), longlived_client::ParsePositionError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Identity of the history the sequence belongs to.
    pub epoch: u64,
    /// Rises with every event of the log, over all topics; the first is 1.
    pub sequence: u64,
}

impl Position {
    /// The place of `sequence` in the history `epoch`.
    pub const fn new(epoch: u64, sequence: u64) -> Self {
        Self { epoch, sequence }
    }

    /// True when both lie in one history and `self` is not before `other`.
    pub const fn reaches(self, other: Self) -> bool {
        self.epoch == other.epoch && self.sequence >= other.sequence
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.sequence)
    }
}

/// The text is not a position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a position: expected EPOCH/SEQUENCE, two numbers such as 81985529216486895/42"
)]
pub struct ParsePositionError(String);

/// So much of a text that is no position is shown.
const SHOWN_CHARS: usize = 60;

impl ParsePositionError {
    /// Keeps what fits into one line: the text may be anything, a whole file for example.
    fn of(text: &str) -> Self {
        let text = text.trim();
        let mut shown: String = text
            .chars()
            .take(SHOWN_CHARS)
            .flat_map(|c| {
                let control = c.is_control();
                c.escape_default()
                    .filter(move |_| control)
                    .chain((!control).then_some(c))
            })
            .collect();
        if text.chars().nth(SHOWN_CHARS).is_some() {
            shown.push('…');
        }
        Self(shown)
    }
}

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (epoch, sequence) = text.trim().split_once('/')?;
            let epoch: u64 = epoch.parse().ok().filter(|epoch| *epoch != 0)?;
            Some(Self::new(epoch, sequence.parse().ok()?))
        };
        parse().ok_or_else(|| ParsePositionError::of(text))
    }
}

impl From<v1::Position> for Position {
    fn from(wire: v1::Position) -> Self {
        Self::new(wire.epoch, wire.sequence)
    }
}

impl From<Position> for v1::Position {
    fn from(position: Position) -> Self {
        Self {
            epoch: position.epoch,
            sequence: position.sequence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_no_position_is_refused() {
        for text in [
            "",
            "7",
            "/",
            "7/",
            "/7",
            "a/7",
            "7/-1",
            "0/7",
            "7/7/7",
            "99999999999999999999/1",
        ] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_of_another_text_fits_into_a_line() {
        let text = format!("Dear\nreader\u{1b}[31m {}", "x".repeat(1_000));
        let shown = text.parse::<Position>().unwrap_err().to_string();
        assert!(
            shown.starts_with("`Dear\\nreader\\u{1b}[31m xxx"),
            "{shown}"
        );
        assert!(!shown.contains(char::is_control), "{shown}");
        assert!(shown.contains("x…` is not a position"), "{shown}");
        assert!(shown.chars().count() < 200, "{shown}");
    }

    #[test]
    fn a_position_of_another_epoch_is_never_reached() {
        assert!(Position::new(1, 5).reaches(Position::new(1, 5)));
        assert!(!Position::new(2, 5).reaches(Position::new(1, 4)));
    }
}
