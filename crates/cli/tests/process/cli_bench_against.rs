//! `longlived bench fanout --against`: the same small load on the real server, the bare sender, Redis, NATS and a hub
//! of grpc-go. The machine of a test is shared, so only certain facts are checked: everything arrives, once, and is
//! compared.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::cli_support::{Process, command, json, run};
use super::support::skipped;

/// What is skipped where a server is not there.
const COMPARISON: &str = "a comparison by bench fanout";
/// The first build of grpc-go on a machine takes 70 s of a core's time.
const BUILD_PATIENCE: Duration = Duration::from_secs(20 * 60);

/// One run of a load that takes a second and a half; a busy machine delivers something in it, too.
fn compared(against: &str, flags: &[&str]) -> Value {
    let mut words = vec!["bench", "fanout", "--json", "--against", against];
    words.extend(["--server-cores", "any", "--load-cores", "any"]);
    words.extend(["--duration", "1s", "--warmup", "500ms"]);
    words.extend(flags);
    let ended = Process::start(&words).ended_within(BUILD_PATIENCE);
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

/// One topic for all.
fn shared_topic(peer: &str) -> Value {
    let shared = ["--connections", "7", "--streams", "1", "--rate", "100"];
    compared(peer, &shared)
}

/// The same with a certificate.
fn over_tls(peer: &str) -> Value {
    let flags = ["--connections", "7", "--streams", "1", "--rate", "100"];
    compared(peer, &[&flags[..], &["--tls"]].concat())
}

/// One topic for all, and a topic for each of several on a connection.
fn assert_both_shapes_are_measured(peer: &str) {
    assert_measured(&shared_topic(peer), peer);
    let own = ["--connections", "4", "--streams", "5", "--topics", "inbox"];
    let own = [&own[..], &["--rate", "500", "--payload", "900"]].concat();
    assert_measured(&compared(peer, &own), peer);
}

/// Several subscribers of one topic on a connection, which only servers with streams have.
fn assert_streams_are_measured(peer: &str) {
    let streams = ["--connections", "3", "--streams", "40", "--rate", "20"];
    assert_measured(&compared(peer, &streams), peer);
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path);
    let installed = folders.any(|folder| folder.join(program).is_file())
        || Path::new("/usr/sbin").join(program).is_file();
    if !installed {
        skipped(COMPARISON, &format!("no {program} here"));
    }
    installed
}

#[test]
fn the_bare_sender_is_measured_in_each_shape() {
    assert_both_shapes_are_measured("floor");
    assert_streams_are_measured("floor");
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
        assert_measured(&over_tls("nats"), "nats");
    }
}

#[test]
fn a_hub_of_grpc_go_is_measured_in_each_shape_where_it_can_be_built() {
    if !is_installed("go") {
        return;
    }
    let result = shared_topic("grpc-go");
    let absent = result["peers"]["grpc-go"]["absent"].as_str();
    // A machine without its modules and without a network. A hub that does not compile is no reason.
    if let Some(why) = absent.filter(|why| why.starts_with("its modules cannot be had")) {
        return skipped(COMPARISON, why);
    }
    assert_both_shapes_are_measured("grpc-go");
    assert_streams_are_measured("grpc-go");
    assert_measured(&over_tls("grpc-go"), "grpc-go");
}

#[test]
fn a_hub_that_cannot_be_built_is_named_with_the_reason() {
    let words = ["bench", "fanout", "--json", "--against", "grpc-go"];
    let load = ["--connections", "1", "--streams", "1", "--duration", "1s"];
    let mut command = command(&[&words[..], &load].concat());
    let ended = Process::spawn(command.env("PATH", "")).ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let result = json(&ended.stdout[0]);
    let absent = result["peers"]["grpc-go"]["absent"].as_str().unwrap();
    assert!(absent.starts_with("not installed: "), "{absent}");
    assert_eq!(result["ratios"]["grpc-go"]["cpu"]["median"], Value::Null);
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
