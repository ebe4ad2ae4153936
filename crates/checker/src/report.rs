//! The report: the broken rules, with the lines that show it.

use std::fmt;

use crate::summary::Summary;

/// One rule of the contract. The names are those of the modules under `rules`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// Nothing acknowledged is lost outside an announced gap.
    AcknowledgedLost,
    /// Nothing is delivered that was not published.
    DeliveredUnpublished,
    /// A position has one content for all.
    OneContent,
    /// Sequences and positions rise.
    Rising,
    /// No event reaches the application twice.
    NoRepeat,
    /// `previous_sequence` names the event before, and that was seen.
    PreviousSequence,
    /// Every gap is true and exact.
    GapTrue,
    /// A message that was acknowledged before another was sent has the lower sequence.
    RealTime,
    /// One message id is stored once.
    MessageIdOnce,
    /// The first event after a resume is the first one missed.
    ResumeFirst,
    /// Progress tells the truth.
    ProgressTrue,
    /// Every subscriber is at the head soon after the last fault.
    AtHead,
    /// Only matching events arrive.
    OnlyMatching,
}

impl Rule {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 13] = [
        Self::AcknowledgedLost,
        Self::DeliveredUnpublished,
        Self::OneContent,
        Self::Rising,
        Self::NoRepeat,
        Self::PreviousSequence,
        Self::GapTrue,
        Self::RealTime,
        Self::MessageIdOnce,
        Self::ResumeFirst,
        Self::ProgressTrue,
        Self::AtHead,
        Self::OnlyMatching,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::AcknowledgedLost => "acknowledged_lost",
            Self::DeliveredUnpublished => "delivered_unpublished",
            Self::OneContent => "one_content",
            Self::Rising => "rising",
            Self::NoRepeat => "no_repeat",
            Self::PreviousSequence => "previous_sequence",
            Self::GapTrue => "gap_true",
            Self::RealTime => "real_time",
            Self::MessageIdOnce => "message_id_once",
            Self::ResumeFirst => "resume_first",
            Self::ProgressTrue => "progress_true",
            Self::AtHead => "at_head",
            Self::OnlyMatching => "only_matching",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One place where a rule is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// The lines of the history that show it, rising.
    pub lines: Vec<u64>,
    /// The violation that they show.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.lines.iter().map(u64::to_string).collect();
        let word = if lines.len() == 1 { "line" } else { "lines" };
        write!(
            f,
            "{}: {} ({word} {})",
            self.rule,
            self.text,
            lines.join(", ")
        )
    }
}

/// The verdict over one history.
#[derive(Debug)]
pub struct Report {
    /// The first violations of each rule, by rule.
    pub violations: Vec<Violation>,
    /// How often each rule is broken; without those that are kept.
    pub totals: Vec<(Rule, u64)>,
    /// The numbers of judged records.
    pub summary: Summary,
}

impl Report {
    /// Whether every rule is kept.
    pub fn is_lawful(&self) -> bool {
        self.totals.is_empty()
    }

    /// The broken rules.
    pub fn broken(&self) -> Vec<Rule> {
        self.totals.iter().map(|(rule, _)| *rule).collect()
    }
}

/// Takes the violations that the rules find, and keeps the first ones of each rule.
pub(crate) struct Findings {
    shown: usize,
    totals: [u64; Rule::ALL.len()],
    violations: Vec<Violation>,
}

impl Findings {
    pub(crate) fn new(shown: usize) -> Self {
        Self {
            shown,
            totals: [0; Rule::ALL.len()],
            violations: Vec::new(),
        }
    }

    /// One more; the text is made only where it will be shown. A line 0 is none.
    pub(crate) fn add<const N: usize>(
        &mut self,
        rule: Rule,
        lines: [u64; N],
        text: impl FnOnce() -> String,
    ) {
        let total = &mut self.totals[rule as usize];
        *total += 1;
        if *total <= self.shown as u64 {
            let mut lines: Vec<u64> = lines.into_iter().filter(|&line| line != 0).collect();
            lines.sort_unstable();
            lines.dedup();
            self.violations.push(Violation {
                rule,
                lines,
                text: text(),
            });
        }
    }

    pub(crate) fn report(mut self, summary: Summary) -> Report {
        self.violations.sort_by_key(|violation| violation.rule);
        let totals = Rule::ALL.into_iter().zip(self.totals);
        Report {
            violations: self.violations,
            totals: totals.filter(|(_, total)| *total > 0).collect(),
            summary,
        }
    }
}
