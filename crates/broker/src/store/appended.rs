//! What an append has added to the log.

use std::sync::Arc;

use crate::{frame::Frames, position::Sequence};

/// Everything that was added to the log up to the last message of an append. A log that other nodes append to as well
/// may hold their events before and between those that were asked for.
#[derive(Clone, Debug)]
pub struct Appended {
    frames: Option<Arc<Frames>>,
    // What became of each message; `None` when the frames are the messages, one to one.
    own: Option<Box<[Own]>>,
}

/// What became of one message of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// It is the entry with this index.
    New(u32),
    /// The log had a message with its id before, here.
    Duplicate(Sequence),
}

impl Appended {
    /// The messages that were asked for are among others, or were stored before; one `own` for each, in order.
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

    /// Sequence of a message, by its index in what was asked for, and whether the log had it before.
    pub fn outcome(&self, message: usize) -> (Sequence, bool) {
        let own = (self.own.as_ref()).map_or(Own::New(message as u32), |own| own[message]);
        match own {
            Own::New(index) => {
                let entry = (self.frames.as_ref()).and_then(|f| f.entries().get(index as usize));
                (entry.map_or(0, |entry| entry.sequence), false)
            }
            Own::Duplicate(sequence) => (sequence, true),
        }
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
