//! `longlived token new`: makes a static token, and its entry of the auth file.

use std::process::ExitCode;
use std::time::SystemTime;

use longlived_identity::NewToken;

use crate::show;
use crate::values;

/// Make static tokens for the auth file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    New(NewArgs),
}

/// Make a token. The first line is the token, for its user; the others are its entry for the auth file of the server.
///
/// The token is shown here alone: the entry has its SHA-256. The entry grants nothing until publish or subscribe are
/// added to it.
#[derive(Debug, clap::Args)]
struct NewArgs {
    /// The caller is token/NAME: 1 to 64 of the characters A-Z a-z 0-9 -
    #[arg(value_name = "NAME", value_parser = values::token_name)]
    name: String,

    /// When it ends: a date with a time, such as 2027-01-01T00:00:00Z, or a time from now, such as 90days. It does not
    /// end unless given.
    #[arg(long, value_name = "WHEN", value_parser = values::future)]
    expires: Option<SystemTime>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Command::New(args) = &args.command;
    let token = NewToken::new(&args.name).map_err(anyhow::Error::msg)?;
    show::print_line(token.token())?;
    show::print_line("# The token is shown here alone. Its entry for the auth file:")?;
    show::print_line(format!("[tokens.{}]", args.name))?;
    show::print_line(format!("sha256 = \"{}\"", token.sha256()))?;
    if let Some(expires) = args.expires {
        let expires = humantime::format_rfc3339_seconds(expires);
        show::print_line(format!("expires = {expires}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
