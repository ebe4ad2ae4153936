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
/// let position: Position = "8198552921648689/42".parse()?;
/// assert_eq!(position.sequence, 42);
/// assert_eq!(position.to_string(), "8198552921648689/42");
/// # Ok::<(), longlived_client::ParsePositionError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Identity of the history the sequence belongs to; 1 to [`MAX`](Self::MAX).
    pub epoch: u64,
    /// Rises with every event of the log, over all topics; the first is 1, and 0 is before it. At most
    /// [`MAX`](Self::MAX).
    pub sequence: u64,
}

impl Position {
    /// The largest epoch and the largest sequence, 2^53-1. A server refuses a position beyond it, since no server gave
    /// one.
    pub const MAX: u64 = (1 << 53) - 1;

    /// The place of `sequence` in the history `epoch`.
    pub const fn new(epoch: u64, sequence: u64) -> Self {
        Self { epoch, sequence }
    }

    /// Whether a server may have given it.
    pub(crate) fn may_be_given(self) -> bool {
        (1..=Self::MAX).contains(&self.epoch) && self.sequence <= Self::MAX
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
    "`{0}` is not a position: expected EPOCH/SEQUENCE such as 8198552921648689/42, with an epoch of 1 to {max} and a sequence of 0 to {max}",
    max = Position::MAX
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
            let epoch: u64 = epoch.parse().ok()?;
            let sequence: u64 = sequence.parse().ok()?;
            Some(Self::new(epoch, sequence)).filter(|position| position.may_be_given())
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
            "9007199254740992/1",
            "7/9007199254740992",
        ] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_quoted_part_of_another_text_fits_into_a_line() {
        let text = format!("Dear\nreader\u{1b}[31m {}", "x".repeat(1_000));
        let shown = text.parse::<Position>().unwrap_err().to_string();
        assert!(
            shown.starts_with("`Dear\\nreader\\u{1b}[31m xxx"),
            "{shown}"
        );
        assert!(!shown.contains(char::is_control), "{shown}");
        assert!(shown.contains("x…` is not a position"), "{shown}");
        assert!(shown.chars().count() < 260, "{shown}");
    }

    #[test]
    fn a_text_out_of_range_is_answered_with_the_range() {
        for text in ["0/7", "1152921504606846976/7", "7/1152921504606846976"] {
            let shown = text.parse::<Position>().unwrap_err().to_string();
            assert!(
                shown.contains("an epoch of 1 to 9007199254740991"),
                "{shown}"
            );
            assert!(
                shown.contains("a sequence of 0 to 9007199254740991"),
                "{shown}"
            );
        }
        let largest = format!("{max}/{max}", max = Position::MAX);
        assert!(largest.parse::<Position>().is_ok());
    }

    #[test]
    fn a_position_of_another_epoch_is_never_reached() {
        assert!(Position::new(1, 5).reaches(Position::new(1, 5)));
        assert!(!Position::new(2, 5).reaches(Position::new(1, 4)));
    }
}
