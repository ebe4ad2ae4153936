//! Header blocks written by hand (RFC 7541), lawful or not.
//!
//! Does not: use Huffman codes, or keep the peer's table.

use crate::frames::{CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PADDED, frame};

/// A header block, field by field.
#[derive(Clone, Debug, Default)]
pub struct Block(Vec<u8>);

impl Block {
    /// The pseudo-fields of `POST http://t` and this path, and gRPC's content type.
    pub fn grpc(path: &str) -> Self {
        Self::post(path).field("content-type", "application/grpc")
    }

    /// The pseudo-fields of `POST http://t` and this path.
    pub fn post(path: impl AsRef<[u8]>) -> Self {
        // Their names stand in the static table.
        Self::default()
            .octets(&[0x83, 0x86, 0x04])
            .string(path)
            .octets(&[0x01, 1, b't'])
    }

    /// A literal without indexing, whose name is new (6.2.2).
    pub fn field(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.octets(&[0x00]).string(name).string(value)
    }

    /// As many fields with a name and a value of one octet.
    pub fn tiny_fields(mut self, count: usize) -> Self {
        for _ in 0..count {
            self = self.octets(&[0x00, 1, b'x', 1, b'y']);
        }
        self
    }

    /// A literal that is added to the table (6.2.1).
    pub fn added(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.octets(&[0x40]).string(name).string(value)
    }

    /// An indexed field (6.1).
    pub fn indexed(self, index: usize) -> Self {
        self.integer(0x80, 7, index)
    }

    /// A new size of the table (6.3).
    pub fn table_size(self, size: usize) -> Self {
        self.integer(0x20, 5, size)
    }

    /// Any octets.
    pub fn octets(mut self, octets: &[u8]) -> Self {
        self.0.extend_from_slice(octets);
        self
    }

    /// HEADERS with the whole block. `flags` are those beside END_HEADERS.
    pub fn headers(&self, stream: u32, flags: u8) -> Vec<u8> {
        frame(HEADERS, flags | END_HEADERS, stream, &self.0)
    }

    /// A request that ends with this block: HEADERS with this much padding, and CONTINUATION from each of the `cuts` on,
    /// which rise.
    pub fn in_frames(&self, stream: u32, padding: Option<u8>, cuts: &[usize]) -> Vec<u8> {
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts {
            let to = (*cut).min(self.0.len());
            pieces.push(&self.0[from..to]);
            from = to;
        }
        pieces.push(&self.0[from..]);
        let mut bytes = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let is_last = index + 1 == pieces.len();
            let mut flags = if is_last { END_HEADERS } else { 0 };
            if index > 0 {
                bytes.extend(frame(CONTINUATION, flags, stream, piece));
                continue;
            }
            flags |= END_STREAM;
            let mut payload = piece.to_vec();
            if let Some(padding) = padding {
                flags |= PADDED;
                payload.insert(0, padding);
                payload.extend(vec![0; padding.into()]);
            }
            bytes.extend(frame(HEADERS, flags, stream, &payload));
        }
        bytes
    }

    /// What is in it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn string(self, string: impl AsRef<[u8]>) -> Self {
        let string = string.as_ref();
        self.integer(0, 7, string.len()).octets(string)
    }

    /// An integer behind the high bits of an octet (5.1).
    fn integer(mut self, high: u8, bits: u32, value: usize) -> Self {
        let most = (1 << bits) - 1;
        if value < most {
            self.0.push(high | value as u8);
            return self;
        }
        self.0.push(high | most as u8);
        let mut rest = value - most;
        while rest >= 0x80 {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
        self
    }
}
