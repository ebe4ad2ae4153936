//! How much the peer lets us send: the windows of the connection and of its streams.
//!
//! HTTP/2 gives room for DATA in two places, and a frame needs both (RFC 9113, 5.2). What was sent on a stream is
//! counted where the stream is; what the peer gives is counted here, when it comes, and fetched by the stream when it
//! needs it. So a delivery that fits touches nothing of this but one number.
//!
//! Holds: nothing is sent beyond a window; a stream that waits is named when it may go on.
//! Does not: send, or read frames.

use crate::limits;

/// The largest window (RFC 9113, 6.9.1).
pub(super) const WINDOW_MAX: i64 = (1 << 31) - 1;

/// What a window begins with unless the peer says otherwise (RFC 9113, 6.9.2).
const WINDOW_INITIAL: i64 = 65_535;

/// Of a stream that is not known yet: the peer gave it room in the same breath as it opened it.
const UNCLAIMED: u32 = u32::MAX;

/// Streams that are given room before they are known: as many as may be open at once.
const UNCLAIMED_MAX: usize = limits::STREAMS_PER_CONNECTION_MAX as usize;

/// The windows of one connection.
// In this order in memory: what fits needs the first two numbers only.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Windows {
    connection: i64,
    initial: i64,
    // By number, rising.
    streams: Vec<Given>,
    // Streams up to this number are known, or over.
    opened: u32,
    unclaimed: usize,
    // Slots of streams that waited and may go on.
    replenished: Vec<u32>,
    // The slot of the first stream that waits while the connection's window is used up.
    starved: Option<u32>,
    // That window was used up and no longer is.
    refilled: bool,
    overflown: bool,
}

/// What the peer has given to one stream and the stream has not fetched yet.
#[derive(Debug)]
struct Given {
    number: u32,
    slot: u32,
    bytes: u32,
    waits: bool,
}

/// What one stream has sent, less what it has fetched of what was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spent(i64);

/// Why a stream has to wait, or end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
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
            streams: Vec::new(),
            opened: 0,
            unclaimed: 0,
            replenished: Vec::new(),
            starved: None,
            refilled: false,
            overflown: false,
        }
    }

    /// The peer sent a WINDOW_UPDATE for the connection.
    pub(super) fn give_connection(&mut self, bytes: u32) {
        let was_used_up = self.connection <= 0;
        self.connection += i64::from(bytes);
        self.overflown |= self.connection > WINDOW_MAX;
        if was_used_up && self.connection > 0 {
            self.refilled = true;
            self.release_all();
        }
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
                };
                self.streams.insert(index, given);
                self.unclaimed += 1;
                index
            }
        };
        let given = &mut self.streams[index];
        // More than this is beyond any window, which `room` says.
        given.bytes = given.bytes.saturating_add(bytes);
        if std::mem::take(&mut given.waits) {
            self.replenished.push(given.slot);
        }
    }

    /// The peer sent another initial window, which moves the windows of all streams (RFC 9113, 6.9.2).
    pub(super) fn set_initial(&mut self, bytes: u32) {
        let grows = i64::from(bytes) > self.initial;
        self.initial = i64::from(bytes);
        if grows {
            self.release_all();
        }
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
                },
            ),
        }
    }

    /// A stream is over.
    pub(super) fn close(&mut self, number: u32) {
        if let Ok(index) = self.find(number) {
            self.streams.remove(index);
        }
        if self.streams.is_empty() {
            self.streams = Vec::new();
        }
    }

    /// Every stream that was opened is known: what else was given room is over, or never was.
    pub(super) fn forget_unclaimed(&mut self) {
        if self.unclaimed > 0 {
            self.streams.retain(|given| given.slot != UNCLAIMED);
            self.unclaimed = 0;
        }
    }

    /// How much of `wanted` bytes a stream may send now, at least one.
    pub(super) fn room(
        &mut self,
        number: u32,
        spent: &mut Spent,
        wanted: usize,
    ) -> Result<usize, NoRoom> {
        let wanted = i64::try_from(wanted).unwrap_or(WINDOW_MAX);
        self.fetch(number, spent, wanted);
        if self.initial - spent.0 > WINDOW_MAX {
            return Err(NoRoom::Overflown);
        }
        let room = wanted.min(self.initial - spent.0).min(self.connection);
        match usize::try_from(room) {
            Ok(room) if room > 0 => Ok(room),
            _ => Err(NoRoom::Now),
        }
    }

    /// So many bytes, which `room` allowed, are on their way.
    pub(super) fn spend(&mut self, spent: &mut Spent, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(WINDOW_MAX);
        spent.0 += bytes;
        self.connection -= bytes;
    }

    /// Whether the connection's own window is used up.
    pub(super) fn is_used_up(&self) -> bool {
        self.connection <= 0
    }

    /// The slots of streams that waited and may go on.
    pub(super) fn take_replenished(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.replenished)
    }

    /// Whether the connection's window was used up and no longer is; once.
    pub(super) fn take_refilled(&mut self) -> bool {
        std::mem::take(&mut self.refilled)
    }

    /// Who has waited longest for room in the connection's window; it goes first when there is some.
    pub(super) fn take_starved(&mut self) -> Option<u32> {
        self.starved.take()
    }

    /// Whether the peer gave the connection more than a window may be, or room to more streams than there can be.
    pub(super) fn is_overflown(&self) -> bool {
        self.overflown
    }

    /// Adds what was given to a window in which so many bytes do not fit.
    fn fetch(&mut self, number: u32, spent: &mut Spent, wanted: i64) {
        if self.initial - spent.0 < wanted
            && let Ok(index) = self.find(number)
        {
            spent.0 -= i64::from(std::mem::take(&mut self.streams[index].bytes));
        }
    }

    /// A stream that found no room is named by [`Self::take_replenished`] when there may be some.
    pub(super) fn wait(&mut self, number: u32) {
        let used_up = self.is_used_up();
        if let Ok(index) = self.find(number) {
            let given = &mut self.streams[index];
            given.waits = true;
            if used_up {
                self.starved.get_or_insert(given.slot);
            }
        }
    }

    fn release_all(&mut self) {
        for given in &mut self.streams {
            if std::mem::take(&mut given.waits) {
                self.replenished.push(given.slot);
            }
        }
    }

    fn find(&self, number: u32) -> Result<usize, usize> {
        self.streams
            .binary_search_by_key(&number, |given| given.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_sends_what_both_windows_allow_and_is_named_when_it_may_go_on() {
        let mut windows = Windows::new();
        let mut spent = Spent::default();
        windows.open(1, 7);
        assert_eq!(windows.room(1, &mut spent, 100_000), Ok(65_535));
        windows.spend(&mut spent, 65_535);
        assert_eq!(windows.room(1, &mut spent, 1), Err(NoRoom::Now));
        windows.wait(1);
        // One window alone is not enough.
        windows.give(1, 10);
        assert_eq!(windows.take_replenished(), [7]);
        assert_eq!(windows.room(1, &mut spent, 1), Err(NoRoom::Now));
        windows.wait(1);
        windows.give_connection(4);
        assert_eq!(windows.take_replenished(), [7]);
        assert_eq!(windows.room(1, &mut spent, 100), Ok(4));
        windows.spend(&mut spent, 4);
        windows.give_connection(1_000);
        assert_eq!(windows.room(1, &mut spent, 100), Ok(6));
    }

    #[test]
    fn an_initial_window_that_changes_moves_all_streams_also_below_nothing() {
        let mut windows = Windows::new();
        let mut spent = Spent::default();
        windows.open(3, 0);
        windows.spend(&mut spent, 1_000);
        windows.set_initial(500);
        assert_eq!(windows.room(3, &mut spent, 1), Err(NoRoom::Now));
        windows.wait(3);
        windows.give(3, 500);
        assert_eq!(windows.take_replenished(), [0]);
        assert_eq!(windows.room(3, &mut spent, 1), Err(NoRoom::Now));
        windows.wait(3);
        windows.set_initial(501);
        assert_eq!(windows.take_replenished(), [0]);
        assert_eq!(windows.room(3, &mut spent, 9), Ok(1));
    }

    #[test]
    fn room_that_comes_with_the_request_is_kept_and_that_of_nobody_is_forgotten() {
        let mut windows = Windows::new();
        windows.give(5, 1_000);
        windows.give(9, 1_000);
        windows.open(5, 2);
        windows.forget_unclaimed();
        assert_eq!(windows.streams.len(), 1);
        windows.give_connection(1 << 20);
        let mut spent = Spent::default();
        assert_eq!(windows.room(5, &mut spent, 1 << 20), Ok(66_535));
        windows.close(5);
        assert!(windows.streams.is_empty());
    }

    #[test]
    fn more_than_a_window_may_be_is_seen() {
        let mut windows = Windows::new();
        windows.open(1, 0);
        windows.give(1, u32::MAX);
        windows.give(1, u32::MAX);
        let mut spent = Spent::default();
        let room = windows.room(1, &mut spent, 1 << 20);
        assert_eq!(room, Err(NoRoom::Overflown));
        assert!(!windows.is_overflown());
        windows.give_connection(i32::MAX as u32);
        assert!(windows.is_overflown());
    }

    #[test]
    fn who_starved_first_is_remembered() {
        let mut windows = Windows::new();
        let mut spent = [Spent::default(); 3];
        for slot in 0..3_u32 {
            windows.open(slot * 2 + 1, slot);
        }
        windows.spend(&mut spent[0], 65_535);
        for slot in [1, 2, 0] {
            let number = slot * 2 + 1;
            let room = windows.room(number, &mut spent[slot as usize], 1);
            assert_eq!(room, Err(NoRoom::Now));
            windows.wait(number);
        }
        windows.give_connection(1);
        assert!(windows.take_refilled());
        assert_eq!(windows.take_starved(), Some(1));
        assert_eq!(windows.take_replenished(), [0, 1, 2]);
    }
}
