//! What the client commands put on the terminal, and what they print for programs.

mod event;
mod happening;
mod json;
mod terminal;
mod text;
mod verdict;

pub(crate) use self::event::event_line;
pub(crate) use self::happening::describe;
pub(crate) use self::json::Record;
pub(crate) use self::terminal::{Output, Tone, is_broken_pipe, note, print_line};
pub(crate) use self::text::{clipped, one_line, payload, seconds};
pub(crate) use self::verdict::{absences, cleanliness, table};
