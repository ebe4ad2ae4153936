//! The table of a connection's streams: it grows in pieces, and no entry moves.
//!
//! A table in one piece is copied as it grows, and leaves its former pieces behind. A million streams open together, and those pieces
//! take memory then that nothing else fits into.
//!
//! Holds: a table of one entry has room for one, and a large one for 31 more than there were at most. Its owner gives all of it back when
//! it is empty.
//! Does not: know what an entry is.

/// Entries of the pieces of a large table. The first pieces are smaller: 1, 1, 2, 4, 8, 16.
const PIECE: usize = 32;
/// How many smaller ones there are.
const SMALLER: usize = PIECE.ilog2() as usize + 1;

/// Entries by key. The lowest keys are not the first that are used again.
pub(super) struct Slots<T> {
    pieces: Vec<Vec<Entry<T>>>,
    /// The first of the free entries, or the end of the table.
    vacant: usize,
    /// One more than the highest key so far.
    end: usize,
    len: usize,
}

enum Entry<T> {
    Taken(T),
    /// The next free entry, or the end of the table as it was then.
    Free(usize),
}

/// The piece of an entry, and its place there.
fn place(key: usize) -> (usize, usize) {
    if key >= PIECE {
        return (SMALLER - 1 + key / PIECE, key % PIECE);
    }
    let piece = (usize::BITS - key.leading_zeros()) as usize;
    (piece, key - (1 << piece >> 1))
}

/// The entries of a piece.
fn room(piece: usize) -> usize {
    (1 << piece.min(SMALLER) >> 1).clamp(1, PIECE)
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Self {
            pieces: Vec::new(),
            vacant: 0,
            end: 0,
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more than the highest key since the table was new.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// The key of the next entry.
    pub(super) fn vacant(&self) -> usize {
        self.vacant
    }

    /// Adds an entry, with the key that [`Self::vacant`] says.
    pub(super) fn insert(&mut self, value: T) {
        let (piece, at) = place(self.vacant);
        if self.vacant == self.end {
            if at == 0 {
                self.pieces.reserve_exact(1);
                self.pieces.push(Vec::with_capacity(room(piece)));
            }
            self.pieces[piece].push(Entry::Taken(value));
            self.end += 1;
            self.vacant = self.end;
        } else {
            let entry = &mut self.pieces[piece][at];
            debug_assert!(matches!(entry, Entry::Free(_)));
            if let Entry::Free(next) = std::mem::replace(entry, Entry::Taken(value)) {
                self.vacant = next;
            }
        }
        self.len += 1;
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        let (piece, at) = place(key);
        match self.pieces.get_mut(piece)?.get_mut(at)? {
            Entry::Taken(value) => Some(value),
            Entry::Free(_) => None,
        }
    }

    pub(super) fn remove(&mut self, key: usize) -> Option<T> {
        let (piece, at) = place(key);
        let entry = self.pieces.get_mut(piece)?.get_mut(at)?;
        let value = match std::mem::replace(entry, Entry::Free(self.vacant)) {
            Entry::Taken(value) => value,
            free @ Entry::Free(_) => {
                *entry = free;
                return None;
            }
        };
        self.vacant = key;
        self.len -= 1;
        Some(value)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let entries = self.pieces.iter_mut().flatten();
        entries.filter_map(|entry| match entry {
            Entry::Taken(value) => Some(value),
            Entry::Free(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_fill_the_pieces_one_after_the_other() {
        let mut expected = Vec::new();
        for piece in 0..10 {
            expected.extend((0..room(piece)).map(|at| (piece, at)));
        }
        let places: Vec<_> = (0..expected.len()).map(place).collect();
        assert_eq!(places, expected);
        let rooms: Vec<_> = (0..8).map(room).collect();
        assert_eq!(rooms, [1, 1, 2, 4, 8, 16, 32, 32]);
    }

    proptest! {
        #[test]
        fn it_is_a_map_whose_keys_it_chooses(steps in prop::collection::vec(any::<Option<prop::sample::Index>>(), 0..400)) {
            let mut slots = Slots::new();
            let mut model = BTreeMap::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Some(index) if !model.is_empty() => {
                        let key = *model.keys().nth(index.index(model.len())).unwrap();
                        prop_assert_eq!(slots.remove(key), model.remove(&key));
                        prop_assert_eq!(slots.remove(key), None);
                    }
                    _ => {
                        let key = slots.vacant();
                        prop_assert!(key <= slots.end());
                        slots.insert(number);
                        prop_assert_eq!(model.insert(key, number), None);
                    }
                }
                prop_assert_eq!(slots.len(), model.len());
                prop_assert_eq!(slots.is_empty(), model.is_empty());
            }
            for key in 0..slots.end() + 2 {
                prop_assert_eq!(slots.get_mut(key).copied(), model.get(&key).copied());
            }
            let mut values: Vec<_> = slots.iter_mut().map(|value| *value).collect();
            values.sort_unstable();
            let mut expected: Vec<_> = model.into_values().collect();
            expected.sort_unstable();
            prop_assert_eq!(values, expected);
        }
    }
}
