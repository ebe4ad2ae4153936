//! Reads along what a server of HTTP/2 sends, for the frame by which it says that a connection takes no more streams: GOAWAY
//! (RFC 9113, 6.8). The HTTP/2 library tells of it only by failing the next call.
//!
//! Holds: it looks at the headers of frames, and skips their content whatever that is; no bytes are kept.

/// Length, type, flags and stream (RFC 9113, 4.1).
const HEADER_BYTES: usize = 9;
const GOAWAY: u8 = 7;

/// The frames of one connection, from its first byte on.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    header: [u8; HEADER_BYTES],
    /// How much of the header has come.
    filled: usize,
    /// How much of the content is left.
    content: usize,
}

impl Frames {
    /// The next bytes; whether a GOAWAY begins among them.
    pub(crate) fn look(&mut self, mut bytes: &[u8]) -> bool {
        let mut goes_away = false;
        loop {
            let skipped = self.content.min(bytes.len());
            self.content -= skipped;
            bytes = &bytes[skipped..];
            let part = bytes.len().min(HEADER_BYTES - self.filled);
            if part == 0 {
                return goes_away;
            }
            self.header[self.filled..self.filled + part].copy_from_slice(&bytes[..part]);
            self.filled += part;
            bytes = &bytes[part..];
            if self.filled == HEADER_BYTES {
                self.filled = 0;
                let [high, middle, low, kind, ..] = self.header;
                self.content = u32::from_be_bytes([0, high, middle, low]) as usize;
                goes_away |= kind == GOAWAY;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        let header = [length[1], length[2], length[3], kind, 0, 0, 0, 0, 1];
        [&header[..], content].concat()
    }

    proptest! {
        #[test]
        fn a_goaway_is_seen_where_it_stands_however_the_bytes_are_cut(
            // Content that looks like the header of a GOAWAY, too.
            before in prop::collection::vec((0_u8..7, prop::collection::vec(prop_oneof![Just(0), Just(7), any::<u8>()], 0..40)), 0..8),
            cuts in prop::collection::vec(1_usize..20, 1..8),
        ) {
            let mut bytes: Vec<u8> = before.iter().flat_map(|(kind, content)| frame(*kind, content)).collect();
            let header_ends = bytes.len() + HEADER_BYTES;
            bytes.extend(frame(GOAWAY, &[0; 8]));
            bytes.extend(frame(0, b"after it"));
            let mut frames = Frames::default();
            let (mut seen, mut rest) = (0, &bytes[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (part, after) = rest.split_at((*cut).min(rest.len()));
                let ends_here = (seen + 1..=seen + part.len()).contains(&header_ends);
                prop_assert_eq!(frames.look(part), ends_here);
                seen += part.len();
                rest = after;
            }
        }
    }
}
