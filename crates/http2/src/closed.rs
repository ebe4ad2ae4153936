//! Streams that are closed, and how they came to be (RFC 9113, 5.1).

/// How a stream was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// Both ends sent END_STREAM.
    Ended,
    /// The peer sent RST_STREAM.
    ByPeer,
    /// This end sent RST_STREAM: what the peer sent before it knew is on its way.
    ByUs,
    /// The peer used a higher identifier and never this one (5.1.1).
    Skipped,
    /// Too long ago to say. What comes for it is ignored: an honest peer may have sent it before it knew.
    Forgotten,
}

/// How many closed streams are remembered.
const REMEMBERED: usize = 32;

/// The streams that were closed last. Made on first use: a connection whose streams stay open has none.
#[derive(Debug, Default)]
pub(crate) struct ClosedStreams {
    ring: Option<Box<Ring>>,
}

#[derive(Debug)]
struct Ring {
    /// `id << 2` with how in the lowest bits; an odd identifier of 31 bits loses its lowest bit.
    entries: [u32; REMEMBERED],
    next: usize,
    /// The highest identifier that was forgotten; 0 before the first.
    forgotten: u32,
}

const HOW: u32 = 0b11;

fn entry(id: u32, how: Closed) -> u32 {
    let how = match how {
        Closed::Ended => 1,
        Closed::ByPeer => 2,
        Closed::ByUs => 3,
        Closed::Skipped | Closed::Forgotten => unreachable!("neither is remembered"),
    };
    ((id >> 1) << 2) | how
}

impl Ring {
    fn find(&self, id: u32) -> Option<usize> {
        let wanted = (id >> 1) << 2;
        (self.entries.iter()).position(|entry| *entry != 0 && *entry & !HOW == wanted)
    }
}

impl ClosedStreams {
    /// The stream is closed, or now known to be closed in another way.
    pub(crate) fn insert(&mut self, id: u32, how: Closed) {
        let ring = self.ring.get_or_insert_with(|| {
            Box::new(Ring {
                entries: [0; REMEMBERED],
                next: 0,
                forgotten: 0,
            })
        });
        if let Some(known) = ring.find(id) {
            ring.entries[known] = entry(id, how);
            return;
        }
        let old = std::mem::replace(&mut ring.entries[ring.next], entry(id, how));
        ring.next = (ring.next + 1) % REMEMBERED;
        if old != 0 {
            ring.forgotten = ring.forgotten.max(((old >> 2) << 1) | 1);
        }
    }

    /// How the stream was closed, which is not above the highest that the peer used and is not open.
    pub(crate) fn how(&self, id: u32) -> Closed {
        let Some(ring) = &self.ring else {
            return Closed::Skipped;
        };
        match ring.find(id).map(|at| ring.entries[at] & HOW) {
            Some(1) => Closed::Ended,
            Some(2) => Closed::ByPeer,
            Some(_) => Closed::ByUs,
            None if id <= ring.forgotten => Closed::Forgotten,
            None => Closed::Skipped,
        }
    }

    pub(crate) fn held_bytes(&self) -> usize {
        if self.ring.is_some() {
            size_of::<Ring>()
        } else {
            0
        }
    }
}
