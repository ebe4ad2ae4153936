//! The history: the kept events, oldest first, and gaps in the place of missing ones.

use std::process::ExitCode;

use anyhow::Context as _;
use longlived_client::{Client, HistoryEntry, HistoryQuery, Position};
use longlived_console::sink::{self, OutputError};
use serde::Serialize;

use super::Args;
use crate::show::{self, Output, Record, note};

/// Entries that are asked for at once.
const PAGE: u64 = 1_000;

/// The last line of `--json`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Next {
        epoch: u64,
        sequence: u64,
        end: bool,
    },
}

pub(super) async fn run(client: &Client, args: Args) -> anyhow::Result<ExitCode> {
    let output = Output::stdout();
    let mut query = HistoryQuery::new(&args.filters).subscriber_id(args.subscriber_id());
    if let Some(after) = args.after {
        query = query.after(after);
    }
    let mut left = args.limit;
    let (next, end) = loop {
        query = query.page_size(left.min(PAGE) as u32);
        let page = client.read_history(&query).await;
        let page = page.with_context(|| client.url().to_owned())?;
        left = left.saturating_sub(page.entries.len() as u64);
        for entry in &page.entries {
            print(entry, args.json, output).context("printing the history")?;
        }
        if page.end || left == 0 {
            break (page.next, page.end);
        }
        query = query.after(page.next);
    };
    if args.json {
        let line = Line::Next {
            epoch: next.epoch,
            sequence: next.sequence,
            end,
        };
        let text = serde_json::to_string(&line).expect("keys are strings");
        show::print_line(text).context("printing the history")?;
    } else {
        note(ending(next, end));
    }
    Ok(ExitCode::SUCCESS)
}

fn print(entry: &HistoryEntry, json: bool, output: Output) -> Result<(), OutputError> {
    match entry {
        HistoryEntry::Event(event) if json => {
            show::print_line(Record::event(event, None).to_line())
        }
        HistoryEntry::Event(event) => show::print_line(show::event_line(event, output)),
        HistoryEntry::Gap(gap) => {
            note(format!("gap: {gap}"));
            // Where both go to one place it stands between the events that it lies between.
            sink::stderr().flush();
            if json {
                show::print_line(Record::gap(gap, None).to_line())?;
            }
            Ok(())
        }
    }
}

fn ending(next: Position, end: bool) -> String {
    if end {
        format!("that was all, up to {next}")
    } else {
        format!("there is more: --after {next}")
    }
}
