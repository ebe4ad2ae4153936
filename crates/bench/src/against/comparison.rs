//! The figures of several servers, the ratios of ours to theirs, and the notes that belong to them.
//!
//! Holds: a ratio is of one run's figures, which were taken a few seconds apart. The median of the runs' ratios is
//! shown, not the ratio of medians.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::args::{FanoutLoad, Peer};
use crate::figures::{Figures, median, medians, rounded, shown};
use crate::setting::Setting;

/// Above this share of its cores the load itself is measured.
const LOAD_SATURATED_PERCENT: f64 = 95.0;
/// A load that could not run for a larger share of the time was not alone on its core. Its figures are not those of a
/// quiet machine: it reads late, and the sender need not wake a reader that is awake and only waits for its core.
const LOAD_WAITED_PERCENT: f64 = 10.0;
/// Less than this share of the rate asked for is worth a word.
const RATE_REACHED: f64 = 0.97;
pub(super) const CPU: &str = "cpu_us_per_delivery";
pub(super) const LOAD_CPU: &str = "load_cpu_percent";
pub(super) const LOAD_WAITED: &str = "load_waited_percent";

/// The ratios of ours to theirs: name of the ratio, figure, label.
pub(super) const RATIOS: [(&str, &str, &str); 4] = [
    ("cpu", CPU, "server CPU"),
    ("latency_p50", "latency_p50_us", "latency p50"),
    ("latency_p99", "latency_p99_us", "latency p99"),
    (
        "memory",
        "memory_kib_per_subscriber",
        "memory per subscriber",
    ),
];

/// One measurement of one server.
pub(super) struct Run {
    pub(super) figures: Figures,
    /// Cores that the load could fill.
    pub(super) load_cores: usize,
}

impl Run {
    pub(super) fn failed(peer: Peer, error: &anyhow::Error) -> Self {
        let mut figures = Figures::default();
        figures.troubles.push(format!("{}: {error:#}", peer.name()));
        Self {
            figures,
            load_cores: 1,
        }
    }

    fn load_is_saturated(&self) -> bool {
        let busy = self.figures.value(LOAD_CPU);
        busy.is_some_and(|busy| busy > LOAD_SATURATED_PERCENT * self.load_cores as f64)
    }

    fn load_had_company(&self) -> bool {
        let waited = self.figures.value(LOAD_WAITED);
        waited.is_some_and(|waited| waited > LOAD_WAITED_PERCENT)
    }
}

/// One server.
pub(super) struct Column {
    pub(super) peer: Peer,
    /// Why it was not measured.
    pub(super) absent: Option<String>,
    pub(super) runs: Vec<Run>,
}

impl Column {
    pub(super) fn medians(&self) -> Figures {
        // A run that failed has no figures.
        let whole = self.runs.iter().filter(|run| has_figures(&run.figures));
        let whole: Vec<_> = whole.map(|run| run.figures.clone()).collect();
        medians(&whole)
    }
}

fn has_figures(figures: &Figures) -> bool {
    figures.value(LOAD_CPU).is_some()
}

/// All of it; the first column is ours.
pub(super) struct Comparison {
    pub(super) setting: Setting,
    pub(super) shape: FanoutLoad,
    pub(super) columns: Vec<Column>,
}

#[derive(Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    setting: &'a Setting,
    peers: BTreeMap<&'a str, JsonPeer<'a>>,
    /// Ours divided by theirs.
    ratios: BTreeMap<&'a str, BTreeMap<&'a str, JsonRatio>>,
    notes: Vec<String>,
    troubles: Vec<&'a str>,
}

#[derive(Serialize)]
struct JsonPeer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<&'a str>,
    runs: Vec<BTreeMap<&'a str, f64>>,
    median: BTreeMap<String, f64>,
    /// Runs in which the load's own cores were full.
    load_saturated_runs: usize,
}

#[derive(Serialize)]
struct JsonRatio {
    runs: Vec<Option<f64>>,
    median: Option<f64>,
}

impl Comparison {
    pub(super) fn is_clean(&self) -> bool {
        self.troubles().next().is_none()
    }

    pub(super) fn troubles(&self) -> impl Iterator<Item = &str> {
        let runs = self.columns.iter().flat_map(|column| &column.runs);
        runs.flat_map(|run| run.figures.troubles.iter().map(String::as_str))
    }

    pub(super) fn others(&self) -> impl Iterator<Item = &Column> {
        self.columns
            .iter()
            .filter(|column| column.peer != Peer::Longlived)
    }

    /// Ours divided by another's, run by run; `None` where one of them has none, or nothing to divide by.
    pub(super) fn ratio(&self, other: &Column, figure: &str) -> Vec<Option<f64>> {
        let ours = self
            .columns
            .iter()
            .find(|column| column.peer == Peer::Longlived);
        let ours = ours.map_or(&[][..], |column| &column.runs);
        ours.iter()
            .zip(&other.runs)
            .map(|(ours, theirs)| {
                let theirs = theirs.figures.value(figure).filter(|value| *value > 0.0)?;
                Some(ours.figures.value(figure)? / theirs)
            })
            .collect()
    }

    /// Notes for the reader of the figures.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for column in &self.columns {
            let name = column.peer.name();
            if let Some(why) = &column.absent {
                notes.push(format!("{name}: {why}"));
            }
            let of = column.runs.len();
            let saturated = column.runs.iter().filter(|run| run.load_is_saturated());
            let saturated = saturated.count();
            if saturated > 0 {
                notes.push(format!(
                    "{name}: the load generator's own core was saturated in {saturated} of {of} runs (over \
                     {LOAD_SATURATED_PERCENT} %): latency and deliveries per second say little"
                ));
            }
            let company = column.runs.iter().filter(|run| run.load_had_company());
            let company = company.count();
            if company > 0 {
                notes.push(format!(
                    "{name}: the load waited for its core in {company} of {of} runs (over {LOAD_WAITED_PERCENT} % of the \
                     time): the machine was in use otherwise, and neither latency nor CPU is that of a quiet one"
                ));
            }
            let published = column.medians().value("published_per_s");
            if let Some(published) = published
                && published < self.shape.rate as f64 * RATE_REACHED
            {
                notes.push(format!(
                    "{name}: took {} of {} messages/s",
                    shown(published.round()),
                    shown(self.shape.rate as f64),
                ));
            }
        }
        notes
    }

    pub(super) fn json(&self) -> serde_json::Result<String> {
        let peers = self.columns.iter().map(|column| {
            let medians = column.medians();
            let by_name = medians.by_name().into_iter();
            let peer = JsonPeer {
                absent: column.absent.as_deref(),
                runs: column
                    .runs
                    .iter()
                    .map(|run| run.figures.by_name())
                    .collect(),
                median: by_name
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
                load_saturated_runs: column
                    .runs
                    .iter()
                    .filter(|run| run.load_is_saturated())
                    .count(),
            };
            (column.peer.name(), peer)
        });
        let ratios = self.others().map(|column| {
            let ratios = RATIOS.iter().map(|(name, figure, _)| {
                let runs = self.ratio(column, figure);
                let ratio = JsonRatio {
                    median: median_of(&runs).map(rounded),
                    runs: runs.into_iter().map(|ratio| ratio.map(rounded)).collect(),
                };
                (*name, ratio)
            });
            (column.peer.name(), ratios.collect())
        });
        serde_json::to_string(&Json {
            setting: &self.setting,
            peers: peers.collect(),
            ratios: ratios.collect(),
            notes: self.notes(),
            troubles: self.troubles().collect(),
        })
    }
}

pub(super) fn median_of(ratios: &[Option<f64>]) -> Option<f64> {
    let ratios: Vec<_> = ratios.iter().copied().flatten().collect();
    (!ratios.is_empty()).then(|| median(ratios))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::args::Topics;

    fn run(cpu: f64, load: f64) -> Run {
        let mut figures = Figures::default();
        figures.add(CPU, "server CPU per delivery (us)", cpu);
        figures.add(LOAD_CPU, "load CPU (% of a core)", load);
        figures.add(LOAD_WAITED, "load waited for its core (% of time)", 1.0);
        figures.add("published_per_s", "published per second", 100.0);
        Run {
            figures,
            load_cores: 1,
        }
    }

    fn column(peer: Peer, runs: Vec<Run>) -> Column {
        Column {
            peer,
            absent: None,
            runs,
        }
    }

    fn comparison(columns: Vec<Column>) -> Comparison {
        Comparison {
            setting: Setting::any(),
            shape: FanoutLoad {
                connections: 1,
                streams: 1,
                rate: 100,
                publish_interval: Duration::ZERO,
                payload_bytes: 128,
                topics: Topics::One,
            },
            columns,
        }
    }

    fn json(comparison: &Comparison) -> serde_json::Value {
        serde_json::from_str(&comparison.json().unwrap()).unwrap()
    }

    #[test]
    fn the_ratio_is_the_median_of_the_ratios_of_runs() {
        let comparison = comparison(vec![
            column(
                Peer::Longlived,
                vec![run(1.0, 10.0), run(9.0, 10.0), run(4.0, 10.0)],
            ),
            column(
                Peer::Floor,
                vec![run(1.0, 10.0), run(3.0, 10.0), run(2.0, 10.0)],
            ),
        ]);
        let json = json(&comparison);
        assert_eq!(json["peers"]["longlived"]["median"][CPU], 4.0);
        assert_eq!(json["ratios"]["floor"]["cpu"]["median"], 2.0);
        assert_eq!(
            json["ratios"]["floor"]["cpu"]["runs"],
            serde_json::json!([1.0, 3.0, 2.0])
        );
        assert!(json["ratios"].get("longlived").is_none());
        assert!(comparison.is_clean());
    }

    #[test]
    fn a_server_that_failed_or_was_not_measured_is_named_and_takes_no_figures_with_it() {
        let mut nats = column(Peer::Nats, Vec::new());
        nats.absent = Some("not installed".to_owned());
        let failed = Run::failed(Peer::Redis, &anyhow::anyhow!("it ended"));
        let comparison = comparison(vec![
            column(Peer::Longlived, vec![run(2.0, 10.0), run(4.0, 10.0)]),
            column(Peer::Redis, vec![failed, run(1.0, 10.0)]),
            nats,
        ]);
        let json = json(&comparison);
        assert_eq!(json["ratios"]["redis"]["cpu"]["median"], 4.0);
        assert_eq!(
            json["ratios"]["nats"]["cpu"]["median"],
            serde_json::Value::Null
        );
        assert_eq!(json["peers"]["nats"]["absent"], "not installed");
        assert!(!comparison.is_clean());
        let table = comparison.table(None);
        assert!(table.contains("* nats: not installed"), "{table}");
        assert!(table.contains("! redis: it ended"), "{table}");
    }

    #[test]
    fn a_load_without_a_free_core_is_said() {
        let columns = |second: f64| {
            vec![
                column(Peer::Longlived, vec![run(2.0, 50.0), run(2.0, second)]),
                column(Peer::Floor, vec![run(1.0, 95.0), run(1.0, 10.0)]),
            ]
        };
        let saturated = comparison(columns(95.1));
        let table = saturated.table(None);
        assert!(
            table.contains(
                "* longlived: the load generator's own core was saturated in 1 of 2 runs"
            ),
            "{table}"
        );
        assert!(!table.contains("* floor"), "{table}");
        assert_eq!(
            json(&saturated)["peers"]["longlived"]["load_saturated_runs"],
            1
        );
        assert!(!comparison(columns(94.0)).table(None).contains('*'));
    }

    #[test]
    fn a_machine_in_use_is_said() {
        let mut busy = run(2.0, 50.0);
        busy.figures = Figures::default();
        busy.figures.add(LOAD_WAITED, "", 10.1);
        let comparison = comparison(vec![
            column(Peer::Longlived, vec![run(2.0, 50.0)]),
            column(Peer::Floor, vec![busy]),
        ]);
        let [note] = comparison.notes().try_into().unwrap();
        assert!(
            note.starts_with("floor: the load waited for its core in 1 of 1 runs"),
            "{note}"
        );
    }

    #[test]
    fn a_server_that_does_not_take_the_rate_is_said() {
        let mut comparison = comparison(vec![column(Peer::Longlived, vec![run(2.0, 50.0)])]);
        assert!(comparison.notes().is_empty());
        comparison.shape.rate = 104;
        assert_eq!(
            comparison.notes(),
            ["longlived: took 100 of 104 messages/s"]
        );
    }
}
