//! Named values side by side, for a person: one line a name, or one a value where a line has no room for all.

use std::fmt::Write as _;

use longlived_console::{columns, wrapped};

/// Columns of a value and of the separator before it.
const VALUE_COLUMNS: usize = 11;
const BETWEEN: usize = 2;

#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Names of the columns; none where there is only one.
    header: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Rows {
    pub(super) fn with_header(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            header: names.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    pub(super) fn push(
        &mut self,
        label: impl Into<String>,
        values: impl IntoIterator<Item = impl Into<String>>,
    ) {
        let values = values.into_iter().map(Into::into).collect();
        self.rows.push((label.into(), values));
    }

    /// In the width of a terminal, if there is one.
    pub(super) fn text(&self, width: Option<usize>) -> String {
        let labels = self.rows.iter().map(|(label, _)| columns(label));
        let labels = labels.max().unwrap_or(0);
        let values = self.rows.iter().map(|(_, values)| values.len());
        let values = values.max().unwrap_or(0);
        let needed = labels + values * (BETWEEN + VALUE_COLUMNS);
        match width {
            Some(width) if needed > width => self.one_below_the_other(width),
            _ => self.side_by_side(labels),
        }
    }

    fn side_by_side(&self, labels: usize) -> String {
        let mut text = String::new();
        let header = (!self.header.is_empty()).then_some(("", &self.header));
        let rows = self
            .rows
            .iter()
            .map(|(label, values)| (label.as_str(), values));
        for (label, values) in header.into_iter().chain(rows) {
            let _ = write!(text, "{label:labels$}");
            for value in values {
                let _ = write!(text, "{:BETWEEN$}{value:>VALUE_COLUMNS$}", "");
            }
            text.push('\n');
        }
        text
    }

    fn one_below_the_other(&self, width: usize) -> String {
        let mut text = String::new();
        let names = self.header.iter().map(|name| columns(name)).max();
        let names = names.unwrap_or(0);
        for (label, values) in &self.rows {
            let _ = writeln!(text, "{}", wrapped(label, Some(width)));
            for (at, value) in values.iter().enumerate() {
                let name = self.header.get(at).map_or("", String::as_str);
                let _ = writeln!(text, "{:BETWEEN$}{name:names$}{value:>VALUE_COLUMNS$}", "");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows {
        let mut rows = Rows::with_header(["longlived", "floor"]);
        rows.push("server CPU per delivery (us)", ["51.4", "12.1"]);
        rows.push("lost", ["0", "-"]);
        rows
    }

    #[test]
    fn values_stand_beside_each_other_where_there_is_room() {
        let expected = "                                longlived        floor
server CPU per delivery (us)         51.4         12.1
lost                                    0            -
";
        assert_eq!(rows().text(None), expected);
        assert_eq!(rows().text(Some(54)), expected);
    }

    #[test]
    fn values_stand_below_each_other_with_their_names_where_there_is_none() {
        let expected = "server CPU per delivery (us)
  longlived       51.4
  floor           12.1
lost
  longlived          0
  floor              -
";
        assert_eq!(rows().text(Some(53)), expected);
        assert_eq!(rows().text(Some(40)), expected);
    }
}
