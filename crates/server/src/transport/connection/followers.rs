//! Streams of one connection that send the same: a group of them has one reader, and each piece that it reads is sent
//! to all of the group.
//!
//! A stream joins a group when its body is pending and has nothing of its own to send. From then on a piece costs the
//! stream a look at its window and a copy into the next write; its body is not polled.
//!
//! A stream is detached when it is woken for itself (a timer, an order, a request), when its window is too small for
//! the piece, when small pieces pile up at its peer, or when the reader ends. Its body is then told the bytes that were
//! sent for it, and reads for itself.
//!
//! Holds: every stream gets each piece once and in order, whether it is in a group or reads for itself.
//! Does not: poll bodies.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use longlived_http2::Slot;
use slab::Slab;
use smallvec::SmallVec;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::response_body::Follower;
use super::shared_reader::{SharedPiece, SharedReader};
use super::stream_set::Turn;
use super::wakes::GroupWakes;
use super::wire::{Frames, Sent};
use crate::limits;

/// The bytes that a stream got while it was in a group.
#[derive(Clone, Copy, Debug)]
pub struct Followed {
    /// Everything up to here, as its reader counts.
    pub position: u64,
    /// How many events it got.
    pub events: u64,
    /// When the last of them was sent; `None` when there were none.
    pub last_sent_at: Option<Instant>,
}

/// A stream that was taken out of its group and reads for itself.
pub(super) struct Detached {
    pub(super) slot: u32,
    /// The rest of the last piece, still to be sent.
    pub(super) rest: Bytes,
    /// Bytes of that piece.
    pub(super) whole: usize,
    pub(super) followed: Followed,
}

/// The group of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

pub(super) struct Followers<R> {
    groups: Slab<Group<R>>,
    wakes: GroupWakes,
    // Where the last turn ended before it was through.
    next: usize,
    // Slots of streams that may join once their group has sent its piece: 64 to a word.
    retries: Vec<u64>,
}

struct Group<R> {
    reader: R,
    waker: Waker,
    members: SmallVec<[Member; 1]>,
    events: u64,
    last_sent_at: Instant,
    under_way: Option<UnderWay>,
    // It waits for the connection's window, in that window's queue.
    queued: bool,
}

/// A piece that some of a group have got.
struct UnderWay {
    piece: SharedPiece,
    at: Instant,
    // The members before this one have it, and this one has so much of it.
    next: usize,
    sent: usize,
}

struct Member {
    slot: u32,
    /// The stream, as HTTP/2 knows it.
    at: Slot,
    // How many events the group had sent when this one joined.
    since: u64,
}

/// Why a group does not go on now.
enum Halt {
    /// There is no piece yet.
    Waits,
    /// The connection's window is used up.
    NoWindow,
    /// The turn is over, or the socket is full.
    Later,
    /// The reader has ended: each stream reads for itself.
    Detach,
}

impl<R: SharedReader> Followers<R> {
    /// Groups are woken through `wakes`.
    pub(super) fn new(wakes: GroupWakes) -> Self {
        Self {
            groups: Slab::new(),
            wakes,
            next: 0,
            retries: Vec::new(),
        }
    }

    /// Adds a stream whose body was pending to a group, if the body can follow its reader. One that came too early is
    /// named by [`Self::take_retries`].
    pub(super) fn attach(
        &mut self,
        follower: &mut dyn Follower<R>,
        slot: u32,
        at: Slot,
    ) -> Option<Place> {
        let place = self.join(follower, slot)?;
        let group = &mut self.groups[place];
        group.members.push(Member {
            slot,
            at,
            since: group.events,
        });
        Some(Place(place as u32))
    }

    /// Takes a stream out of its group.
    pub(super) fn detach<T>(
        &mut self,
        place: Place,
        slot: u32,
        frames: &mut Frames<T>,
    ) -> Option<Detached> {
        let index = place.0 as usize;
        let group = self.groups.get_mut(index)?;
        let at = group.members.iter().position(|one| one.slot == slot)?;
        let detached = group.detach(at);
        self.remove_empty(index, frames);
        Some(detached)
    }

    /// Takes all streams out of their groups.
    pub(super) fn detach_all(&mut self) -> Vec<Detached> {
        let mut detached = Vec::new();
        for (_, group) in &mut self.groups {
            group.detach_all(&mut detached);
        }
        self.groups = Slab::new();
        detached
    }

    /// When an event was last sent to a group.
    pub(super) fn last_sent_at(&self, place: Place) -> Option<Instant> {
        let group = self.groups.get(place.0 as usize)?;
        (group.events > 0).then_some(group.last_sent_at)
    }

    /// The connection's window has capacity for a group that waited for it.
    pub(super) fn release(&mut self, group: u32) {
        if let Some(group) = self.groups.get_mut(group as usize) {
            group.queued = false;
            group.waker.wake_by_ref();
        }
    }

    /// The socket takes nothing, so no group is asked for anything.
    pub(super) fn hold(&self) {
        for (_, group) in &self.groups {
            group.reader.hold(group.under_way.is_some());
        }
    }

    /// Sends pieces until the turn is over; whether something is left, and which streams were detached.
    pub(super) fn poll<T: AsyncWrite + Unpin>(
        &mut self,
        frames: &mut Frames<T>,
        turn: &mut Turn,
    ) -> (bool, Vec<Detached>) {
        let mut left = false;
        // Streams that were taken out of their group in this turn.
        let mut detached = Vec::new();
        let woken = self.wakes.take();
        let (first, end) = (self.next, self.groups.capacity());
        self.next = 0;
        for step in 0..end {
            let mut index = first + step;
            if index >= end {
                index -= end;
            }
            if woken & GroupWakes::bit(index) == 0 {
                continue;
            }
            let Some(group) = self.groups.get_mut(index) else {
                continue;
            };
            match group.poll(frames, turn, &mut detached) {
                Halt::Waits => {}
                Halt::NoWindow => {
                    group.reader.hold(group.under_way.is_some());
                    if !std::mem::replace(&mut group.queued, true) {
                        frames.wait_as_group(index as u32);
                    }
                }
                Halt::Later => {
                    // Groups that had their turn are asked once more, for nothing; one with more than a turn's worth does
                    // not hold up the others.
                    self.wakes.put_back(woken);
                    self.next = index + 1;
                    left = true;
                    break;
                }
                Halt::Detach => group.detach_all(&mut detached),
            }
            if group.members.is_empty() {
                self.remove_empty(index, frames);
            }
        }
        (left, detached)
    }

    fn remove_empty<T>(&mut self, index: usize, frames: &mut Frames<T>) {
        if self
            .groups
            .get(index)
            .is_some_and(|group| group.members.is_empty())
        {
            let group = self.groups.remove(index);
            if group.queued {
                frames.forget_group(index as u32);
            }
        }
        if self.groups.is_empty() {
            self.groups = Slab::new();
        }
    }

    /// The group that a body can join: one of its own if there is none yet.
    fn join(&mut self, follower: &mut dyn Follower<R>, slot: u32) -> Option<usize> {
        let place = {
            let source = follower.source()?;
            let mut groups = self.groups.iter();
            let like = groups.find(|(_, group)| group.reader.source() == source);
            like.map(|(place, _)| place)
        };
        let Some(place) = place else {
            return self.begin(follower);
        };
        let group = &mut self.groups[place];
        // A stream that joined while a piece is under way would get that piece twice.
        let joined = group.under_way.is_none() && follower.follow(&mut group.reader);
        if !joined {
            let (word, bit) = (slot / u64::BITS, slot % u64::BITS);
            let words = self.retries.len().max(word as usize + 1);
            self.retries.resize(words, 0);
            self.retries[word as usize] |= 1 << bit;
        }
        joined.then_some(place)
    }

    /// Whether streams came too early.
    pub(super) fn has_retries(&self) -> bool {
        !self.retries.is_empty()
    }

    /// Slots of the streams that came too early. An event for a group and for a stream beside it wakes both, and the
    /// stream reads it first; polled again after the group has had its turn, the stream can join.
    pub(super) fn take_retries(&mut self) -> impl Iterator<Item = u32> + use<R> {
        let words = std::mem::take(&mut self.retries).into_iter().enumerate();
        words.flat_map(|(word, bits)| {
            let first = word as u32 * u64::BITS;
            (0..u64::BITS)
                .filter(move |bit| bits >> bit & 1 == 1)
                .map(move |bit| first + bit)
        })
    }

    fn begin(&mut self, follower: &mut dyn Follower<R>) -> Option<usize> {
        let mut reader = follower.reader()?;
        if !follower.follow(&mut reader) {
            return None;
        }
        if self.groups.len() == self.groups.capacity() {
            // Exactly one at first, since most connections have one, and then a quarter more at a time.
            self.groups.reserve_exact((self.groups.len() / 4).max(1));
        }
        let entry = self.groups.vacant_entry();
        let place = entry.key();
        let waker = self.wakes.waker(place);
        // The reader does not know its waker before it is polled.
        waker.wake_by_ref();
        entry.insert(Group {
            reader,
            waker,
            members: SmallVec::new(),
            events: 0,
            last_sent_at: Instant::now(),
            under_way: None,
            queued: false,
        });
        Some(place)
    }
}

impl<R: SharedReader> Group<R> {
    fn poll<T: AsyncWrite + Unpin>(
        &mut self,
        frames: &mut Frames<T>,
        turn: &mut Turn,
        detached: &mut Vec<Detached>,
    ) -> Halt {
        loop {
            if self.queued {
                return Halt::NoWindow;
            }
            if turn.is_over() || frames.is_blocked() {
                return Halt::Later;
            }
            if self.under_way.is_none() {
                if frames.is_used_up() {
                    // A piece would only wait, and each group would have one.
                    return Halt::NoWindow;
                }
                let cx = &mut Context::from_waker(&self.waker);
                match self.reader.poll_next(cx, frames.piece_bytes()) {
                    Poll::Pending => return Halt::Waits,
                    Poll::Ready(None) => return Halt::Detach,
                    Poll::Ready(Some(piece)) => {
                        self.under_way = Some(UnderWay {
                            piece,
                            at: Instant::now(),
                            next: 0,
                            sent: 0,
                        });
                    }
                }
            }
            if let Some(halt) = self.send(frames, turn, detached) {
                return halt;
            }
        }
    }

    /// Sends the piece under way to the streams that have not got it. `None` when all have.
    fn send<T: AsyncWrite + Unpin>(
        &mut self,
        frames: &mut Frames<T>,
        turn: &mut Turn,
        detached: &mut Vec<Detached>,
    ) -> Option<Halt> {
        while let Some(under_way) = &mut self.under_way {
            let Some(member) = self.members.get_mut(under_way.next) else {
                self.events += under_way.piece.events;
                self.last_sent_at = under_way.at;
                self.under_way = None;
                self.reader.settle();
                break;
            };
            if turn.is_over() {
                return Some(Halt::Later);
            }
            let rest = &under_way.piece.bytes[under_way.sent..];
            // The rare condition stands first: this is looked at for each delivery.
            if frames.has_too_much_unread()
                && under_way.sent == 0
                && rest.len() < limits::SMALL_FRAME_BYTES
            {
                // Its body knows how to make the piece larger.
                let next = under_way.next;
                detached.push(self.detach(next));
                continue;
            }
            match frames.send(member.at, rest) {
                Sent::All => {
                    turn.spend(rest.len());
                    under_way.next += 1;
                    under_way.sent = 0;
                }
                Sent::Blocked(sent) => {
                    under_way.sent += sent;
                    return Some(Halt::Later);
                }
                Sent::Part(sent) => {
                    under_way.sent += sent;
                    if frames.is_used_up() {
                        // It is the connection's window: all streams wait for it.
                        return Some(Halt::NoWindow);
                    }
                    let next = under_way.next;
                    detached.push(self.detach(next));
                }
            }
        }
        None
    }

    fn detach_all(&mut self, detached: &mut Vec<Detached>) {
        while let Some(last) = self.members.len().checked_sub(1) {
            detached.push(self.detach(last));
        }
    }

    /// Takes a stream out. If it has a part of the piece under way, it gets the rest with it.
    fn detach(&mut self, at: usize) -> Detached {
        let member = self.members.remove(at);
        let mut detached = Detached {
            slot: member.slot,
            rest: Bytes::new(),
            whole: 0,
            followed: Followed {
                position: self.reader.position(),
                events: self.events - member.since,
                last_sent_at: (self.events > member.since).then_some(self.last_sent_at),
            },
        };
        if let Some(under_way) = &mut self.under_way {
            let has_it = at < under_way.next;
            if has_it {
                under_way.next -= 1;
            } else if at == under_way.next && under_way.sent > 0 {
                detached.rest = under_way.piece.bytes.slice(under_way.sent..);
                detached.whole = under_way.piece.bytes.len();
                under_way.sent = 0;
            } else {
                detached.followed.position = under_way.piece.after;
                return detached;
            }
            detached.followed.events += under_way.piece.events;
            detached.followed.last_sent_at = Some(under_way.at);
        }
        detached
    }
}
