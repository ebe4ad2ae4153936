//! The log of the server on standard error: text for people, JSON for machines, and which of it from `RUST_LOG`.
//!
//! Holds: no log line waits for the reader of the log, the message of a panic included. Peers that provoke lines get no more than
//! `--log-rate-max` of them written.

mod libraries;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal as _};
use std::panic::PanicHookInfo;
use std::time::SystemTime;

use clap::ValueEnum;
use clap::error::ErrorKind;
use longlived_console::sink::{self, Notice, Sink};
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
use tracing_subscriber::filter::{Directive, FilterExt as _};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use self::libraries::LibraryLines;
use crate::log_args::LogArgs;
use crate::show::note;

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// The filter of the log without `RUST_LOG`.
const DEFAULT: &str = "info,h2=warn";
/// Beginnings of the targets that a bare word in `RUST_LOG` may mean.
const TARGETS: [&str; 8] = [
    "longlived",
    "h2",
    "hyper",
    "mio",
    "runtime",
    "tokio",
    "tonic",
    "tower",
];

/// Starts logging. Called once.
pub(crate) fn start(args: &LogArgs) -> Result<(), clap::Error> {
    let directives = Directives::of(std::env::var_os("RUST_LOG"))?;
    let format = args.format;
    let stderr = sink::stderr();
    stderr.limit(args.rate_max);
    let (tell_dropped, tell_left_out): (Notice, fn(&str, u64)) = match format {
        LogFormat::Text => (
            |lines| dropped(LogFormat::Text, lines),
            |target, lines| left_out(LogFormat::Text, target, lines),
        ),
        LogFormat::Json => (
            |lines| dropped(LogFormat::Json, lines),
            |target, lines| left_out(LogFormat::Json, target, lines),
        ),
    };
    stderr.tell_with(tell_dropped);
    let lines = tracing_subscriber::fmt::layer().with_writer(|| Lines(stderr));
    let lines = match format {
        // Files and pipes get plain text.
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let filter = directives.filter().and(LibraryLines::new(tell_left_out));
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .init();
    for warning in directives.warnings {
        // Not as an event: the mistake in the filter might keep it out.
        stderr.offer(warn(format, &warning, None).as_bytes());
    }
    Ok(())
}

/// The log says each line with one write.
struct Lines(&'static Sink);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.offer(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The filter that `RUST_LOG` asks for.
#[derive(Debug)]
struct Directives {
    directives: Vec<Directive>,
    warnings: Vec<String>,
}

impl Directives {
    fn of(value: Option<std::ffi::OsString>) -> Result<Self, clap::Error> {
        let value = value.unwrap_or_default();
        let text = value.to_string_lossy();
        // As with other variables, nothing in it is as if it were not there.
        let text = if text.trim().is_empty() {
            DEFAULT
        } else {
            &text
        };
        let mut read = Self {
            directives: Vec::new(),
            warnings: Vec::new(),
        };
        for directive in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            let Ok(parsed) = directive.parse() else {
                let wrong = format!(
                    "invalid value '{}' for RUST_LOG: `{directive}` is none of LEVEL, TARGET or TARGET=LEVEL, where \
                     LEVEL is error, warn, info, debug or off\n",
                    value.to_string_lossy()
                );
                return Err(clap::Error::raw(ErrorKind::ValueValidation, wrong));
            };
            read.directives.push(parsed);
            read.warnings.extend(doubt(directive));
        }
        Ok(read)
    }

    fn filter(&self) -> EnvFilter {
        // One by one: given together, a level that is not compiled in is told by a write to standard error.
        let nothing = EnvFilter::builder().with_default_directive(LevelFilter::OFF.into());
        let nothing = nothing.parse_lossy("");
        self.directives
            .iter()
            .cloned()
            .fold(nothing, EnvFilter::add_directive)
    }
}

/// The doubt about a directive that most likely means something else.
fn doubt(directive: &str) -> Option<String> {
    let (target, level) = match directive.split_once('=') {
        Some((target, level)) => (Some(target), level.parse().ok()),
        None => match directive.parse() {
            Ok(level) => (None, Some(level)),
            // A target alone is all of it.
            Err(_) => (Some(directive), Some(LevelFilter::TRACE)),
        },
    };
    let is_known = |target: &str| TARGETS.iter().any(|known| target.starts_with(known));
    if let Some(target) = target
        && !target.contains('[')
        && !is_known(target)
    {
        return Some(format!(
            "RUST_LOG: `{directive}` names no level, and no target of this program, so nothing is logged for it"
        ));
    }
    let asked_for_trace = directive.to_ascii_lowercase().ends_with("trace");
    (asked_for_trace && level > Some(STATIC_MAX_LEVEL)).then(|| {
        format!(
            "RUST_LOG: `{directive}` asks for more than this program was built with, which is {STATIC_MAX_LEVEL}"
        )
    })
}

/// The line in the place of dropped lines of the log.
fn dropped(format: LogFormat, lines: u64) -> String {
    let why = "lines of the log were dropped here: they were more than --log-rate-max, not taken as fast as they came, or \
               could not be written";
    warn(format, why, Some(lines))
}

/// A line about lines of a library that were left out.
fn left_out(format: LogFormat, target: &str, lines: u64) {
    let why = format!("{target} has logged more than the log takes of it");
    sink::stderr().offer(warn(format, &why, Some(lines)).as_bytes());
}

/// A line as the log writes it.
fn warn(format: LogFormat, message: &str, lines: Option<u64>) -> String {
    const TARGET: &str = "longlived::logging";
    let time = humantime::format_rfc3339_micros(SystemTime::now());
    match format {
        LogFormat::Text => {
            let lines = lines.map(|lines| format!(" lines={lines}"));
            format!(
                "{time}  WARN {TARGET}: {message}{}\n",
                lines.unwrap_or_default()
            )
        }
        LogFormat::Json => {
            let mut line = serde_json::json!({
                "timestamp": time.to_string(),
                "level": "WARN",
                "message": message,
                "target": TARGET,
            });
            if let Some(lines) = lines {
                line["lines"] = lines.into();
            }
            format!("{line}\n")
        }
    }
}

/// Panics are told where everything else is, and not by a write of their own that might wait, or panic again.
pub(crate) fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        told(panic);
        if std::thread::current().name() == Some("main") {
            // It may end the process.
            sink::flush();
        }
    }));
}

fn told(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let message = panic.payload();
    let message = message
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| message.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("not a text");
    let backtrace = Backtrace::capture();
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    };
    // Without a log, or with one that leaves it out, it is told as everything else is.
    if tracing::enabled!(target: "longlived::panic", tracing::Level::ERROR) {
        tracing::error!(target: "longlived::panic", thread, place, "panicked: {message}{backtrace}");
    } else {
        note(format!(
            "thread '{thread}' panicked at {place}: {message}{backtrace}"
        ));
    }
}
