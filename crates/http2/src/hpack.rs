//! Header compression: RFC 7541.
//!
//! The decoder keeps the peer's dynamic table and nothing else. The encoder has no dynamic table, so it has no state.

mod decoder;
pub mod encode;
mod error;
mod huffman;
mod integer;
mod literal;
mod long;
mod static_table;
mod table;

pub use decoder::{Decoder, Field};
pub use error::DecodeError;
