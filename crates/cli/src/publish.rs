//! `longlived publish`: one message, or one for each line of standard input.

mod lines;
mod run;

use std::time::Duration;

use clap::error::ErrorKind;
use longlived_console::server_url::ServerArgs;

pub(crate) use self::run::run;
use crate::values;

/// Publish one message, or each line of standard input. The answer has the position, and the crash that the message
/// survives.
///
/// Exit status 0: everything was acknowledged, and the server still has the history in which it was
/// acknowledged. 1: something was not acknowledged; standard error has its outcome as far as it is known. 2: the
/// arguments are wrong. 3: with --lines everything was acknowledged, but the server began a new history in between,
/// because it was restarted and keeps its messages in memory. The lines before that are gone; standard error says
/// which.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topic: a name such as orders.eu, without wildcards.
    #[arg(value_parser = values::topic)]
    topic: String,

    /// The payload of the message.
    #[arg(required_unless_present = "lines")]
    payload: Option<String>,

    /// Publish standard input, one message per line, many in flight. Ends at the first refusal.
    #[arg(long, conflicts_with = "payload")]
    lines: bool,

    /// The thing that the message is about.
    #[arg(long)]
    key: Option<String>,

    /// A header for subscribers; repeatable, each name once.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,

    /// Store the message once, however often it is sent with this id. With --lines each line gets an id of its own:
    /// this id, a dash, and the line number. The same lines can then be sent again within the window, which is 2
    /// minutes and 100,000 ids.
    #[arg(long, value_name = "ID", value_parser = message_id)]
    message_id: Option<String>,

    /// Time that a message may take with all attempts. If the server is away, the command waits for it.
    #[arg(long, default_value = "10s", value_parser = values::positive_duration)]
    timeout: Duration,

    /// Print one JSON object for each acknowledged message: epoch, sequence, topic, key, durability, duplicate.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerArgs,
}

impl Args {
    /// Checks that concern several flags.
    fn check(&self) -> Result<(), clap::Error> {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        match values::repeated(&names) {
            None => Ok(()),
            Some(name) => {
                let wrong = format!(
                    "--header: `{name}` is given twice; a message has one value for each name"
                );
                Err(clap::Error::raw(ErrorKind::ArgumentConflict, wrong))
            }
        }
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("a header is NAME=VALUE".to_owned()),
    }
}

fn message_id(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("an id has at least one character".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_split_at_its_first_equals_sign() {
        assert_eq!(header("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(header("a="), Ok(("a".to_owned(), String::new())));
        assert!(header("a").is_err());
        assert!(header("=b").is_err());
    }
}
