//! The part of one live tail after a position.
//!
//! Does not: know its reader: a cursor of one filter or of several, or one reader for many cursors.

use crate::{
    frame::{Encoding, Slice},
    live_tail::{BehindTail, LiveTail, Run},
    position::Sequence,
};

/// Events that were taken from a tail.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) run: Run,
    /// Nothing else that matches lies up to here.
    pub(super) through: Sequence,
}

impl Taken {
    /// Takes the events after `after`, up to `visible`, and returns whether there are any: at most `bytes_max`, or one event that is larger.
    #[inline]
    pub(super) fn take(
        &mut self,
        tail: &LiveTail,
        after: Sequence,
        visible: Sequence,
        bytes_max: usize,
    ) -> Result<bool, BehindTail> {
        let anything = self.take_chunks(tail, after, visible, bytes_max)?;
        self.cut(bytes_max);
        Ok(anything)
    }

    /// The same, but a chunk of more than `bytes_max` is taken alone and whole. The events are written in place, because moving them would
    /// cost each delivery.
    #[inline]
    pub(super) fn take_chunks(
        &mut self,
        tail: &LiveTail,
        after: Sequence,
        visible: Sequence,
        bytes_max: usize,
    ) -> Result<bool, BehindTail> {
        if !tail.has_after(after) {
            // The tail may have dropped events that this reader has not seen, but then there is something to read.
            return Ok(false);
        }
        let all = tail.collect(after, visible, bytes_max, &mut self.run)?;
        let Some(last) = self.run.last() else {
            return Ok(false);
        };
        self.through = if all { visible } else { last.last() };
        Ok(true)
    }

    /// Leaves of a chunk that was taken alone what fits in `bytes_max`; an event larger than that stays whole.
    #[inline]
    pub(super) fn cut(&mut self, bytes_max: usize) {
        if let [chunk] = self.run.as_slice()
            && chunk.len_bytes() > bytes_max
        {
            self.cut_chunk(bytes_max);
        }
    }

    // Never inlined: most chunks are small.
    #[inline(never)]
    fn cut_chunk(&mut self, bytes_max: usize) {
        for chunk in &mut self.run {
            let fits = chunk.count_within(bytes_max);
            if chunk.split_off(fits).is_some() {
                self.through = chunk.last();
            }
        }
    }

    /// Whether it can go out as it is: no message is above the reader's limit.
    #[inline]
    pub(super) fn is_plain(&self, message_bytes_max: u32, encoding: Encoding) -> bool {
        let fits = |slice: &Slice| slice.all_within(message_bytes_max, encoding);
        self.run.iter().all(fits)
    }

    /// How many events.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.run.iter().map(Slice::count).sum()
    }
}
