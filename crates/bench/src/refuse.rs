//! Flags that all measurements have and one of them has no use for: it says so instead of leaving them out silently.

use clap::error::ErrorKind;

/// An error that names those of the flags that were given.
pub(super) fn refuse(mode: &str, flags: &[(&str, bool)], why: &str) -> Result<(), clap::Error> {
    let given = flags.iter().filter(|(_, given)| *given);
    let given: Vec<_> = given.map(|(flag, _)| *flag).collect();
    if given.is_empty() {
        return Ok(());
    }
    let text = format!("`bench {mode}` {why}: leave out {}", given.join(" and "));
    Err(clap::Error::raw(ErrorKind::ArgumentConflict, text))
}
