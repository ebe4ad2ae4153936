//! The costs of history on disk: commits, a restart after a kill, reading from far behind.
//!
//! - [`mod@commit`]: the store in this process, beside a bare write and sync of as many bytes.
//! - [`mod@reopen`]: a real server is killed and started again.
//! - [`mod@catchup`]: a real server's history is read by [`reader`]s in a process of their own.
//! - [`history`]: writes the history that is read, with the store itself.
//!
//! Holds: every directory is one that was empty before and is empty afterwards.

mod catchup;
mod commit;
mod history;
mod reader;
mod reopen;
mod scratch;

pub(super) use catchup::catchup;
pub(super) use commit::commit;
pub(super) use reader::read_load;
pub(super) use reopen::reopen;
