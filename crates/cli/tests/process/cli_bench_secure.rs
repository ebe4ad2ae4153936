//! `longlived bench` over TLS and with tokens, small: everything arrives, and sessions are resumed.

use super::cli_bench::{FANOUT, figures_of};
use super::cli_support::{Server, run};
use super::server_tls::Files;

#[test]
fn over_tls_everything_arrives_and_health_is_answered() {
    let flags = [&FANOUT[..], &["--tls", "--probe-health"]].concat();
    let figures = figures_of("fanout", &flags);
    assert_eq!(figures["health_checks"].as_f64(), Some(100.0));
    for wrong in ["lost", "repeated"] {
        assert_eq!(figures[wrong].as_f64(), Some(0.0), "{wrong}");
    }
    assert!(figures["deliveries_per_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn callers_bring_tokens_and_each_follows_its_own_inbox() {
    for auth in ["static", "es256"] {
        // The template of the issuer grants to each caller the inbox of its own `sub`.
        let flags = ["--auth", auth, "--topics", "inbox", "--probe-health"];
        let figures = figures_of("fanout", &[&FANOUT[..], &flags].concat());
        for wrong in ["lost", "repeated"] {
            assert_eq!(figures[wrong].as_f64(), Some(0.0), "{auth}: {wrong}");
        }
        assert!(figures["deliveries_per_s"].as_f64().unwrap() > 0.0);
    }
    let idle = ["--auth", "es256", "--tls", "--connections", "9"];
    let figures = figures_of("idle", &[&idle[..], &["--duration", "100ms"]].concat());
    assert!(figures["connect_all_ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn handshakes_stand_beside_bare_ones_and_sessions_are_resumed() {
    // A session that is not resumed would have failed the run.
    let figures = figures_of("handshakes", &["--connections", "30"]);
    let figure = |name: &str| figures[name].as_f64().unwrap();
    for round in ["", "tickets_"] {
        let ms = |name: &str| figure(&format!("{round}{name}_ms"));
        let ratio = ms("tls") / (ms("plain") + ms("bare"));
        // The table has three digits after the point.
        let shown = figure(&format!("{round}ratio"));
        assert!((ratio / shown - 1.0).abs() < 0.01, "{ratio} {shown}");
    }
}

#[test]
fn subscribers_come_back_over_tls_with_their_tokens() {
    for flags in [
        &["--auth", "es256"][..],
        &["--library", "--auth", "static", "--down", "100ms"],
    ] {
        let small = ["--tls", "--connections", "20", "--streams", "2"];
        let small = [&small[..], &["--rest", "0s", "--limit", "30s"], flags].concat();
        let figures = figures_of("storm", &small);
        for wrong in ["lost", "repeated"] {
            assert_eq!(figures[wrong].as_f64(), Some(0.0), "{wrong}");
        }
    }
}

#[test]
fn a_running_server_with_tls_is_measured_by_those_who_know_its_authority() {
    let (files, other) = (Files::new(), Files::new());
    let tls = [
        &["--listen".to_owned(), "tls://127.0.0.1:0".to_owned()][..],
        &files.flags(),
    ]
    .concat();
    let tls: Vec<_> = tls.iter().map(String::as_str).collect();
    let server = Server::start(&tls);
    let said = server.said(&["listening on tls://"]);
    let (_, place) = said.split_once("listening on tls://").unwrap();
    let url = format!("https://{}", place.trim());
    let at = ["--server", &url];
    let authority = files.text("ca.pem");
    let flags = [&FANOUT[..], &at, &["--tls-ca", &authority]].concat();
    let figures = figures_of("fanout", &flags);
    assert_eq!(figures["lost"].as_f64(), Some(0.0));

    let wrong = other.text("ca.pem");
    let small = ["--connections", "2", "--streams", "1"];
    let fanout = [&["bench", "fanout"], &small[..], &at].concat();
    let publish = [&["bench", "publish"], &at[..]].concat();
    for (words, code, part) in [
        (
            [&fanout[..], &["--tls-ca", &wrong]].concat(),
            1,
            "invalid peer certificate",
        ),
        (fanout.clone(), 2, "--tls-ca"),
        ([&fanout[..], &["--tls"]].concat(), 2, "--tls"),
        (publish, 2, "speaks no TLS"),
    ] {
        let ended = run(&words);
        assert_eq!(ended.code, Some(code), "{ended:?}");
        let said = ended.stderr.join(" ");
        assert!(said.contains(part), "{said}");
    }
}
