//! A disk that fails to sync: the server ends with an error and acknowledges nothing more. Its acknowledged messages
//! are there when it runs again.
//!
//! The binary is the real one. Its calls of `fdatasync` and `fsync` go through a few lines of C, which fail them as a
//! broken disk would once a file exists.

use std::fs;
use std::path::{Path, PathBuf};

use longlived_client::{Client, Item, Message, Position};
use tokio::process::Command;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::mounted;
use super::support::{PATIENCE, Server, longlived, run_to_end, skipped, spawn, within};
use super::tape::Tape;

const SYNC_FAILS: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int sync_by(const char *name, int fd) {
    const char *when = getenv("SYNC_FAILS_WHEN");
    if (when && access(when, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(fd);
}

int fdatasync(int fd) { return sync_by("fdatasync", fd); }
int fsync(int fd) { return sync_by("fsync", fd); }
"#;
const PUBLISHERS: usize = 8;

/// The library that fails the syncs, and the file that says when.
struct Failing {
    library: PathBuf,
    trigger: PathBuf,
}

impl Failing {
    /// Or the reason why the test is skipped.
    fn compile(folder: &Path) -> Option<Self> {
        let source = folder.join("sync_fails.c");
        let library = folder.join("sync_fails.so");
        fs::write(&source, SYNC_FAILS).unwrap();
        let (from, to) = (source.to_str().unwrap(), library.to_str().unwrap());
        let compiled = mounted::run("cc", &["-shared", "-fPIC", "-o", to, from, "-ldl"]);
        if let Err(reason) = compiled {
            skipped(
                "failed syncs, the library that fails them cannot be compiled",
                &reason,
            );
            return None;
        }
        Some(Self {
            library,
            trigger: folder.join("now"),
        })
    }

    fn serve(&self, data: &str) -> Command {
        let mut command = longlived();
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--drain-timeout", "1s"])
            .args(["--data-dir", data])
            .env("LD_PRELOAD", &self.library)
            .env("SYNC_FAILS_WHEN", &self.trigger);
        command
    }
}

/// Publishes one after the other until the server is gone; returns the acknowledged messages. An answer has no timeout,
/// so that only the sync can make a publish fail.
async fn publish(client: Client, number: usize, gone: CancellationToken) -> Vec<Position> {
    let publisher = client.publisher().timeout(PATIENCE);
    let mut stored = Vec::new();
    let mut failures = 0;
    for n in 0.. {
        let message = Message::new(format!("news.{number}"), format!("{number}-{n}"));
        let answer = tokio::select! {
            () = gone.cancelled() => break,
            answer = publisher.publish(message) => answer,
        };
        match answer {
            Ok(answer) => {
                assert_eq!(failures, 0, "acknowledged after a failed sync");
                stored.push(answer.position);
            }
            Err(_) => failures += 1,
        }
    }
    stored
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_disk_fails_to_sync_ends_and_keeps_its_acknowledged_messages() {
    let folder = tempfile::tempdir().unwrap();
    let Some(failing) = Failing::compile(folder.path()) else {
        return;
    };
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let mut server = Server::of(&mut failing.serve(data)).await;
    let tape = Tape::new();
    let client = Client::builder(format!("http://{}", server.address));
    let client = client.recording(tape.recording()).build().unwrap();
    let mut live = client.subscriber("live").filter("news.>").build().unwrap();
    let mut events = 0;
    let gone = CancellationToken::new();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|n| spawn(publish(client.clone(), n, gone.clone())))
        .collect();
    let read = async {
        while events < 50 {
            let item = live
                .next()
                .await
                .expect("it goes on")
                .expect("it is let in");
            events += usize::from(matches!(item, Item::Event(_)));
        }
    };
    within("events", read).await;

    tape.fault("sync_fails");
    fs::write(&failing.trigger, "").unwrap();
    let said = server
        .line("the failure", |line| line.contains("cannot sync the log"))
        .await;
    assert!(said.contains("ERROR") && said.contains(data), "{said}");
    let status = server.ended().await;
    gone.cancel();
    assert_eq!(status.code(), Some(1), "{:#?}", server.lines());
    let last_words = server.lines().join("\n");
    assert!(last_words.contains("Input/output error"), "{last_words}");
    let mut stored = Vec::new();
    for publisher in publishers {
        stored.extend(
            publisher
                .await
                .expect("nothing was acknowledged afterwards"),
        );
    }
    assert!(stored.len() >= 50, "{}", stored.len());
    drop(live);

    // With the disk still broken it does not even start.
    let (code, _, said) = run_to_end(&mut failing.serve(data)).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Input/output error"), "{said}");

    fs::remove_file(&failing.trigger).unwrap();
    let server = Server::of(&mut failing.serve(data)).await;
    tape.faults_over();
    let client = Client::builder(format!("http://{}", server.address));
    let client = client.recording(tape.recording()).build().unwrap();
    let reader = client.subscriber("reader").filter("news.>").earliest();
    let mut reader = reader.build().unwrap();
    let last = stored
        .iter()
        .map(|position| position.sequence)
        .max()
        .unwrap();
    let mut found = Vec::new();
    let read = async {
        while reader.position().is_none_or(|at| at.sequence < last) {
            match reader
                .next()
                .await
                .expect("it goes on")
                .expect("it is let in")
            {
                Item::Event(event) => found.push(event.position),
                Item::Gap(gap) => panic!("{gap}"),
                _ => {}
            }
        }
    };
    within("everything that was acknowledged", read).await;
    assert!(stored.iter().all(|position| found.contains(position)));
    let next = client.publisher().publish(("news.again", "x")).await;
    let next = next.expect("it is stored");
    assert!(next.position.sequence > last);
    let summary = tape.lawful("server_failed_sync").summary;
    assert_eq!(summary.epochs, 1);
}
