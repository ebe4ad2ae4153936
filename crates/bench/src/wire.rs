//! As much of other servers' protocols as a load generator needs, by hand.
//!
//! - [`resp`]: Redis; [`nats`]: NATS; [`records`]: the bare sender of `against::floor`.
//! - [`mod@line`]: lines that come in pieces, and the time of sending at a payload's beginning.
//!
//! Readers walk the bytes in place and report through a closure; only bytes split over two reads are kept.

pub(super) mod line;
pub(super) mod nats;
pub(super) mod records;
pub(super) mod resp;

/// A payload of the load: the time of sending, then filler.
pub(super) fn payload(out: &mut Vec<u8>, sent_ns: u64, payload_bytes: usize) {
    let end = out.len() + payload_bytes;
    out.extend_from_slice(&sent_ns.to_le_bytes());
    out.resize(end, b'.');
}

/// How reads may split the bytes of a connection.
#[cfg(test)]
mod splits {
    use std::fmt::Debug;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    /// What a server says is heard as `expected`, one after the other, however its bytes are split.
    pub(super) fn assert_heard<E: Debug + PartialEq>(
        bytes: &[u8],
        cuts: &[Index],
        expected: &[String],
        heard: impl Fn(&[&[u8]]) -> Result<Vec<String>, E>,
    ) {
        for pieces in splits(bytes, cuts) {
            assert_eq!(heard(&pieces).as_deref(), Ok(expected));
        }
    }

    /// The time that a payload begins with, in words.
    pub(super) fn stamp_of(payload: &[u8]) -> String {
        let stamp = payload
            .first_chunk()
            .map(|stamp| u64::from_le_bytes(*stamp));
        format!("{stamp:?}")
    }

    /// Where they do.
    pub(super) fn cuts() -> impl Strategy<Value = Vec<Index>> {
        vec(any::<Index>(), 0..20)
    }

    /// The bytes in pieces: once cut there, some of them empty, and once byte by byte.
    fn splits<'a>(bytes: &'a [u8], cuts: &[Index]) -> [Vec<&'a [u8]>; 2] {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
        [pieces.collect(), bytes.chunks(1).collect()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_begins_with_its_time() {
        let mut out = vec![1];
        payload(&mut out, 7, 10);
        assert_eq!(out, [1, 7, 0, 0, 0, 0, 0, 0, 0, b'.', b'.']);
    }
}
