//! One direction of a connection.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::Bytes;
use tokio::time::Instant;

/// The pieces on the way, in order.
pub(super) enum Piece {
    Data(Bytes),
    Fin,
    Reset,
}

/// Whether there is a reader for the bytes that arrive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    There,
    /// Since then; the writer is told.
    Gone(Instant),
    /// Gone without a machine that could tell.
    Silent,
}

pub(super) struct Pipe {
    pieces: VecDeque<(Instant, Piece)>,
    /// Bytes in `pieces`.
    bytes: usize,
    /// Pieces arrive in the order in which they were sent.
    last: Option<Instant>,
    ended: bool,
    pub(super) reader: Reader,
    reading: Option<Waker>,
    writing: Option<Waker>,
}

impl Pipe {
    pub(super) fn new() -> Self {
        Self {
            pieces: VecDeque::new(),
            bytes: 0,
            last: None,
            ended: false,
            reader: Reader::There,
            reading: None,
            writing: None,
        }
    }

    /// Pieces that were not taken.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn send(&mut self, arrives: Instant, data: Bytes) {
        self.bytes += data.len();
        self.push(arrives, Piece::Data(data));
    }

    /// Nothing more is sent: in order, or with a reset.
    pub(super) fn end(&mut self, arrives: Instant, reset: bool) {
        if !std::mem::replace(&mut self.ended, true) {
            self.push(arrives, if reset { Piece::Reset } else { Piece::Fin });
        }
    }

    fn push(&mut self, arrives: Instant, piece: Piece) {
        let arrives = self.last.map_or(arrives, |last| last.max(arrives));
        self.last = Some(arrives);
        self.pieces.push_back((arrives, piece));
        self.wake_reader();
    }

    pub(super) fn front(&mut self) -> Option<&mut (Instant, Piece)> {
        self.pieces.front_mut()
    }

    /// `count` bytes of the first piece were taken.
    pub(super) fn took(&mut self, count: usize) {
        self.bytes -= count;
        if let Some((_, Piece::Data(data))) = self.pieces.front()
            && data.is_empty()
        {
            self.pieces.pop_front();
        }
        if let Some(waker) = self.writing.take() {
            waker.wake();
        }
    }

    /// Whether a reset has arrived, even with other pieces before it.
    pub(super) fn is_reset(&self, now: Instant) -> bool {
        let last = self.pieces.back();
        last.is_some_and(|(at, piece)| matches!(piece, Piece::Reset) && *at <= now)
    }

    /// All but the first `count` pieces are lost.
    pub(super) fn truncate(&mut self, count: usize) {
        self.pieces.truncate(count);
        let len = |(_, piece): &(Instant, Piece)| match piece {
            Piece::Data(data) => data.len(),
            Piece::Fin | Piece::Reset => 0,
        };
        self.bytes = self.pieces.iter().map(len).sum();
    }

    /// Nobody reads any more.
    pub(super) fn leave(&mut self, reader: Reader) {
        self.reader = reader;
        if let Some(waker) = self.writing.take() {
            waker.wake();
        }
    }

    pub(super) fn wake_reader(&mut self) {
        if let Some(waker) = self.reading.take() {
            waker.wake();
        }
    }

    pub(super) fn wait_to_read(&mut self, waker: &Waker) {
        self.reading = Some(waker.clone());
    }

    pub(super) fn wait_to_write(&mut self, waker: &Waker) {
        self.writing = Some(waker.clone());
    }
}
