//! `longlived bench` against the real server, small: every message is answered, the server tells the number of its
//! commits and of its reads, and the written files are removed.

use super::cli_support::{json, run};

/// The figures of one small run. The machine of a test is shared, so only figures with a certain value are checked.
fn figures(flags: &[&str]) -> serde_json::Value {
    figures_of("publish", &[&["--payload-bytes", "64"], flags].concat())
}

pub(crate) fn figures_of(mode: &str, flags: &[&str]) -> serde_json::Value {
    let mut words = vec!["bench", mode, "--json"];
    // It has neither server nor load.
    if mode != "commit" {
        words.extend(["--server-cores", "any", "--load-cores", "any"]);
    }
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

/// Small enough for a test: 50 streams, a second.
pub(crate) const FANOUT: [&str; 10] = [
    "--connections",
    "5",
    "--streams",
    "10",
    "--rate",
    "50",
    "--duration",
    "1s",
    "--warmup",
    "200ms",
];

#[test]
fn health_is_asked_for_while_a_load_runs() {
    let figures = figures_of("fanout", &[&FANOUT[..], &["--probe-health"]].concat());
    // A check every 10 ms, each of them answered: one that is not would have failed the run.
    assert_eq!(figures["health_checks"].as_f64(), Some(100.0));
    let us = |name: &str| figures[format!("health_{name}_us")].as_f64().unwrap();
    assert!(1.0 < us("p50") && us("p50") <= us("p99") && us("p99") <= us("max"));
    assert_eq!(figures["lost"].as_f64(), Some(0.0));
}

#[test]
fn a_server_that_is_pinned_and_one_that_is_not_are_measured_in_turns() {
    let allowed = std::thread::available_parallelism().unwrap();
    let words = ["bench", "cores", "--json", "--runs", "2"];
    let ended = run(&[&words[..], &FANOUT].concat());
    if allowed.get() == 1 {
        assert_eq!(ended.code, Some(1), "{ended:?}");
        return;
    }
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let result = json(&ended.stdout[0]);
    for run in result["runs"].as_array().unwrap() {
        let figure = |name: &str| run[name].as_f64().unwrap();
        let cpu = |half: &str| figure(&format!("{half}_cpu_us_per_delivery"));
        // The table has three digits after the point.
        let ratio = cpu("unpinned") / cpu("pinned");
        assert!((ratio / figure("cpu_ratio") - 1.0).abs() < 0.01, "{run}");
        for half in ["pinned", "unpinned"] {
            // 50 subscribers of 50 messages a second; a busy machine delivers some of it later.
            let delivered = figure(&format!("{half}_deliveries_per_s"));
            assert!(0.0 < delivered && delivered < 3_000.0, "{run}");
            for wrong in ["lost", "repeated"] {
                assert!(figure(&format!("{half}_{wrong}")) < 0.5, "{run}");
            }
        }
    }
}

fn is_empty(dir: &std::path::Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn answers_of_a_server_on_disk_stand_beside_bare_writes() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let flags = ["--unary", "--messages", "50", "--in-flight", "1"];
    let flags = [&flags[..], &["--data-dir", data.to_str().unwrap()]].concat();
    let figures = figures(&flags);
    assert!(figures["bare_p50_us"].as_f64().unwrap() > 0.0);
    assert_eq!(figures["messages_per_commit"].as_f64(), Some(1.0));
}

#[test]
fn commits_of_each_size_stand_beside_bare_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let flags = [
        "--dir",
        path,
        "--commits",
        "20",
        "--boundary-commits",
        "300",
    ];
    let figures = figures_of("commit", &flags);
    for size in ["221b", "4kib", "64kib", "boundary"] {
        let us = |name: &str| figures[format!("{size}_{name}")].as_f64().unwrap();
        assert!(us("bare_p50_us") > 0.0 && us("commit_p50_us") > 0.0);
        assert!(us("commit_p50_us") <= us("commit_max_us"));
    }
    assert!(is_empty(dir.path()));
}

#[test]
fn a_killed_server_is_reopened_and_resumed_from() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let flags = ["--dir", path, "--bytes", "2000000", "--topics", "7"];
    let flags = [&flags[..], &["--published-bytes", "500000"]].concat();
    let figures = figures_of("reopen", &flags);
    let seconds = |name: &str| figures[name].as_f64().unwrap();
    assert!(0.0 < seconds("listening_s"));
    assert!(seconds("listening_s") <= seconds("first_event_s"));
    assert!(is_empty(dir.path()));
}

#[test]
fn history_is_read_by_the_load_and_by_the_client_library() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let flags = ["--dir", path, "--history", "20000", "--topics", "9"];
    for reader in [&[][..], &["--library"], &["--events", "15000"]] {
        let figures = figures_of("catchup", &[&flags[..], reader].concat());
        assert!(figures["events_per_s"].as_f64().unwrap() > 0.0);
        assert!(figures["reads"].as_f64().unwrap() > 0.0);
    }
    assert!(is_empty(dir.path()));
}

#[test]
fn many_that_read_the_same_are_compared_with_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let flags = ["--dir", path, "--history", "20000", "--events", "5000"];
    let flags = [&flags[..], &["--subscribers", "20", "--streams", "7"]].concat();
    let figures = figures_of("catchup", &flags);
    let one = figures["reads_of_one"].as_f64().unwrap();
    assert!(one > 0.0);
    // All of it fits the cache, so that nothing is read again.
    assert_eq!(figures["reads"], figures["reads_of_one"]);
}

#[test]
fn each_of_many_reads_a_topic_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let flags = ["--dir", path, "--history", "20000", "--events", "5"];
    let flags = [&flags[..], &["--subscribers", "100", "--own-topics"]].concat();
    let figures = figures_of("catchup", &flags);
    assert!(figures["reads_each"].as_f64().unwrap() <= 5.0);
    assert!(is_empty(dir.path()));
}

#[test]
fn a_directory_that_is_in_use_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mine"), "x").unwrap();
    let path = dir.path().to_str().unwrap();
    let ended = run(&["bench", "catchup", "--dir", path]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(dir.path().join("mine").exists());
}

/// How soon they are back is for the machine to say.
const NO_LIMIT: [&str; 6] = [
    "--limit",
    "200s",
    "--limit-p99",
    "200s",
    "--timeout",
    "220s",
];

#[test]
fn all_subscribers_of_a_killed_server_come_back_and_are_told_that_its_memory_is_gone() {
    let flags = ["--connections", "50", "--streams", "4", "--rest", "100ms"];
    let figures = figures_of("storm", &[&flags[..], &NO_LIMIT].concat());
    let of = |name: &str| figures[name].as_f64().unwrap();
    assert!(of("back_p50_s") <= of("back_p99_s"));
    assert!(of("back_all_s") < of("back_all_since_kill_s"));
    assert!((of("resets"), of("gaps"), of("resumed")) == (200.0, 200.0, 0.0));
    assert!((of("lost"), of("repeated")) == (0.0, 0.0));
    assert!(of("memory_peak_mib") > 0.0 && of("server_cpu_s") > 0.0);
}

#[test]
fn those_of_a_server_on_disk_come_back_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let data = format!("--server-arg={}", dir.path().display());
    let flags = ["--connections", "20", "--streams", "5", "--rest", "100ms"];
    let flags = [&flags[..], &["--server-arg=--data-dir", &data], &NO_LIMIT].concat();
    let figures = figures_of("storm", &flags);
    let of = |name: &str| figures[name].as_f64().unwrap();
    assert!((of("resets"), of("gaps"), of("resumed")) == (0.0, 0.0, 100.0));
    assert!((of("lost"), of("repeated")) == (0.0, 0.0));
}

#[test]
fn subscribers_of_the_client_library_come_back_with_their_waits_spread() {
    let flags = ["--library", "--connections", "5", "--streams", "40"];
    let flags = [&flags[..], &["--down", "500ms", "--rest", "100ms"]].concat();
    let figures = figures_of("storm", &[&flags[..], &NO_LIMIT].concat());
    let of = |name: &str| figures[name].as_f64().unwrap();
    assert!((of("resets"), of("gaps")) == (200.0, 200.0));
    assert!((of("lost"), of("repeated")) == (0.0, 0.0));
    // One wait after the kill and one after each attempt in vain.
    assert!((of("waits") - (200.0 + of("refused_dials") + of("lost_again"))).abs() < 0.5);
    assert!(of("waits_above") == 0.0);
    assert!(of("wait_p20") < of("wait_p50") && of("wait_p50") < of("wait_p80"));
    // The last client: it has tried once at least, and was away for longer than the server.
    assert!(of("last_tries") >= 1.0 && of("tries_max") >= of("last_tries"));
    assert!(of("last_away") > 1.0 && of("last_wait_s") > 0.0);
}

#[test]
fn a_storm_that_misses_its_limit_fails_and_says_so() {
    let flags = ["bench", "storm", "--library", "--connections", "1"];
    let cores = ["--server-cores", "any", "--load-cores", "any"];
    // The server is away for longer than half of them wait, and a tenth of a second is less than the next wait.
    let limits = ["--streams", "100", "--down", "1s", "--limit", "100ms"];
    let ended = run(&[&flags[..], &cores, &limits, &["--rest", "100ms"]].concat());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let verdict = ended.stdout.last().unwrap();
    assert!(verdict.starts_with("MISSED"), "{verdict}");
    assert!(verdict.contains("later than 100ms"), "{verdict}");
}

#[test]
fn the_last_words_of_a_server_that_ends_at_once_stand_in_lines_of_their_own() {
    let ended = run(&["bench", "idle", "--server-arg=--listen=nowhere"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let is_error = |line: &String| line.ends_with("the end of its log:");
    // Before it stands what the machine has room for.
    let said = ended.stderr.iter().position(is_error);
    let log = &ended.stderr[said.expect("an error") + 1..];
    assert!(!log.is_empty(), "{ended:?}");
    assert!(log.iter().all(|line| line.starts_with("  ")), "{log:?}");
    assert!(log.iter().any(|line| line.contains("--listen")), "{log:?}");
}

#[test]
fn a_table_of_compressed_deliveries_says_why_it_has_no_latency() {
    let cores = ["--server-cores", "any", "--load-cores", "any"];
    let load = [&["bench", "fanout"][..], &cores, &FANOUT].concat();
    let compressed = ["--payload", "4096", "--payload-kind", "json"];
    let compressed = [&compressed[..], &["--compression", "zstd"]].concat();
    for (flags, is_said) in [(&[][..], false), (&compressed, true)] {
        let ended = run(&[&load, flags].concat());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let said = ended.stdout.last().unwrap();
        assert_eq!(said.contains("show no latency"), is_said, "{ended:?}");
        let row = |line: &String| line.starts_with("latency p50");
        assert_eq!(ended.stdout.iter().any(row), !is_said, "{ended:?}");
    }
}

#[test]
fn deliveries_are_counted_with_every_compression() {
    for encoding in ["none", "gzip", "zstd"] {
        let figures = figures_of(
            "fanout",
            &[
                "--connections",
                "3",
                "--streams",
                "4",
                "--rate",
                "200",
                "--payload",
                "4096",
                "--payload-kind",
                "json",
                "--compression",
                encoding,
                "--warmup",
                "100ms",
                "--duration",
                "1s",
            ],
        );
        assert!(figures["deliveries_per_s"].as_f64().unwrap() > 0.0);
        assert_eq!(figures["lost"].as_f64(), Some(0.0), "{encoding}");
        assert_eq!(figures["repeated"].as_f64(), Some(0.0), "{encoding}");
        let latency_is_seen = !figures["latency_p50_us"].is_null();
        assert_eq!(latency_is_seen, encoding == "none", "{encoding}");
    }
}

#[test]
fn connections_that_do_not_fit_are_refused_with_the_limit_before_the_first_is_opened() {
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ulimit -n 300; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_longlived"))
        .args(["bench", "idle", "--connections", "1000", "--duration", "1s"])
        .args(["--server-cores", "any", "--load-cores", "any"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    for part in [
        "this machine has no room for 1,000 connections",
        "RLIMIT_NOFILE 300",
        "1,000 of 172 (",
        "fs.file-max",
        "net.ipv4.tcp_mem",
        "net.ipv4.ip_local_port_range",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
