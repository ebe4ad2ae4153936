//! The keys of one table of the auth file, each taken with its kind; what is not known is refused.

use toml::{Table, Value};

use super::{ENTRIES_MAX, within};
use crate::error::AuthFileError;

/// The keys of one table.
pub(super) struct Fields {
    at: String,
    table: Table,
}

/// An error of the key `at`.
pub(super) fn bad(at: &str, problem: impl Into<String>) -> AuthFileError {
    AuthFileError::Value {
        at: at.to_owned(),
        problem: problem.into(),
    }
}

impl Fields {
    /// The table `at`, if all of its keys are `known`.
    pub(super) fn new(at: String, table: Table, known: &[&str]) -> Result<Self, AuthFileError> {
        match table.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => {
                let problem = format!("is not known; {}", hint(key, known));
                Err(bad(&below(&at, key), problem))
            }
            None => Ok(Self { at, table }),
        }
    }

    /// The same, for a value that must be a table.
    pub(super) fn of(at: String, value: Value, known: &[&str]) -> Result<Self, AuthFileError> {
        match value {
            Value::Table(table) => Self::new(at, table, known),
            other => Err(kind(&at, "a table", &other)),
        }
    }

    /// The key of this table in the file.
    pub(super) fn at(&self) -> &str {
        &self.at
    }

    /// The key `name` of this table, as errors name it.
    pub(super) fn at_key(&self, name: &str) -> String {
        below(&self.at, name)
    }

    /// The value of a key.
    pub(super) fn value(&mut self, name: &str) -> Option<Value> {
        self.table.remove(name)
    }

    /// A text.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, AuthFileError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(kind(&self.at_key(name), "a text", &other)),
        }
    }

    /// A text that must be there.
    pub(super) fn needed(&mut self, name: &str) -> Result<String, AuthFileError> {
        let text = self.text(name)?;
        text.ok_or_else(|| bad(&self.at, format!("needs `{name}`")))
    }

    /// A list of texts.
    pub(super) fn texts(
        &mut self,
        name: &str,
        max: usize,
    ) -> Result<Option<Vec<String>>, AuthFileError> {
        let Some(list) = self.list(name, max)? else {
            return Ok(None);
        };
        let text = |(index, value)| match value {
            Value::String(text) => Ok(text),
            other => Err(kind(
                &format!("{}[{index}]", self.at_key(name)),
                "a text",
                &other,
            )),
        };
        let texts = list.into_iter().enumerate().map(text);
        texts.collect::<Result<_, _>>().map(Some)
    }

    /// A list of at most `max` values.
    pub(super) fn list(
        &mut self,
        name: &str,
        max: usize,
    ) -> Result<Option<Vec<Value>>, AuthFileError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Array(list)) => {
                within(&self.at_key(name), list.len(), max, "entries")?;
                Ok(Some(list))
            }
            Some(other) => Err(kind(&self.at_key(name), "a list", &other)),
        }
    }

    /// A table below this one.
    pub(super) fn table(
        &mut self,
        name: &str,
        known: &[&str],
    ) -> Result<Option<Self>, AuthFileError> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => Self::of(self.at_key(name), value, known).map(Some),
        }
    }

    /// The entries of a table below this one, each with its key in the file and its name.
    pub(super) fn entries(&mut self, name: &str) -> Result<Vec<Entry>, AuthFileError> {
        let at = self.at_key(name);
        let table = match self.value(name) {
            None => return Ok(Vec::new()),
            Some(Value::Table(table)) => table,
            Some(other) => return Err(kind(&at, "a table", &other)),
        };
        within(&at, table.len(), ENTRIES_MAX, "entries")?;
        let entry = |(name, value): (String, Value)| Entry {
            at: below(&at, &name),
            name,
            value,
        };
        Ok(table.into_iter().map(entry).collect())
    }
}

/// One entry of a table of names.
pub(super) struct Entry {
    pub(super) at: String,
    pub(super) name: String,
    value: Value,
}

impl Entry {
    /// Its keys.
    pub(super) fn fields(self, known: &[&str]) -> Result<Fields, AuthFileError> {
        Fields::of(self.at, self.value, known)
    }
}

/// A key below others, quoted where TOML quotes it.
fn below(at: &str, key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let quoted = !key.chars().all(is_bare) || key.is_empty();
    let dot = if at.is_empty() { "" } else { "." };
    if quoted {
        format!("{at}{dot}{key:?}")
    } else {
        format!("{at}{dot}{key}")
    }
}

pub(super) fn kind(at: &str, expected: &str, value: &Value) -> AuthFileError {
    let given = value.type_str();
    bad(at, format!("must be {expected}, and is of type {given}"))
}

/// How like a known name an unknown one must be to be taken for a slip of it: clap's own bound for flags.
const LIKE: f64 = 0.7;

/// The name that was meant, or all of them.
pub(super) fn hint(name: &str, known: &[&str]) -> String {
    let likely = known
        .iter()
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    match likely {
        Some((_, known)) => format!("did you mean `{known}`?"),
        None if known.is_empty() => "there is none".to_owned(),
        None => format!("there are {}", known.join(", ")),
    }
}
