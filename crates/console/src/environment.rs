//! The variables of the environment that this program reads.

use std::ffi::OsString;

/// Their names. They are set for the user's own commands, and not for a server that one of them starts beside itself.
pub fn own_variables() -> impl Iterator<Item = OsString> {
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter(|name| name.as_encoded_bytes().starts_with(b"LONGLIVED_"))
}
