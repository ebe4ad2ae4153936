//! `longlived bench publish` against the real server: every message is answered, and the server says how often it
//! committed.

use super::cli_support::{json, run};

/// The figures of one small run. The machine of a test is shared, so only what must hold is looked at.
fn figures(flags: &[&str]) -> serde_json::Value {
    let mut words = vec!["bench", "publish", "--json", "--payload-bytes", "64"];
    words.extend(["--server-cores", "any", "--load-cores", "any"]);
    words.extend(flags);
    let ended = run(&words);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let result = json(&ended.stdout[0]);
    result["median"].clone()
}

#[test]
fn a_stream_of_many_messages_is_measured() {
    let flags = [
        "--messages",
        "5000",
        "--warmup",
        "700",
        "--in-flight",
        "300",
    ];
    let figures = figures(&flags);
    assert!(figures["messages_per_s"].as_f64().unwrap() > 0.0);
    assert!(figures["cpu_us_per_message"].as_f64().unwrap() > 0.0);
    assert!(figures["messages_per_commit"].as_f64().unwrap() >= 1.0);
    let p50 = figures["answer_p50_us"].as_f64().unwrap();
    let p99 = figures["answer_p99_us"].as_f64().unwrap();
    assert!(1.0 < p50 && p50 <= p99, "{p50} {p99}");
}

#[test]
fn one_caller_of_publish_makes_a_commit_for_each_message() {
    let flags = ["--unary", "--messages", "200", "--in-flight", "1"];
    assert_eq!(figures(&flags)["messages_per_commit"].as_f64(), Some(1.0));
}

#[test]
fn calls_of_several_connections_over_several_topics_are_all_answered() {
    let figures = figures(&[
        "--unary",
        "--messages",
        "1001",
        "--connections",
        "3",
        "--in-flight",
        "5",
        "--topics",
        "7",
    ]);
    assert!(figures["messages_per_s"].as_f64().unwrap() > 0.0);
}
