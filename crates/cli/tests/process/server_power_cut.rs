//! Power cuts: the disk of a server under load is copied at random moments, and a server on the copy has all messages
//! that were acknowledged before.
//!
//! The disk is an ext4 image on a loop device. Data that the server has not synced is in the cache of that file system
//! and not in the image, so a copy of the image is the disk after a power cut. A copy takes some milliseconds, and the
//! server is stopped by SIGSTOP meanwhile. A copy is taken again if the device was written to during it, since no disk
//! ever had that state.
//! Does not: lose data that was written and not flushed, as a disk with a cache of its own may; the broker's own tests
//! do, in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longlived_client::{Client, Durability, Item, Message, Position};
use parking_lot::Mutex;
use rand::RngExt as _;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::mounted::{self, Mounted};
use super::support::{PATIENCE, Server, number, skipped, spawn, until, within};
use super::tape::Tape;

const DISK_BYTES: u64 = 32 << 20;
/// Of one disk: it is small, and keeps everything.
const CUTS: usize = 6;
/// Messages at most between two of them: six times 2 MiB, with their space on the disk.
const MESSAGES_EACH: usize = 1_500;
const PUBLISHERS: usize = 8;
/// Small, so that cuts fall into making, sealing and removing segments too.
const FLAGS: [&str; 6] = [
    "--segment-bytes",
    "65536",
    "--disk-reserve",
    "1048576",
    "--retention-interval",
    "50ms",
];

/// The acknowledged messages, with their content.
type Stored = Arc<Mutex<Vec<(Position, String)>>>;

fn disk(folder: &Path) -> Result<(PathBuf, Mounted), String> {
    let image = folder.join("disk.img");
    let file = fs::File::create(&image).map_err(|error| error.to_string())?;
    file.set_len(DISK_BYTES)
        .map_err(|error| error.to_string())?;
    let path = image.to_str().expect("a path of this test");
    // Everything is made now, so that later only the server's doings are written.
    let made = "lazy_itable_init=0,lazy_journal_init=0";
    mounted::run("mkfs.ext4", &["-q", "-F", "-b", "4096", "-E", made, path])?;
    let disk = Mounted::image(&image)?;
    Ok((image, disk))
}

async fn publish(
    client: Client,
    number: usize,
    stored: Stored,
    mut budget: watch::Receiver<usize>,
    stop: CancellationToken,
) {
    // The server is stopped for as long as a copy takes.
    let publisher = client.publisher().timeout(PATIENCE);
    let mut n = 0;
    loop {
        // The disk holds the messages that are published during a cut, even a long one.
        let is_allowed = budget.wait_for(|budget| stored.lock().len() < *budget);
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            budget = is_allowed => drop(budget.expect("the test goes on")),
        }
        n += 1;
        let content = format!("{number}-{n}-{}", "x".repeat(n * 37 % 1_500));
        let message = Message::new(format!("news.{number}"), content.clone());
        let answer = publisher.publish(message).await.expect("it is stored");
        assert_eq!(answer.durability, Durability::Disk);
        stored.lock().push((answer.position, content));
    }
}

/// Writes to the device so far, and those on their way.
fn written(device: &Path) -> (u64, u64) {
    let text = fs::read_to_string(device).expect("the device's counters");
    let field = |number| {
        let field = text.split_whitespace().nth(number).expect("a counter");
        field.parse().expect("a number")
    };
    // Sectors written, writes and flushes done; I/O on its way.
    (field(6) + field(4) + field(15), field(8))
}

/// The kernel's counters of an image's loop device.
fn counters(disk: &Mounted) -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let at = disk.path().to_str().unwrap();
    let device = mounts.lines().find_map(|line| {
        let (device, rest) = line.split_once(' ')?;
        rest.starts_with(&format!("{at} ")).then_some(device)
    });
    let name = device.expect("it is mounted").trim_start_matches("/dev/");
    PathBuf::from(format!("/sys/block/{name}/stat"))
}

/// Copies the disk as it is at one moment; returns the messages acknowledged before that.
async fn cut(
    server: &Server,
    image: &Path,
    copy: &Path,
    counters: &Path,
    stored: &Stored,
) -> Vec<(Position, String)> {
    let (before, disk) = until("a copy of one moment", async || {
        let before = stored.lock().clone();
        server.signal(Signal::STOP);
        // System calls that its threads had begun are done to their end.
        let mut last = None;
        let counted = until("a disk at rest", async || {
            let now = written(counters);
            let before = last.replace(now);
            (before == Some(now) && now.1 == 0).then_some(now)
        })
        .await;
        let disk = fs::read(image).unwrap();
        let after = written(counters);
        server.signal(Signal::CONT);
        (after == counted).then_some((before, disk))
    })
    .await;
    fs::write(copy, disk).unwrap();
    before
}

/// Everything that a server has.
async fn everything(client: &Client, id: &str, through: u64) -> Vec<(Position, String)> {
    let reader = client.subscriber(id).filter("news.>").earliest();
    let mut reader = reader.build().unwrap();
    let mut found = Vec::new();
    let read = async {
        while reader.position().is_none_or(|at| at.sequence < through) {
            match reader
                .next()
                .await
                .expect("it goes on")
                .expect("it is let in")
            {
                Item::Event(event) => {
                    let content = String::from_utf8(event.payload.to_vec()).unwrap();
                    found.push((event.position, content));
                }
                Item::Gap(gap) => panic!("{gap}"),
                _ => {}
            }
        }
    };
    within("everything that was acknowledged", read).await;
    found
}

fn client(server: &Server, tape: &Tape) -> Client {
    let client = Client::builder(format!("http://{}", server.address));
    client.recording(tape.recording()).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_messages_are_on_the_disk_when_the_power_is_cut() {
    for _ in 0..number("LONGLIVED_POWER_CUT_ROUNDS", 1) {
        if let Err(reason) = cut_and_compare().await {
            // The broker's own tests cut the power in memory.
            skipped("power cuts, a disk image cannot be mounted", &reason);
            return;
        }
    }
}

/// One disk and its cuts; or why there is no disk.
async fn cut_and_compare() -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let (image, disk) = disk(folder.path())?;
    let counters = counters(&disk);
    let data = disk.join("data");
    let mut flags = vec!["--data-dir", data.to_str().unwrap()];
    flags.extend(FLAGS);
    let server = Server::start(&flags).await;
    let tape = Tape::new();
    let publisher = client(&server, &tape);
    let stored = Stored::default();
    let stop = CancellationToken::new();
    let budget = watch::Sender::new(0);
    let publishers: Vec<JoinHandle<()>> = (0..PUBLISHERS)
        .map(|n| {
            let (budget, stop) = (budget.subscribe(), stop.clone());
            spawn(publish(publisher.clone(), n, stored.clone(), budget, stop))
        })
        .collect();
    let mut cuts = Vec::new();
    for number in 0..CUTS {
        let before = stored.lock().len();
        budget.send_replace(before + MESSAGES_EACH);
        until("messages", async || {
            (stored.lock().len() > before + 20).then_some(())
        })
        .await;
        sleep(Duration::from_millis(rand::rng().random_range(0..300))).await;
        let copy = folder.path().join(format!("cut-{number}.img"));
        let acknowledged = cut(&server, &image, &copy, &counters, &stored).await;
        tape.fault("power_cut");
        cuts.push((copy, acknowledged));
    }
    stop.cancel();
    for publisher in publishers {
        publisher.await.expect("all was stored");
    }
    drop(server);
    drop(disk);

    for (number, (copy, acknowledged)) in cuts.iter().enumerate() {
        let disk = Mounted::image(copy).expect("the journal is replayed");
        let data = disk.join("data");
        let mut flags = vec!["--data-dir", data.to_str().unwrap()];
        flags.extend(FLAGS);
        let server = Server::start(&flags).await;
        let client = client(&server, &tape);
        let last = acknowledged
            .iter()
            .map(|(position, _)| position.sequence)
            .max();
        let last = last.expect("some were acknowledged");
        let found = everything(&client, &format!("after-cut-{number}"), last).await;
        println!(
            "cut {number}: {} acknowledged, {} found",
            acknowledged.len(),
            found.len()
        );
        for stored in acknowledged {
            assert!(
                found.contains(stored),
                "cut {number}: {:?} is lost",
                stored.0
            );
        }
        let sequences = found.iter().map(|(position, _)| position.sequence);
        assert!(sequences.eq(1..=found.len() as u64), "cut {number}");
    }
    // The copies were read and not published to: they are one history with the published messages.
    let summary = tape.lawful("server_power_cut").summary;
    assert_eq!(
        (summary.epochs, summary.unknown, summary.refused),
        (1, 0, 0)
    );
    assert!(summary.gaps.is_empty(), "{:?}", summary.gaps);
    Ok(())
}
