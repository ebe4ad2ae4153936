//! The open streams of a connection: one slab, with the caller's value in each entry.
//!
//! A delivery touches one entry. Streams that wait for a window stand in lists through the slab itself, so waiting takes
//! no memory and no search.

use crate::slot::Slot;

/// The end of a list.
const NONE: u32 = u32::MAX;

/// What a stream waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Its own window.
    Stream,
    /// The connection's window.
    Connection,
    /// Nothing more: the caller is to be told that it may send.
    Nothing,
}

/// An open or half closed stream.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says a thing of its own"
)]
pub(crate) struct Stream<V> {
    pub(crate) id: u32,
    /// The window for DATA to the peer, less the peer's initial window (6.9.2): a change of that moves all windows at once.
    pub(crate) send_offset: i32,
    /// The window for DATA of the peer, less our initial window.
    pub(crate) receive_offset: i32,
    /// Request bytes that the caller has not taken.
    pub(crate) untaken: u32,
    /// Bytes of content that must still come (8.1.1); `u64::MAX` if the request does not say.
    pub(crate) content_left: u64,
    /// A frame with END_STREAM has begun.
    pub(crate) end_seen: bool,
    /// The peer has sent END_STREAM, and the caller knows.
    pub(crate) request_ended: bool,
    /// This end has sent END_STREAM.
    pub(crate) response_ended: bool,
    /// The answer to a HEAD request has no content.
    pub(crate) head_request: bool,
    waits: Option<Waits>,
    previous: u32,
    next: u32,
    pub(crate) value: V,
}

/// A request without `content-length`.
pub(crate) const NO_CONTENT_LENGTH: u64 = u64::MAX;

impl<V> Stream<V> {
    pub(crate) fn new(id: u32, value: V) -> Self {
        Self {
            id,
            send_offset: 0,
            receive_offset: 0,
            untaken: 0,
            content_left: NO_CONTENT_LENGTH,
            end_seen: false,
            request_ended: false,
            response_ended: false,
            head_request: false,
            waits: None,
            previous: NONE,
            next: NONE,
            value,
        }
    }
}

#[derive(Debug)]
enum Entry<V> {
    Open(Stream<V>),
    /// The next free entry.
    Free(u32),
}

#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

impl Default for List {
    fn default() -> Self {
        Self {
            first: NONE,
            last: NONE,
        }
    }
}

/// The open streams.
#[derive(Debug)]
pub(crate) struct Streams<V> {
    entries: Vec<Entry<V>>,
    free: u32,
    /// Identifier and slot, in the order of identifiers. A peer chooses identifiers: a search that halves has no bad case.
    by_id: Vec<(u32, u32)>,
    stream_waiters: List,
    connection_waiters: List,
    ready: List,
}

impl<V> Default for Streams<V> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: NONE,
            by_id: Vec::new(),
            stream_waiters: List::default(),
            connection_waiters: List::default(),
            ready: List::default(),
        }
    }
}

impl<V> Streams<V> {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Adds a stream whose identifier is above those of all others.
    pub(crate) fn insert(&mut self, stream: Stream<V>) -> Slot {
        debug_assert!(self.by_id.last().is_none_or(|(id, _)| *id < stream.id));
        let id = stream.id;
        let slot = if self.free == NONE {
            grow(&mut self.entries);
            self.entries.push(Entry::Open(stream));
            self.entries.len() as u32 - 1
        } else {
            let slot = self.free;
            let entry = std::mem::replace(&mut self.entries[slot as usize], Entry::Open(stream));
            let Entry::Free(next) = entry else {
                unreachable!("the free list names free entries");
            };
            self.free = next;
            slot
        };
        grow(&mut self.by_id);
        self.by_id.push((id, slot));
        Slot(slot)
    }

    pub(crate) fn find(&self, id: u32) -> Option<Slot> {
        let at = self.by_id.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(Slot(self.by_id[at].1))
    }

    pub(crate) fn get(&self, slot: Slot) -> &Stream<V> {
        match &self.entries[slot.0 as usize] {
            Entry::Open(stream) => stream,
            Entry::Free(_) => panic!("{slot:?} has no stream"),
        }
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> &mut Stream<V> {
        match &mut self.entries[slot.0 as usize] {
            Entry::Open(stream) => stream,
            Entry::Free(_) => panic!("{slot:?} has no stream"),
        }
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Stream<V> {
        self.stop_waiting(slot);
        let entry = std::mem::replace(&mut self.entries[slot.0 as usize], Entry::Free(self.free));
        let Entry::Open(stream) = entry else {
            panic!("{slot:?} has no stream");
        };
        self.free = slot.0;
        if let Ok(at) = self.by_id.binary_search_by_key(&stream.id, |(id, _)| *id) {
            self.by_id.remove(at);
        }
        if self.by_id.is_empty() {
            // An idle connection holds no table.
            *self = Self::default();
        }
        stream
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stream<V>> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Open(stream) => Some(stream),
            Entry::Free(_) => None,
        })
    }

    /// The slots of all open streams, in the order of their identifiers.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.by_id.iter().map(|(_, slot)| Slot(*slot))
    }

    pub(crate) fn waits(&self, slot: Slot) -> Option<Waits> {
        self.get(slot).waits
    }

    /// The stream stands last among those that wait for the same, unless it waits for that already.
    pub(crate) fn wait(&mut self, slot: Slot, what: Waits) {
        if self.get(slot).waits == Some(what) {
            // It has got nothing since: it keeps its place.
            return;
        }
        self.stop_waiting(slot);
        let last = self.list(what).last;
        let stream = self.get_mut(slot);
        stream.waits = Some(what);
        stream.previous = last;
        stream.next = NONE;
        if last == NONE {
            self.list(what).first = slot.0;
        } else {
            self.get_mut(Slot(last)).next = slot.0;
        }
        self.list(what).last = slot.0;
    }

    pub(crate) fn stop_waiting(&mut self, slot: Slot) {
        let stream = self.get_mut(slot);
        let Some(what) = stream.waits.take() else {
            return;
        };
        let (previous, next) = (stream.previous, stream.next);
        if previous == NONE {
            self.list(what).first = next;
        } else {
            self.get_mut(Slot(previous)).next = next;
        }
        if next == NONE {
            self.list(what).last = previous;
        } else {
            self.get_mut(Slot(next)).previous = previous;
        }
    }

    /// The stream that waits longest for this.
    pub(crate) fn first(&self, what: Waits) -> Option<Slot> {
        let list = match what {
            Waits::Stream => &self.stream_waiters,
            Waits::Connection => &self.connection_waiters,
            Waits::Nothing => &self.ready,
        };
        (list.first != NONE).then_some(Slot(list.first))
    }

    /// The stream that waits next after this one for the same.
    pub(crate) fn after(&self, slot: Slot) -> Option<Slot> {
        let next = self.get(slot).next;
        (next != NONE).then_some(Slot(next))
    }

    fn list(&mut self, what: Waits) -> &mut List {
        match what {
            Waits::Stream => &mut self.stream_waiters,
            Waits::Connection => &mut self.connection_waiters,
            Waits::Nothing => &mut self.ready,
        }
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry<V>>()
            + self.by_id.capacity() * size_of::<(u32, u32)>()
    }
}

/// Room for one more: exactly one at first, since most connections have one stream, and then a quarter more at a time.
fn grow<T>(entries: &mut Vec<T>) {
    if entries.len() == entries.capacity() {
        entries.reserve_exact((entries.len() / 4).max(1));
    }
}
