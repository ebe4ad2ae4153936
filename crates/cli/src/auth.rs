//! `longlived auth check`: asks an auth file whether a caller may do something. Needs no server.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use longlived_authorize::{Action, Granted, authorize};
use longlived_identity::{AuthRules, CredentialError, Identity, TOKEN_BYTES_MAX};
use longlived_topic::TopicFilter;

use crate::show;
use crate::values;

/// Ask an auth file what a server would allow.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Check(CheckArgs),
}

/// Say whether a caller may publish to, subscribe to or administer topics, and by which filter of the auth file.
///
/// Exit status 0: it may; 1: it may not, or its token is refused; 2: a file cannot be used.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("caller").required(true))]
struct CheckArgs {
    /// The auth file, as for `serve`.
    #[arg(long, env = "LONGLIVED_AUTH", value_name = "FILE")]
    auth: PathBuf,

    /// The caller is who this token makes: a JWT or a static token, in a file.
    #[arg(long, value_name = "FILE", group = "caller")]
    token_file: Option<PathBuf>,

    /// The caller is this one: ISSUER/SUB, cert/NAME, token/NAME, unix/UID or anonymous. One of an issuer has what
    /// the template gives it without claims.
    #[arg(long, value_name = "NAME", group = "caller")]
    principal: Option<String>,

    /// What it wants to do: publish, subscribe or admin.
    #[arg(value_name = "ACTION", value_parser = values::action)]
    action: Action,

    /// With which topics: a name such as orders.eu, or a filter such as 'orders.>'
    #[arg(value_name = "FILTER", value_parser = values::parsed_filter)]
    filter: TopicFilter,
}

/// A file cannot be used.
const UNUSABLE: u8 = 2;

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Command::Check(args) = &args.command;
    let rules = match AuthRules::read(&args.auth) {
        Ok(rules) => rules,
        Err(error) => return Ok(unusable(&format!("--auth: {error}"))),
    };
    let caller = match (&args.token_file, &args.principal) {
        (Some(path), _) => match token(path) {
            Ok(token) => rules.bearer(token.trim(), SystemTime::now()),
            Err(error) => {
                let shown = path.display();
                return Ok(unusable(&format!("--token-file: {shown}: {error}")));
            }
        },
        (None, principal) => rules.principal(principal.as_deref().unwrap_or_default()),
    };
    let (is_allowed, verdict) = verdict(caller, args.action, &args.filter);
    show::print_line(show::one_line(&verdict))?;
    Ok(ExitCode::from(u8::from(!is_allowed)))
}

fn unusable(problem: &str) -> ExitCode {
    show::note(show::one_line(&crate::usage::with_origins(problem)));
    ExitCode::from(UNUSABLE)
}

/// What the file holds, without bytes that no token has.
fn token(path: &Path) -> std::io::Result<String> {
    let mut content = Vec::new();
    // A line break at the end is no part of a token, and one byte more is too long for any.
    let bytes_max = TOKEN_BYTES_MAX as u64 + 3;
    File::open(path)?
        .take(bytes_max)
        .read_to_end(&mut content)?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

fn verdict(
    caller: Result<Identity, CredentialError>,
    action: Action,
    filter: &TopicFilter,
) -> (bool, String) {
    let caller = match caller {
        Ok(caller) => caller,
        Err(error) => return (false, format!("refused: {error}")),
    };
    let principal = &caller.principal;
    match authorize(&caller.grants, action, filter.into()) {
        Ok(granted) => {
            let rules = by(action, &granted);
            let text = format!("allowed: {principal}, {action} `{filter}`, by {rules}");
            (true, text)
        }
        Err(refusal) => (false, format!("not allowed: {principal}: {refusal}")),
    }
}

fn by(action: Action, granted: &Granted<'_>) -> String {
    let own = format!("`{}` of `{action}.allow`", granted.rule);
    match granted.most {
        Some(most) => format!("{own}, and `{most}` in the most that its issuer may give"),
        None => own,
    }
}
