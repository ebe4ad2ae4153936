//! Wrong flags and values: one clear line on standard error, exit 2, before anything is sent.

use super::cli_support::run;

/// Each of these commands names what is wrong in one line.
fn assert_named_in_one_line(cases: &[(&[&str], &str)]) {
    for (arguments, named) in cases {
        let ended = run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert_eq!(ended.stderr.len(), 1, "{arguments:?}: {ended:?}");
        assert!(ended.stderr[0].contains(named), "{arguments:?}: {ended:?}");
        let help = ended.stderr[0].rsplit_once("; see longlived");
        assert!(
            help.is_some_and(|(_, help)| help.ends_with(" --help")),
            "{ended:?}"
        );
        assert!(ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn a_wrong_value_of_tokens_and_auth_files_is_named_in_one_line() {
    let check = |more: &'static [&'static str]| [&["auth", "check", "--auth", "f"], more].concat();
    let read = check(&["--principal", "a", "read", "a"]);
    let malformed = check(&["--principal", "a", "admin", "a..b"]);
    assert_named_in_one_line(&[
        (&["token", "new"], "NAME"),
        (&["token", "new", "a_b"], "a_b"),
        (&["token", "new", "a", "--expires", "soon"], "--expires"),
        (
            &["token", "new", "a", "--expires", "1999-01-01T00:00:00Z"],
            "lies in the past",
        ),
        (
            &["auth", "check", "--auth", "f", "subscribe", "a"],
            "--token-file <FILE>|--principal <NAME>",
        ),
        (
            &["auth", "check", "--principal", "a", "subscribe", "a"],
            "--auth",
        ),
        (&read, "must be publish, subscribe or admin"),
        (&malformed, "a..b"),
    ]);
}

#[test]
fn a_wrong_flag_is_named_in_one_line() {
    let cases: &[(&[&str], &str)] = &[
        (&["frobnicate"], "frobnicate"),
        (&["simulate", "--clients", "0"], "--clients"),
        (&["simulate", "--clients", "many"], "--clients"),
        (&["simulate", "--clients", "-1"], "--clients"),
        (&["simulate", "--stagger", "-5s"], "--stagger"),
        (&["simulate", "--stagger", "5"], "--stagger"),
        (&["simulate", "--duration", "0s"], "--duration"),
        (&["simulate", "--connections", "0"], "--connections"),
        (&["simulate", "--topic", "a..b"], "--topic"),
        (&["simulate", "--contract", "v2"], "--contract"),
        (
            &["simulate", "--contract", "protos", "--topic", "a"],
            "--topic",
        ),
        (&["simulate", "--server", "127.0.0.1"], "--server"),
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
    assert_named_in_one_line(cases);
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
    for (wrong, problem) in [
        ("", "it has no port; "),
        ("http://127.0.0.1:1/path", "it has a path, `/path`; "),
        ("http://127.0.0.1:1?x", "it has a query, `?x`; "),
        (
            "http://a:b@127.0.0.1:1",
            "it names a user before the host; ",
        ),
        ("127.0.0.1:99999", "its port 99999 is not from 1 to 65535; "),
    ] {
        for command in [&["healthcheck"][..], &["bench", "idle"]] {
            let ended = run(&[command, &["--server", wrong]].concat());
            assert_eq!(ended.code, Some(2), "{ended:?}");
            let said = ended.stderr.join("\n");
            let form =
                "a server is given as HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:PATH;";
            assert!(said.contains("--server"), "{said}");
            assert!(said.contains(&format!("{problem}{form}")), "{said}");
        }
    }
}

#[test]
fn a_flag_of_serve_that_is_wrong_says_which_part_of_it_is() {
    for (arguments, named) in [
        (
            &["--history", "x=events:-1"][..],
            "`events:-1` is wrong: must be a whole number from 1 to ",
        ),
        (
            &["--history", "x=events:1,age:1000000000h"],
            "`age:1000000000h` is wrong: must be a length of time from 1ms to 365d",
        ),
        (
            &["--listen", "127.0.0.1:99999"],
            "its port 99999 is not from 0 to 65535",
        ),
        (
            &["--metrics-listen", "127.0.0.1:99999"],
            "its port 99999 is not from 0 to 65535",
        ),
        (
            &["--disk-reserve", "1GiB"],
            "--data-dir <DIR>; --disk-reserve needs --data-dir <DIR>; see longlived serve",
        ),
    ] {
        let said = said_with(&[&["serve"], arguments].concat(), &[], 2);
        assert!(said.contains(named), "{said}");
    }
}

#[test]
fn the_most_similar_name_is_suggested() {
    for (arguments, nearest) in [
        (&["simulat"][..], "'simulate'"),
        (&["simulate", "--clinets", "3"], "'--clients'"),
        (&["serve", "--log-format", "jsonn"], "'json'"),
        (&["subscribe", "a", "--compression", "zstdd"], "'zstd'"),
        (&["bench", "fanot"], "'fanout'"),
        (&["bench", "fanout", "--preset", "stream"], "'streams'"),
    ] {
        let ended = run(arguments);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        let [said] = ended.stderr.as_slice() else {
            panic!("{ended:?}");
        };
        assert!(said.contains("a similar "), "{said}");
        assert!(said.contains(nearest), "{said}");
    }
}

/// The one line that a command with some variables says when it fails.
fn said_with(arguments: &[&str], variables: &[(&str, &str)], code: i32) -> String {
    let mut command = super::cli_support::command(arguments);
    command.envs(variables.iter().copied());
    let ended = super::cli_support::Process::spawn(&mut command).ended();
    assert_eq!(ended.code, Some(code), "{ended:?}");
    let [said] = ended.stderr.as_slice() else {
        panic!("{ended:?}");
    };
    said.clone()
}

/// Arguments, a variable, the exit code, and the flag that is wrong by it.
type Misset<'a> = (&'a [&'a str], (&'a str, &'a str), i32, &'a str);

#[test]
fn an_environment_variable_that_was_the_cause_is_named() {
    let nobody = super::cli_support::free_address().to_string();
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    let cases: &[Misset<'_>] = &[
        (
            &["healthcheck"],
            ("LONGLIVED_SERVER", "nowhere"),
            2,
            "--server",
        ),
        (&["topics"], ("LONGLIVED_SERVER", ""), 2, "--server"),
        // It is well formed, and nobody is there.
        (
            &["healthcheck"],
            ("LONGLIVED_SERVER", &nobody),
            1,
            "--server",
        ),
        (&["topics"], ("LONGLIVED_SERVER", &nobody), 1, "--server"),
        (&["serve"], ("LONGLIVED_LISTEN", "nonsense"), 2, "--listen"),
        (
            &["serve"],
            ("LONGLIVED_LISTEN", "192.0.2.1:7070"),
            1,
            "--listen",
        ),
        (
            &["serve"],
            ("LONGLIVED_TOPICS_MAX", "-1"),
            2,
            "--topics-max",
        ),
        (
            &["serve"],
            ("LONGLIVED_LOG_FORMAT", "xml"),
            2,
            "--log-format",
        ),
        // A flag that it needs is missing.
        (
            &["serve"],
            ("LONGLIVED_GENERATE_TOPIC", "a"),
            2,
            "--generate-topic",
        ),
        (
            &["serve"],
            ("LONGLIVED_CACHE_BYTES", "1MiB"),
            2,
            "--cache-bytes",
        ),
        // It does not go with another one.
        (
            &["serve", "--publish-queue-bytes-max", "100000"],
            ("LONGLIVED_EVENT_BYTES_MAX", "200000"),
            2,
            "--event-bytes-max",
        ),
        (
            &["serve", "--held-bytes-max", "2MiB"],
            ("LONGLIVED_CONNECTION_BYTES_MAX", "4MiB"),
            2,
            "--connection-bytes-max",
        ),
        (&["serve"], ("LONGLIVED_DATA_DIR", file), 2, "--data-dir"),
        (
            &["new-epoch"],
            ("LONGLIVED_DATA_DIR", file),
            2,
            "--data-dir",
        ),
    ];
    for (arguments, variable, code, flag) in cases {
        let said = said_with(arguments, &[*variable], *code);
        let (name, _) = variable;
        let named = format!("{flag} is from the environment variable {name}");
        assert!(said.contains(&named), "{said}");
    }
}

#[test]
fn an_environment_variable_that_has_no_part_in_an_error_is_not_named() {
    let all = [
        ("LONGLIVED_TOPICS_MAX", "7"),
        ("LONGLIVED_LISTEN", "nonsense"),
        ("LONGLIVED_SERVER", "nonsense"),
    ];
    let good = [("LONGLIVED_SERVER", "127.0.0.1:1")];
    for (arguments, variables) in [
        (&["serve", "--streams-max", "many"][..], &all[..1]),
        // The flag beats it.
        (&["serve", "--listen", "wrong"], &all),
        (&["serve", "--listen=wrong"], &all),
        (&["healthcheck", "--server", "wrong"], &all),
        (&["bench", "fanout", "--server", "wrong"], &all),
        // The way the command is used is shown with it.
        (&["subscribe"], &good),
        (&["publish", "a", "x", "--lines"], &good),
        (&["topics", "--after", "1/1"], &good),
    ] {
        let said = said_with(arguments, variables, 2);
        assert!(!said.contains("environment"), "{said}");
    }
}

#[test]
fn a_server_may_be_given_without_its_scheme() {
    let server = super::cli_support::Server::start(&[]);
    let address = server.address.to_string();
    for given in [&address, &server.url] {
        let ended = run(&["healthcheck", "--server", given]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let ended = run(&["publish", "a", "x", "--server", given]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let said = said_with(
        &["topics", "--check", "1/1"],
        &[("LONGLIVED_SERVER", "localhost:1:1")],
        2,
    );
    assert!(said.contains("localhost:1:1"), "{said}");
}

#[test]
fn a_header_that_is_given_twice_is_refused_and_so_is_a_class_of_history() {
    for (arguments, named) in [
        (
            &["publish", "a", "x", "--header", "k=1", "--header", "k=2"][..],
            "--header: `k`",
        ),
        (
            &[
                "serve",
                "--history",
                "a=events:1",
                "--history",
                "a=events:2",
            ],
            "--history: `a`",
        ),
    ] {
        let said = said_with(arguments, &[], 2);
        assert!(said.contains(named) && said.contains("twice"), "{said}");
    }
}

#[test]
fn the_version_is_that_of_longlived() {
    let ended = run(&["-V"]);
    assert_eq!(ended.stdout, ["longlived 0.1.0"]);
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
