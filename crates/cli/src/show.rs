//! The output of the client commands, for the terminal and for programs.

mod event;
mod happening;
mod json;
mod text;
mod verdict;

pub(crate) use longlived_console::{
    Output, Tone, clipped, columns, indented, note, print_line, reader_has_gone, wrapped,
};

pub(crate) use self::event::event_line;
pub(crate) use self::happening::describe;
pub(crate) use self::json::Record;
pub(crate) use self::text::{one_line, payload, seconds};
pub(crate) use self::verdict::{absences, cleanliness, table};
