//! The list: one row for each topic, and one for all of them.

use std::process::ExitCode;

use anyhow::Context as _;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table};
use longlived_client::{Client, Position, TopicInfo, TopicsQuery};
use serde::Serialize;

use super::Args;
use crate::show::{self, Output};

/// The most that a server gives at once.
const PAGE_MAX: u64 = 1_000;
/// Names in fewer columns cannot be read.
const NAME_COLUMNS_MIN: usize = 12;
const HEADER: [&str; 6] = ["topic", "first", "last", "events", "bytes", "subscribers"];

/// One line of `--json`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Topic {
        topic: &'a str,
        /// Absent when no event is kept.
        #[serde(skip_serializing_if = "Option::is_none")]
        first: Option<u64>,
        /// Absent when it is not known any more.
        #[serde(skip_serializing_if = "Option::is_none")]
        last: Option<u64>,
        events: u64,
        bytes: u64,
        subscribers: u64,
    },
    Topics(Totals),
}

/// The sums of all rows.
#[derive(Clone, Copy, Debug, Serialize)]
struct Totals {
    epoch: u64,
    head: u64,
    topics: u64,
    events: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

pub(super) async fn run(client: &Client, args: Args) -> anyhow::Result<ExitCode> {
    let filter = args.filters.first().map_or("", String::as_str);
    let query = TopicsQuery::new(filter).subscriber_id(args.subscriber_id());
    let mut shown = Vec::new();
    let mut next = None;
    let head = loop {
        let left = args.limit - shown.len() as u64;
        let size = left.min(PAGE_MAX) as u32;
        let query = query.clone().page_size(size);
        let page = match &next {
            None => client.topics(&query).await,
            Some(name) => client.topics(&query.after(name)).await,
        };
        let page = page.with_context(|| client.url().to_owned())?;
        shown.extend(page.topics);
        next = page.next;
        if next.is_none() || shown.len() as u64 >= args.limit {
            break page.head;
        }
    };
    let totals = totals(&shown, head, next.is_some());
    if args.json {
        for topic in &shown {
            print(&Line::Topic {
                topic: &topic.name,
                first: topic.first,
                last: topic.last,
                events: topic.events,
                bytes: topic.bytes,
                subscribers: topic.subscribers,
            })?;
        }
        print(&Line::Topics(totals))?;
    } else {
        let width = Output::stdout().width();
        let text = format!(
            "{}\n{}",
            table(&shown, totals, width),
            show::wrapped(&sentence(totals), width)
        );
        show::print_line(text).context("printing the topics")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(line: &Line<'_>) -> anyhow::Result<()> {
    let text = serde_json::to_string(line).expect("keys are strings");
    show::print_line(text).context("printing the topics")
}

fn totals(shown: &[TopicInfo], head: Position, more: bool) -> Totals {
    Totals {
        epoch: head.epoch,
        head: head.sequence,
        topics: shown.len() as u64,
        events: shown.iter().map(|topic| topic.events).sum(),
        bytes: shown.iter().map(|topic| topic.bytes).sum(),
        more,
    }
}

/// Long names are broken where the terminal is narrow; where they would not fit at all, a topic is a name with a
/// sentence below it.
fn table(shown: &[TopicInfo], totals: Totals, width: Option<usize>) -> String {
    let mut table = grid(shown, totals);
    let whole = table.to_string();
    let needed = show::columns(&whole);
    let Some(width) = width.filter(|width| needed > *width) else {
        return whole;
    };
    let names = table.column_max_content_widths()[0];
    let others = needed - usize::from(names);
    if width < others + NAME_COLUMNS_MIN {
        return sentences(shown, totals, width);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    table.to_string()
}

/// One below the other.
fn sentences(shown: &[TopicInfo], totals: Totals, width: usize) -> String {
    let mut lines = Vec::new();
    for topic in shown {
        let TopicInfo {
            name,
            first,
            last,
            events,
            subscribers,
            ..
        } = topic;
        let range = match (first, last) {
            (Some(first), Some(last)) => format!("#{first} to #{last}"),
            (None, Some(last)) => format!("the last was #{last}"),
            (Some(first), None) => format!("from #{first}"),
            (None, None) => "nothing known".to_owned(),
        };
        let size = bytes(topic.bytes);
        lines.push(show::wrapped(name, Some(width)));
        let numbers = format!("{events} events, {size}, {range}, {subscribers} subscribers");
        lines.push(show::indented(2, &numbers, width));
    }
    lines.push("all".to_owned());
    lines.push(format!(
        "  {} events, {}",
        totals.events,
        bytes(totals.bytes)
    ));
    lines.join("\n")
}

fn grid(shown: &[TopicInfo], totals: Totals) -> Table {
    let known = |sequence: Option<u64>| sequence.map_or_else(|| "-".to_owned(), |s| s.to_string());
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(HEADER);
    for topic in shown {
        table.add_row([
            topic.name.clone(),
            known(topic.first),
            known(topic.last),
            topic.events.to_string(),
            bytes(topic.bytes),
            topic.subscribers.to_string(),
        ]);
    }
    // A stream may follow many topics: the number of streams that follow any of them is not the sum.
    table.add_row([
        "all".to_owned(),
        String::new(),
        String::new(),
        totals.events.to_string(),
        bytes(totals.bytes),
        String::new(),
    ]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn sentence(totals: Totals) -> String {
    let at = format!("the log is at {}/{}", totals.epoch, totals.head);
    let topics = match totals.topics {
        1 => "1 topic".to_owned(),
        many => format!("{many} topics"),
    };
    if totals.more {
        format!("{topics}, and there are more: --limit shows more of them; {at}.")
    } else {
        format!("{topics}, all that match; {at}.")
    }
}

/// Rounded down, in the unit that leaves one to four digits.
fn bytes(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        10_485_760..10_737_418_240 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_never_wider_than_the_terminal() {
        let topic = |name: &str| TopicInfo {
            name: name.to_owned(),
            first: Some(9_999_999),
            last: Some(12_999_999),
            events: 3_000_000,
            bytes: 9 << 40,
            subscribers: 1_000_000,
        };
        let long = "orders.eu.created.".repeat(12);
        let shown = [topic("a"), topic(&long)];
        let totals = totals(&shown, Position::new(1 << 52, 12_999_999), false);
        for width in [30, 40, 60, 80, 100, 200, 400] {
            let table = table(&shown, totals, Some(width));
            assert!(show::columns(&table) <= width, "{width}:\n{table}");
            let letters: String = table.chars().filter(char::is_ascii_lowercase).collect();
            assert!(letters.contains("orderseucreated"), "{width}:\n{table}");
        }
    }

    #[test]
    fn the_table_has_a_row_for_each_topic_and_one_for_all() {
        let topic = |name: &str, first, events| TopicInfo {
            name: name.to_owned(),
            first,
            last: Some(12),
            events,
            bytes: events * 3_000,
            subscribers: 2,
        };
        let shown = [topic("orders.eu", Some(3), 4), topic("orders.us", None, 0)];
        let totals = totals(&shown, Position::new(7, 12), false);
        let expected = "\
┌───────────┬───────┬──────┬────────┬────────┬─────────────┐
│ topic     ┆ first ┆ last ┆ events ┆  bytes ┆ subscribers │
╞═══════════╪═══════╪══════╪════════╪════════╪═════════════╡
│ orders.eu ┆     3 ┆   12 ┆      4 ┆ 11 KiB ┆           2 │
│ orders.us ┆     - ┆   12 ┆      0 ┆    0 B ┆           2 │
│ all       ┆       ┆      ┆      4 ┆ 11 KiB ┆             │
└───────────┴───────┴──────┴────────┴────────┴─────────────┘";
        assert_eq!(table(&shown, totals, None), expected);
        assert_eq!(table(&shown, totals, Some(60)), expected);
        let narrow = "\
orders.eu
  4 events, 11 KiB, #3 to #12, 2
  subscribers
orders.us
  0 events, 0 B, the last was #12, 2
  subscribers
all
  4 events, 11 KiB";
        assert_eq!(table(&shown, totals, Some(37)), narrow);
        assert_eq!(
            sentence(totals),
            "2 topics, all that match; the log is at 7/12."
        );
    }
}
