//! Pieces of answers that wait for their readers, each counted once however many streams wait with it.
//!
//! Events are shared: a thousand subscribers whose windows are too small may wait with the same bytes. A stream is charged its part of
//! the piece as it begins to wait. When one leaves, what the parts of the others come short of the piece is counted for the node, and for
//! no connection.
//!
//! Holds: what the node counts for a piece is at least its size while anybody waits with it, and nothing afterwards.
//! Does not: know the memory behind a piece. A piece is at least a quarter of the batch that it is a part of, or a copy.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use dashmap::DashMap;

use super::{Account, Kind};

/// The pieces that wait, by the address of their end: it stays while the begin is sent.
#[derive(Debug, Default)]
pub(super) struct Pieces(DashMap<usize, Piece>);

#[derive(Debug, Default)]
struct Piece {
    bytes: usize,
    streams: usize,
    /// The parts of the streams.
    charged: usize,
    /// What the node counts beside them.
    uncharged: usize,
}

/// One stream's part of a piece. Dropping it gives it back.
#[derive(Debug)]
pub(in super::super) struct Waiting {
    of: Arc<Account>,
    end: usize,
    charge: usize,
}

impl Waiting {
    /// A stream begins to wait with a piece.
    pub(in super::super) fn with(piece: &Bytes, of: &Arc<Account>) -> Self {
        let end = piece.as_ptr() as usize + piece.len();
        let charge = {
            let mut shared = of.of.0.pieces.0.entry(end).or_default();
            shared.bytes = shared.bytes.max(piece.len());
            shared.streams += 1;
            let charge = piece.len().div_ceil(shared.streams);
            shared.charged += charge;
            charge
        };
        of.waiting.fetch_add(1, SeqCst);
        of.change([(Kind::Answers, 0, charge)]);
        Self {
            of: Arc::clone(of),
            end,
            charge,
        }
    }

    /// Bytes that it is charged.
    pub(in super::super) fn charge(&self) -> usize {
        self.charge
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let node = &self.of.of.0;
        if let Some(mut shared) = node.pieces.0.get_mut(&self.end) {
            shared.streams -= 1;
            shared.charged -= self.charge;
            let short = match shared.streams {
                0 => 0,
                _ => shared.bytes.saturating_sub(shared.charged),
            };
            // Before the part is given back, so that the sum of all is never too small.
            node.bytes.fetch_add(short, SeqCst);
            node.bytes.fetch_sub(shared.uncharged, SeqCst);
            shared.uncharged = short;
        }
        node.pieces
            .0
            .remove_if(&self.end, |_, shared| shared.streams == 0);
        self.of.waiting.fetch_sub(1, SeqCst);
        self.of.change([(Kind::Answers, self.charge, 0)]);
    }
}
