//! Figures of runs: named numbers, their medians, a table and one JSON object.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use longlived_console::wrapped;
use serde::Serialize;

use super::rows::Rows;
use super::setting::Setting;

/// One number of a run. The name is stable, for programs; the label is for people.
#[derive(Debug, Clone)]
pub(super) struct Figure {
    name: Cow<'static, str>,
    label: Cow<'static, str>,
    value: f64,
}

/// The figures of one run, in the order of the table.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    figures: Vec<Figure>,
    /// The troubles of the run, in words.
    pub(super) troubles: Vec<String>,
}

impl Figures {
    pub(super) fn add(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        label: impl Into<Cow<'static, str>>,
        value: f64,
    ) {
        self.figures.push(Figure {
            name: name.into(),
            label: label.into(),
            value,
        });
    }

    /// Takes over the figures of `other` that are in `names`, and its troubles, as those of one of several measurements
    /// of a run.
    pub(super) fn adopt(&mut self, measurement: &str, other: &Self, names: &[&str]) {
        for name in names {
            let found = other.figures.iter().find(|figure| figure.name == *name);
            if let Some(Figure { name, label, value }) = found {
                self.add(
                    format!("{measurement}_{name}"),
                    format!("{measurement}: {label}"),
                    *value,
                );
            }
        }
        let troubles = other.troubles.iter();
        self.troubles
            .extend(troubles.map(|trouble| format!("{measurement}: {trouble}")));
    }

    pub(super) fn value(&self, name: &str) -> Option<f64> {
        self.figures
            .iter()
            .find(|figure| figure.name == name)
            .map(|figure| figure.value)
    }

    pub(super) fn label(&self, name: &str) -> Option<&str> {
        let mut figures = self.figures.iter();
        let figure = figures.find(|figure| figure.name == name)?;
        Some(&figure.label)
    }

    pub(super) fn by_name(&self) -> BTreeMap<&str, f64> {
        self.figures
            .iter()
            .map(|figure| (&*figure.name, rounded(figure.value)))
            .collect()
    }
}

/// All runs of one command.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) setting: Setting,
    pub(super) runs: Vec<Figures>,
}

#[derive(Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    setting: &'a Setting,
    runs: Vec<BTreeMap<&'a str, f64>>,
    median: BTreeMap<Cow<'static, str>, f64>,
    troubles: Vec<&'a str>,
}

impl Summary {
    pub(super) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Json {
            setting: &self.setting,
            runs: self.runs.iter().map(Figures::by_name).collect(),
            median: self
                .medians()
                .map(|figure| (figure.name, rounded(figure.value)))
                .collect(),
            troubles: self.troubles().collect(),
        })
    }

    /// In the width of a terminal, if there is one.
    pub(super) fn table(&self, width: Option<usize>) -> String {
        let several = self.runs.len() > 1;
        let mut rows = if several {
            let runs = (1..=self.runs.len()).map(|number| format!("run {number}"));
            Rows::with_header(runs.chain(["median".to_owned()]))
        } else {
            Rows::default()
        };
        for median in self.medians() {
            let values = self.runs.iter().map(|run| run.value(&median.name));
            let values = values.map(|value| value.map_or_else(|| "-".to_owned(), shown));
            let last = several.then(|| shown(median.value));
            rows.push(median.label, values.chain(last));
        }
        let setting = wrapped(&self.setting.to_string(), width);
        let mut text = format!("{setting}\n\n{}", rows.text(width));
        for trouble in self.troubles() {
            let _ = writeln!(text, "\n{}", wrapped(&format!("! {trouble}"), width));
        }
        text
    }

    fn troubles(&self) -> impl Iterator<Item = &str> {
        self.runs
            .iter()
            .flat_map(|run| run.troubles.iter().map(String::as_str))
    }

    pub(super) fn is_clean(&self) -> bool {
        self.troubles().next().is_none()
    }

    fn medians(&self) -> impl Iterator<Item = Figure> {
        medians(&self.runs).figures.into_iter()
    }
}

/// The figures of the first run, each with the median of all runs that have it.
pub(super) fn medians(runs: &[Figures]) -> Figures {
    let first = runs.first().map(|run| run.figures.as_slice());
    let figures = first.unwrap_or_default().iter().map(|figure| Figure {
        value: median(
            runs.iter()
                .filter_map(|run| run.value(&figure.name))
                .collect(),
        ),
        ..figure.clone()
    });
    Figures {
        figures: figures.collect(),
        troubles: Vec::new(),
    }
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.as_slice() {
        [] => f64::NAN,
        [.., _] if values.len() % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Three digits after the point are more than any of these figures can hold.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// As many digits as say something.
pub(super) fn shown(value: f64) -> String {
    let size = value.abs();
    if size >= 1000.0 || value.fract() == 0.0 {
        grouped(value)
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    if value <= -1.0 {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as a figure shows them.
pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_the_digits_that_matter() {
        let shown: Vec<_> = [0.0, 0.0651, 8.126, 12.34, 999.94, 1234.5, 5_000_000.0]
            .map(shown)
            .into();
        assert_eq!(
            shown,
            ["0", "0.065", "8.126", "12.3", "999.9", "1,234", "5,000,000"]
        );
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_two() {
        assert!((median(vec![4.0, 1.0, 2.0, 9.0]) - 3.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 9.0]) - 4.0).abs() < f64::EPSILON);
    }

    #[test]
    fn the_json_is_one_object_with_runs_and_their_median() {
        let run = |value| {
            let mut figures = Figures::default();
            figures.add("cpu_us_per_delivery", "server CPU per delivery (us)", value);
            figures
        };
        let summary = Summary {
            setting: Setting::any(),
            runs: vec![run(1.0), run(3.0), run(2.0)],
        };
        let json: serde_json::Value = serde_json::from_str(&summary.json().unwrap()).unwrap();
        assert_eq!(json["median"]["cpu_us_per_delivery"], 2.0);
        assert_eq!(json["runs"].as_array().unwrap().len(), 3);
        assert_eq!(json["machine"], "a machine");
        assert!(summary.table(None).lines().last().unwrap().ends_with('2'));
    }
}
