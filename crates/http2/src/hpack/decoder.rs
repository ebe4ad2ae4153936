//! The decoder: header blocks in, fields out.
//!
//! A block is decoded while its fragments come (RFC 9113, 6.10). Nothing of it is kept here but what the peer puts into
//! the dynamic table.
//!
//! Holds: what a block gives, also its error, does not depend on where it is cut. A representation is looked at octet by
//! octet, and Huffman strings only once it is whole.

use super::literal::{Literal, Name};
use super::table::Table;
use super::{DecodeError, integer, static_table};

/// The index of the newest entry of the dynamic table (RFC 7541, 2.3.3).
const FIRST_DYNAMIC: usize = static_table::FIELDS.len() + 1;

/// The most dynamic table size updates that a block may begin with: the lowest limit since the last block, and the one
/// that holds (RFC 7541, 4.2).
const SIZE_UPDATES_MAX: u8 = 2;

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
    table_size_max: usize,
    /// The lowest limit since the last block, if the table's own was over it. The next block begins with an update to this
    /// or less.
    update_needed: Option<usize>,
    /// No field of the block has come.
    is_at_begin: bool,
    updates: u8,
}

impl Decoder {
    /// Of a new connection. `table_size_max` is the SETTINGS_HEADER_TABLE_SIZE that holds: 4,096 until the peer
    /// acknowledges ours (RFC 9113, 6.5.2 and 6.5.3).
    pub fn new(table_size_max: u32) -> Self {
        Self {
            table: Table::new(table_size_max as usize),
            table_size_max: table_size_max as usize,
            update_needed: None,
            is_at_begin: true,
            updates: 0,
        }
    }

    /// A new limit holds, because the peer acknowledged our SETTINGS. If the table's own is over it, the peer must begin
    /// its next block with a size update (RFC 7541, 4.2). It is called between blocks.
    pub fn set_table_size_max(&mut self, table_size_max: u32) {
        self.table_size_max = table_size_max as usize;
        if self.table.size_max() > self.table_size_max {
            self.table.set_size_max(self.table_size_max);
            self.update_needed = Some(self.table_size_max);
        }
    }

    /// Before the first fragment of a block.
    pub fn begin_block(&mut self) {
        self.is_at_begin = true;
        self.updates = 0;
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
        let mut rest = fragment;
        while let Some(first) = rest.first() {
            let len = match first {
                0x80.. => self.indexed(rest, visit)?,
                0x20..0x40 => self.size_update(rest)?,
                _ => self.literal(rest, scratch, visit)?,
            };
            let Some(len) = len else {
                break;
            };
            rest = &rest[len..];
        }
        Ok(fragment.len() - rest.len())
    }

    /// At the end of a block, with what [`decode`](Self::decode) did not take.
    pub fn end_block(&mut self, rest: &[u8]) -> Result<(), DecodeError> {
        if !rest.is_empty() {
            return Err(DecodeError::Truncated);
        }
        self.check_update_came()
    }

    /// Bytes of heap.
    pub fn held_bytes(&self) -> usize {
        self.table.held_bytes()
    }

    /// What the dynamic table has, in the order of its indices: the newest first.
    pub fn table(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        (0..).map_while(|index| self.table.get(index))
    }

    /// An indexed field (RFC 7541, 6.1).
    #[inline]
    fn indexed(
        &mut self,
        octets: &[u8],
        visit: &mut impl FnMut(Field<'_>),
    ) -> Result<Option<usize>, DecodeError> {
        self.begin_field()?;
        let Some((index, len)) = integer::decode(octets, 7)? else {
            return Ok(None);
        };
        let (name, value) = self.get(index)?;
        visit(Field {
            name,
            value,
            never_indexed: false,
        });
        Ok(Some(len))
    }

    /// A literal field (RFC 7541, 6.2).
    fn literal(
        &mut self,
        octets: &[u8],
        scratch: &mut Vec<u8>,
        visit: &mut impl FnMut(Field<'_>),
    ) -> Result<Option<usize>, DecodeError> {
        self.begin_field()?;
        let Some(literal) = Literal::read(octets)? else {
            return Ok(None);
        };
        let (name_room, value_room) = literal.scratch_lens();
        if scratch.len() < name_room + value_room {
            scratch.resize(name_room + value_room, 0);
        }
        let (name_scratch, value_scratch) = scratch.split_at_mut(name_room);
        let value = literal.value.decode(value_scratch)?;
        let never_indexed = literal.never_indexed;
        let new_or_static = match literal.name {
            Name::New(name) => name.decode(name_scratch)?,
            Name::Of(index) if index < FIRST_DYNAMIC => static_table::FIELDS[index - 1].0,
            Name::Of(index) => {
                let index = index - FIRST_DYNAMIC;
                let (name, _) = self.table.get(index).ok_or(DecodeError::IndexBeyondTable)?;
                visit(Field {
                    name,
                    value,
                    never_indexed,
                });
                if literal.is_added {
                    self.table.insert_with_name_of(index, value);
                }
                return Ok(Some(literal.len));
            }
        };
        visit(Field {
            name: new_or_static,
            value,
            never_indexed,
        });
        if literal.is_added {
            self.table.insert(new_or_static, value);
        }
        Ok(Some(literal.len))
    }

    /// A dynamic table size update (RFC 7541, 6.3).
    fn size_update(&mut self, octets: &[u8]) -> Result<Option<usize>, DecodeError> {
        if !self.is_at_begin {
            return Err(DecodeError::SizeUpdateNotFirst);
        }
        if self.updates == SIZE_UPDATES_MAX {
            return Err(DecodeError::SizeUpdatesTooMany);
        }
        let Some((size, len)) = integer::decode(octets, 5)? else {
            return Ok(None);
        };
        if size > self.table_size_max {
            return Err(DecodeError::SizeUpdateTooLarge);
        }
        if self.update_needed.is_some_and(|limit| size > limit) {
            return Err(DecodeError::SizeUpdateMissing);
        }
        self.update_needed = None;
        self.updates += 1;
        self.table.set_size_max(size);
        Ok(Some(len))
    }

    #[inline]
    fn begin_field(&mut self) -> Result<(), DecodeError> {
        if self.is_at_begin {
            self.check_update_came()?;
            self.is_at_begin = false;
        }
        Ok(())
    }

    fn check_update_came(&self) -> Result<(), DecodeError> {
        match self.update_needed {
            Some(_) => Err(DecodeError::SizeUpdateMissing),
            None => Ok(()),
        }
    }

    /// A field of the static table or of the dynamic one behind it (RFC 7541, 2.3.3).
    #[inline]
    fn get(&self, index: usize) -> Result<(&[u8], &[u8]), DecodeError> {
        if let Some(field) = static_table::FIELDS.get(index.wrapping_sub(1)) {
            return Ok(*field);
        }
        let index = index
            .checked_sub(FIRST_DYNAMIC)
            .ok_or(DecodeError::IndexZero)?;
        self.table.get(index).ok_or(DecodeError::IndexBeyondTable)
    }
}
