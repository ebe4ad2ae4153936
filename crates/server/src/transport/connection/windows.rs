//! The windows that the peer gives: that of the connection and those of its streams.
//!
//! DATA needs capacity in two windows (RFC 9113, 5.2). Sent bytes are counted where the stream is. WINDOW_UPDATEs are
//! counted here when they come, and the stream fetches them when it needs them. So a delivery that fits touches one
//! number of this only.
//!
//! Holds: nothing is sent beyond a window; a waiting stream is named when it may go on.
//! Does not: send, or read frames.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::returned::Returned;
use super::unread::{Share, Unread};
use crate::limits;

/// The largest window (RFC 9113, 6.9.1).
pub(super) const WINDOW_MAX: i64 = (1 << 31) - 1;

/// The initial window unless the peer sets another (RFC 9113, 6.9.2).
const WINDOW_INITIAL: i64 = 65_535;

/// Of a stream that is not known yet: its WINDOW_UPDATE came together with its request.
const UNCLAIMED: u32 = u32::MAX;

/// Streams with a WINDOW_UPDATE before they are known: twice as many as may be open at once, since a peer may open more
/// before it has heard of that limit.
const UNCLAIMED_MAX: usize = 2 * limits::STREAMS_PER_CONNECTION_MAX as usize;

/// One waiter for the connection's window is released for each of these bytes in it; a waiter that needs less leaves
/// the rest to the next.
const SHARE_BYTES: i64 = 1024;

/// The windows of one connection.
// In this order in memory: a delivery that fits needs the first numbers only.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Windows {
    connection: i64,
    initial: i64,
    unread: Unread,
    // By number, rising.
    streams: Vec<Given>,
    // Streams up to this number are known, or over.
    opened: u32,
    unclaimed: usize,
    // Slots of streams that waited for their own window and may go on.
    replenished: Vec<u32>,
    // The waiters for the connection's window, in the order in which they found it used up; each at most once.
    queue: VecDeque<Waiter>,
    // The initial window has grown, so that any stream may go on.
    grown: bool,
    overflown: bool,
    /// Of the windows that we gave.
    pub(super) returned: Returned,
}

/// A waiter for the connection's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiter {
    /// The stream of this number, in this slot.
    Stream {
        /// As HTTP/2 knows it.
        number: u32,
        /// Where it is.
        slot: u32,
    },
    /// The group of followers of this number.
    Group(u32),
}

/// WINDOW_UPDATEs of one stream that the stream has not fetched yet.
#[derive(Debug)]
struct Given {
    number: u32,
    slot: u32,
    bytes: u32,
    waits: bool,
    queued: bool,
}

/// The bytes that one stream has sent, less the fetched WINDOW_UPDATEs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spent {
    bytes: i64,
    unread: Share,
}

/// Why a stream has to wait, or end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoCapacity {
    /// Its own window is used up, or the connection's.
    Now,
    /// The peer gave it more than a window may be.
    Overflown,
}

impl Windows {
    pub(super) fn new() -> Self {
        Self {
            connection: WINDOW_INITIAL,
            initial: WINDOW_INITIAL,
            unread: Unread::new(WINDOW_INITIAL),
            streams: Vec::new(),
            opened: 0,
            unclaimed: 0,
            replenished: Vec::new(),
            queue: VecDeque::new(),
            grown: false,
            overflown: false,
            returned: Returned::default(),
        }
    }

    /// The peer sent a WINDOW_UPDATE for the connection.
    pub(super) fn give_connection(&mut self, bytes: u32) {
        self.connection += i64::from(bytes);
        self.overflown |= self.connection > WINDOW_MAX;
        self.unread.connection_window(self.connection);
    }

    /// The peer sent a WINDOW_UPDATE for a stream.
    pub(super) fn give(&mut self, number: u32, bytes: u32) {
        let index = match self.find(number) {
            Ok(index) => index,
            Err(_) if number <= self.opened => return,
            Err(_) if self.unclaimed == UNCLAIMED_MAX => {
                self.overflown = true;
                return;
            }
            Err(index) => {
                let given = Given {
                    number,
                    slot: UNCLAIMED,
                    bytes: 0,
                    waits: false,
                    queued: false,
                };
                self.streams.insert(index, given);
                self.unclaimed += 1;
                index
            }
        };
        let given = &mut self.streams[index];
        // More than this is beyond any window; `capacity` returns that error.
        given.bytes = given.bytes.saturating_add(bytes);
        if std::mem::take(&mut given.waits) {
            self.replenished.push(given.slot);
        }
    }

    /// The peer sent another initial window, which moves the windows of all streams (RFC 9113, 6.9.2).
    pub(super) fn set_initial(&mut self, bytes: u32) {
        self.grown |= i64::from(bytes) > self.initial;
        self.initial = i64::from(bytes);
    }

    /// A stream that the peer opened is in this slot.
    pub(super) fn open(&mut self, number: u32, slot: u32) {
        self.opened = self.opened.max(number);
        match self.find(number) {
            Ok(index) => {
                self.streams[index].slot = slot;
                self.unclaimed = self.unclaimed.saturating_sub(1);
            }
            Err(index) => self.streams.insert(
                index,
                Given {
                    number,
                    slot,
                    bytes: 0,
                    waits: false,
                    queued: false,
                },
            ),
        }
    }

    /// A stream is over.
    pub(super) fn close(&mut self, number: u32, spent: Spent) {
        self.unread.closed(spent.unread);
        if let Ok(index) = self.find(number) {
            let closed = self.streams.remove(index);
            if closed.queued {
                let (number, slot) = (closed.number, closed.slot);
                let waiter = Waiter::Stream { number, slot };
                self.queue.retain(|one| *one != waiter);
            }
        }
        if self.streams.is_empty() {
            self.streams = Vec::new();
        }
        self.returned.close(number);
    }

    /// Whether a stream was taken up and has ended since.
    pub(super) fn is_over(&self, number: u32) -> bool {
        number <= self.opened && self.find(number).is_err()
    }

    /// Forgets the WINDOW_UPDATEs of streams that are over, or were never let in.
    pub(super) fn forget_unclaimed(&mut self) {
        if self.unclaimed > 0 {
            let opened = self.opened;
            let known = |given: &Given| given.slot != UNCLAIMED || given.number > opened;
            self.streams.retain(known);
            let unclaimed = |given: &&Given| given.slot == UNCLAIMED;
            self.unclaimed = self.streams.iter().filter(unclaimed).count();
        }
    }

    /// How much of `wanted` bytes a stream may send now, at least one.
    #[inline]
    pub(super) fn capacity(
        &mut self,
        number: u32,
        spent: &mut Spent,
        wanted: usize,
    ) -> Result<usize, NoCapacity> {
        let wanted = i64::try_from(wanted).unwrap_or(WINDOW_MAX);
        self.fetch(number, spent, wanted);
        if self.initial - spent.bytes > WINDOW_MAX {
            return Err(NoCapacity::Overflown);
        }
        let capacity = wanted.min(self.initial - spent.bytes).min(self.connection);
        match usize::try_from(capacity) {
            Ok(capacity) if capacity > 0 => Ok(capacity),
            _ => Err(NoCapacity::Now),
        }
    }

    /// Counts bytes, which `capacity` allowed, as sent.
    #[inline]
    pub(super) fn spend(&mut self, spent: &mut Spent, bytes: usize) {
        self.unread.sent(&mut spent.unread, bytes);
        let bytes = i64::try_from(bytes).unwrap_or(WINDOW_MAX);
        spent.bytes += bytes;
        self.connection -= bytes;
    }

    /// Whether the peer may have too many small frames unread for another one of this stream.
    #[inline]
    pub(super) fn has_too_much_unread(&mut self, number: u32, spent: &mut Spent) -> bool {
        self.unread.is_too_much() && {
            // It may have been read long ago.
            self.fetch_given(number, spent);
            self.unread.is_too_much()
        }
    }

    /// Whether the connection's own window is used up.
    pub(super) fn is_used_up(&self) -> bool {
        self.connection <= 0
    }

    /// The slots of streams that waited for their own window and may go on.
    pub(super) fn take_replenished(&mut self) -> Vec<u32> {
        if std::mem::take(&mut self.grown) {
            for given in &mut self.streams {
                if std::mem::take(&mut given.waits) {
                    self.replenished.push(given.slot);
                }
            }
        }
        std::mem::take(&mut self.replenished)
    }

    /// Whether the connection's window has capacity and a waiter.
    pub(super) fn has_capacity_for_a_waiter(&self) -> bool {
        self.connection > 0 && !self.queue.is_empty()
    }

    /// The next of those that waited for the connection's window, as many as it is worth asking.
    pub(super) fn take_released(&mut self) -> SmallVec<[Waiter; 4]> {
        let mut released = SmallVec::new();
        let mut left = self.connection;
        while left > 0
            && let Some(waiter) = self.queue.pop_front()
        {
            if let Waiter::Stream { number, .. } = waiter
                && let Ok(index) = self.find(number)
            {
                self.streams[index].queued = false;
            }
            released.push(waiter);
            left -= SHARE_BYTES;
        }
        released
    }

    /// Whether the peer gave the connection more than a window may be, or sent WINDOW_UPDATEs for more streams than
    /// there can be; once.
    pub(super) fn take_overflown(&mut self) -> bool {
        std::mem::take(&mut self.overflown)
    }

    /// Adds the WINDOW_UPDATEs to a window in which `wanted` bytes do not fit.
    #[inline]
    fn fetch(&mut self, number: u32, spent: &mut Spent, wanted: i64) {
        if self.initial - spent.bytes < wanted {
            self.fetch_given(number, spent);
        }
    }

    /// Apart from its callers, which ask for it once in many deliveries.
    #[cold]
    fn fetch_given(&mut self, number: u32, spent: &mut Spent) {
        let Ok(index) = self.find(number) else {
            return;
        };
        let before = spent.bytes;
        spent.bytes -= i64::from(std::mem::take(&mut self.streams[index].bytes));
        self.unread
            .given_back(&mut spent.unread, before, spent.bytes);
    }

    /// A stream without capacity is named by [`Self::take_replenished`] or [`Self::take_released`] when there may be
    /// some.
    pub(super) fn wait(&mut self, number: u32, spent: Spent) {
        let own = self.initial - spent.bytes;
        let Ok(index) = self.find(number) else {
            return;
        };
        let given = &mut self.streams[index];
        if own <= 0 {
            given.waits = true;
        } else if !std::mem::replace(&mut given.queued, true) {
            let slot = given.slot;
            self.queue.push_back(Waiter::Stream { number, slot });
        }
    }

    /// A group found the connection's window used up; it must not wait already.
    pub(super) fn wait_as_group(&mut self, group: u32) {
        self.queue.push_back(Waiter::Group(group));
    }

    /// A group waits no longer.
    pub(super) fn forget_group(&mut self, group: u32) {
        self.queue.retain(|one| *one != Waiter::Group(group));
    }

    fn find(&self, number: u32) -> Result<usize, usize> {
        self.streams
            .binary_search_by_key(&number, |given| given.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stream 1 is in slot 0, stream 3 in slot 1, ...
    fn stream(slot: u32) -> Waiter {
        let number = slot * 2 + 1;
        Waiter::Stream { number, slot }
    }

    fn wait(windows: &mut Windows, number: u32, spent: &mut Spent) {
        assert_eq!(windows.capacity(number, spent, 1), Err(NoCapacity::Now));
        windows.wait(number, *spent);
    }

    #[test]
    fn a_stream_sends_within_both_windows_and_is_named_when_it_may_go_on() {
        let mut windows = Windows::new();
        let mut spent = Spent::default();
        windows.open(15, 7);
        assert_eq!(windows.capacity(15, &mut spent, 100_000), Ok(65_535));
        windows.spend(&mut spent, 65_535);
        wait(&mut windows, 15, &mut spent);
        windows.give(15, 10);
        assert_eq!(windows.take_replenished(), [7]);
        // One window alone is not enough.
        wait(&mut windows, 15, &mut spent);
        assert!(windows.take_released().is_empty());
        windows.give_connection(4);
        assert_eq!(windows.take_released()[..], [stream(7)]);
        assert_eq!(windows.capacity(15, &mut spent, 100), Ok(4));
        windows.spend(&mut spent, 4);
        windows.give_connection(1_000);
        assert_eq!(windows.capacity(15, &mut spent, 100), Ok(6));
    }

    #[test]
    fn an_initial_window_that_changes_moves_all_streams_also_below_nothing() {
        let mut windows = Windows::new();
        let mut spent = Spent::default();
        windows.open(3, 0);
        windows.spend(&mut spent, 1_000);
        windows.set_initial(500);
        wait(&mut windows, 3, &mut spent);
        windows.give(3, 500);
        assert_eq!(windows.take_replenished(), [0]);
        wait(&mut windows, 3, &mut spent);
        windows.set_initial(501);
        assert_eq!(windows.take_replenished(), [0]);
        assert_eq!(windows.capacity(3, &mut spent, 9), Ok(1));
    }

    #[test]
    fn a_window_update_beside_the_request_is_kept_and_one_of_a_stream_that_is_over_is_forgotten() {
        let mut windows = Windows::new();
        windows.give(5, 1_000);
        windows.give(7, 1_000);
        windows.give(9, 1_000);
        windows.open(7, 2);
        windows.forget_unclaimed();
        // HTTP/2 may not have come to the head of the last.
        let numbers: Vec<_> = windows.streams.iter().map(|given| given.number).collect();
        assert_eq!(numbers, [7, 9]);
        windows.open(9, 3);
        windows.give_connection(1 << 20);
        for number in [7, 9] {
            let mut spent = Spent::default();
            assert_eq!(windows.capacity(number, &mut spent, 1 << 20), Ok(66_535));
            windows.close(number, Spent::default());
        }
        assert!(windows.streams.is_empty());
    }

    #[test]
    fn more_than_a_window_may_be_is_seen() {
        let mut windows = Windows::new();
        windows.open(1, 0);
        windows.give(1, u32::MAX);
        windows.give(1, u32::MAX);
        let mut spent = Spent::default();
        let capacity = windows.capacity(1, &mut spent, 1 << 20);
        assert_eq!(capacity, Err(NoCapacity::Overflown));
        assert!(!windows.take_overflown());
        windows.give_connection(i32::MAX as u32);
        assert!(windows.take_overflown());
        assert!(!windows.take_overflown());
    }

    #[test]
    fn the_connections_window_goes_round_among_those_that_wait() {
        let mut windows = Windows::new();
        let mut spent = [Spent::default(); 3];
        for slot in 0..3_u32 {
            windows.open(slot * 2 + 1, slot);
        }
        windows.give(1, 100_000);
        let first = &mut spent[0];
        assert_eq!(windows.capacity(1, first, 100_000), Ok(65_535));
        windows.spend(first, 65_535);
        // The first stream, which used it up, asks for more before the others ask at all.
        for (slot, spent) in spent.iter_mut().enumerate() {
            wait(&mut windows, slot as u32 * 2 + 1, spent);
        }
        windows.wait_as_group(0);
        for next in [stream(0), stream(1), stream(2), Waiter::Group(0), stream(0)] {
            windows.give_connection(1);
            assert_eq!(windows.take_released()[..], [next]);
            match next {
                Waiter::Stream { number, slot } => {
                    let spent = &mut spent[slot as usize];
                    windows.spend(spent, 1);
                    wait(&mut windows, number, spent);
                }
                Waiter::Group(group) => {
                    windows.connection -= 1;
                    windows.wait_as_group(group);
                }
            }
        }
        windows.close(3, Spent::default());
        windows.forget_group(0);
        windows.give_connection(1 << 20);
        let rest = [stream(2), stream(0)];
        assert_eq!(windows.take_released()[..], rest);
        assert!(windows.take_released().is_empty());
    }
}
