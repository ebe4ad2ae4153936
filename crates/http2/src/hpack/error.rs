//! Why a header block cannot be decoded.

use std::error::Error;
use std::fmt;

/// Why a header block cannot be decoded. Each is a connection error COMPRESSION_ERROR (RFC 9113, 4.3).
///
/// After an error the decoder's table may differ from the peer's, so no later block of the connection means anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// An integer takes more octets than we read (RFC 7541, 5.1).
    IntegerTooLong,
    /// An indexed field has the index 0 (RFC 7541, 6.1).
    IndexZero,
    /// An index is beyond the end of both tables (RFC 7541, 2.3.3).
    IndexBeyondTable,
    /// A Huffman string contains the code of EOS (RFC 7541, 5.2).
    HuffmanEos,
    /// The padding of a Huffman string is longer than 7 bits (RFC 7541, 5.2).
    HuffmanPaddingTooLong,
    /// The padding of a Huffman string is not the first bits of EOS, which are all ones (RFC 7541, 5.2).
    HuffmanPaddingNotOnes,
    /// A dynamic table size update stands behind a field (RFC 7541, 4.2).
    SizeUpdateNotFirst,
    /// A block begins with more than two dynamic table size updates (RFC 7541, 4.2).
    SizeUpdatesTooMany,
    /// A dynamic table size update is over the limit of our SETTINGS (RFC 7541, 6.3).
    SizeUpdateTooLarge,
    /// Our SETTINGS lowered the limit, and the next block does not begin with a dynamic table size update that keeps to
    /// it (RFC 7541, 4.2).
    SizeUpdateMissing,
    /// The block ends within a field or a size update (RFC 7541, 6).
    Truncated,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IntegerTooLong => "an integer is too long",
            Self::IndexZero => "an indexed field has the index 0",
            Self::IndexBeyondTable => "an index is beyond the end of the table",
            Self::HuffmanEos => "a Huffman string contains EOS",
            Self::HuffmanPaddingTooLong => "the padding of a Huffman string is longer than 7 bits",
            Self::HuffmanPaddingNotOnes => "the padding of a Huffman string is not all ones",
            Self::SizeUpdateNotFirst => "a table size update stands behind a field",
            Self::SizeUpdatesTooMany => "a block begins with more than two table size updates",
            Self::SizeUpdateTooLarge => "a table size update is over the limit of the settings",
            Self::SizeUpdateMissing => "a table size update is missing after lower settings",
            Self::Truncated => "the block ends within a field",
        })
    }
}

impl Error for DecodeError {}

/// Why nothing more of a fragment is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// What is next goes on in another fragment.
    NotWhole,
    /// A string of it is long: it is decoded in pieces.
    Long,
    Error(DecodeError),
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Self::Error(error)
    }
}
