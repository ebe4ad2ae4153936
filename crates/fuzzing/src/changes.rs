//! Changes of a file, as damage makes them.

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Bits are flipped.
    Flip,
    /// A stretch is zeros: a part of a write that never came to the disk.
    Zeros,
    /// A stretch has what another place has.
    Copy,
    /// The file ends here.
    Cut,
}

impl Change {
    fn of(byte: u8) -> Self {
        match byte % 8 {
            0 => Self::Zeros,
            1 => Self::Copy,
            2 => Self::Cut,
            _ => Self::Flip,
        }
    }
}

/// The content after the changes that `said` describes: each has five bytes, the kind, a place and an argument.
///
/// No change writes bytes that `said` has, so a checksum of it holds only by chance.
pub(crate) fn changed(content: &[u8], said: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    for change in said.chunks_exact(5) {
        if content.is_empty() {
            break;
        }
        let place = |low: u8, high: u8| usize::from(u16::from_le_bytes([low, high]));
        let at = place(change[1], change[2]) % content.len();
        let argument = place(change[3], change[4]);
        match Change::of(change[0]) {
            Change::Flip => content[at] ^= change[3],
            Change::Zeros => {
                let end = content.len().min(at + argument % 1_024);
                content[at..end].fill(0);
            }
            Change::Copy => {
                // By the sector or by the record, as a write to the wrong place would.
                let (from, to) = (at / 64 * 64, argument % content.len() / 64 * 64);
                let len = 512.min(content.len() - from.max(to));
                content.copy_within(from..from + len, to);
            }
            Change::Cut => content.truncate(at),
        }
    }
    content
}
