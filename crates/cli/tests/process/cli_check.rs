//! `longlived check` over files: its output, and its exit status.

use std::path::PathBuf;

use super::cli_support::run;

fn history(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../checker/tests/histories");
    folder.join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_lawful_history_exits_0_and_is_counted() {
    let ended = run(&["check", &history("lawful.jsonl")]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.is_empty(), "{ended:?}");
    let said = ended.stdout.join("\n");
    assert!(said.contains("1 on 2 streams: 5 events"), "{said}");
    assert!(said.ends_with("lawful: every rule is kept"), "{said}");
}

#[test]
fn a_broken_rule_exits_1_and_is_named_with_its_lines() {
    for rule in ["acknowledged_lost", "gap_true", "at_head"] {
        let ended = run(&["check", &history(&format!("{rule}.jsonl"))]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let first = &ended.stdout[0];
        assert!(
            first.starts_with(&format!("{rule}: subscriber s")),
            "{ended:?}"
        );
        assert!(first.contains("(lines "), "{ended:?}");
        assert_eq!(ended.stdout.last().unwrap(), &format!("broken: {rule} 1"));
    }
    let patient = run(&["check", &history("at_head.jsonl"), "--head-within", "1h"]);
    assert_eq!(
        patient.code,
        Some(0),
        "the limit is the one asked for: {patient:?}"
    );
}

#[test]
fn a_file_that_is_no_history_exits_2_and_the_line_and_field_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let path = path.to_str().unwrap();
    let lawful = std::fs::read_to_string(history("lawful.jsonl")).unwrap();
    let cases = [
        ("hello\n".to_owned(), "line 1"),
        (
            lawful.replacen("\"topic\":\"orders.eu\"", "\"topic\":5", 1),
            "line 2, field `topic`",
        ),
        (
            lawful.replacen("\"applied\":true", "\"applied\":true,\"x\":1", 1),
            "line 8, field `x`",
        ),
    ];
    for (text, named) in cases {
        std::fs::write(path, text).unwrap();
        let ended = run(&["check", path]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stdout.is_empty(), "{ended:?}");
        assert!(ended.stderr[0].contains(named), "{named}: {ended:?}");
    }
    let missing = run(&["check", &format!("{path}.none")]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
}

#[test]
fn a_recording_that_was_cut_off_is_judged_up_to_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let lawful = std::fs::read_to_string(history("lawful.jsonl")).unwrap();
    std::fs::write(&path, &lawful[..lawful.len() - 10]).unwrap();
    let ended = run(&["check", path.to_str().unwrap()]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout[0].contains("line 25 is cut off"), "{ended:?}");
}
