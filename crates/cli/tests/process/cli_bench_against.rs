//! `longlived bench fanout --against`: the same small load on the real server, the bare sender, Redis and NATS. The
//! machine of a test is shared, so only certain facts are checked: everything arrives, once, and is compared.

use std::path::Path;

use serde_json::Value;

use super::cli_support::{json, run};
use super::support::skipped;

/// One run of a load that takes a second and a half; a busy machine delivers something in it, too.
fn compared(against: &str, flags: &[&str]) -> Value {
    let mut words = vec!["bench", "fanout", "--json", "--against", against];
    words.extend(["--server-cores", "any", "--load-cores", "any"]);
    words.extend(["--duration", "1s", "--warmup", "500ms"]);
    words.extend(flags);
    let ended = run(&words);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    json(&ended.stdout[0])
}

/// Everything that was published came to everybody once, on both servers.
#[track_caller]
fn assert_measured(result: &Value, peer: &str) {
    for name in ["longlived", peer] {
        let figures = &result["peers"][name]["median"];
        let figure = |figure: &str| {
            let value = figures[figure].as_f64();
            value.unwrap_or_else(|| panic!("{name} has no {figure}: {result}"))
        };
        assert_eq!((figure("lost"), figure("repeated")), (0.0, 0.0));
        assert!(figure("deliveries_per_s") > 0.0 && figure("latency_samples") > 0.0);
        assert!(0.0 < figure("latency_p50_us") && figure("latency_p50_us") < 60e6);
        assert!(figure("cpu_us_per_delivery") > 0.0);
        assert!(figure("memory_connected_mib") > 0.0);
    }
    let ratio = result["ratios"][peer]["cpu"]["median"].as_f64();
    assert!(ratio.unwrap() > 0.0, "{result}");
}

/// One topic for all, and a topic for each of several on a connection.
fn assert_both_shapes_are_measured(peer: &str) {
    let shared = ["--connections", "7", "--streams", "1", "--rate", "100"];
    assert_measured(&compared(peer, &shared), peer);
    let own = ["--connections", "4", "--streams", "5", "--topics", "inbox"];
    let own = [&own[..], &["--rate", "500", "--payload", "900"]].concat();
    assert_measured(&compared(peer, &own), peer);
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path);
    let installed = folders.any(|folder| folder.join(program).is_file())
        || Path::new("/usr/sbin").join(program).is_file();
    if !installed {
        skipped(
            "a comparison by bench fanout",
            &format!("no {program} here"),
        );
    }
    installed
}

#[test]
fn the_bare_sender_is_measured_in_each_shape() {
    assert_both_shapes_are_measured("floor");
    let streams = ["--connections", "3", "--streams", "40", "--rate", "20"];
    assert_measured(&compared("floor", &streams), "floor");
}

#[test]
fn redis_is_measured_where_it_is_installed() {
    if is_installed("redis-server") {
        assert_both_shapes_are_measured("redis");
    }
}

#[test]
fn nats_is_measured_where_it_is_installed() {
    if is_installed("nats-server") {
        assert_both_shapes_are_measured("nats");
    }
}

#[test]
fn runs_go_in_turns_and_figures_of_streams_are_left_out_for_servers_without_them() {
    let flags = ["--connections", "2", "--streams", "3", "--runs", "2"];
    let result = compared("redis,floor,nats", &flags);
    assert_measured(&result, "floor");
    for peer in ["longlived", "floor"] {
        assert_eq!(result["peers"][peer]["runs"].as_array().unwrap().len(), 2);
    }
    for peer in ["redis", "nats"] {
        let absent = result["peers"][peer]["absent"].as_str().unwrap();
        assert!(absent.starts_with("not applicable"), "{absent}");
        assert_eq!(result["ratios"][peer]["cpu"]["median"], Value::Null);
    }
}

#[test]
fn a_server_that_runs_already_is_not_compared() {
    let words = ["bench", "fanout", "--against", "floor"];
    let ended = run(&[&words[..], &["--server", "http://127.0.0.1:1"]].concat());
    assert_eq!(ended.code, Some(2), "{ended:?}");
}
