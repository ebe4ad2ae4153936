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
fn a_limited_number_is_shown_and_all_are_counted() {
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

/// Event 2 of 7 was lost with the end of a log, and the store left out numbers that may have been given out. `s` had
/// read event 2 and is told of the rest; `t` had not.
fn damage_goes_on(change: impl Fn(String) -> String) -> Report {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    let text = std::fs::read_to_string(folder.join("damage_goes_on.jsonl")).unwrap();
    let changed = change(text);
    let history = longlived_checker::history::read_from(changed.as_bytes()).unwrap();
    check(&history, &Limits::default())
}

/// The line of an event.
fn event_2(at: u64, stream: u64, applied: bool) -> String {
    format!(
        r#"{{"kind":"event","at":{at},"stream":{stream},"topic":"orders.eu","sequence":2,"previous_sequence":1,"digest":"00000000000000a2","applied":{applied}}}"#
    )
}

/// In place of one line, others.
fn instead(text: &str, line: &str, others: &[String]) -> String {
    let place = |it: &&str| it.contains(line);
    assert_eq!(text.lines().filter(place).count(), 1, "{line}");
    let lines = text.lines().map(|it| {
        if place(&it) {
            others.join("\n")
        } else {
            it.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

const GAP_OF_S: &str = r#""gap","at":720"#;
const GAP_OF_T: &str = r#""gap","at":920"#;
const END_OF_T: &str = r#""stream_ended","at":800"#;

#[test]
fn a_damage_whose_events_its_subscriber_had_read_may_go_on_over_nothing() {
    let report = damage_goes_on(|text| text);
    assert!(report.is_lawful(), "{:?}", report.violations);
}

#[test]
fn a_message_in_flight_before_a_damage_may_come_after_others_were_told_of_it() {
    let report = damage_goes_on(|text| {
        let end = text.lines().find(|line| line.contains(END_OF_T)).unwrap();
        instead(&text, END_OF_T, &[event_2(790, 2, true), end.to_owned()])
            .replace(r#""after_sequence":1,"#, r#""after_sequence":2,"#)
            .replace(r#""epoch":7,"sequence":1}"#, r#""epoch":7,"sequence":2}"#)
    });
    assert!(report.is_lawful(), "{:?}", report.violations);
}

#[test]
fn a_damage_over_nothing_is_false_when_the_event_before_it_comes_to_a_later_stream() {
    let report = damage_goes_on(|text| instead(&text, GAP_OF_T, &[event_2(920, 4, true)]));
    assert_eq!(report.broken(), [Rule::GapTrue], "{:?}", report.violations);
    let said = report.violations[0].to_string();
    assert_eq!(
        said,
        "gap_true: subscriber s, stream 3 was told of a gap (damaged) in 7 after 2 through 1048577, where nothing was \
         published, and 2 before it is not lost: subscriber t, stream 4 got it (lines 17, 21)"
    );
}

#[test]
fn a_damage_over_nothing_may_be_over_a_message_that_was_on_its_way_and_was_stored_again() {
    let report = damage_goes_on(|text| {
        let publish = r#""publisher":"p","publish":3,"principal""#;
        let begun = text.lines().find(|line| line.contains(publish)).unwrap();
        let before_the_kill = begun.replace(r#""at":1000"#, r#""at":550"#);
        let kill = text.lines().find(|line| line.contains("fault")).unwrap();
        let gap = text.lines().find(|line| line.contains(GAP_OF_T)).unwrap();
        let gap = gap.replace(r#""after_sequence":1"#, r#""after_sequence":2"#);
        let text = instead(&text, GAP_OF_T, &[event_2(915, 4, true), gap]).replace(
            r#""stream":4,"outcome":"reset""#,
            r#""stream":4,"outcome":"resumed""#,
        );
        let text = instead(&text, "fault", &[before_the_kill, kill.to_owned()]);
        let once = |line: &&str| !line.contains(publish) || line.contains(r#""at":550"#);
        text.lines().filter(once).collect::<Vec<_>>().join("\n")
    });
    assert!(report.is_lawful(), "{:?}", report.violations);
}

/// The second message was on its way when its first place was damaged, and is acknowledged at a second one.
fn stored_again(change: impl Fn(String) -> String) -> Report {
    damage_goes_on(|text| {
        let third = r#""publisher":"p","publish":3,"principal""#;
        let second_answer = r#""publish":2,"outcome""#;
        let lines = text
            .lines()
            .filter(|line| !line.contains(third) && !line.contains(second_answer));
        let text = lines.collect::<Vec<_>>().join("\n");
        let text = text.replace(r#""publish":3,"outcome""#, r#""publish":2,"outcome""#);
        change(text.replace("00000000000000a3", "00000000000000a2"))
    })
}

#[test]
fn a_message_whose_first_place_was_damaged_may_have_a_second_one() {
    let report = stored_again(|text| text);
    assert!(report.is_lawful(), "{:?}", report.violations);
}

#[test]
fn a_message_has_no_second_place_while_its_first_one_is_still_given() {
    let report = stored_again(|text| {
        let gap = text.lines().find(|line| line.contains(GAP_OF_T)).unwrap();
        let gap = gap.replace(r#""after_sequence":1"#, r#""after_sequence":2"#);
        let text = instead(&text, GAP_OF_T, &[event_2(915, 4, true), gap]);
        text.replace(
            r#""stream":4,"outcome":"reset""#,
            r#""stream":4,"outcome":"resumed""#,
        )
    });
    let broken = report.broken();
    assert!(
        broken.contains(&Rule::DeliveredUnpublished),
        "{:?}",
        report.violations
    );
}

#[test]
fn a_damage_over_nothing_is_false_when_the_stream_itself_brought_the_event_before_it() {
    let report = damage_goes_on(|text| {
        let gap = text.lines().find(|line| line.contains(GAP_OF_S)).unwrap();
        instead(&text, GAP_OF_S, &[event_2(715, 3, false), gap.to_owned()])
            .replace(
                r#""resume_after":{"epoch":7,"sequence":2}"#,
                r#""resume_after":{"epoch":7,"sequence":1}"#,
            )
            .replace(
                r#""stream":3,"outcome":"reset","epoch":7,"sequence":2"#,
                r#""stream":3,"outcome":"resumed","epoch":7,"sequence":1"#,
            )
    });
    assert_eq!(report.broken(), [Rule::GapTrue], "{:?}", report.violations);
    let said = report.violations[0].to_string();
    let end = "and 2 before it is not lost: subscriber s, stream 3 got it (lines 17, 18)";
    assert!(said.ends_with(end), "{said}");
}

#[test]
fn a_damage_over_nothing_is_false_when_there_is_nothing_before_it_to_lose() {
    let report = damage_goes_on(|text| {
        let lost = |line: &&str| {
            ["a1\"", "a2\"", "\"publish\":1,", "\"publish\":2,"]
                .iter()
                .any(|it| line.contains(it))
        };
        let lines: Vec<_> = text.lines().filter(|line| !lost(line)).collect();
        lines.join("\n")
    });
    assert_eq!(report.broken(), [Rule::GapTrue], "{:?}", report.violations);
    assert_eq!(report.totals, [(Rule::GapTrue, 2)]);
}
