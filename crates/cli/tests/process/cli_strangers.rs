//! A server that does not speak HTTP/2: every command says so, and quotes the server's first bytes.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};

use super::cli_support::{Ended, Process, run};

/// Listens, and answers each connection with these bytes once the client has said something. Its address.
fn answers(answer: &'static [u8]) -> String {
    listens(move |mut socket| {
        let mut said = [0; 1 << 10];
        if !matches!(socket.read(&mut said), Ok(1..)) {
            return;
        }
        let _ = socket.write_all(answer);
        let _ = socket.shutdown(Shutdown::Write);
        // Until the client has gone: closing before would throw the answer away.
        while let Ok(1..) = socket.read(&mut said) {}
    })
}

fn listens(serve: impl Fn(std::net::TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = std::sync::Arc::new(serve);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(socket));
        }
    });
    address
}

/// The errors of the commands that end, for this server.
fn said_by_each(server: &str) -> Vec<String> {
    let commands: [&[&str]; 4] = [
        &["healthcheck"],
        &["topics"],
        &["publish", "a", "x", "--timeout", "2s"],
        &["topics", "--history"],
    ];
    let said = |command: &&[&str]| {
        let Ended { code, stderr, .. } = run(&[command, &["--server", server][..]].concat());
        assert_eq!(code, Some(1), "{command:?}: {stderr:?}");
        stderr.join("\n")
    };
    commands.iter().map(said).collect()
}

#[test]
fn a_server_of_http1_and_other_strangers_are_called_that_and_quoted() {
    for (answer, quoted) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"[..],
            "\"HTTP/1.1 400 Bad Request\"",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "\"SSH-2.0-OpenSSH_9.2\""),
        (b"-ERR what?\r\n", "\"-ERR what?\""),
    ] {
        let server = answers(answer);
        let named = "the server does not speak gRPC over HTTP/2: it answered ";
        for said in said_by_each(&server) {
            assert!(said.contains(&format!("{named}{quoted}")), "{said}");
        }
        let subscriber = Process::start(&["subscribe", "a", "--server", &server]);
        subscriber.stderr.line_with(&[named, quoted]);
    }
}

#[test]
fn a_port_that_closes_at_once_is_told_from_a_server_that_was_lost() {
    let server = listens(drop);
    let named = "closed before the server sent anything: no gRPC server listens there, or one that takes \
                 no more connections";
    for said in said_by_each(&server) {
        assert!(said.contains(named), "{said}");
    }
    let subscriber = Process::start(&["subscribe", "a", "--server", &server]);
    subscriber.stderr.line_with(&[named]);
}
