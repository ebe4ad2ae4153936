//! The reader of text protocols with binary payloads: lines, and the first bytes of a payload.
//!
//! Holds: nothing depends on where reads split the bytes; a peer that never ends a line costs [`LINE_BYTES_MAX`].

/// Only this much of a longer line is kept. Messages' lines are far shorter; those about the server itself are not.
const LINE_BYTES_MAX: usize = 512;

/// A line that may come in pieces.
#[derive(Debug, Default)]
pub(crate) struct Line {
    kept: Vec<u8>,
    /// `kept` was handed out.
    ended: bool,
}

impl Line {
    /// The next line in `bytes` without its end, and the rest; `None` when it goes on in the next read.
    pub(super) fn next<'a, 'b: 'a>(&'a mut self, bytes: &'b [u8]) -> (Option<&'a [u8]>, &'b [u8]) {
        if self.ended {
            self.kept.clear();
            self.ended = false;
        }
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.keep(bytes);
            return (None, &[]);
        };
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        if self.kept.is_empty() {
            return (Some(without_return(line)), rest);
        }
        self.keep(line);
        self.ended = true;
        (Some(without_return(&self.kept)), rest)
    }

    fn keep(&mut self, bytes: &[u8]) {
        let free = LINE_BYTES_MAX - self.kept.len();
        self.kept.extend_from_slice(&bytes[..free.min(bytes.len())]);
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// A number as text protocols write it.
pub(super) fn number(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The first eight bytes of a payload: when it was sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stamp {
    bytes: [u8; 8],
    length: usize,
}

impl Stamp {
    /// Takes the missing part from the next bytes of the payload.
    pub(super) fn take(&mut self, payload: &[u8]) {
        let taken = (self.bytes.len() - self.length).min(payload.len());
        self.bytes[self.length..self.length + taken].copy_from_slice(&payload[..taken]);
        self.length += taken;
    }

    /// `None` of a payload that was shorter.
    pub(super) fn get(self) -> Option<u64> {
        (self.length == self.bytes.len()).then(|| u64::from_le_bytes(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_line_without_an_end_little_is_kept() {
        let mut line = Line::default();
        for _ in 0..100 {
            assert_eq!(line.next(&[b'x'; 1000]), (None, &[][..]));
        }
        let kept = [b'x'; LINE_BYTES_MAX];
        assert_eq!(line.next(b"y\nz\n"), (Some(&kept[..]), &b"z\n"[..]));
        assert_eq!(line.next(b"z\n"), (Some(&b"z"[..]), &b""[..]));
        assert_eq!(line.next(b""), (None, &b""[..]));
    }
}
