//! A literal field with a long Huffman string: RFC 7541, 5.2. Such a string is decoded while its octets come, so that no call
//! decodes all of it.

use super::error::{DecodeError, Stop};
use super::huffman;
use super::literal::{Header, StringLiteral};

/// The octets of a Huffman string that are decoded at once. A longer one is decoded in pieces of that size.
pub(super) const HUFFMAN_AT_ONCE: usize = 1_024;

/// The literal, as far as it has come.
#[derive(Debug)]
pub(super) struct Long {
    pub(super) header: Header,
    /// Of a literal whose name is no other field's.
    pub(super) name: Vec<u8>,
    part: Part,
}

#[derive(Debug)]
enum Part {
    Name(LongString),
    /// The name is over, and the value has not begun.
    BeforeValue,
    Value(LongString),
}

#[derive(Debug)]
struct LongString {
    /// Octets that must still come.
    left: usize,
    pieces: huffman::Pieces,
    decoded: Vec<u8>,
}

/// What the octets that have come make of it.
pub(super) enum Step<'a> {
    /// It goes on.
    GoesOn,
    /// The name is whole, and this is the value.
    Whole(StringLiteral<'a>),
    /// The same, and the value was long.
    WholeLong(Vec<u8>),
}

impl Long {
    /// The begin of a literal one of whose strings is long, and the octets of that string.
    pub(super) fn begin(first: u8, octets: &[u8]) -> Result<(Self, &[u8]), Stop> {
        let (header, mut rest) = Header::read(first, octets)?;
        let mut long = Self {
            header,
            name: Vec::new(),
            part: Part::BeforeValue,
        };
        if header.index == 0 {
            if let Some((string, behind)) = LongString::begin(rest)? {
                long.part = Part::Name(string);
                return Ok((long, behind));
            }
            let (name, behind) = StringLiteral::read(rest)?;
            long.name.resize(name.scratch_len(), 0);
            let decoded = name.decode(&mut long.name)?.to_vec();
            (long.name, rest) = (decoded, behind);
        }
        let value = LongString::begin(rest)?;
        let (value, behind) = value.expect("the name is not long, so the value is");
        long.part = Part::Value(value);
        Ok((long, behind))
    }

    /// Takes the next octets, and gives those behind them.
    pub(super) fn step<'a>(&mut self, octets: &'a [u8]) -> Result<(Step<'a>, &'a [u8]), Stop> {
        match &mut self.part {
            Part::Name(string) => {
                let (whole, rest) = string.step(octets)?;
                if let Some(name) = whole {
                    self.name = name;
                    self.part = Part::BeforeValue;
                }
                Ok((Step::GoesOn, rest))
            }
            Part::BeforeValue => {
                if let Some((string, rest)) = LongString::begin(octets)? {
                    self.part = Part::Value(string);
                    return Ok((Step::GoesOn, rest));
                }
                let (value, rest) = StringLiteral::read(octets)?;
                Ok((Step::Whole(value), rest))
            }
            Part::Value(string) => {
                let (whole, rest) = string.step(octets)?;
                Ok((whole.map_or(Step::GoesOn, Step::WholeLong), rest))
            }
        }
    }

    /// Bytes of heap.
    pub(super) fn held_bytes(&self) -> usize {
        let string = match &self.part {
            Part::Name(string) | Part::Value(string) => string.decoded.capacity(),
            Part::BeforeValue => 0,
        };
        size_of::<Self>() + self.name.capacity() + string
    }
}

impl LongString {
    /// The string whose length stands at the begin of these octets, if it is long, and the octets behind its length.
    fn begin(octets: &[u8]) -> Result<Option<(Self, &[u8])>, Stop> {
        let (len, is_huffman, rest) = StringLiteral::header(octets)?;
        if !is_huffman || len <= HUFFMAN_AT_ONCE {
            return Ok(None);
        }
        let string = Self {
            left: len,
            pieces: huffman::Pieces::default(),
            decoded: Vec::new(),
        };
        Ok(Some((string, rest)))
    }

    /// Decodes one piece. It gives the string when it is whole.
    fn step<'a>(&mut self, octets: &'a [u8]) -> Result<(Option<Vec<u8>>, &'a [u8]), DecodeError> {
        let n = octets.len().min(self.left).min(HUFFMAN_AT_ONCE);
        let (piece, rest) = octets.split_at(n);
        self.pieces.push(piece, &mut self.decoded)?;
        self.left -= n;
        if self.left > 0 {
            return Ok((None, rest));
        }
        std::mem::take(&mut self.pieces).end(&mut self.decoded)?;
        Ok((Some(std::mem::take(&mut self.decoded)), rest))
    }
}
