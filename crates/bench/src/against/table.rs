//! A comparison as text: servers side by side, then each run.

use std::borrow::Cow;
use std::fmt::Write as _;

use longlived_console::wrapped;

use super::comparison::{CPU, Column, Comparison, LOAD_CPU, LOAD_WAITED, RATIOS, median_of};
use crate::args::{Peer, Topics};
use crate::figures::shown;
use crate::rows::Rows;

/// The figures in the table, by the names of `bench fanout`.
const SHOWN: [&str; 14] = [
    CPU,
    "server_cpu_percent",
    LOAD_CPU,
    LOAD_WAITED,
    "deliveries_per_s",
    "published_per_s",
    "latency_p50_us",
    "latency_p99_us",
    "latency_max_us",
    "memory_kib_per_subscriber",
    "memory_connected_mib",
    "connect_all_ms",
    "lost",
    "repeated",
];

impl Comparison {
    /// In the width of a terminal, if there is one.
    pub(super) fn table(&self, width: Option<usize>) -> String {
        let peers = self.columns.iter().map(|column| column.peer.name());
        let mut rows = Rows::with_header(peers);
        let medians: Vec<_> = self.columns.iter().map(Column::medians).collect();
        for name in SHOWN {
            let label = medians.iter().find_map(|figures| figures.label(name));
            if let Some(label) = label {
                let values = medians.iter().map(|figures| figures.value(name));
                rows.push(self.label(name, label), values.map(shown_or_dash));
            }
        }
        for (_, figure, label) in RATIOS {
            let ratios = self.columns.iter().map(|column| {
                let other = column.peer != Peer::Longlived;
                let ratio = other.then(|| median_of(&self.ratio(column, figure)));
                shown_or_dash(ratio.flatten())
            });
            rows.push(format!("longlived / it: {label}"), ratios);
        }
        let runs = self.columns.iter().map(|column| column.runs.len()).max();
        let runs = runs.unwrap_or(0);
        let of = if runs > 1 { "medians of " } else { "" };
        let setting = format!("{}; {of}{runs} run(s) in turns", self.setting);
        let mut text = format!("{}\n\n{}", wrapped(&setting, width), rows.text(width));
        if runs > 1 {
            let _ = write!(text, "\n{}", self.runs().text(width));
        }
        let notes = self.notes().into_iter().map(|note| format!("* {note}"));
        let troubles = self.troubles().map(|trouble| format!("! {trouble}"));
        for line in notes.chain(troubles) {
            let _ = writeln!(text, "\n{}", wrapped(&line, width));
        }
        text
    }

    /// Each run's CPU and its ratio, which medians hide the spread of.
    fn runs(&self) -> Rows {
        let mut rows = Rows::default();
        for column in self.columns.iter().filter(|column| !column.runs.is_empty()) {
            let label = self.label(CPU, "server CPU per delivery (us)");
            let values = column.runs.iter().map(|run| run.figures.value(CPU));
            rows.push(
                format!("{}: {label}", column.peer.name()),
                values.map(shown_or_dash),
            );
        }
        for column in self.others().filter(|column| !column.runs.is_empty()) {
            let ratios = self.ratio(column, CPU).into_iter();
            rows.push(
                format!("longlived / {}: server CPU", column.peer.name()),
                ratios.map(shown_or_dash),
            );
        }
        rows
    }

    /// With one subscriber for each message a delivery is a message.
    fn label<'a>(&self, name: &str, label: &'a str) -> Cow<'a, str> {
        if name == CPU && self.shape.topics == Topics::Inbox {
            return "server CPU per message, publishing included (us)".into();
        }
        label.into()
    }
}

fn shown_or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), shown)
}
