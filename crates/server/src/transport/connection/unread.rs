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
    window: u32,
    // Counts how often everything was read: shares of an earlier generation are void.
    generation: u32,
}

/// The part of one stream in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    cost: u32,
    generation: u32,
    // Bytes that were sent and for which no WINDOW_UPDATE has come; below 0 when the peer has widened the window beyond them.
    outstanding: i32,
}

impl Unread {
    pub(super) fn new(window: u32) -> Self {
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
        // No window is larger than 2^31-1 (RFC 9113, 6.9.1).
        share.outstanding = share
            .outstanding
            .saturating_add((bytes as u32).cast_signed());
        if let Some(cost) = limits::SMALL_FRAME_BYTES.checked_sub(bytes) {
            let cost = cost as u32;
            if share.generation != self.generation {
                share.cost = 0;
                share.generation = self.generation;
            }
            share.cost = share.cost.saturating_add(cost);
            self.cost += u64::from(cost);
        }
    }

    /// Whether it is too much for frames below [`limits::SMALL_FRAME_BYTES`].
    #[inline]
    pub(super) fn is_too_much(&self) -> bool {
        self.cost > self.limit
    }

    /// The peer sent a WINDOW_UPDATE for a stream.
    pub(super) fn stream_window(&mut self, share: &mut Share, increment: u32) {
        let before = share.outstanding;
        share.outstanding = before.saturating_sub_unsigned(increment);
        let kept = match (u64::try_from(before), u64::try_from(share.outstanding)) {
            (Ok(before), Ok(left)) => u64::from(share.cost) * left / before.max(1),
            _ => 0,
        };
        self.keep(share, kept as u32);
    }

    /// The peer sent a WINDOW_UPDATE for the connection, whose window is this now.
    pub(super) fn connection_window(&mut self, window: u32) {
        if window > self.window {
            self.window = window;
            self.limit = limit(window);
        }
        // Few bytes are few frames, of any streams.
        let frames_max = (self.window - window).div_ceil(limits::SMALLEST_MESSAGE_BYTES);
        let cost_max = u64::from(frames_max) * limits::SMALL_FRAME_BYTES as u64;
        if cost_max < self.cost && cost_max <= self.limit / 4 {
            self.cost = cost_max;
            self.generation = self.generation.wrapping_add(1);
        }
    }

    /// A stream is over, and its waiting frames with it.
    pub(super) fn closed(&mut self, mut share: Share) {
        self.keep(&mut share, 0);
    }

    /// Of a stream's frames only some are left unread, which cost so much.
    fn keep(&mut self, share: &mut Share, cost: u32) {
        if share.generation == self.generation {
            let read = share.cost.saturating_sub(cost);
            self.cost = self.cost.saturating_sub(read.into());
            share.cost -= read;
        }
    }
}

/// Three quarters of the limit of a peer with such a window.
fn limit(window: u32) -> u64 {
    let allowed = u64::from(window / 2).max(limits::UNREAD_COST_LEAST);
    allowed / 4 * 3
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
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
        fn read(&mut self, stream: usize, sender: &mut Sender) {
            let Some(bytes) = self.waits[stream].pop_front() else {
                return;
            };
            self.cost -= SMALL_FRAME_BYTES.saturating_sub(bytes);
            self.read[stream] += bytes;
            self.read_of_all += bytes;
            if self.read[stream] * 2 >= self.stream_window {
                let back = std::mem::take(&mut self.read[stream]);
                sender.widen(stream, back);
            }
            if self.read_of_all * 2 >= self.connection_window {
                let back = std::mem::take(&mut self.read_of_all);
                sender.widen_connection(back);
            }
        }
    }

    /// The server's side: windows, and what it counts.
    struct Sender {
        unread: Unread,
        shares: [Share; STREAMS],
        windows: [usize; STREAMS],
        connection_window: usize,
    }

    impl Sender {
        fn new(stream_window: usize, connection_window: usize) -> Self {
            Self {
                unread: Unread::new(connection_window as u32),
                shares: [Share::default(); STREAMS],
                windows: [stream_window; STREAMS],
                connection_window,
            }
        }

        /// Whether the windows had room for the frame.
        fn send(&mut self, stream: usize, bytes: usize) -> bool {
            let fits = bytes <= self.windows[stream].min(self.connection_window);
            if fits {
                self.windows[stream] -= bytes;
                self.connection_window -= bytes;
                self.unread.sent(&mut self.shares[stream], bytes);
            }
            fits
        }

        fn widen(&mut self, stream: usize, bytes: usize) {
            self.windows[stream] += bytes;
            (self.unread).stream_window(&mut self.shares[stream], bytes as u32);
        }

        fn widen_connection(&mut self, bytes: usize) {
            self.connection_window += bytes;
            (self.unread).connection_window(self.connection_window as u32);
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
            let mut sender = Sender::new(stream_window, connection_window);
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
                let mut bytes = least + random / STREAMS % spread;
                if bytes < SMALL_FRAME_BYTES && sender.unread.is_too_much() {
                    bytes = SMALL_FRAME_BYTES;
                }
                if sender.send(stream, bytes) {
                    peer.receive(stream, bytes);
                }
                // 0 never reads, 1 now and then a little, 2 all that there is.
                match reads[stream] {
                    0 => {}
                    1 => if turn % 3 == 0 { peer.read(stream, &mut sender) },
                    _ => while !peer.waits[stream].is_empty() { peer.read(stream, &mut sender) },
                }
            }
        }
    }

    #[test]
    fn streams_that_are_over_and_readers_that_read_leave_nothing_behind() {
        let mut sender = Sender::new(1 << 20, 1 << 20);
        let small = |sender: &mut Sender| {
            let mut frames = 0;
            while frames < 8_000_000 && !sender.unread.is_too_much() && sender.send(0, 20) {
                sender.widen(0, 20);
                sender.widen_connection(20);
                frames += 1;
            }
            frames
        };
        // It gives back all that it got.
        assert_eq!(small(&mut sender), 8_000_000);
        // From here on the reader of one stream takes nothing, and the other none at all.
        while !sender.unread.is_too_much() {
            assert!(sender.send(0, 20) && sender.send(1, 20));
        }
        for share in std::mem::take(&mut sender.shares) {
            sender.unread.closed(share);
        }
        assert_eq!(sender.unread.cost, 0);
    }
}
