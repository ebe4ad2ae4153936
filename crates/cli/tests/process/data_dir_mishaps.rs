//! Mishaps of a data directory behind its server's back: files that vanish while no server runs, and the lock or the
//! whole directory that vanishes while one does.

use std::{
    fs,
    path::{Path, PathBuf},
};

use longlived_api::v1::{self, gap::Reason};
use rustix::process::Signal;

use super::support::{Frame, Server, longlived, request, run_to_end, until};

/// Where the records of a segment begin.
const SEGMENT_HEADER_BYTES: usize = 64;
const ACKNOWLEDGED: u64 = 20;

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("log")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort_unstable();
    paths
}

/// The newest segment that holds anything.
fn newest(dir: &Path) -> PathBuf {
    let is_written = |path: &PathBuf| {
        let content = fs::read(path).unwrap();
        content[SEGMENT_HEADER_BYTES..]
            .iter()
            .any(|&byte| byte != 0)
    };
    segments(dir)
        .into_iter()
        .rfind(is_written)
        .expect("the log holds something")
}

#[tokio::test]
async fn the_end_of_a_log_that_vanished_is_announced_and_its_numbers_do_not_come_again() {
    type Mishap = fn(&Path);
    let mishaps: [(&str, Mishap); 4] = [
        ("the newest segment is gone", |dir| {
            fs::remove_file(newest(dir)).unwrap();
        }),
        ("it is empty", |dir| fs::write(newest(dir), "").unwrap()),
        ("it is zeros", |dir| {
            let path = newest(dir);
            let length = fs::read(&path).unwrap().len();
            fs::write(path, vec![0; length]).unwrap();
        }),
        ("all segments are gone", |dir| {
            for path in segments(dir) {
                fs::remove_file(path).unwrap();
            }
        }),
    ];
    for (what, mishap) in mishaps {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let flags = ["--data-dir", path.to_str().unwrap()];
        let mut server = Server::start(&flags).await;
        let (_, welcome) = server.open(request("s", &["a"])).await;
        let epoch = welcome.position.expect("a position").epoch;
        for n in 1..=ACKNOWLEDGED {
            assert_eq!(
                server.publish("a", "before").await.expect("stored"),
                n,
                "{what}"
            );
        }
        server.kill().await;
        mishap(&path);

        let server = Server::start(&flags).await;
        let said = "the end of the log is not there";
        server.line(said, |line| line.contains(said)).await;
        let resume = |sequence: u64| v1::SubscribeRequest {
            resume_after: Some(v1::Position { epoch, sequence }),
            ..request(&format!("s{sequence}"), &["a"])
        };
        let (mut middle, _) = server.open(resume(ACKNOWLEDGED / 2)).await;
        match middle.frame().await {
            Frame::Gap(gap) => {
                assert_eq!(gap.reason(), Reason::Damaged, "{what}: {gap:?}");
                let covered = gap.after_sequence..=gap.through_sequence;
                assert!(
                    covered.contains(&(ACKNOWLEDGED / 2)) && covered.contains(&ACKNOWLEDGED),
                    "{what}: {gap:?}"
                );
            }
            other => panic!("{what}: {other:?}"),
        }
        let (last, welcome) = server.open(resume(ACKNOWLEDGED)).await;
        assert_eq!(welcome.position.expect("a position").epoch, epoch, "{what}");
        let next = server.publish("a", "after").await.expect("stored");
        assert!(next > ACKNOWLEDGED, "{what}: {next} is given out again");
        for mut stream in [middle, last] {
            let event = loop {
                match stream.frame().await {
                    Frame::Event(event) => break event,
                    // The numbers given out behind the last acknowledged one are not known.
                    Frame::Gap(gap) if gap.reason() == Reason::Damaged => {}
                    Frame::Progress(_) => {}
                    other => panic!("{what}: {other:?}"),
                }
            };
            assert_eq!(
                (event.sequence, &event.payload[..]),
                (next, &b"after"[..]),
                "{what}"
            );
        }
    }
}

#[tokio::test]
async fn a_file_that_is_lost_or_older_than_it_was_is_told_of_at_the_start() {
    type Mishap = fn(&Path, &[u8]);
    let gone: Mishap = |path, _| fs::remove_file(path).unwrap();
    let zeroed: Mishap = |path, _| {
        let length = fs::read(path).unwrap().len();
        fs::write(path, vec![0; length]).unwrap();
    };
    let older: Mishap = |path, older| fs::write(path, older).unwrap();
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    let flags = ["--data-dir", path.to_str().unwrap()];
    // Each start seals the events of the one before.
    let mut last = 0;
    let mut publish = async |said: Option<&str>| {
        let mut server = Server::start(&flags).await;
        if let Some(said) = said {
            server.line(said, |line| line.contains(said)).await;
        }
        let published = server.publish("a", "x").await.expect("stored");
        assert!(published > last, "{published} is given out again");
        last = published;
        server.signal(Signal::TERM);
        assert!(server.ended().await.success());
    };
    publish(None).await;
    for (name, mishap, said) in [
        ("META", gone, "one of its two copies was damaged or missing"),
        (
            "STATE.copy",
            zeroed,
            "one of its two copies was damaged or missing",
        ),
        ("IDS", gone, "message ids from before are forgotten"),
        ("IDS", zeroed, "message ids from before are forgotten"),
        ("IDS", older, "message ids of later events are forgotten"),
        (
            "HEAD",
            gone,
            "nothing shows whether the end of the log is missing",
        ),
        (
            "HEAD",
            zeroed,
            "nothing shows whether the end of the log is missing",
        ),
    ] {
        publish(None).await;
        let file = path.join(name);
        let before = fs::read(&file).unwrap();
        publish(None).await;
        publish(None).await;
        mishap(&file, &before);
        publish(Some(said)).await;
    }
}

#[tokio::test]
async fn removing_the_file_lock_lets_no_second_server_in_and_is_noticed() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    let dir = path.to_str().unwrap();
    let server = Server::start(&["--data-dir", dir]).await;
    server.publish("a", "x").await.expect("stored");
    fs::remove_file(path.join("LOCK")).unwrap();
    let refused = async || {
        for command in [["serve", "--listen=127.0.0.1:0"].as_slice(), &["new-epoch"]] {
            let mut second = longlived();
            second.args(command).args(["--data-dir", dir]);
            let (code, _, err) = run_to_end(&mut second).await;
            assert_eq!(code, Some(1), "{command:?}: {err}");
            assert!(err.contains("is in use by"), "{command:?}: {err}");
        }
    };
    refused().await;
    let said = "the file `LOCK` of the directory in use was removed or replaced";
    server.line(said, |line| line.contains(said)).await;
    let owner = format!("process {} ", server.id());
    until("its server's name in it", async || {
        let content = fs::read_to_string(path.join("LOCK")).ok()?;
        content.starts_with(&owner).then_some(())
    })
    .await;
    // Another file in its place is no other lock.
    fs::write(path.join("LOCK.other"), "nobody").unwrap();
    fs::rename(path.join("LOCK.other"), path.join("LOCK")).unwrap();
    refused().await;
    server.publish("a", "x").await.expect("it goes on");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_whose_directory_was_replaced_ends_and_acknowledges_nothing_more() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};

    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    let flags = ["--data-dir", path.to_str().unwrap()];
    let mut server = Server::start(&flags).await;
    assert_eq!(server.publish("a", "kept").await.expect("stored"), 1);
    let other = parent.path().join("other");
    fs::create_dir(&other).unwrap();
    let exchange = || renameat_with(CWD, &path, CWD, &other, RenameFlags::EXCHANGE).unwrap();
    exchange();
    let status = server.ended().await;
    assert_eq!(status.code(), Some(1), "{:#?}", server.lines());
    let said = "the directory in use was removed or replaced";
    server.line(said, |line| line.contains(said)).await;
    let made = fs::read_dir(&path).unwrap().count();
    assert_eq!(made, 0, "nothing was made in its place");
    exchange();
    let server = Server::start(&flags).await;
    assert_eq!(server.publish("a", "next").await.expect("stored"), 2);
}
