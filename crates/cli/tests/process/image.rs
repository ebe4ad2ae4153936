//! The commands of the container image, run without a container. The entry point, the default command, the health check
//! and both services' commands are read from the files. Only the addresses and the directory are this test's.

use std::path::PathBuf;

use rustix::process::Signal;

use crate::cli_support::{self, Process};
use crate::support::{Server, longlived, run_to_end};

fn root(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(file);
    std::fs::read_to_string(path).unwrap()
}

/// The words of `["a", "b"]` on the line that begins with `key`, past `nth` others.
fn words(text: &str, key: &str, nth: usize) -> Vec<String> {
    let line = text
        .lines()
        .filter(|line| line.trim_start().starts_with(key))
        .nth(nth)
        .unwrap_or_else(|| panic!("no line {key} number {nth}"));
    let list = &line[line.find('[').expect("a list of words")..];
    serde_json::from_str(list).expect("the list is JSON")
}

/// The value of `name: ` in the compose file.
fn setting<'a>(text: &'a str, name: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.trim().strip_prefix(name));
    found.and_then(|rest| rest.strip_prefix(": ")).expect(name)
}

#[tokio::test]
async fn the_images_commands_serve_probe_and_simulate() {
    let dockerfile = root("Dockerfile");
    let compose = root("docker-compose.yml");
    assert_eq!(words(&dockerfile, "ENTRYPOINT", 0), ["longlived"]);
    assert_eq!(
        words(&dockerfile, "CMD", 0),
        ["serve"],
        "the image alone serves"
    );
    let probe = dockerfile.split_once("HEALTHCHECK").unwrap().1;
    let probe = words(&probe.replace(" CMD [", "\nCMD ["), "CMD", 0);
    assert_eq!(probe[0], "longlived");
    // Where the image listens is where its health check and the other service ask.
    assert!(dockerfile.contains("ENV LONGLIVED_LISTEN=0.0.0.0:7070"));
    assert!(!compose.contains("LONGLIVED_LISTEN"));
    // A volume takes its owner from the directory it is first mounted over, and the server runs as a user that may
    // not make one.
    let volume = "/var/lib/longlived";
    assert!(compose.contains(&format!("- history:{volume}\n")));
    assert!(dockerfile.contains(&format!("install -d -o longlived {volume}\n")));
    let server_url = setting(&compose, "LONGLIVED_SERVER");
    assert_eq!(server_url, "http://server:7070");

    let mut serve = words(&compose, "command:", 0);
    let here = tempfile::tempdir().unwrap();
    let at = serve.iter().position(|word| word == "--data-dir").unwrap() + 1;
    assert_eq!(serve[at], volume);
    here.path().to_str().unwrap().clone_into(&mut serve[at]);
    let mut command = longlived();
    command.args(&serve).env("LONGLIVED_LISTEN", "127.0.0.1:0");
    let mut server = Server::of(&mut command).await;
    assert!(here.path().join("META").exists(), "its history is kept");
    let url = format!("http://{}", server.address);

    let mut check = longlived();
    check.args(&probe[1..]).env("LONGLIVED_SERVER", &url);
    let (code, _, said) = run_to_end(&mut check).await;
    assert_eq!(code, Some(0), "healthy: {said}");

    let simulate = words(&compose, "command:", 1);
    let simulate: Vec<_> = simulate.iter().map(String::as_str).collect();
    let mut simulate = cli_support::command(&simulate);
    simulate.env("LONGLIVED_SERVER", &url);
    // It blocks, and the server's log is read meanwhile.
    let ended = tokio::task::spawn_blocking(move || {
        let simulation = Process::spawn(&mut simulate);
        for client in 1..=10 {
            let data = format!("data mock for: {client}");
            simulation.stdout.line_with(&[&data]);
        }
        // As `docker stop` does.
        simulation.signal(Signal::TERM);
        simulation.ended()
    });
    let ended = ended.await.unwrap();
    assert_eq!(ended.code, Some(0), "{ended:?}");

    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
    let mut check = longlived();
    check.args(&probe[1..]).env("LONGLIVED_SERVER", &url);
    assert_eq!(run_to_end(&mut check).await.0, Some(1), "nobody serves");
}
