//! Judges a recorded run of longlived: its publishes, the responses of every stream, and its faults. A run is lawful
//! when it keeps every rule that the contract of version 1 promises.
//!
//! Holds: a lawful history is never called broken, and each rule finds what its records can prove.
//! Does not: record anything, know a connection, or share code with the server and the client it judges.

mod facts;
pub mod history;
mod report;
mod rules;
mod summary;
mod topics;

pub use history::{History, HistoryError, read};
pub use report::{Report, Rule, Violation};
pub use rules::{Limits, check};
pub use summary::Summary;
