//! Streams of one connection that say the same: one of them all reads, and what it reads is sent to each.
//!
//! A stream whose body has nothing to say but what one reader can say for it is taken in here. From then on an event costs it
//! a look at its window and a copy into what is written next; its body sleeps. A stream leaves again when it is woken
//! for itself (a timer, an order, a request), when its window is too small for what is due, when small pieces pile up at
//! its peer, or when the reader cannot go on for all, and its body is told how far it came.
//!
//! Holds: every stream gets each delivery once and in order, whether it follows or goes on by itself.
//! Does not: poll bodies.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use slab::Slab;
use smallvec::SmallVec;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::io::{IoHandle, Sender, Sent};
use super::response_body::Follower;
use super::shared_reader::{SharedPiece, SharedReader};
use super::stream_set::Turn;
use super::wakes::GroupWakes;
use super::windows::Spent;
use crate::limits;

/// What a stream got while it followed.
#[derive(Clone, Copy, Debug)]
pub struct Followed {
    /// Everything up to here, as its reader counts.
    pub position: u64,
    /// So many events.
    pub events: u64,
    /// The last of them then; `None` when there were none.
    pub spoke_at: Option<Instant>,
}

/// A stream that goes on by itself.
pub(super) struct Leaver {
    pub(super) slot: u32,
    pub(super) spent: Spent,
    /// What is still to be sent of the last delivery.
    pub(super) rest: Bytes,
    pub(super) followed: Followed,
}

/// A stream's place among the followers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

pub(super) struct Followers<R> {
    groups: Slab<Group<R>>,
    wakes: GroupWakes,
    // Where the last turn ended before it was through.
    next: usize,
    // Those that could not go on when they were last asked.
    leavers: Vec<Leaver>,
    // Slots of streams that could be taken in as soon as their group has sent what it has not yet: 64 to a word.
    late: Vec<u64>,
}

struct Group<R> {
    reader: R,
    waker: Waker,
    members: SmallVec<[Member; 1]>,
    events: u64,
    spoke_at: Instant,
    under_way: Option<UnderWay>,
    // It waits for the connection's window, in that window's queue.
    queued: bool,
}

/// A delivery that some have got.
struct UnderWay {
    piece: SharedPiece,
    at: Instant,
    // The members before this one have it, and this one has so much of it.
    next: usize,
    sent: usize,
}

struct Member {
    stream: u32,
    slot: u32,
    spent: Spent,
    // What the group had sent when this one came.
    since: u64,
}

/// Why a group does not go on now.
enum Halt {
    /// Nothing is due.
    Waits,
    /// The connection's window is used up.
    NoWindow,
    /// The turn is over, or the socket is full.
    Later,
    /// Each goes on by itself.
    Parts,
}

impl<R: SharedReader> Followers<R> {
    /// Woken through `wakes` when something is due.
    pub(super) fn new(wakes: GroupWakes) -> Self {
        Self {
            groups: Slab::new(),
            wakes,
            next: 0,
            leavers: Vec::new(),
            late: Vec::new(),
        }
    }

    /// Takes in a stream whose body was pending, if the body lets it. One that only came too early is named by
    /// [`Self::take_late`].
    pub(super) fn take_in(
        &mut self,
        follower: &mut dyn Follower<R>,
        stream: u32,
        slot: u32,
        spent: Spent,
    ) -> Option<Place> {
        let place = self.join(follower, slot)?;
        let group = &mut self.groups[place];
        group.members.push(Member {
            stream,
            slot,
            spent,
            since: group.events,
        });
        Some(Place(place as u32))
    }

    /// A stream goes on by itself.
    pub(super) fn leave<T>(&mut self, place: Place, slot: u32, io: &IoHandle<T>) -> Option<Leaver> {
        let index = place.0 as usize;
        let group = self.groups.get_mut(index)?;
        let at = group.members.iter().position(|one| one.slot == slot)?;
        let leaver = group.part_with(at);
        self.remove_empty(index, io);
        Some(leaver)
    }

    /// All streams go on by themselves.
    pub(super) fn part(&mut self) -> Vec<Leaver> {
        self.groups
            .iter_mut()
            .for_each(|(_, group)| group.part(&mut self.leavers));
        self.groups = Slab::new();
        std::mem::take(&mut self.leavers)
    }

    /// When something was last sent to those at a place.
    pub(super) fn spoke_at(&self, place: Place) -> Option<Instant> {
        let group = self.groups.get(place.0 as usize)?;
        (group.events > 0).then_some(group.spoke_at)
    }

    /// The connection's window has room for a group that waited for it.
    pub(super) fn release(&mut self, group: u32) {
        if let Some(group) = self.groups.get_mut(group as usize) {
            group.queued = false;
            group.waker.wake_by_ref();
        }
    }

    /// Sends what is due, until the turn is over; whether something is left, and who leaves.
    pub(super) fn poll<T: AsyncWrite + Unpin>(
        &mut self,
        io: &IoHandle<T>,
        turn: &mut Turn,
    ) -> (bool, Vec<Leaver>) {
        let mut left = false;
        let due = self.wakes.take();
        let (first, end) = (self.next, self.groups.capacity());
        self.next = 0;
        for index in (first..end).chain(0..first) {
            if due & GroupWakes::bit(index) == 0 {
                continue;
            }
            let Some(group) = self.groups.get_mut(index) else {
                continue;
            };
            match group.poll(io, turn, &mut self.leavers) {
                Halt::Waits => {}
                Halt::NoWindow => {
                    if !std::mem::replace(&mut group.queued, true) {
                        io.windows().wait_as_group(index as u32);
                    }
                }
                Halt::Later => {
                    // Who had its turn is asked once more, for nothing; who has more than a turn holds up no other.
                    self.wakes.put_back(due);
                    self.next = index + 1;
                    left = true;
                    break;
                }
                Halt::Parts => group.part(&mut self.leavers),
            }
            self.remove_empty(index, io);
        }
        (left, std::mem::take(&mut self.leavers))
    }

    fn remove_empty<T>(&mut self, index: usize, io: &IoHandle<T>) {
        if self
            .groups
            .get(index)
            .is_some_and(|group| group.members.is_empty())
        {
            let group = self.groups.remove(index);
            if group.queued {
                io.windows().forget_group(index as u32);
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
        // Whoever came while a piece is under way would get it too, if it has it already.
        let joined = group.under_way.is_none() && follower.follow(&mut group.reader);
        if !joined {
            let (word, bit) = (slot / u64::BITS, slot % u64::BITS);
            let words = self.late.len().max(word as usize + 1);
            self.late.resize(words, 0);
            self.late[word as usize] |= 1 << bit;
        }
        joined.then_some(place)
    }

    /// Those that came too early: an event that is due to a group and to a stream wakes both, and the stream reads it
    /// first. Asked again when the group has had its turn, they can follow.
    pub(super) fn take_late(&mut self) -> impl Iterator<Item = u32> + use<R> {
        let words = std::mem::take(&mut self.late).into_iter().enumerate();
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
        let entry = self.groups.vacant_entry();
        let place = entry.key();
        let waker = self.wakes.waker(place);
        // It has told nobody yet whom to wake.
        waker.wake_by_ref();
        entry.insert(Group {
            reader,
            waker,
            members: SmallVec::new(),
            events: 0,
            spoke_at: Instant::now(),
            under_way: None,
            queued: false,
        });
        Some(place)
    }
}

impl<R: SharedReader> Group<R> {
    fn poll<T: AsyncWrite + Unpin>(
        &mut self,
        io: &IoHandle<T>,
        turn: &mut Turn,
        leavers: &mut Vec<Leaver>,
    ) -> Halt {
        let mut sender = io.sender();
        loop {
            if self.queued {
                return Halt::NoWindow;
            }
            if turn.is_over() || sender.is_blocked() {
                return Halt::Later;
            }
            if self.under_way.is_none() {
                match self.reader.poll_next(&mut Context::from_waker(&self.waker)) {
                    Poll::Pending => return Halt::Waits,
                    Poll::Ready(None) => return Halt::Parts,
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
            if let Some(halt) = self.send(&mut sender, turn, leavers) {
                return halt;
            }
        }
    }

    /// Sends what is under way to those that have not got it. `None` when all have.
    fn send<T: AsyncWrite + Unpin>(
        &mut self,
        sender: &mut Sender<'_, T>,
        turn: &mut Turn,
        leavers: &mut Vec<Leaver>,
    ) -> Option<Halt> {
        while let Some(under_way) = &mut self.under_way {
            let Some(member) = self.members.get_mut(under_way.next) else {
                self.events += under_way.piece.events;
                self.spoke_at = under_way.at;
                self.under_way = None;
                self.reader.settle();
                break;
            };
            if turn.is_over() {
                return Some(Halt::Later);
            }
            let rest = &under_way.piece.bytes[under_way.sent..];
            // First what is seldom so: this is looked at for each delivery.
            if sender.has_too_much_unread(member.stream, &mut member.spent)
                && under_way.sent == 0
                && rest.len() < limits::SMALL_FRAME_BYTES
            {
                // Its body knows how to say the same in a larger piece.
                let next = under_way.next;
                leavers.push(self.part_with(next));
                continue;
            }
            match sender.send(member.stream, &mut member.spent, rest) {
                Sent::All => {
                    turn.spend(rest.len());
                    under_way.next += 1;
                    under_way.sent = 0;
                }
                Sent::Blocked(sent) => {
                    under_way.sent += sent;
                    return Some(Halt::Later);
                }
                Sent::Part(sent) | Sent::Overflown(sent) => {
                    under_way.sent += sent;
                    if sender.is_used_up() {
                        // All wait alike.
                        return Some(Halt::NoWindow);
                    }
                    let next = under_way.next;
                    leavers.push(self.part_with(next));
                }
            }
        }
        None
    }

    fn part(&mut self, leavers: &mut Vec<Leaver>) {
        while let Some(last) = self.members.len().checked_sub(1) {
            leavers.push(self.part_with(last));
        }
    }

    /// Takes a member out. What it has a part of it gets whole.
    fn part_with(&mut self, at: usize) -> Leaver {
        let member = self.members.remove(at);
        let mut leaver = Leaver {
            slot: member.slot,
            spent: member.spent,
            rest: Bytes::new(),
            followed: Followed {
                position: self.reader.position(),
                events: self.events - member.since,
                spoke_at: (self.events > member.since).then_some(self.spoke_at),
            },
        };
        if let Some(under_way) = &mut self.under_way {
            let has_it = at < under_way.next;
            if has_it {
                under_way.next -= 1;
            } else if at == under_way.next && under_way.sent > 0 {
                leaver.rest = under_way.piece.bytes.slice(under_way.sent..);
                under_way.sent = 0;
            } else {
                leaver.followed.position = under_way.piece.after;
                return leaver;
            }
            leaver.followed.events += under_way.piece.events;
            leaver.followed.spoke_at = Some(under_way.at);
        }
        leaver
    }
}
