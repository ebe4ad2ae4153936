//! The parts that the commands of the binary share: values of flags, and text on standard output and standard error.
//!
//! - [`values`], [`server_url`], [`ClientCompressionArgs`]: flags.
//! - [`sink`]: a queue before a file descriptor, for output that must not wait for its reader.
//! - [`Output`], [`print_line`], [`note`]: text for a person, in the width of the terminal.
//! - [`open_files`]: the limit of open files of this process. [`own_variables`]: the variables of its environment.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod compression;
mod environment;
mod layout;
pub mod open_files;
pub mod server_url;
pub mod sink;
mod terminal;
mod token;
pub mod values;

pub use self::compression::{ClientCompressionArgs, CompressionFlag};
pub use self::environment::own_variables;
pub use self::layout::{clipped, columns, indented, wrapped};
pub use self::terminal::{Output, Tone, note, print, print_line, reader_has_gone};
