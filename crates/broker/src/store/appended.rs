//! The result of an append.

use std::sync::Arc;

use super::AppendError;
use crate::{frame::Frames, position::Sequence};

/// Everything that was added to the log up to the last stored message of an append. If other nodes append to the log as
/// well, their events may stand before and between the messages of this append. Some of these messages may not be
/// stored.
#[derive(Clone, Debug)]
pub struct Appended {
    frames: Option<Arc<Frames>>,
    // The outcome of each message; `None` when the frames are the messages, one to one.
    own: Option<Box<[Own]>>,
}

/// The outcome of one message of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Own {
    /// It is the entry with this index.
    New(u32),
    /// The log had a message with its id before, here.
    Duplicate(Sequence),
    /// It is not stored, or it is not known whether it is.
    Failed(AppendError),
}

impl Appended {
    /// The result of an append without messages.
    pub(crate) fn nothing() -> Self {
        Self {
            frames: None,
            own: Some(Box::default()),
        }
    }

    /// The messages that were asked for are among others, were stored before, or failed; one `own` for each, in order.
    pub fn among_others(frames: Option<Arc<Frames>>, own: Box<[Own]>) -> Self {
        Self {
            frames,
            own: Some(own),
        }
    }

    /// All events, in log order; `None` when the log has got none.
    pub fn frames(&self) -> Option<&Arc<Frames>> {
        self.frames.as_ref()
    }

    /// Sequence of a message, by its index in the append, and whether the log had it before; or why it is not there.
    pub fn outcome(&self, message: usize) -> Result<(Sequence, bool), &AppendError> {
        let entry = match self.own.as_ref().map(|own| &own[message]) {
            None => message,
            Some(&Own::New(index)) => index as usize,
            Some(&Own::Duplicate(sequence)) => return Ok((sequence, true)),
            Some(Own::Failed(error)) => return Err(error),
        };
        let frames = self.frames.as_ref();
        let entry = frames.and_then(|frames| frames.entries().get(entry));
        Ok((entry.map_or(0, |entry| entry.sequence), false))
    }

    /// Why a message failed, if any did: the error after which nothing goes on, or else the first.
    pub(crate) fn failure(&self) -> Option<&AppendError> {
        let failures = || {
            let all = self.own.iter().flatten();
            all.filter_map(|own| match own {
                Own::Failed(error) => Some(error),
                Own::New(_) | Own::Duplicate(_) => None,
            })
        };
        let is_final = |error: &&AppendError| matches!(error, AppendError::Broken(_));
        failures().find(is_final).or_else(|| failures().next())
    }

    /// How many of the `asked` messages of the append are new in the log; `None` when it does not tell the outcome of
    /// each of them.
    pub(crate) fn stored_of(&self, asked: usize) -> Option<usize> {
        let entries = self
            .frames
            .as_ref()
            .map_or(0, |frames| frames.entries().len());
        let Some(own) = &self.own else {
            return (entries == asked).then_some(asked);
        };
        let mut stored = 0;
        for own in own {
            if let Own::New(index) = own {
                ((*index as usize) < entries).then_some(())?;
                stored += 1;
            }
        }
        (own.len() == asked).then_some(stored)
    }

    /// Whether the frames are the messages that were asked for and nothing else.
    pub(crate) fn is_own(&self) -> bool {
        self.own.is_none()
    }
}

impl From<Arc<Frames>> for Appended {
    fn from(frames: Arc<Frames>) -> Self {
        Self {
            frames: Some(frames),
            own: None,
        }
    }
}
