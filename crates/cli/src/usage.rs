//! The error of wrong arguments: one line that names the flag, the most similar one, the environment variable of the
//! value, and the place of the help.

mod needed;

use std::any::TypeId;
use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::{Arg, Command, CommandFactory as _, FromArgMatches as _};

use crate::Cli;
use crate::show::Output;

/// In fewer columns than this help has no room beside the flag.
const BESIDE_COLUMNS_MIN: usize = 60;

/// The meaning of the command line's words.
pub(crate) fn parse() -> Result<Cli, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(words(std::env::args_os()))?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// All commands, with names of values that are short enough for a narrow terminal.
fn command() -> Command {
    let is_narrow = Output::stdout()
        .width()
        .is_some_and(|width| width < BESIDE_COLUMNS_MIN);
    // It holds for all subcommands.
    named(Cli::command().next_line_help(is_narrow))
}

fn named(command: Command) -> Command {
    command.mut_args(with_short_name).mut_subcommands(named)
}

/// The name that clap makes of a flag's own says nothing of the value.
fn with_short_name(arg: Arg) -> Arg {
    let kind = arg.get_value_parser().type_id();
    let is_named_after_itself = arg.get_value_names().is_some_and(|names| {
        let own = arg.get_id().as_str().to_ascii_uppercase();
        names.iter().any(|name| name.as_str() == own)
    });
    if !is_named_after_itself {
        arg
    } else if kind == TypeId::of::<Duration>() {
        arg.value_name("TIME")
    } else if NUMBERS.iter().any(|number| kind == number()) {
        arg.value_name("N")
    } else {
        arg
    }
}

/// The kinds of numbers that flags have.
const NUMBERS: [fn() -> TypeId; 4] = [
    TypeId::of::<u32>,
    TypeId::of::<u64>,
    TypeId::of::<usize>,
    TypeId::of::<i32>,
];

/// The words of the command line. A value that begins with a dash and a digit is the flag's before it: there is no flag
/// like that, and clap would call it one.
pub(crate) fn words(given: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    let mut flags_are_over = false;
    for word in given {
        let before = words.last_mut().filter(|_| !flags_are_over);
        match before {
            Some(before) if is_negative(&word) && is_flag_without_value(before) => {
                before.push("=");
                before.push(word);
            }
            _ => {
                flags_are_over |= word == "--";
                words.push(word);
            }
        }
    }
    words
}

fn is_negative(word: &OsStr) -> bool {
    matches!(word.as_encoded_bytes(), [b'-', b'0'..=b'9', ..])
}

fn is_flag_without_value(word: &OsStr) -> bool {
    let bytes = word.as_encoded_bytes();
    bytes.starts_with(b"--") && bytes.len() > 2 && !bytes.contains(&b'=')
}

/// The mistake, in one line.
pub(crate) fn explained(error: &clap::Error, words: &[OsString]) -> String {
    let text = error.to_string();
    let said = text.lines().take_while(|line| !line.trim().is_empty());
    let said: Vec<_> = said.map(str::trim).collect();
    let said = said.join(" ");
    let mut said = said.trim_start_matches("error: ").to_owned();
    let tips = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("tip: "));
    for tip in tips {
        said.push_str("; ");
        said.push_str(tip);
    }
    let (path, command) = command_of(words);
    said.push_str(&needed::needs(
        error,
        &self::command(),
        &path,
        &command,
        words,
    ));
    let causes = from_environment(&command, words)
        .filter(|arg| is_named(&said, arg) || is_cause(&text, &path, arg, words))
        .collect::<Vec<_>>();
    for arg in causes {
        said.push_str(&origin(arg));
    }
    let see = [&["longlived"], &path[..]].concat().join(" ");
    format!("{said}; see {see} --help")
}

/// An error's text with the environment variables that flags or addresses in it came from.
pub(crate) fn with_origins(text: &str) -> String {
    let words = words(std::env::args_os());
    let (_, command) = command_of(&words);
    let origins = from_environment(&command, &words)
        .filter(|arg| is_named(text, arg) || is_quoted(text, arg))
        .map(origin);
    std::iter::once(text.to_owned()).chain(origins).collect()
}

/// The names of the subcommand that was asked for, and its flags.
fn command_of(words: &[OsString]) -> (Vec<&str>, Command) {
    let mut command = command();
    let mut path = Vec::new();
    for word in words.iter().skip(1) {
        let name = word.to_str();
        let Some((name, next)) = name.and_then(|it| Some((it, command.find_subcommand(it)?)))
        else {
            break;
        };
        path.push(name);
        command = next.clone();
    }
    (path, command)
}

/// Flags that are not given and whose variable is set.
fn from_environment<'a>(command: &'a Command, words: &[OsString]) -> impl Iterator<Item = &'a Arg> {
    command.get_arguments().filter(|arg| {
        let flag = flag(arg);
        let is_given = words.iter().any(|word| {
            let rest = word.as_encoded_bytes().strip_prefix(flag.as_bytes());
            matches!(rest, Some([] | [b'=', ..]))
        });
        !flag.is_empty() && !is_given && value(arg).is_some()
    })
}

/// `--name`, or nothing where it has none.
fn flag(arg: &Arg) -> String {
    arg.get_long()
        .map_or_else(String::new, |name| format!("--{name}"))
}

fn value(arg: &Arg) -> Option<OsString> {
    std::env::var_os(arg.get_env()?)
}

fn origin(arg: &Arg) -> String {
    let variable = arg.get_env().unwrap_or_default().to_string_lossy();
    format!(
        "; {} is from the environment variable {variable}",
        flag(arg)
    )
}

/// Whether a text speaks of the flag, and not of a longer one.
fn is_named(text: &str, arg: &Arg) -> bool {
    let flag = flag(arg);
    let mut rests = text.split(&flag).skip(1);
    rests.any(|rest| !rest.starts_with(|c: char| c == '-' || c.is_ascii_alphanumeric()))
}

/// Whether a text names the address or the path that the variable holds.
fn is_quoted(text: &str, arg: &Arg) -> bool {
    let value = value(arg).unwrap_or_default();
    let value = value.to_string_lossy();
    value.contains(['/', ':']) && text.contains(&*value)
}

/// Whether the same words are understood, or otherwise misunderstood, without the variable.
fn is_cause(text: &str, path: &[&str], arg: &Arg, words: &[OsString]) -> bool {
    // Of the text only the mistake: the rest shows how the command is used, with the flags that have a value.
    let wrong = |text: &str| {
        text.lines()
            .take_while(|line| !line.trim().is_empty())
            .collect::<String>()
    };
    let misunderstood = |command: Command| {
        let error = command.try_get_matches_from(words).err();
        error.is_some_and(|error| wrong(&error.to_string()) == wrong(text))
    };
    misunderstood(command()) && !misunderstood(without(command(), path, arg))
}

/// The command whose flag has no variable.
fn without(command: Command, path: &[&str], arg: &Arg) -> Command {
    match path {
        [] => command.mut_arg(arg.get_id(), |arg| arg.env(None)),
        [name, path @ ..] => command.mut_subcommand(name, |command| without(command, path, arg)),
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    fn os(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    /// The error of a wrong command line.
    fn said(words: &[&str]) -> String {
        let words = super::words(os(words));
        let error = command().try_get_matches_from(&words);
        let error = error.expect_err("it is wrong");
        explained(&error, &words)
    }

    /// Every subcommand with its path.
    fn commands() -> Vec<(Vec<String>, Command)> {
        fn collect(path: &[String], command: &Command, all: &mut Vec<(Vec<String>, Command)>) {
            all.push((path.to_vec(), command.clone()));
            for command in command.get_subcommands() {
                let path = [path, &[command.get_name().to_owned()]].concat();
                collect(&path, command, all);
            }
        }
        let mut all = Vec::new();
        collect(&["longlived".to_owned()], &command(), &mut all);
        all
    }

    #[test]
    fn every_flag_with_a_number_names_itself_its_range_and_help_when_the_number_is_wrong() {
        let mut looked_at = 0;
        for (path, command) in commands() {
            for arg in command.get_arguments() {
                let kind = arg.get_value_parser().type_id();
                let is_a_number = NUMBERS.iter().any(|number| kind == number());
                if !is_a_number && kind != TypeId::of::<Duration>() {
                    continue;
                }
                looked_at += 1;
                for wrong in ["-1", "-5s", "many", "", "1.5.5", "99999999999999999999999"] {
                    let flag = flag(arg);
                    let path: Vec<_> = path.iter().map(String::as_str).collect();
                    let said = said(&[&path[..], &[&flag, wrong]].concat());
                    let (_, range) = said
                        .split_once(" from ")
                        .unwrap_or_else(|| panic!("{said}"));
                    assert!(range.contains(" to "), "{said}");
                    assert!(said.contains(&format!("'{wrong}' for '{flag} ")), "{said}");
                    let help = format!("; see {} --help", path.join(" "));
                    assert!(said.ends_with(&help), "{said}");
                }
            }
        }
        assert!(looked_at > 60, "{looked_at}");
    }

    #[test]
    fn every_flag_with_its_value_fits_a_narrow_terminal() {
        for (path, command) in commands() {
            for arg in command.get_arguments() {
                // As it stands in the help, after the blanks for a short flag.
                let value = arg.get_value_names().unwrap_or_default().first();
                let value = value.filter(|_| arg.get_action().takes_values());
                let value = value.map_or_else(String::new, |name| format!(" <{name}>"));
                let shown = format!("      {}{value}", flag(arg));
                assert!(shown.len() <= 40, "{}: {shown}", path.join(" "));
            }
        }
    }

    #[test]
    fn every_flag_that_is_nearly_right_is_told_the_right_one() {
        for (path, command) in commands() {
            for arg in command.get_arguments() {
                let flag = flag(arg);
                // Shorter ones are nearer to others.
                if flag.len() < 8 {
                    continue;
                }
                // One letter is missing.
                let wrong = format!("{}{}", &flag[..4], &flag[5..]);
                let path: Vec<_> = path.iter().map(String::as_str).collect();
                let said = said(&[&path[..], &[&wrong]].concat());
                assert!(said.contains(&format!("'{wrong}'")), "{said}");
                assert!(said.contains("; a similar argument exists: '--"), "{said}");
                let help = format!("; see {} --help", path.join(" "));
                assert!(said.ends_with(&help), "{said}");
            }
        }
    }

    #[test]
    fn every_value_that_is_nearly_right_is_told_the_right_one() {
        let mut looked_at = 0;
        for (path, command) in commands() {
            for arg in command.get_arguments() {
                for value in arg.get_possible_values() {
                    let value = value.get_name();
                    if !arg.get_action().takes_values() || value.len() < 3 {
                        continue;
                    }
                    looked_at += 1;
                    let wrong = format!("{value}{}", &value[value.len() - 1..]);
                    let path: Vec<_> = path.iter().map(String::as_str).collect();
                    let said = said(&[&path[..], &[&flag(arg), &wrong]].concat());
                    assert!(said.contains(&flag(arg)), "{said}");
                    assert!(
                        said.contains(&format!("; a similar value exists: '{value}'")),
                        "{said}"
                    );
                }
            }
        }
        assert!(looked_at > 20, "{looked_at}");
    }

    #[test]
    fn every_command_that_is_nearly_right_is_told_the_right_one() {
        for (path, command) in commands() {
            for wanted in command
                .get_subcommands()
                .filter(|command| !command.is_hide_set())
            {
                let wanted = wanted.get_name();
                let wrong = format!("{wanted}{}", &wanted[wanted.len() - 1..]);
                let path: Vec<_> = path.iter().map(String::as_str).collect();
                let said = said(&[&path[..], &[&wrong]].concat());
                assert!(said.contains(&wrong), "{said}");
                assert!(said.contains(&format!("'{wanted}'")), "{said}");
            }
        }
    }

    /// A value that a flag takes, or nothing where it takes none.
    fn a_value(path: &[String], arg: &Arg) -> Option<String> {
        let values = arg.get_possible_values();
        let values = values.iter().map(|value| value.get_name().to_owned());
        let plain =
            "1 1s 1GiB 1m a 1/1 127.0.0.1:1 a=events:1 zstd k=v any 0 8 64KiB 65536 Cargo.toml";
        let mut all = values.chain(plain.split(' ').map(str::to_owned));
        if !arg.get_action().takes_values() {
            return None;
        }
        all.find(|value| {
            let given = format!("{}={value}", flag(arg));
            let words = path.iter().cloned().chain([given]);
            let kind = command().try_get_matches_from(words).err();
            let kind = kind.map(|error| error.kind());
            kind.is_none_or(|kind| kind == ErrorKind::MissingRequiredArgument)
        })
    }

    #[test]
    fn every_flag_that_needs_another_is_named_when_that_one_is_missing() {
        let missing = |words: &[String]| {
            let error = command().try_get_matches_from(words).err();
            error.as_ref().map(needed::missing_in).unwrap_or_default()
        };
        let (mut found, mut untried) = (Vec::new(), Vec::new());
        for (path, command) in commands() {
            let always = missing(&path);
            let mut flags: Vec<(String, Vec<String>, Vec<String>)> = Vec::new();
            for arg in command.get_arguments() {
                let flag = flag(arg);
                if flag.is_empty() || flag == "--help" || flag == "--version" {
                    continue;
                }
                let value = a_value(&path, arg);
                let is_tried = value.is_some() || !arg.get_action().takes_values();
                if !is_tried {
                    untried.push(format!("{} {flag}", path.join(" ")));
                }
                let given: Vec<_> = std::iter::once(flag.clone()).chain(value).collect();
                let mut needed = missing(&[&path[..], &given].concat());
                needed.retain(|it| !always.contains(it));
                if needed.is_empty() {
                    continue;
                }
                flags.push((flag, given, needed));
            }
            // All of them at once, so that none is the only one that needs it; but not with the one that it needs.
            for (flag, _, needed) in &flags {
                let is_needed = |other: &str| {
                    let mut names = needed.iter().map(|name| name.split(' ').next());
                    names.any(|name| name == Some(other))
                };
                let beside = flags.iter().filter(|(other, ..)| !is_needed(other));
                let beside = beside.flat_map(|(_, given, _)| given);
                let words: Vec<_> = path.iter().chain(beside).map(String::as_str).collect();
                let said = said(&words);
                let named = format!("; {flag} needs {}", needed.join(" and "));
                assert!(said.contains(&named), "{said}");
            }
            found.extend(flags.into_iter().map(|(flag, ..)| flag));
        }
        assert!(untried.is_empty(), "no value is taken: {untried:?}");
        for known in [
            "--disk-reserve",
            "--segment-bytes",
            "--cache-bytes",
            "--generate-topic",
            "--foreign",
            "--own-topics",
            "--server-pid",
            "--after",
        ] {
            assert!(found.iter().any(|flag| flag == known), "{known}: {found:?}");
        }
    }

    #[test]
    fn a_flag_needs_another_wherever_it_stands_and_however_it_is_given() {
        for words in [
            &["serve", "--disk-reserve", "1GiB", "--topics-max", "7"][..],
            &["serve", "--topics-max", "7", "--disk-reserve=1GiB"],
        ] {
            let said = said(&[&["longlived"], words].concat());
            assert!(
                said.contains("; --disk-reserve needs --data-dir <DIR>; see"),
                "{said}"
            );
            assert!(!said.contains("--topics-max"), "{said}");
        }
        // A need of the command itself comes from no flag.
        let said = said(&["longlived", "subscribe", "--json"]);
        assert!(said.contains("FILTER") && !said.contains("needs"), "{said}");
    }

    #[test]
    fn a_negative_value_is_the_flags_before_it_and_nobody_elses() {
        let joined = |given: &[&str]| words(os(given));
        assert_eq!(joined(&["a", "--b", "-1", "c"]), os(&["a", "--b=-1", "c"]));
        assert_eq!(joined(&["--b", "-5s"]), os(&["--b=-5s"]));
        for whole in [
            &["a", "-1"][..],
            &["--b=1", "-1"],
            &["--b", "--c"],
            &["--b", "-c"],
            &["--b", "1", "-1"],
            &["a", "--", "-1"],
            &["a", "--", "--b", "-1"],
        ] {
            assert_eq!(joined(whole), os(whole), "{whole:?}");
        }
    }

    #[test]
    fn a_flag_is_not_named_by_a_longer_one() {
        let command = Command::new("x").arg(Arg::new("a").long("listen"));
        let arg = command.get_arguments().next().unwrap();
        assert!(is_named("'--listen <A>' is wrong", arg));
        assert!(is_named("--listen", arg));
        assert!(!is_named("--listen-also and --listening", arg));
        assert!(!is_named("metrics", arg));
    }
}
