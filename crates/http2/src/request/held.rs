//! What a list of fields costs, once it is a map.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The map's entry of a field: a hash, the name, the first value, and where its others begin and end.
const ENTRY_BYTES: usize = size_of::<(u16, HeaderName, HeaderValue, Option<(usize, usize)>)>();
/// A further value of the same name, and where its neighbours are.
const FURTHER_BYTES: usize = size_of::<(HeaderValue, [(usize, usize); 2])>();
/// A place in the index: where the entry is, and its hash.
const PLACE_BYTES: usize = size_of::<(u16, u16)>();

/// Bytes of heap that the tables of a map take, without the text of its names and values.
///
/// Measured with a counting allocator around maps of http 1.5, which were built as [`Head`](super::Head) builds them: with the text it is
/// what was asked of the allocator, to the byte, but for names that the `http` crate knows, which take no heap. 440 fields with names of three letters
/// and values of one are 15.5 KiB by the count of RFC 9113, 10.5.1, and 83.7 KiB here.
pub(super) fn map_bytes(map: &HeaderMap) -> usize {
    let entries = map.capacity();
    if entries == 0 {
        return 0;
    }
    // Three quarters of the index are used, and its size is a power of two.
    let places = (entries * 4 / 3).next_power_of_two();
    let further = match map.len() - map.keys_len() {
        0 => 0,
        // The list doubles from four on.
        further => further.next_power_of_two().max(4),
    };
    places * PLACE_BYTES + entries * ENTRY_BYTES + further * FURTHER_BYTES
}
