//! A lawful history with one corruption is found, by a rule that is about it.

use longlived_checker::history::from_records;
use longlived_checker::{Limits, check};

use super::{corrupt, model};

/// Of each class.
const HISTORIES: u64 = 250;

#[test]
fn each_class_of_corruptions_is_found_in_a_high_share_of_histories() {
    let mut missed = Vec::new();
    for corruption in corrupt::ALL {
        let (mut tried, mut found, mut seed) = (0, 0, 1_000_000);
        while tried < HISTORIES {
            seed += 1;
            assert!(seed < 1_100_000, "no place for: {}", corruption.name);
            let (header, mut records) = model::lawful(seed, 40 + seed % 160);
            if !(corruption.apply)(&mut records, &mut model::Dice(seed)) {
                continue;
            }
            tried += 1;
            let history = from_records(header, records).unwrap();
            let report = check(&history, &Limits::default());
            found += u64::from(!report.is_lawful());
            let told = |rule| corruption.rules.contains(rule);
            assert!(
                report.is_lawful() || report.broken().iter().any(told),
                "{}, seed {seed}: {:?}",
                corruption.name,
                report.violations
            );
        }
        let share = found * 100 / tried;
        println!("{share:3} of 100: {}", corruption.name);
        if share < corruption.found {
            missed.push(format!("{share} of 100: {}", corruption.name));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
