//! The verdict as a table, and its meaning in a sentence.

use std::time::Duration;

use comfy_table::{CellAlignment, Table};
use longlived_client::fleet::{ClientVerdict, Verdict};
use longlived_console::{Output, Tone, columns};

use super::text::seconds;

const HEADER: [&str; 7] = [
    "client",
    "delivered",
    "lost",
    "repeated",
    "gaps\nannounced",
    "reconnects",
    "time to\nrecover",
];
/// Columns of [`HEADER`] in which anything but 0 is bad.
const MUST_BE_ZERO: [usize; 2] = [2, 3];
/// The name of the row of sums.
const ALL: &str = "all";
/// How many rows are shown; more would not be read.
const CLIENTS_SHOWN_MAX: usize = 10;
/// How many clients that ended for one reason are named ...
const CLIENTS_NAMED_MAX: usize = 10;
/// ... and how many reasons are told.
const REASONS_TOLD_MAX: usize = 3;

fn known(count: Option<u64>) -> String {
    count.map_or_else(|| "unknown".to_owned(), |count| count.to_string())
}

fn time(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), seconds)
}

/// One row for each client where they are few, and one for all of them.
pub(crate) fn table(verdict: &Verdict, output: Output) -> String {
    within(output.width(), verdict, output)
}

fn within(width: Option<usize>, verdict: &Verdict, output: Output) -> String {
    let table = wide(verdict);
    if width.is_some_and(|width| columns(&table) > width) {
        narrow(width, verdict, output)
    } else {
        paint(&table, output)
    }
}

/// The same in sentences, for a terminal that the table does not fit.
fn narrow(width: Option<usize>, verdict: &Verdict, output: Output) -> String {
    let mut lines = Vec::new();
    let mut tell = |who: String, spoilt: bool, numbers: String| {
        lines.push(output.paint(Tone::Strong, who));
        let tone = if spoilt { Tone::Bad } else { Tone::Plain };
        lines.push(output.after_within(width, &[(Tone::Plain, "  ")], tone, &numbers));
    };
    let is_bad = |lost: Option<u64>, repeated: Option<u64>| {
        lost.unwrap_or(0) > 0 || repeated.unwrap_or(0) > 0
    };
    for client in shown(verdict) {
        let ClientVerdict {
            delivered,
            lost,
            repeated,
            gaps,
            reconnects,
            recover_max,
            ..
        } = client;
        tell(
            format!("client {}", client.client),
            is_bad(*lost, *repeated),
            format!(
                "{delivered} delivered, {} lost, {} repeated, {gaps} gaps announced, {reconnects} reconnects, {} to \
                 recover",
                known(*lost),
                known(*repeated),
                time(*recover_max)
            ),
        );
    }
    tell(
        format!("{ALL} {}", verdict.clients),
        is_bad(verdict.lost, verdict.repeated),
        format!(
            "{} delivered, {} lost, {} repeated, {} gaps announced, {} reconnects, {} to recover",
            verdict.delivered,
            known(verdict.lost),
            known(verdict.repeated),
            verdict.gaps,
            verdict.reconnects,
            recovered(verdict).replace('\n', ", ")
        ),
    );
    lines.join("\n")
}

/// Those that have a row of their own.
fn shown(verdict: &Verdict) -> &[ClientVerdict] {
    match verdict.per_client.len() {
        0..=CLIENTS_SHOWN_MAX => &verdict.per_client,
        _ => &[],
    }
}

fn recovered(verdict: &Verdict) -> String {
    match (verdict.recover_p50, verdict.recover_max) {
        (Some(p50), Some(max)) => format!("p50 {}\nmax {}", seconds(p50), seconds(max)),
        (p50, max) => time(max.or(p50)),
    }
}

fn wide(verdict: &Verdict) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(HEADER);
    for client in shown(verdict) {
        table.add_row([
            client.client.to_string(),
            client.delivered.to_string(),
            known(client.lost),
            known(client.repeated),
            client.gaps.to_string(),
            client.reconnects.to_string(),
            time(client.recover_max),
        ]);
    }
    table.add_row([
        format!("{ALL} {}", verdict.clients),
        verdict.delivered.to_string(),
        known(verdict.lost),
        known(verdict.repeated),
        verdict.gaps.to_string(),
        verdict.reconnects.to_string(),
        recovered(verdict),
    ]);
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// Borders step back, headings and sums stand out, and the colour of a number that must be 0 tells whether it is.
fn paint(table: &str, output: Output) -> String {
    let mut base = Tone::Strong;
    let mut painted = Vec::new();
    for line in table.lines() {
        if !line.starts_with('│') {
            if line.starts_with('╞') {
                base = Tone::Plain;
            }
            painted.push(output.paint(Tone::Dim, line));
            continue;
        }
        if line.contains(ALL) {
            base = Tone::Strong;
        }
        painted.push(paint_row(line, base, output));
    }
    painted.join("\n")
}

fn paint_row(line: &str, base: Tone, output: Output) -> String {
    let bar = output.paint(Tone::Dim, "│");
    let inner = line.trim_start_matches('│').trim_end_matches('│');
    let cells = inner.split(['│', '┆']).enumerate().map(|(column, cell)| {
        let count = cell.trim().parse::<u64>();
        let tone = match count {
            Ok(0) if MUST_BE_ZERO.contains(&column) => Tone::Good,
            Ok(_) if MUST_BE_ZERO.contains(&column) => Tone::Bad,
            _ => base,
        };
        output.paint(tone, cell)
    });
    let cells: Vec<String> = cells.collect();
    format!("{bar}{}{bar}", cells.join(&bar))
}

/// The meaning of the numbers, with the clients concerned.
pub(crate) fn cleanliness(verdict: &Verdict) -> (Tone, String) {
    if verdict.delivered == 0 {
        let nothing = "Nothing was delivered, so nothing is proven.";
        return (Tone::Bad, nothing.to_owned());
    }
    let (Some(lost), Some(repeated)) = (verdict.lost, verdict.repeated) else {
        let unknown =
            "Loss and repetition cannot be known: the contract protos carries no sequences.";
        return (Tone::Wait, unknown.to_owned());
    };
    let not_followed = match verdict.not_followed {
        0 => String::new(),
        1 => " 1 delivery was not followed: ledger full.".to_owned(),
        count => format!(" {count} deliveries were not followed: ledger full."),
    };
    if lost > 0 || repeated > 0 {
        let sentence = format!("{lost} lost without a word, {repeated} repeated.{not_followed}");
        return (Tone::Bad, sentence);
    }
    let gaps = match verdict.gaps {
        0 => String::new(),
        1 => " One gap was announced: history that nobody has any more.".to_owned(),
        gaps => format!(" {gaps} gaps were announced: history that nobody has any more."),
    };
    if verdict.never_current > 0 || verdict.failed > 0 {
        let sentence = format!(
            "Of what clients received, nothing was lost or repeated while they took part; of the rest nothing \
             is proven.{gaps}{not_followed}"
        );
        return (Tone::Bad, sentence);
    }
    let tone = match verdict.not_followed {
        0 => Tone::Good,
        _ => Tone::Wait,
    };
    let sentence = format!("Nothing lost, nothing repeated.{gaps}{not_followed}");
    (tone, sentence)
}

/// The clients that took no part, or not to the end: one sentence for each kind.
pub(crate) fn absences(verdict: &Verdict) -> Vec<String> {
    let mut sentences = Vec::new();
    if verdict.never_current > 0 {
        sentences.push(format!(
            "{} of {} clients were never current: not started, without a stream, or still behind when it ended.",
            verdict.never_current, verdict.clients
        ));
    }
    // Clients that ended for the same reason are told together.
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for client in &verdict.per_client {
        let Some(reason) = &client.failed else {
            continue;
        };
        let number = client.client.to_string();
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, clients)) => clients.push(number),
            None => reasons.push((reason, vec![number])),
        }
    }
    if !reasons.is_empty() {
        let told = reasons.iter().take(REASONS_TOLD_MAX);
        let told = told.map(|(reason, clients)| format!("{}: {reason}", who(clients)));
        let told: Vec<_> = told.collect();
        let more = match reasons.len() - told.len() {
            0 => String::new(),
            more => format!("; and {more} more reasons"),
        };
        sentences.push(format!(
            "{} ended before they were told to; {}{more}",
            verdict.failed,
            told.join("; ")
        ));
    }
    sentences
}

fn who(clients: &[String]) -> String {
    match clients {
        [one] => format!("client {one}"),
        few if few.len() <= CLIENTS_NAMED_MAX => format!("clients {}", few.join(", ")),
        many => format!(
            "clients {} and {} more",
            many[..CLIENTS_NAMED_MAX].join(", "),
            many.len() - CLIENTS_NAMED_MAX
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict() -> Verdict {
        let client = |client| ClientVerdict {
            client,
            delivered: 31,
            gaps: 1,
            reconnects: 1,
            recover_max: Some(Duration::from_millis(2_310)),
            lost: Some(0),
            repeated: Some(0),
            ..ClientVerdict::default()
        };
        Verdict {
            clients: 2,
            delivered: 62,
            lost: Some(0),
            repeated: Some(0),
            gaps: 2,
            reconnects: 2,
            recover_p50: Some(Duration::from_millis(840)),
            recover_max: Some(Duration::from_millis(2_310)),
            per_client: vec![client(1), client(2)],
            ..Verdict::default()
        }
    }

    fn in_a_pipe(verdict: &Verdict) -> String {
        within(None, verdict, Output::plain())
    }

    #[test]
    fn the_table_has_a_row_for_each_client_and_one_for_all() {
        let expected = "\
┌────────┬───────────┬──────┬──────────┬───────────┬────────────┬────────────┐
│ client │ delivered │ lost │ repeated │      gaps │ reconnects │    time to │
│        │           │      │          │ announced │            │    recover │
╞════════╪═══════════╪══════╪══════════╪═══════════╪════════════╪════════════╡
│      1 │        31 │    0 │        0 │         1 │          1 │     2.31 s │
│      2 │        31 │    0 │        0 │         1 │          1 │     2.31 s │
│  all 2 │        62 │    0 │        0 │         2 │          2 │ p50 840 ms │
│        │           │      │          │           │            │ max 2.31 s │
└────────┴───────────┴──────┴──────────┴───────────┴────────────┴────────────┘";
        assert_eq!(in_a_pipe(&verdict()), expected);
    }

    #[test]
    fn where_the_table_has_no_room_each_row_is_a_sentence() {
        assert_eq!(
            within(Some(78), &verdict(), Output::plain()),
            in_a_pipe(&verdict())
        );
        let expected = "\
client 1
  31 delivered, 0 lost, 0 repeated, 1
  gaps announced, 1 reconnects, 2.31 s
  to recover
client 2
  31 delivered, 0 lost, 0 repeated, 1
  gaps announced, 1 reconnects, 2.31 s
  to recover
all 2
  62 delivered, 0 lost, 0 repeated, 2
  gaps announced, 2 reconnects, p50 840
  ms, max 2.31 s to recover";
        assert_eq!(within(Some(40), &verdict(), Output::plain()), expected);
    }

    #[test]
    fn many_clients_are_one_row() {
        let mut many = verdict();
        many.per_client = vec![ClientVerdict::default(); 11];
        many.clients = 11;
        assert_eq!(in_a_pipe(&many).lines().count(), 7);
    }

    #[test]
    fn an_unknown_number_is_called_unknown() {
        let legacy = Verdict {
            lost: None,
            repeated: None,
            per_client: Vec::new(),
            ..verdict()
        };
        assert!(in_a_pipe(&legacy).contains("unknown"));
        assert!(cleanliness(&legacy).1.contains("cannot be known"));
        let silent = Verdict {
            delivered: 0,
            ..legacy
        };
        assert!(cleanliness(&silent).1.contains("Nothing was delivered"));
    }

    #[test]
    fn the_sentence_agrees_with_the_numbers() {
        assert_eq!(
            cleanliness(&verdict()).1,
            "Nothing lost, nothing repeated. 2 gaps were announced: history that nobody has any more."
        );
        let lost = Verdict {
            lost: Some(3),
            ..verdict()
        };
        assert_eq!(
            cleanliness(&lost),
            (Tone::Bad, "3 lost without a word, 0 repeated.".to_owned())
        );
        let nothing = Verdict {
            delivered: 0,
            ..verdict()
        };
        assert_eq!(cleanliness(&nothing).0, Tone::Bad);
    }

    #[test]
    fn nothing_lost_is_said_only_where_all_took_part_to_the_end() {
        let late = Verdict {
            never_current: 1,
            ..verdict()
        };
        assert_eq!(
            absences(&late),
            [
                "1 of 2 clients were never current: not started, without a stream, or still behind when it ended."
            ]
        );
        let mut taken_over = Verdict {
            failed: 1,
            ..verdict()
        };
        taken_over.per_client[1].failed = Some("taken over".to_owned());
        assert_eq!(
            absences(&taken_over),
            ["1 ended before they were told to; client 2: taken over"]
        );
        let mut both = taken_over.clone();
        both.failed = 2;
        both.per_client[0].failed = Some("refused".to_owned());
        assert_eq!(
            absences(&both),
            ["2 ended before they were told to; client 1: refused; client 2: taken over"]
        );
        both.per_client[0].failed = Some("taken over".to_owned());
        assert_eq!(
            absences(&both),
            ["2 ended before they were told to; clients 1, 2: taken over"]
        );
        for partial in [late, taken_over] {
            let (tone, sentence) = cleanliness(&partial);
            assert_eq!(tone, Tone::Bad);
            assert!(!sentence.contains("Nothing lost"), "{sentence}");
            assert!(sentence.contains("of the rest nothing is proven"));
        }
        assert!(absences(&verdict()).is_empty());
    }

    #[test]
    fn messages_not_followed_are_told_with_every_number() {
        let clean = Verdict {
            gaps: 0,
            not_followed: 12,
            ..verdict()
        };
        assert_eq!(
            cleanliness(&clean),
            (
                Tone::Wait,
                "Nothing lost, nothing repeated. 12 deliveries were not followed: ledger full."
                    .to_owned()
            )
        );
        let lost = Verdict {
            lost: Some(3),
            not_followed: 1,
            ..verdict()
        };
        assert_eq!(
            cleanliness(&lost).1,
            "3 lost without a word, 0 repeated. 1 delivery was not followed: ledger full."
        );
    }
}
