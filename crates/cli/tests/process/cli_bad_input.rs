//! Wrong flags and values: one clear line on standard error, exit 2, before anything is sent.

use super::cli_support::run;

#[test]
fn a_wrong_flag_is_named_in_one_line() {
    let cases: &[(&[&str], &str)] = &[
        (&["frobnicate"], "frobnicate"),
        (&["simulate", "--clients", "0"], "--clients"),
        (&["simulate", "--clients", "many"], "--clients"),
        (&["simulate", "--stagger", "5"], "--stagger"),
        (&["simulate", "--duration", "0s"], "--duration"),
        (&["simulate", "--connections", "0"], "--connections"),
        (&["simulate", "--topic", "a..b"], "--topic"),
        (&["simulate", "--contract", "v2"], "--contract"),
        (
            &["simulate", "--contract", "protos", "--topic", "a"],
            "--topic",
        ),
        (&["simulate", "--server", "127.0.0.1:7070"], "--server"),
        (&["demo", "--file", "/nonexistent/text"], "--file"),
        (&["demo", "--file", "/dev/null"], "--file"),
        (&["demo", "--memory", "--data-dir", "d"], "--data-dir"),
        (&["new-epoch"], "--data-dir"),
        (&["subscribe"], "FILTER"),
        (&["subscribe", "a.>.b"], "a.>.b"),
        (&["subscribe", "a", "--id", "a b"], "--id"),
        (&["subscribe", "a", "--from", "yesterday"], "--from"),
        (&["subscribe", "a", "--from", "7/"], "--from"),
        (
            &["subscribe", "a", "--server", "http://host:port"],
            "--server",
        ),
        (&["publish", "a"], "PAYLOAD"),
        (&["publish", "a.*", "x"], "a.*"),
        (&["publish", "$sys.a", "x"], "$sys"),
        (&["publish", "a", "x", "--lines"], "--lines"),
        (&["publish", "a", "x", "--header", "nothing"], "--header"),
        (&["publish", "a", "x", "--timeout", "0s"], "--timeout"),
        (
            &["healthcheck", "--server", "ftp://127.0.0.1:1"],
            "--server",
        ),
        (&["healthcheck", "--timeout", "soon"], "--timeout"),
        (
            &["bench", "storm", "--server", "http://127.0.0.1:1"],
            "--server",
        ),
        (
            &["bench", "storm", "--server-arg=--listen=127.0.0.1:1"],
            "--listen",
        ),
        (&["bench", "storm", "--timeout", "2s"], "--timeout"),
        (&["bench", "storm", "--streams", "501"], "--streams"),
        (&["bench", "cores", "--against", "redis"], "--against"),
        (&["bench", "cores", "--server-cores", "0"], "--server-cores"),
        (
            &["bench", "commit", "--dir", "d", "--load-cores", "0"],
            "--load-cores",
        ),
        (
            &["bench", "reopen", "--dir", "d", "--load-processes", "2"],
            "--load-processes",
        ),
        (&["check"], "HISTORY"),
        (&["check", "a", "--head-within", "5"], "--head-within"),
    ];
    for (arguments, named) in cases {
        let ended = run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert_eq!(ended.stderr.len(), 1, "{arguments:?}: {ended:?}");
        assert!(ended.stderr[0].contains(named), "{arguments:?}: {ended:?}");
        assert!(ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn a_server_that_a_bench_cannot_use_is_refused_by_its_flags() {
    let server = ["--server", "http://127.0.0.1:1", "--server-pid", "1"];
    for mode in ["commit", "reopen", "catchup"] {
        let ended = run(&[&["bench", mode, "--dir", "d"][..], &server].concat());
        assert_eq!(ended.code, Some(2), "{ended:?}");
        let [said] = ended.stderr.as_slice() else {
            panic!("{ended:?}");
        };
        assert!(said.contains("--server and --server-pid"), "{said}");
        assert!(said.contains(mode), "{said}");
    }
}

#[test]
fn an_address_with_more_than_host_and_port_is_refused_everywhere() {
    for wrong in [
        "",
        "http://127.0.0.1:1/path",
        "http://127.0.0.1:1?x",
        "http://a:b@127.0.0.1:1",
    ] {
        for command in [&["healthcheck"][..], &["bench", "idle"]] {
            let ended = run(&[command, &["--server", wrong]].concat());
            assert_eq!(ended.code, Some(2), "{ended:?}");
            let said = ended.stderr.join("\n");
            let form = "a server is given as http://HOST:PORT";
            assert!(said.contains("--server"), "{said}");
            assert!(said.ends_with(form), "{said}");
        }
    }
}

#[test]
fn a_wrong_address_in_the_environment_is_named_too() {
    let mut command = super::cli_support::command(&["healthcheck"]);
    command.env("LONGLIVED_SERVER", "nowhere");
    let ended = super::cli_support::Process::spawn(&mut command).ended();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr[0].contains("nowhere"), "{ended:?}");
}

#[test]
fn help_is_no_failure() {
    for command in [
        "simulate",
        "demo",
        "subscribe",
        "publish",
        "healthcheck",
        "new-epoch",
    ] {
        let ended = run(&[command, "--help"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.is_empty(), "{ended:?}");
    }
}
