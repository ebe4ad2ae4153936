//! The start: its line about the data it found, and the files that it leaves alone when it is refused.

use std::fs;

use rustix::process::Signal;

use super::support::{Server, longlived, run_to_end};

/// One that keeps little and takes sizes with units.
const SMALL: [&str; 4] = ["--segment-bytes", "64KiB", "--cache-bytes", "1MiB"];

#[tokio::test]
async fn an_address_in_use_leaves_no_directory_behind() {
    let server = Server::start(&[]).await;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let mut second = longlived();
    second.args([
        "serve",
        "--listen",
        &server.address.to_string(),
        "--data-dir",
    ]);
    let (code, _, err) = run_to_end(second.arg(&dir)).await;
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("in use"), "{err}");
    assert!(!dir.exists(), "it was made");
}

#[tokio::test]
async fn a_start_names_the_data_it_found_and_the_missing_copy() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let args = [&["--data-dir", dir.to_str().unwrap()], &SMALL[..]].concat();
    let opened = |line: &str| line.contains("store opened");
    let mut server = Server::start(&args).await;
    let line = server.line("the contents", opened).await;
    assert!(
        line.contains("last_sequence=0") && line.contains("events=0"),
        "{line}"
    );
    server.publish("a", "x").await.unwrap();
    let last = server.publish("b", "x").await.unwrap();
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());

    fs::remove_file(dir.join("META.copy")).unwrap();
    let server = Server::start(&args).await;
    let line = server.line("the contents", opened).await;
    let last = format!("last_sequence={last}");
    for part in [
        &last,
        "events=2",
        "topics=2",
        "sealed_files=",
        "epoch=",
        "took=",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let replaced = |line: &str| line.contains("WARN") && line.contains("META");
    server.line("the warning", replaced).await;
    assert!(dir.join("META.copy").exists());
}

#[tokio::test]
async fn a_refused_address_or_file_is_named_with_the_attempt() {
    let parent = tempfile::tempdir().unwrap();
    let path = |name: &str| parent.path().join(name).to_str().unwrap().to_owned();
    let (file, none) = (path("file"), path("none"));
    fs::write(&file, "x").unwrap();
    let filters: Vec<String> = (0..65).map(|number| format!("a.{number}")).collect();
    let filters = filters.iter().map(String::as_str);
    let followed: Vec<_> = ["subscribe"].into_iter().chain(filters).collect();
    let simulated = [&["simulate", "--topic"], &followed[1..]].concat();
    let cases: &[(&[&str], i32, &[&str])] = &[
        (
            &["demo", "--data-dir", &file],
            2,
            &[&file, "not a directory"],
        ),
        (
            &["new-epoch", "--data-dir", &file],
            2,
            &[&file, "not a directory"],
        ),
        (
            &["new-epoch", "--data-dir", &none],
            1,
            &[&none, "cannot be used"],
        ),
        (
            &["serve", "--data-dir", "/proc/none"],
            1,
            &["/proc/none", "cannot be used"],
        ),
        (&["check", &none], 2, &[&none, "cannot open"]),
        (&followed, 2, &["65 filters", "at most 64"]),
        (&simulated, 2, &["65 filters", "at most 64"]),
    ];
    for (args, wanted, named) in cases {
        let mut command = longlived();
        command.args(*args);
        if args[0] == "serve" {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let (code, out, err) = run_to_end(&mut command).await;
        assert_eq!(code, Some(*wanted), "{args:?}: {err}");
        assert_eq!(out, "", "{args:?}");
        assert_eq!(err.lines().count(), 1, "{args:?}: {err}");
        for part in *named {
            assert_eq!(err.matches(part).count(), 1, "{args:?}, {part}: {err}");
        }
    }
}
