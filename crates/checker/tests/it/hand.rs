//! Histories made by hand: a lawful one, and for each rule one with a single wrong line that breaks this rule and
//! no other.

use std::path::PathBuf;

use longlived_checker::{Limits, Report, Rule, check, read};

fn report(name: &str) -> Report {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    let history = read(folder.join(format!("{name}.jsonl"))).unwrap();
    check(&history, &Limits::default())
}

#[test]
fn the_lawful_history_breaks_no_rule_and_is_counted() {
    let report = report("lawful");
    assert!(report.is_lawful(), "{:?}", report.violations);
    let summary = report.summary;
    assert_eq!(
        (summary.publishers, summary.acknowledged, summary.unknown),
        (1, 5, 0)
    );
    assert_eq!(
        (summary.subscribers, summary.streams, summary.delivered),
        (1, 2, 5)
    );
    assert_eq!(
        (summary.epochs, summary.faults["cut"], summary.lines),
        (1, 1, 25)
    );
}

#[test]
fn each_wrong_history_breaks_exactly_its_rule() {
    for rule in Rule::ALL {
        let report = report(rule.name());
        assert_eq!(report.broken(), [rule], "{rule}: {:#?}", report.violations);
        for violation in &report.violations {
            assert!(!violation.lines.is_empty(), "{violation}");
            assert!(
                violation.text.contains("7/"),
                "no position is named: {violation}"
            );
        }
    }
}

#[test]
fn a_violation_names_the_rule_the_stream_the_sequence_and_the_lines() {
    let said: Vec<_> = report("resume_first")
        .violations
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        said,
        [
            "resume_first: subscriber s, stream 2 resumed after 7/3 and got 5 first; 4 on orders.us was passed over \
          (lines 15, 20)"
        ]
    );
}

#[test]
fn so_many_are_shown_and_all_are_counted() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    let history = read(folder.join("no_repeat.jsonl")).unwrap();
    let limits = Limits {
        shown: 0,
        ..Limits::default()
    };
    let report = check(&history, &limits);
    assert_eq!(report.totals, [(Rule::NoRepeat, 1)]);
    assert_eq!(report.violations, []);
}

#[test]
fn nobody_is_judged_by_a_recording_that_ends_too_early() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    let text = std::fs::read_to_string(folder.join("at_head.jsonl")).unwrap();
    let early = text.replace("12000000000", "9000000000");
    let history = longlived_checker::history::read_from(early.as_bytes()).unwrap();
    let report = check(&history, &Limits::default());
    assert!(report.is_lawful(), "{:?}", report.violations);
    assert_eq!(report.summary.at_head_not_judged, 1);
    let limits = Limits {
        head_within: std::time::Duration::from_secs(5),
        ..Limits::default()
    };
    assert_eq!(check(&history, &limits).broken(), [Rule::AtHead]);
}
