//! Lawful histories are never called broken.

use longlived_checker::history::from_records;
use longlived_checker::{Limits, Summary, check};

use super::{damage, model};

/// Many short ones: a mistake shows in few records.
const HISTORIES: u64 = 10_000;

#[test]
fn ten_thousand_lawful_histories_break_no_rule() {
    let mut seen = Summary::default();
    let mut going_on = 0;
    // More by hand: LONGLIVED_HISTORIES=1000000, and one again by LONGLIVED_FIRST.
    let asked = |name| std::env::var(name).ok().map(|count| count.parse().unwrap());
    let histories = asked("LONGLIVED_HISTORIES").unwrap_or(HISTORIES);
    let first: u64 = asked("LONGLIVED_FIRST").unwrap_or(0);
    for seed in first..first + histories {
        let steps = if seed % 50 == 0 {
            1_000
        } else {
            20 + seed % 180
        };
        let (header, records) = model::lawful(seed, steps);
        going_on += damage::over_nothing(&header, &records);
        let history = from_records(header, records.clone()).unwrap();
        let report = check(&history, &Limits::default());
        if !report.is_lawful() {
            for (line, record) in (2..).zip(&records) {
                println!("{line} {}", serde_json::to_string(record).unwrap());
            }
            for violation in &report.violations {
                println!("{violation}");
            }
            panic!("seed {seed} with {steps} steps is lawful");
        }
        seen.delivered += report.summary.delivered;
        seen.dropped += report.summary.dropped;
        seen.duplicates += report.summary.duplicates;
        seen.unknown += report.summary.unknown;
        seen.refused += report.summary.refused;
        seen.epochs += report.summary.epochs;
        for (reason, count) in report.summary.gaps {
            *seen.gaps.entry(reason).or_default() += count;
        }
    }
    // That there was something to misjudge.
    println!("{seen}");
    assert!(seen.delivered > 50_000, "{seen}");
    assert!(seen.epochs > HISTORIES * 11 / 10, "{seen}");
    assert_eq!(seen.gaps.len(), 5, "{seen}");
    assert!(seen.gaps.values().all(|&count| count > 200), "{seen}");
    for count in [seen.dropped, seen.duplicates, seen.unknown, seen.refused] {
        assert!(count > 500, "{seen}");
    }
    assert!(going_on > 50, "{going_on} gaps go on from damage");
}
