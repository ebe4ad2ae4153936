//! Literal fields as they stand in a block: RFC 7541, 5.2 and 6.2. Nothing is decoded or looked up here.

use super::error::{DecodeError, Stop};
use super::{huffman, integer};

/// A literal field (RFC 7541, 6.2).
pub(super) struct Literal<'a> {
    pub(super) name: Name<'a>,
    pub(super) value: StringLiteral<'a>,
    /// With incremental indexing: it is added to the dynamic table (6.2.1).
    pub(super) is_added: bool,
    /// It must stay a literal at every hop (6.2.3).
    pub(super) never_indexed: bool,
    /// The octets behind it.
    pub(super) rest: &'a [u8],
}

pub(super) enum Name<'a> {
    /// That of the field with this index.
    Of(usize),
    New(StringLiteral<'a>),
}

/// A string (RFC 7541, 5.2).
pub(super) struct StringLiteral<'a> {
    octets: &'a [u8],
    is_huffman: bool,
}

impl<'a> Literal<'a> {
    /// The field at the begin of `octets`, the first of which is `first`.
    #[inline]
    pub(super) fn read(first: u8, octets: &'a [u8]) -> Result<Self, Stop> {
        let is_added = first & 0x40 != 0;
        let (index, rest) = integer::decode(octets, if is_added { 6 } else { 4 })?;
        let (name, rest) = if index > 0 {
            (Name::Of(index), rest)
        } else {
            let (name, rest) = StringLiteral::read(rest)?;
            (Name::New(name), rest)
        };
        let (value, rest) = StringLiteral::read(rest)?;
        Ok(Self {
            name,
            value,
            is_added,
            never_indexed: first & 0xf0 == 0x10,
            rest,
        })
    }

    /// How much room name and value need to be decoded.
    #[inline]
    pub(super) fn scratch_lens(&self) -> (usize, usize) {
        let name = match &self.name {
            Name::Of(_) => 0,
            Name::New(name) => name.scratch_len(),
        };
        (name, self.value.scratch_len())
    }
}

impl<'a> StringLiteral<'a> {
    /// The string at the begin of `octets`, and what is behind it.
    #[inline]
    fn read(octets: &'a [u8]) -> Result<(Self, &'a [u8]), Stop> {
        let (len, rest) = integer::decode(octets, 7)?;
        let (string, rest) = rest.split_at_checked(len).ok_or(Stop::NotWhole)?;
        let string = Self {
            octets: string,
            is_huffman: octets[0] & 0x80 != 0,
        };
        Ok((string, rest))
    }

    #[inline]
    fn scratch_len(&self) -> usize {
        if self.is_huffman {
            huffman::decoded_len_max(self.octets.len())
        } else {
            0
        }
    }

    /// The octets that it stands for. They are written to the begin of `scratch` if it is Huffman encoded.
    #[inline]
    pub(super) fn decode(&self, scratch: &'a mut [u8]) -> Result<&'a [u8], DecodeError> {
        if !self.is_huffman {
            return Ok(self.octets);
        }
        let len = huffman::decode(self.octets, scratch)?;
        Ok(&scratch[..len])
    }
}
