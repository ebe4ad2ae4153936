//! `--data-dir`: refusals in one line that names the flag, and a copy that is brought back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use longlived_api::v1::{self, gap::Reason, welcome::Outcome};
use rustix::process::Signal;

use super::support::{Frame, Server, longlived, request, run_to_end, until};

#[tokio::test]
async fn a_directory_or_a_limit_that_cannot_be_is_named_in_one_line() {
    let parent = tempfile::tempdir().unwrap();
    let path = |name: &str| parent.path().join(name).to_str().unwrap().to_owned();
    let (file, foreign, new) = (path("file"), path("foreign"), path("new"));
    let below_file = path("file/data");
    fs::write(&file, "x").unwrap();
    fs::create_dir(&foreign).unwrap();
    fs::write(path("foreign/letters"), "mine").unwrap();
    let in_new: &[&str] = &["--data-dir", &new];
    let petabyte = (1_u64 << 50).to_string();
    let cases: &[(&[&str], i32, &[&str])] = &[
        (
            &["--data-dir", &file],
            2,
            &["--data-dir", &file, "not a directory"],
        ),
        (
            &["--data-dir", &below_file],
            1,
            &["--data-dir", &below_file],
        ),
        (
            &["--data-dir", &foreign],
            1,
            &["--data-dir", &foreign, "`letters`", "not touched"],
        ),
        // Nobody may write there, not even root.
        (
            &["--data-dir", "/proc/longlived"],
            1,
            &["--data-dir", "/proc/longlived"],
        ),
        (&["--data-dir"], 2, &["--data-dir"]),
        (
            &[in_new, &["--disk-reserve", &petabyte]].concat(),
            2,
            &[
                "--disk-reserve",
                &petabyte,
                "must be less than the",
                "bytes of the disk",
            ],
        ),
        (
            &[in_new, &["--disk-reserve", "1048575"]].concat(),
            2,
            &["--disk-reserve", "from 1048576 to "],
        ),
        (
            &[in_new, &["--disk-reserve", "much"]].concat(),
            2,
            &["--disk-reserve", "much"],
        ),
        (
            &[in_new, &["--segment-bytes", "65535"]].concat(),
            2,
            &["--segment-bytes", "from 65536 to 1073741824"],
        ),
        (
            &[in_new, &["--segment-bytes", "1073741825"]].concat(),
            2,
            &["--segment-bytes", "from 65536 to 1073741824"],
        ),
        (
            &[in_new, &["--cache-bytes", "1048575"]].concat(),
            2,
            &["--cache-bytes", "from 1048576 to "],
        ),
        // Limits of a directory that there is not.
        (&["--disk-reserve", "1048576"], 2, &["--data-dir"]),
        (&["--segment-bytes", "65536"], 2, &["--data-dir"]),
        (&["--cache-bytes", "1048576"], 2, &["--data-dir"]),
    ];
    for (args, wanted, named) in cases {
        let serve = ["serve", "--listen", "127.0.0.1:0"];
        let (code, out, err) = run_to_end(longlived().args(serve).args(*args)).await;
        assert_eq!(code, Some(*wanted), "{args:?}: {err}");
        assert_eq!(out, "", "{args:?}");
        assert_eq!(err.lines().count(), 1, "{args:?}: {err}");
        for part in *named {
            assert!(err.contains(part), "{args:?}, {part}: {err}");
        }
    }
    assert!(!Path::new(&new).exists(), "nothing was made");
    let letters = fs::read_dir(&foreign).unwrap().count();
    assert_eq!(letters, 1, "nothing was added");
}

#[tokio::test]
async fn a_directory_in_use_is_refused_with_the_process_that_has_it() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data").to_str().unwrap().to_owned();
    let server = Server::start(&["--data-dir", &dir]).await;
    server.publish("a", "x").await.expect("stored");
    let system = rustix::system::uname();
    let host = system.nodename().to_str().unwrap();
    for command in [["serve", "--listen=127.0.0.1:0"].as_slice(), &["new-epoch"]] {
        let mut second = longlived();
        second.args(command).args(["--data-dir", &dir]);
        let (code, _, err) = run_to_end(&mut second).await;
        assert_eq!(code, Some(1), "{command:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{command:?}: {err}");
        let holder = format!("in use by process {} on {host}", server.id());
        for part in ["--data-dir", &dir, &holder] {
            assert!(err.contains(part), "{command:?}, {part}: {err}");
        }
    }
    server.publish("a", "x").await.expect("it goes on");
}

/// Makes a small file of a data directory say that its format is 3. Its body is a message behind a magic word, its
/// length and its checksum; a field that comes twice counts as it comes last.
fn make_newer(meta: &Path) {
    let content = fs::read(meta).unwrap();
    let (envelope, body) = content.split_at(16);
    let body = [body, &[0x08, 3]].concat();
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    let checksum = crc32c::crc32c(&body).to_le_bytes();
    let content = [&envelope[..8], &length[..], &checksum[..], &body[..]].concat();
    fs::write(meta, content).unwrap();
}

/// Everything below a directory: files with their content, directories without.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut contents = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            contents.append(&mut self::contents(&path));
            contents.insert(path, None);
        } else {
            let content = fs::read(&path).unwrap();
            contents.insert(path, Some(content));
        }
    }
    contents
}

#[tokio::test]
async fn a_directory_of_a_newer_format_is_refused_in_one_line_and_not_touched() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    let dir = path.to_str().unwrap();
    let server = Server::start(&["--data-dir", dir, "--segment-bytes", "65536"]).await;
    server.publish("a", "x").await.expect("stored");
    stop(server).await;
    for name in ["META", "META.copy"] {
        make_newer(&path.join(name));
    }
    // With the files of the older process in it, and without: neither is written.
    for has_lock in [true, false] {
        if !has_lock {
            fs::remove_file(path.join("LOCK")).unwrap();
        }
        let before = contents(&path);
        assert_eq!(before.contains_key(&path.join("LOCK")), has_lock);
        for command in [["serve", "--listen=127.0.0.1:0"].as_slice(), &["new-epoch"]] {
            let mut newer = longlived();
            newer.args(command).args(["--data-dir", dir]);
            let (code, out, err) = run_to_end(&mut newer).await;
            assert_eq!(code, Some(1), "{command:?}: {err}");
            assert_eq!(out, "", "{command:?}");
            assert_eq!(err.lines().count(), 1, "{command:?}: {err}");
            for part in ["--data-dir", dir, "format 3", "up to 2", "not touched"] {
                assert!(err.contains(part), "{command:?}, {part}: {err}");
            }
            assert!(contents(&path) == before, "{command:?} touched it");
        }
    }
}

/// The disk space of the files below a directory.
fn allocated(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;

    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let sizes = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => allocated(&entry.path()),
        // One that has just been removed takes nothing.
        _ => entry
            .metadata()
            .map_or(0, |metadata| metadata.blocks() * 512),
    });
    sizes.sum()
}

#[tokio::test]
async fn a_directory_with_few_events_takes_little_of_the_disk() {
    const EVENTS: u64 = 10;
    const ALLOCATED_MAX: u64 = 512 << 10;

    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    let flags = ["--data-dir", path.to_str().unwrap()];
    for start in 0..3 {
        let server = Server::start(&flags).await;
        let log = path.join("log");
        // Made beside the start, for the first publisher.
        until("a segment", async || {
            (fs::read_dir(&log).unwrap().count() > 0).then_some(())
        })
        .await;
        for n in 1..=EVENTS {
            let published = server.publish("a", "x").await;
            assert_eq!(published.expect("stored"), start * EVENTS + n);
        }
        let taken = allocated(&path);
        assert!(taken <= ALLOCATED_MAX, "start {start}: {taken} bytes");
        stop(server).await;
    }
}

/// A directory with its content.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, to) = (
            entry.as_ref().unwrap(),
            to.join(entry.as_ref().unwrap().file_name()),
        );
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// SIGTERM, waited out.
async fn stop(mut server: Server) {
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
}

#[tokio::test]
async fn events_of_a_backup_with_a_new_epoch_are_never_taken_for_later_ones() {
    let parent = tempfile::tempdir().unwrap();
    let (original, backup) = (parent.path().join("data"), parent.path().join("backup"));
    let flags = |dir: &Path| ["--data-dir".to_owned(), dir.to_str().unwrap().to_owned()];
    let start = async |dir: &Path| {
        let flags = flags(dir);
        Server::start(&[&flags[0], &flags[1]]).await
    };
    let server = start(&original).await;
    for n in 1..=3 {
        assert_eq!(server.publish("a", "before").await.expect("stored"), n);
    }
    stop(server).await;
    copy(&original, &backup);
    let server = start(&original).await;
    let (_, welcome) = server.open(request("s", &["a"])).await;
    let epoch = welcome.position.expect("a position").epoch;
    for n in 4..=5 {
        assert_eq!(server.publish("a", "lost").await.expect("stored"), n);
    }
    stop(server).await;

    // The original is gone; the subscriber had everything.
    let mut command = longlived();
    command.arg("new-epoch").args(flags(&backup));
    let (code, out, err) = run_to_end(&mut command).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains(&format!("epoch {epoch} is now epoch ")),
        "{out}"
    );
    let server = start(&backup).await;
    for n in 4..=6 {
        let published = server.publish("a", "after").await;
        assert_eq!(published.expect("stored"), n, "numbers are given out again");
    }
    let resume = v1::SubscribeRequest {
        resume_after: Some(v1::Position { epoch, sequence: 5 }),
        ..request("s", &["a"])
    };
    let (mut stream, welcome) = server.open(resume).await;
    assert_eq!(welcome.outcome(), Outcome::Reset);
    assert_eq!(welcome.position, Some(v1::Position { epoch, sequence: 5 }));
    let changed = welcome.epoch;
    assert_ne!(changed, epoch);
    match stream.frame().await {
        Frame::Gap(gap) => {
            assert_eq!(gap.reason(), Reason::EpochChanged);
            assert_eq!((gap.after_sequence, gap.through_sequence), (5, 0));
            assert_eq!(gap.through_epoch, changed);
        }
        other => panic!("{other:?}"),
    }
    for (sequence, payload) in
        (1..=6).zip(["before", "before", "before", "after", "after", "after"])
    {
        let event = stream.event().await;
        assert_eq!(event.sequence, sequence);
        assert_eq!(&event.payload[..], payload.as_bytes());
    }
    stop(server).await;

    // Once is enough: the epoch stays from here on.
    let server = start(&backup).await;
    let (_, welcome) = server.open(request("s", &["a"])).await;
    assert_eq!(welcome.position.expect("a position").epoch, changed);
}

#[tokio::test]
async fn nothing_that_is_no_data_directory_gets_an_epoch() {
    let parent = tempfile::tempdir().unwrap();
    let path = |name: &str| parent.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(path("empty")).unwrap();
    fs::create_dir(path("foreign")).unwrap();
    fs::write(path("foreign/letters"), "mine").unwrap();
    for (dir, said) in [
        (path("none"), "No such file or directory"),
        (path("empty"), "holds no history"),
        (path("foreign"), "`letters`"),
    ] {
        let mut command = longlived();
        command.args(["new-epoch", "--data-dir", &dir]);
        let (code, out, err) = run_to_end(&mut command).await;
        assert_eq!(code, Some(1), "{dir}: {err}");
        assert_eq!(out, "");
        assert_eq!(err.lines().count(), 1, "{err}");
        for part in ["--data-dir", &dir, said] {
            assert!(err.contains(part), "{part}: {err}");
        }
        assert!(!Path::new(&dir).join("LOCK").exists(), "not touched");
    }
}

#[tokio::test]
async fn the_directory_and_its_limits_may_come_from_the_environment() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let mut command = longlived();
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("LONGLIVED_DATA_DIR", &dir)
        .env("LONGLIVED_DISK_RESERVE", "1048576")
        .env("LONGLIVED_SEGMENT_BYTES", "65536")
        .env("LONGLIVED_CACHE_BYTES", "1048576");
    let server = Server::of(&mut command).await;
    let named = format!("history in {}", dir.display());
    server.line(&named, |line| line.contains(&named)).await;
    server.publish("a", "x").await.expect("stored");
    let segment = fs::read_dir(dir.join("log")).unwrap().next().unwrap();
    assert_eq!(segment.unwrap().metadata().unwrap().len(), 65_536);
    stop(server).await;
    let mut command = longlived();
    command.arg("new-epoch").env("LONGLIVED_DATA_DIR", &dir);
    let (code, out, err) = run_to_end(&mut command).await;
    assert_eq!(code, Some(0), "{out}{err}");
}
