//! The decoder: header blocks in, fields out.
//!
//! A block is decoded while its fragments come (RFC 9113, 6.10). Nothing of it is kept here but what the peer puts into
//! the dynamic table.
//!
//! Holds: what a block gives, also its error, does not depend on where it is cut. A representation is looked at octet by
//! octet, and Huffman strings only once it is whole. Long ones are decoded in pieces, as their octets come.

use super::error::{DecodeError, Stop};
use super::literal::{Header, Literal};
use super::long::{Long, Step};
use super::table::Table;
use super::{integer, static_table};

/// The index of the newest entry of the dynamic table (RFC 7541, 2.3.3).
const FIRST_DYNAMIC: usize = static_table::FIELDS.len() + 1;

/// The most dynamic table size updates that a block may begin with: the lowest limit since the last block, and the one
/// that holds (RFC 7541, 4.2).
const SIZE_UPDATES_MAX: u8 = 2;

/// The fields that are decoded at once. One field, with the map that it is put into, takes some 1,000 instructions.
const FIELDS_AT_ONCE: usize = 32;

/// What [`Decoder::decode_some`] did.
pub(crate) struct Decoded {
    /// The octets that it took.
    pub(crate) taken: usize,
    /// Fields and pieces of fields.
    pub(crate) fields: usize,
    /// What is left can be decoded at once. Otherwise it is the begin of a representation.
    pub(crate) is_paused: bool,
}

/// A field as it was decoded. It borrows from the block, the table or the scratch buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name. Nothing has looked at its octets.
    pub name: &'a [u8],
    /// The value. Nothing has looked at its octets.
    pub value: &'a [u8],
    /// It was a literal that must stay literal at every hop (RFC 7541, 6.2.3).
    pub never_indexed: bool,
}

/// Decodes the header blocks of one connection, in their order.
///
/// Every error ends the connection: [`DecodeError`] says why.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// The limit of our SETTINGS. The peer may choose a lower one for the table.
    table_size_max: u32,
    /// The lowest limit since the last block, if the table's own was over it. The next block begins with an update to this
    /// or less.
    update_needed: Option<u32>,
    /// A literal field with a long Huffman string that is not whole.
    long: Option<Box<Long>>,
    /// No field of the block has come.
    is_at_begin: bool,
    updates: u8,
}

impl Decoder {
    /// Of a new connection. `table_size_max` is the SETTINGS_HEADER_TABLE_SIZE that holds: 4,096 until the peer
    /// acknowledges ours (RFC 9113, 6.5.2 and 6.5.3). It is at most 65,535, which is checked.
    pub fn new(table_size_max: u32) -> Self {
        assert!(table_size_max <= Table::SIZE_MAX, "a table is smaller");
        Self {
            table: Table::new(table_size_max),
            table_size_max,
            update_needed: None,
            long: None,
            is_at_begin: true,
            updates: 0,
        }
    }

    /// A new limit holds, because the peer acknowledged our SETTINGS. If the table's own is over it, the peer must begin
    /// its next block with a size update (RFC 7541, 4.2). It is called between blocks, with at most 65,535.
    pub fn set_table_size_max(&mut self, table_size_max: u32) {
        assert!(table_size_max <= Table::SIZE_MAX, "a table is smaller");
        self.table_size_max = table_size_max;
        if self.table.size_max() > table_size_max {
            self.table.set_size_max(table_size_max);
            self.update_needed = Some(table_size_max);
        }
    }

    /// Before the first fragment of a block.
    pub fn begin_block(&mut self) {
        self.is_at_begin = true;
        self.updates = 0;
        self.long = None;
    }

    /// Decodes all representations that are whole in `fragment`, in their order, and says how many octets they take. The
    /// rest is the begin of one that goes on in the next fragment. The caller keeps it, and hands it in again before what
    /// follows. To be asked again is cheap as long as it is not whole.
    ///
    /// Huffman strings are decoded in `scratch`, over what it holds. It grows to the longest literal.
    pub fn decode(
        &mut self,
        fragment: &[u8],
        scratch: &mut Vec<u8>,
        visit: &mut impl FnMut(Field<'_>),
    ) -> Result<usize, DecodeError> {
        let mut taken = 0;
        loop {
            let some = self.decode_some(&fragment[taken..], scratch, visit)?;
            taken += some.taken;
            if !some.is_paused {
                return Ok(taken);
            }
        }
    }

    /// The same, but after 32 fields, or a piece of a long string, it pauses.
    pub(crate) fn decode_some(
        &mut self,
        fragment: &[u8],
        scratch: &mut Vec<u8>,
        visit: &mut impl FnMut(Field<'_>),
    ) -> Result<Decoded, DecodeError> {
        let mut rest = fragment;
        if self.is_at_begin {
            rest = self.size_updates(rest)?;
        }
        let (mut fields, mut is_paused) = (0, false);
        while !self.is_at_begin
            && let Some(first) = rest.first()
        {
            if fields == FIELDS_AT_ONCE {
                is_paused = true;
                break;
            }
            fields += 1;
            let behind = match first {
                _ if self.long.is_some() => {
                    // A piece of it is enough at once.
                    fields = FIELDS_AT_ONCE;
                    self.long_literal(rest, scratch, visit)
                }
                0x80.. => self.indexed(*first, rest, visit),
                0x20..0x40 => Err(DecodeError::SizeUpdateNotFirst.into()),
                _ => self.literal(*first, rest, scratch, visit),
            };
            match behind {
                Ok(behind) => rest = behind,
                Err(Stop::Long) => {
                    let (long, behind) = match Long::begin(*first, rest) {
                        Ok(begun) => begun,
                        Err(Stop::Error(error)) => return Err(error),
                        Err(Stop::NotWhole | Stop::Long) => {
                            unreachable!("what comes before it is whole and short")
                        }
                    };
                    self.long = Some(Box::new(long));
                    rest = behind;
                }
                Err(Stop::NotWhole) => break,
                Err(Stop::Error(error)) => return Err(error),
            }
        }
        Ok(Decoded {
            taken: fragment.len() - rest.len(),
            fields,
            is_paused,
        })
    }

    /// At the end of a block, with what [`decode`](Self::decode) did not take.
    pub fn end_block(&mut self, rest: &[u8]) -> Result<(), DecodeError> {
        if !rest.is_empty() || self.long.is_some() {
            return Err(DecodeError::Truncated);
        }
        self.check_update_came()
    }

    /// Bytes of heap.
    pub fn held_bytes(&self) -> usize {
        self.table.held_bytes()
    }

    /// Bytes of heap of a literal field that is not whole.
    pub(crate) fn held_literal_bytes(&self) -> usize {
        self.long.as_ref().map_or(0, |long| long.held_bytes())
    }

    /// What the dynamic table has, in the order of its indices: the newest first.
    pub fn table(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        (0..).map_while(|index| self.table.get(index))
    }

    /// An indexed field (RFC 7541, 6.1).
    #[inline]
    fn indexed<'a>(
        &self,
        first: u8,
        octets: &'a [u8],
        visit: &mut impl FnMut(Field<'_>),
    ) -> Result<&'a [u8], Stop> {
        let (index, rest) = match first & 0x7f {
            0x7f => integer::decode(octets, 7)?,
            index => (usize::from(index), &octets[1..]),
        };
        let (name, value) = match static_table::FIELDS.get(index.wrapping_sub(1)) {
            Some(field) => *field,
            None => match index.checked_sub(FIRST_DYNAMIC) {
                Some(index) => self.entry(index)?,
                None => return Err(DecodeError::IndexZero.into()),
            },
        };
        visit(Field {
            name,
            value,
            never_indexed: false,
        });
        Ok(rest)
    }

    /// A literal field (RFC 7541, 6.2).
    fn literal<'a>(
        &mut self,
        first: u8,
        octets: &'a [u8],
        scratch: &mut Vec<u8>,
        visit: &mut impl FnMut(Field<'_>),
    ) -> Result<&'a [u8], Stop> {
        let literal = Literal::read(first, octets)?;
        let (name_room, value_room) = literal.scratch_lens();
        if scratch.len() < name_room + value_room {
            scratch.resize(name_room + value_room, 0);
        }
        let (name_scratch, value_scratch) = scratch.split_at_mut(name_room);
        let name = match &literal.name {
            Some(name) => name.decode(name_scratch)?,
            None => &[],
        };
        let value = literal.value.decode(value_scratch)?;
        self.field(literal.header, name, value, visit)?;
        Ok(literal.rest)
    }

    /// A literal field that is whole. `name` is its name if no other field has it.
    #[inline]
    fn field(
        &mut self,
        header: Header,
        name: &[u8],
        value: &[u8],
        visit: &mut impl FnMut(Field<'_>),
    ) -> Result<(), DecodeError> {
        let entry = header.index.checked_sub(FIRST_DYNAMIC);
        // An entry's name stays where it is in the table.
        let name = match header.index {
            1..FIRST_DYNAMIC => static_table::FIELDS[header.index - 1].0,
            _ => name,
        };
        visit(Field {
            name: match entry {
                Some(entry) => self.entry(entry)?.0,
                None => name,
            },
            value,
            never_indexed: header.never_indexed,
        });
        if header.is_added {
            match entry {
                Some(entry) => self.table.insert_with_name_of(entry, value),
                None => self.table.insert(name, value),
            }
        }
        Ok(())
    }

    /// The next octets of a literal field with a long string.
    fn long_literal<'a>(
        &mut self,
        octets: &'a [u8],
        scratch: &mut Vec<u8>,
        visit: &mut impl FnMut(Field<'_>),
    ) -> Result<&'a [u8], Stop> {
        let mut long = self.long.take().expect("a long literal is under way");
        let value;
        let (value, rest) = match long.step(octets) {
            Ok((Step::WholeLong(decoded), rest)) => {
                value = decoded;
                (&value[..], rest)
            }
            Ok((Step::Whole(string), rest)) => {
                let room = string.scratch_len();
                if scratch.len() < room {
                    scratch.resize(room, 0);
                }
                (string.decode(scratch)?, rest)
            }
            Ok((Step::GoesOn, rest)) => {
                self.long = Some(long);
                return Ok(rest);
            }
            Err(stop) => {
                self.long = Some(long);
                return Err(stop);
            }
        };
        self.field(long.header, &long.name, value, visit)?;
        Ok(rest)
    }

    /// Takes the size updates off the begin of a block (RFC 7541, 4.2), and notes whether a field comes next.
    fn size_updates<'a>(&mut self, mut rest: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        while let Some(first) = rest.first() {
            let 0x20..0x40 = first else {
                self.check_update_came()?;
                self.is_at_begin = false;
                break;
            };
            match self.size_update(rest) {
                Ok(behind) => rest = behind,
                Err(Stop::NotWhole | Stop::Long) => break,
                Err(Stop::Error(error)) => return Err(error),
            }
        }
        Ok(rest)
    }

    /// A dynamic table size update (RFC 7541, 6.3).
    fn size_update<'a>(&mut self, octets: &'a [u8]) -> Result<&'a [u8], Stop> {
        if self.updates == SIZE_UPDATES_MAX {
            return Err(DecodeError::SizeUpdatesTooMany.into());
        }
        let (size, rest) = integer::decode(octets, 5)?;
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        if size > self.table_size_max {
            return Err(DecodeError::SizeUpdateTooLarge.into());
        }
        if self.update_needed.is_some_and(|limit| size > limit) {
            return Err(DecodeError::SizeUpdateMissing.into());
        }
        self.update_needed = None;
        self.updates += 1;
        self.table.set_size_max(size);
        Ok(rest)
    }

    fn check_update_came(&self) -> Result<(), DecodeError> {
        match self.update_needed {
            Some(_) => Err(DecodeError::SizeUpdateMissing),
            None => Ok(()),
        }
    }

    /// An entry of the dynamic table, whose indices begin behind those of the static one (RFC 7541, 2.3.3).
    #[inline]
    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), DecodeError> {
        self.table.get(index).ok_or(DecodeError::IndexBeyondTable)
    }
}
