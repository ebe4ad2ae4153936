//! What an append has added to the log.

use std::sync::Arc;

use crate::{frame::Frames, position::Sequence};

/// Everything that was added to the log up to the last message of an append. A log that other nodes append to as well
/// may hold their events before and between those that were asked for.
#[derive(Clone, Debug)]
pub struct Appended {
    frames: Arc<Frames>,
    // Where each message is among the frames; `None` when nothing else is.
    own: Option<Box<[u32]>>,
}

impl Appended {
    /// The messages that were asked for are among others, each at its index.
    pub fn among_others(frames: Arc<Frames>, own: Box<[u32]>) -> Self {
        Self {
            frames,
            own: Some(own),
        }
    }

    /// All events, in log order.
    pub fn frames(&self) -> &Arc<Frames> {
        &self.frames
    }

    /// Sequence of a message, by its index in what was asked for.
    pub fn sequence(&self, message: usize) -> Sequence {
        let index = (self.own.as_ref()).map_or(message, |own| own[message] as usize);
        self.frames.entries()[index].sequence
    }

    /// Whether the frames are the messages that were asked for and nothing else.
    pub(crate) fn is_own(&self) -> bool {
        self.own.is_none()
    }
}

impl From<Arc<Frames>> for Appended {
    fn from(frames: Arc<Frames>) -> Self {
        Self { frames, own: None }
    }
}
