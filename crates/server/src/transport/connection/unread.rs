//! Small frames that a peer has perhaps not read yet, and the limit for them.
//!
//! A frame that its reader does not take costs the reader's library more than its bytes. One library, Rust's h2 (under
//! tonic, hyper, linkerd), counts that and ends the connection. Each waiting DATA frame costs the bytes by which it is
//! smaller than 256, and all of them together may cost half the connection's window. Flow control alone does not
//! prevent it: twelve thousand frames of 50 bytes are less than a third of the 2 MiB window of tonic's streams.
//!
//! A reader shows that it reads by a WINDOW_UPDATE, which it sends when half of a window is read. So the frames that it
//! may not have read are counted here by its own rule, and taken off with each WINDOW_UPDATE. While the count is above
//! the limit, the streams send pieces of at least 256 bytes. These cost nothing, and fill the windows sooner, so that
//! the next WINDOW_UPDATE comes sooner. Nothing is ever held back.
//!
//! Holds: the count is never less than the cost of the frames that wait at the peer. A stream that sends frames of very
//! different sizes, of which a part was read, may differ; a quarter of the peer's limit is left for that.

use crate::limits;

/// The frames that a peer may not have read, of all streams of a connection.
#[derive(Debug)]
pub(super) struct Unread {
    cost: u64,
    // Above it the pieces have to be larger.
    limit: u64,
    // The peer's window for the connection when nothing waits there.
    window: i64,
    // Counts how often everything was read: shares of an earlier generation are void.
    generation: u32,
}

/// The part of one stream in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    cost: u32,
    generation: u32,
}

impl Unread {
    pub(super) fn new(window: i64) -> Self {
        Self {
            cost: 0,
            limit: limit(window),
            window,
            generation: 0,
        }
    }

    /// A frame of `bytes` was sent.
    #[inline]
    pub(super) fn sent(&mut self, share: &mut Share, bytes: usize) {
        if let Some(cost) = limits::SMALL_FRAME_BYTES.checked_sub(bytes) {
            let cost = cost as u32;
            if share.generation == self.generation {
                share.cost = share.cost.saturating_add(cost);
            } else {
                *share = Share {
                    cost,
                    generation: self.generation,
                };
            }
            self.cost += u64::from(cost);
        }
    }

    /// Whether it is too much for frames below [`limits::SMALL_FRAME_BYTES`].
    #[inline]
    pub(super) fn is_too_much(&self) -> bool {
        self.cost > self.limit
    }

    /// Of `before` bytes that a stream had sent without a WINDOW_UPDATE, `left` are left.
    pub(super) fn given_back(&mut self, share: &mut Share, before: i64, left: i64) {
        if share.cost == 0 || share.generation != self.generation || left >= before {
            return;
        }
        let kept = match (u64::try_from(before), u64::try_from(left)) {
            (Ok(before), Ok(left)) => u64::from(share.cost) * left / before.max(1),
            _ => 0,
        };
        let kept = u32::try_from(kept).unwrap_or(share.cost);
        self.cost = self.cost.saturating_sub(u64::from(share.cost - kept));
        share.cost = kept;
    }

    /// The peer sent a WINDOW_UPDATE for the connection, whose window is this now.
    pub(super) fn connection_window(&mut self, window: i64) {
        if window > self.window {
            self.window = window;
            self.limit = limit(window);
        }
        // Few bytes are few frames, of any streams.
        let waiting = u64::try_from(self.window - window).unwrap_or(0);
        let frames_max = waiting.div_ceil(u64::from(limits::SMALLEST_MESSAGE_BYTES));
        let cost_max = frames_max * limits::SMALL_FRAME_BYTES as u64;
        if cost_max < self.cost && cost_max <= self.limit / 4 {
            self.cost = cost_max;
            self.generation = self.generation.wrapping_add(1);
        }
    }

    /// A stream is over, and its waiting frames with it.
    pub(super) fn closed(&mut self, mut share: Share) {
        self.given_back(&mut share, 1, 0);
    }
}

/// Three quarters of the limit of a peer with such a window.
fn limit(window: i64) -> u64 {
    let window = u64::try_from(window).unwrap_or(0);
    let allowed = (window / 2).max(limits::UNREAD_COST_LEAST);
    allowed / 4 * 3
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::super::windows::{Spent, Windows};
    use crate::limits::{SMALL_FRAME_BYTES, UNREAD_COST_LEAST};

    const STREAMS: usize = 8;

    /// A peer as h2 is: the waiting frames, their cost, and the read bytes that are not released yet.
    struct Peer {
        stream_window: usize,
        connection_window: usize,
        waits: [VecDeque<usize>; STREAMS],
        cost: usize,
        read: [usize; STREAMS],
        read_of_all: usize,
    }

    impl Peer {
        fn allowed(&self) -> usize {
            (self.connection_window / 2).max(UNREAD_COST_LEAST as usize)
        }

        fn receive(&mut self, stream: usize, bytes: usize) {
            self.waits[stream].push_back(bytes);
            self.cost += SMALL_FRAME_BYTES.saturating_sub(bytes);
            assert!(
                self.cost <= self.allowed(),
                "{} of {}",
                self.cost,
                self.allowed()
            );
        }

        /// Reads one frame, and sends a WINDOW_UPDATE once half of a window was read.
        fn read(&mut self, stream: usize, windows: &mut Windows) {
            let Some(bytes) = self.waits[stream].pop_front() else {
                return;
            };
            self.cost -= SMALL_FRAME_BYTES.saturating_sub(bytes);
            self.read[stream] += bytes;
            self.read_of_all += bytes;
            if self.read[stream] * 2 >= self.stream_window {
                let back = std::mem::take(&mut self.read[stream]);
                windows.give(stream as u32 * 2 + 1, back as u32);
            }
            if self.read_of_all * 2 >= self.connection_window {
                let back = std::mem::take(&mut self.read_of_all);
                windows.give_connection(back as u32);
            }
        }
    }

    proptest! {
        /// With any readers and windows of any size, the waiting frames never cost too much, and a reader that reads
        /// gets small pieces again.
        #[test]
        fn small_frames_that_wait_never_cost_a_peer_more_than_it_allows(
            stream_window in 1_000usize..2_000_000, connection_window in 65_535usize..5_000_000,
            least in 16usize..200, spread in 1usize..100,
            reads in prop::array::uniform8(0u8..=2), seed: u64,
        ) {
            let mut windows = Windows::new();
            let mut spent = [Spent::default(); STREAMS];
            windows.set_initial(stream_window as u32);
            windows.give_connection((connection_window - 65_535) as u32);
            for stream in 0..STREAMS as u32 {
                windows.open(stream * 2 + 1, stream);
            }
            let mut peer = Peer {
                stream_window,
                connection_window,
                waits: Default::default(),
                cost: 0,
                read: [0; STREAMS],
                read_of_all: 0,
            };
            let mut state = seed | 1;
            for turn in 0..100_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let random = (state >> 33) as usize;
                let stream = random % STREAMS;
                let number = stream as u32 * 2 + 1;
                let spent = &mut spent[stream];
                let mut bytes = least + random / STREAMS % spread;
                if bytes < SMALL_FRAME_BYTES && windows.has_too_much_unread(number, spent) {
                    bytes = SMALL_FRAME_BYTES;
                }
                if windows.capacity(number, spent, bytes) == Ok(bytes) {
                    windows.spend(spent, bytes);
                    peer.receive(stream, bytes);
                }
                // 0 never reads, 1 now and then a little, 2 all that there is.
                match reads[stream] {
                    0 => {}
                    1 => if turn % 3 == 0 { peer.read(stream, &mut windows) },
                    _ => while !peer.waits[stream].is_empty() { peer.read(stream, &mut windows) },
                }
            }
        }
    }

    #[test]
    fn streams_that_are_over_and_readers_that_read_leave_nothing_behind() {
        let mut windows = Windows::new();
        let mut spent = Spent::default();
        windows.open(1, 0);
        windows.set_initial(1 << 20);
        windows.give_connection(1 << 30);
        let small = |windows: &mut Windows, spent: &mut Spent| {
            let mut frames = 0;
            while frames < 8_000_000 && !windows.has_too_much_unread(1, spent) {
                windows.spend(spent, 20);
                windows.give(1, 20);
                frames += 1;
            }
            frames
        };
        // It gives back all that it got.
        assert_eq!(small(&mut windows, &mut spent), 8_000_000);
        windows.close(1, spent);
        assert!(!windows.has_too_much_unread(1, &mut Spent::default()));
    }
}
