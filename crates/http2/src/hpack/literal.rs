//! Literal fields as they stand in a block: RFC 7541, 5.2 and 6.2. Nothing is decoded or looked up here.

use super::error::{DecodeError, Stop};
use super::long::HUFFMAN_AT_ONCE;
use super::{huffman, integer};

/// A literal field (RFC 7541, 6.2).
pub(super) struct Literal<'a> {
    /// The name, if it is not that of another field.
    pub(super) name: Option<StringLiteral<'a>>,
    pub(super) value: StringLiteral<'a>,
    pub(super) header: Header,
    /// The octets behind it.
    pub(super) rest: &'a [u8],
}

/// What stands before the strings of a literal field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    /// The field that has the name; 0 if the name follows.
    pub(super) index: usize,
    /// With incremental indexing: it is added to the dynamic table (6.2.1).
    pub(super) is_added: bool,
    /// It must stay a literal at every hop (6.2.3).
    pub(super) never_indexed: bool,
}

/// A string (RFC 7541, 5.2).
pub(super) struct StringLiteral<'a> {
    octets: &'a [u8],
    is_huffman: bool,
}

impl Header {
    /// What stands before the strings of the field at the begin of `octets`, the first of which is `first`, and the octets behind it.
    #[inline]
    pub(super) fn read(first: u8, octets: &[u8]) -> Result<(Self, &[u8]), Stop> {
        let is_added = first & 0x40 != 0;
        let (index, rest) = integer::decode(octets, if is_added { 6 } else { 4 })?;
        let header = Self {
            index,
            is_added,
            never_indexed: first & 0xf0 == 0x10,
        };
        Ok((header, rest))
    }
}

impl<'a> Literal<'a> {
    /// The field at the begin of `octets`, the first of which is `first`.
    #[inline]
    pub(super) fn read(first: u8, octets: &'a [u8]) -> Result<Self, Stop> {
        let (header, rest) = Header::read(first, octets)?;
        let (name, rest) = if header.index > 0 {
            (None, rest)
        } else {
            let (name, rest) = StringLiteral::read(rest)?;
            (Some(name), rest)
        };
        let (value, rest) = StringLiteral::read(rest)?;
        Ok(Self {
            name,
            value,
            header,
            rest,
        })
    }

    /// How much room name and value need to be decoded.
    #[inline]
    pub(super) fn scratch_lens(&self) -> (usize, usize) {
        let name = self.name.as_ref().map_or(0, StringLiteral::scratch_len);
        (name, self.value.scratch_len())
    }
}

impl<'a> StringLiteral<'a> {
    /// The length of the string at the begin of `octets`, whether it is Huffman encoded, and the octets behind these two.
    #[inline]
    pub(super) fn header(octets: &[u8]) -> Result<(usize, bool, &[u8]), Stop> {
        let (len, rest) = integer::decode(octets, 7)?;
        Ok((len, octets[0] & 0x80 != 0, rest))
    }

    /// The string at the begin of `octets`, and what is behind it.
    #[inline]
    pub(super) fn read(octets: &'a [u8]) -> Result<(Self, &'a [u8]), Stop> {
        let (len, is_huffman, rest) = Self::header(octets)?;
        if is_huffman && len > HUFFMAN_AT_ONCE {
            return Err(Stop::Long);
        }
        let (string, rest) = rest.split_at_checked(len).ok_or(Stop::NotWhole)?;
        let string = Self {
            octets: string,
            is_huffman,
        };
        Ok((string, rest))
    }

    #[inline]
    pub(super) fn scratch_len(&self) -> usize {
        if self.is_huffman {
            huffman::decoded_len_max(self.octets.len())
        } else {
            0
        }
    }

    /// The octets that it stands for. They are written to the begin of `scratch` if it is Huffman encoded.
    #[inline]
    pub(super) fn decode<'b>(&self, scratch: &'b mut [u8]) -> Result<&'b [u8], DecodeError>
    where
        'a: 'b,
    {
        if !self.is_huffman {
            return Ok(self.octets);
        }
        let len = huffman::decode(self.octets, scratch)?;
        Ok(&scratch[..len])
    }
}
