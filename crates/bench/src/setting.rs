//! The setting of runs: the load, the machine, and the version.

use std::fmt;

use serde::Serialize;

use super::proc;

/// The beginning of a table and of a JSON object.
#[derive(Debug, Serialize)]
pub(super) struct Setting {
    version: &'static str,
    /// The load in words.
    load: String,
    machine: String,
    pinning: String,
}

impl Setting {
    /// On this machine.
    pub(super) fn new(load: String, pinning: String) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            load,
            machine: proc::machine(),
            pinning,
        }
    }

    #[cfg(test)]
    pub(super) fn any() -> Self {
        Self {
            version: "1",
            load: "a load".to_owned(),
            machine: "a machine".to_owned(),
            pinning: "any core".to_owned(),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}; {}", self.load, self.machine, self.pinning)
    }
}
