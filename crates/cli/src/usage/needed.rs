//! Names the given flag that needs a missing flag. clap names only the missing flag, and a command cannot be asked for
//! the requirements of its flags. So each given flag is parsed alone, and the flag that is missing then is the one it
//! needs.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command};

use super::{flag, value};

/// `; --disk-reserve needs --data-dir <DIR>` for each given flag that needs the missing flag of `error`.
pub(super) fn needs(
    error: &clap::Error,
    whole: &Command,
    path: &[&str],
    command: &Command,
    words: &[OsString],
) -> String {
    let missing = missing_in(error);
    if missing.is_empty() {
        return String::new();
    }
    let bare = without_variables(whole.clone());
    let alone = |given: &[OsString]| {
        let own = ["longlived"].iter().chain(path).map(OsString::from);
        let error = bare
            .clone()
            .try_get_matches_from(own.chain(given.iter().cloned()))
            .err();
        error.as_ref().map(missing_in).unwrap_or_default()
    };
    let always = alone(&[]);
    let needs = command.get_arguments().filter_map(|arg| {
        let mut needed = alone(&given_as(arg, words)?);
        needed.retain(|it| missing.contains(it) && !always.contains(it));
        let needed = needed.join(" and ");
        (!needed.is_empty()).then(|| format!("; {} needs {needed}", flag(arg)))
    });
    needs.collect()
}

/// The flags and arguments that are missing, if that is the error.
pub(super) fn missing_in(error: &clap::Error) -> Vec<String> {
    if error.kind() != clap::error::ErrorKind::MissingRequiredArgument {
        return Vec::new();
    }
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(missing)) => missing.clone(),
        Some(ContextValue::String(missing)) => vec![missing.clone()],
        _ => Vec::new(),
    }
}

/// The words that give a flag and its values, or one word with the value of its environment variable.
fn given_as(arg: &Arg, words: &[OsString]) -> Option<Vec<OsString>> {
    let name = flag(arg);
    if name.is_empty() {
        return None;
    }
    let flags = words.iter().take_while(|word| *word != "--");
    let mut from = flags.skip_while(|word| {
        let rest = word.as_encoded_bytes().strip_prefix(name.as_bytes());
        !matches!(rest, Some([] | [b'=', ..]))
    });
    if let Some(first) = from.next() {
        let values = from.take_while(|word| !word.as_encoded_bytes().starts_with(b"-"));
        return Some(std::iter::once(first).chain(values).cloned().collect());
    }
    let mut given = OsString::from(name + "=");
    given.push(value(arg)?);
    Some(vec![given])
}

fn without_variables(command: Command) -> Command {
    command
        .mut_args(|arg| arg.env(None))
        .mut_subcommands(without_variables)
}
