//! Pieces of answers that wait for their readers, each counted once however many streams wait with it.
//!
//! Events are shared: a thousand subscribers whose windows are too small may wait with the same bytes. One connection is charged for a piece.
//! When its last stream leaves, another connection that waits with the piece is charged.
//!
//! Holds: a piece is charged to exactly one account while anybody waits with it, and to none afterwards.
//! Does not: know the memory behind a piece. A piece is at least a quarter of the batch that it is a part of, or a copy.

use std::collections::BTreeMap;
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
    /// Of all connections.
    streams: usize,
    /// The number of the account that is charged.
    charged: u64,
    /// By the number of the account: that of the oldest connection is charged next.
    connections: BTreeMap<u64, Waits>,
}

/// The streams of one connection that wait with a piece.
#[derive(Debug)]
struct Waits {
    account: Arc<Account>,
    streams: usize,
}

/// One stream's wait with a piece. Dropping it ends the wait.
#[derive(Debug)]
pub(in super::super) struct Waiting {
    of: Arc<Account>,
    end: usize,
}

impl Waiting {
    /// A stream begins to wait with the rest of a piece of `bytes` in all: they stay in memory while there is a rest.
    pub(in super::super) fn with(rest: &Bytes, bytes: usize, of: &Arc<Account>) -> Self {
        let end = rest.as_ptr() as usize + rest.len();
        of.waiting.fetch_add(1, SeqCst);
        let mut shared = of.of.0.pieces.0.entry(end).or_default();
        if shared.streams == 0 {
            shared.charged = of.number;
        }
        // Under the guard: the next who leaves finds it charged.
        shared.grow(bytes, of);
        shared.streams += 1;
        let waits = shared.connections.entry(of.number);
        let waits = waits.or_insert_with(|| Waits {
            account: Arc::clone(of),
            streams: 0,
        });
        waits.streams += 1;
        Self {
            of: Arc::clone(of),
            end,
        }
    }

    /// Its part of the piece, in bytes: what one stream gives back, if all who wait with it leave. Nothing, if another connection is charged.
    pub(in super::super) fn part(&self) -> usize {
        let shared = self.of.of.0.pieces.0.get(&self.end);
        let charged = shared.filter(|shared| shared.charged == self.of.number);
        charged.map_or(0, |shared| shared.bytes.div_ceil(shared.streams))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let pieces = &self.of.of.0.pieces.0;
        if let Some(mut shared) = pieces.get_mut(&self.end) {
            shared.leave(&self.of);
        }
        pieces.remove_if(&self.end, |_, shared| shared.streams == 0);
        self.of.waiting.fetch_sub(1, SeqCst);
    }
}

impl Piece {
    /// It has this number of bytes at least. `account` is that of a stream which comes.
    fn grow(&mut self, bytes: usize, account: &Arc<Account>) {
        if bytes > self.bytes || self.streams == 0 {
            let before = if self.streams == 0 { 0 } else { self.bytes };
            let charged = self.connections.get(&self.charged);
            let charged = charged.map_or(account, |waits| &waits.account);
            charged.change([(Kind::Answers, before, bytes)]);
            self.bytes = bytes;
        }
    }

    /// One stream of the account's connection leaves.
    fn leave(&mut self, account: &Arc<Account>) {
        self.streams -= 1;
        let Some(waits) = self.connections.get_mut(&account.number) else {
            return;
        };
        waits.streams -= 1;
        if waits.streams > 0 {
            return;
        }
        self.connections.remove(&account.number);
        if self.charged != account.number {
            return;
        }
        // The other first, so that the sum of all is never too small.
        if let Some((number, next)) = self.connections.first_key_value() {
            self.charged = *number;
            next.account.change([(Kind::Answers, 0, self.bytes)]);
            // It may be over its own cap now.
            next.account.task.wake_by_ref();
        }
        account.change([(Kind::Answers, self.bytes, 0)]);
    }
}
