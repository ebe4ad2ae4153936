//! Conversations of a peer, drawn from bytes: lawful ones, and ones that break a rule now and then.
//!
//! The same bytes give the same conversation, and fewer bytes a shorter one: that is how a failure is made small.

use crate::wire::{self, END_HEADERS, END_STREAM, PADDED, block, field_to_table, post};

/// Bytes that decide what is done next. When they are used up, every choice is the first.
pub(crate) struct Choices<'a>(pub(crate) &'a [u8]);

impl Choices<'_> {
    pub(crate) fn are_left(&self) -> bool {
        !self.0.is_empty()
    }

    fn byte(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        usize::from(*first)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let wide = if limit > 256 { self.byte() << 8 } else { 0 };
        (wide + self.byte()) % limit
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// A client that keeps to the rules, but for what `breaks` says.
pub(crate) struct Dialogue {
    /// Streams that it has not ended.
    open: Vec<u32>,
    next: u32,
    /// Its table of header compression has a field.
    added: bool,
    /// One frame in this number breaks a rule; 0: none.
    breaks: usize,
}

/// The frames of a whole conversation, the preface first.
pub(crate) fn frames(choices: &mut Choices<'_>, breaks: usize) -> Vec<Vec<u8>> {
    let mut dialogue = Dialogue {
        open: Vec::new(),
        next: 1,
        added: false,
        breaks,
    };
    let mut frames = vec![wire::begin()];
    while choices.are_left() {
        frames.push(dialogue.next(choices));
    }
    frames
}

/// HEADERS, perhaps with padding or in pieces.
fn headers(choices: &mut Choices<'_>, id: u32, block: &[u8], end: bool) -> Vec<u8> {
    let end = if end { END_STREAM } else { 0 };
    match choices.below(4) {
        0 => {
            let padded = wire::padded(block, choices.below(256) as u8);
            wire::frame(wire::HEADERS, END_HEADERS | PADDED | end, id, &padded)
        }
        1 => {
            let (first, rest) = block.split_at(choices.below(block.len() + 1));
            let (second, third) = rest.split_at(choices.below(rest.len() + 1));
            let mut frames = wire::frame(wire::HEADERS, end, id, first);
            frames.extend(wire::frame(wire::CONTINUATION, 0, id, second));
            frames.extend(wire::frame(wire::CONTINUATION, END_HEADERS, id, third));
            frames
        }
        _ => wire::frame(wire::HEADERS, END_HEADERS | end, id, block),
    }
}

impl Dialogue {
    fn next(&mut self, choices: &mut Choices<'_>) -> Vec<u8> {
        if self.breaks > 0 && choices.one_in(self.breaks) {
            return self.broken(choices);
        }
        match choices.below(20) {
            0..5 => self.request(choices),
            5..11 => self.content(choices),
            11 => self.trailers(choices),
            12 => match self.some_open(choices) {
                Some(id) => {
                    self.open.retain(|it| *it != id);
                    wire::rst_stream(id, choices.below(14) as u32)
                }
                None => wire::ping([1; 8]),
            },
            13 => wire::ping([choices.below(256) as u8; 8]),
            14 => wire::settings(&[
                (wire::INITIAL_WINDOW_SIZE, choices.below(70_000) as u32),
                (wire::MAX_FRAME_SIZE, 16_384 + choices.below(60_000) as u32),
            ]),
            15 => wire::window_update(0, 1 + choices.below(60_000) as u32),
            16 => match self.some_open(choices) {
                Some(id) => wire::window_update(id, 1 + choices.below(60_000) as u32),
                None => wire::settings_ack(),
            },
            17 => wire::priority(1 + 2 * choices.below(9) as u32, 0),
            18 => wire::frame(0xbe, 0xff, choices.below(9) as u32, &[0; 40]),
            _ => wire::pong([choices.below(256) as u8; 8]),
        }
    }

    fn some_open(&self, choices: &mut Choices<'_>) -> Option<u32> {
        let at = choices.below(self.open.len().max(1));
        self.open.get(at).copied()
    }

    fn request(&mut self, choices: &mut Choices<'_>) -> Vec<u8> {
        let id = self.next + 2 * u32::from(choices.one_in(8));
        self.next = id + 2;
        let end = choices.below(3) == 0;
        if !end {
            self.open.push(id);
        }
        let value = "v".repeat(choices.of(&[0, 1, 30, 300, 3_000]));
        let mut block = post(&[("x-a", &value)]);
        if self.added && choices.one_in(2) {
            block.push(wire::NEWEST);
        }
        if choices.one_in(3) {
            field_to_table(&mut block, "x-table", &value);
            self.added = true;
        }
        headers(choices, id, &block, end)
    }

    fn content(&mut self, choices: &mut Choices<'_>) -> Vec<u8> {
        let Some(id) = self.some_open(choices) else {
            return self.request(choices);
        };
        let end = choices.one_in(4);
        if end {
            self.open.retain(|it| *it != id);
        }
        let payload = vec![b'd'; choices.of(&[0, 1, 5, 100, 3_000, 16_000])];
        if choices.one_in(3) {
            let padded = wire::padded(&payload, choices.below(256) as u8);
            return wire::frame(wire::DATA, PADDED | u8::from(end), id, &padded);
        }
        wire::data(id, &payload, end)
    }

    fn trailers(&mut self, choices: &mut Choices<'_>) -> Vec<u8> {
        let Some(id) = self.some_open(choices) else {
            return self.request(choices);
        };
        self.open.retain(|it| *it != id);
        headers(choices, id, &block(&[("x-sum", "1")]), true)
    }

    /// What an honest client does not send.
    fn broken(&mut self, choices: &mut Choices<'_>) -> Vec<u8> {
        let id = choices.below(self.next as usize + 4) as u32;
        match choices.below(16) {
            0..3 => wire::data(id, &[b'b'; 50], choices.one_in(2)),
            3 => wire::headers(id, &post(&[]), choices.one_in(2)),
            4 => wire::headers(id, &block(&[("x-sum", "1")]), choices.one_in(2)),
            5 => wire::rst_stream(id, 8),
            6 => wire::window_update(id, choices.of(&[0, 1, 0x7fff_ffff])),
            7 => wire::priority(id, id),
            8 => {
                let length = choices.below(300).to_string();
                let id = self.next;
                self.next += 2;
                self.open.push(id);
                wire::headers(id, &post(&[("content-length", &length)]), false)
            }
            9 => {
                let id = self.next;
                self.next += 2;
                let bad = choices.of(&[
                    ("Upper", "1"),
                    ("connection", "close"),
                    (":path", "/"),
                    ("x-a", " a"),
                ]);
                wire::headers(id, &post(&[bad]), choices.one_in(2))
            }
            10 => {
                let id = self.next;
                self.next += 2;
                let large = "l".repeat(9_000);
                wire::headers(id, &post(&[("x-large", &large)]), true)
            }
            11 => wire::settings(&[(
                wire::INITIAL_WINDOW_SIZE,
                choices.of(&[0, 0x7fff_ffff, 0x8000_0000]),
            )]),
            12 => wire::frame(wire::DATA, PADDED, id, &[choices.below(256) as u8; 30]),
            13 => wire::frame(
                choices.below(11) as u8,
                choices.below(256) as u8,
                id,
                &[0; 8],
            ),
            14 => wire::frame(wire::HEADERS, 0, self.next, &post(&[])),
            _ => (0..choices.below(40))
                .map(|_| choices.below(256) as u8)
                .collect(),
        }
    }
}
