//! `longlived healthcheck`: the exit status that a container engine asks for.

use std::net::TcpListener;

use super::cli_support::{Server, free_address, json, run};

#[test]
fn a_server_that_serves_is_healthy() {
    let server = Server::start(&[]);
    let ended = run(&["healthcheck", "--server", &server.url]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let service = "longlived.v1.PublishService";
    let ended = run(&["healthcheck", "--server", &server.url, "--service", service]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn no_server_and_no_such_service_are_not() {
    let url = format!("http://{}", free_address());
    let ended = run(&["healthcheck", "--server", &url]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr.len(), 1, "{ended:?}");

    let server = Server::start(&[]);
    let ended = run(&["healthcheck", "--server", &server.url, "--service", "nope"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr[0].contains("nope"), "{ended:?}");
}

#[test]
fn a_program_reads_the_answer_as_json() {
    let server = Server::start(&[]);
    let ended = run(&["healthcheck", "--server", &server.url, "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(json(&ended.stdout[0])["serving"], true);
    let url = format!("http://{}", free_address());
    let ended = run(&["healthcheck", "--server", &url, "--json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let answer = json(&ended.stdout[0]);
    assert_eq!(answer["serving"], false);
    assert!(
        answer["reason"]
            .as_str()
            .unwrap()
            .contains("cannot connect")
    );
    assert!(ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn one_that_never_answers_is_given_up() {
    // Accepts connections, for the kernel does, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let ended = run(&["healthcheck", "--server", &url, "--timeout", "300ms"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr[0].contains("300ms"), "{ended:?}");
}
