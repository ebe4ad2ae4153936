//! Clients whose output goes nowhere. Lines for a person may be dropped, and events wait for their reader. A reader
//! that is gone ends the command, and a signal ends it in any state of its output.

use std::io::{BufRead as _, BufReader, PipeWriter};
use std::process::Command;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::cli_support::{self, Process, Server, command, free_address, json, run_with_input};
use super::sinks::{Sink, Trouble};

/// Events enough to fill a pipe and the buffers before it, several times.
const EVENTS: u64 = 4_000;
const PAYLOAD_BYTES: usize = 400;

fn publish_many(server: &Server, count: u64) {
    let line = format!("{}\n", "x".repeat(PAYLOAD_BYTES));
    let lines = line.repeat(usize::try_from(count).unwrap());
    let publish = ["publish", "--server", &server.url, "t", "--lines"];
    let ended = run_with_input(&publish, lines.as_bytes());
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// The sequences of whole lines, and whether nothing else is there but the beginning of another.
fn sequences(lines: &[String]) -> Vec<u64> {
    let events = lines
        .iter()
        .map_while(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    events
        .map(|event| event["sequence"].as_u64().expect("a number"))
        .collect()
}

fn subscribe(server: &Server, file: &str) -> Command {
    command(&[
        "subscribe",
        "--server",
        &server.url,
        "t",
        "--from",
        "earliest",
        "--json",
        "--position-file",
        file,
    ])
}

fn saved(file: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_else(|_| "0/0".to_owned());
    let (_, sequence) = text.trim().split_once('/').expect("a position");
    sequence.parse().expect("a number")
}

/// Asked again and again.
fn until<T>(what: &str, found: impl FnMut() -> Option<T>) -> T {
    cli_support::until(|| what.to_owned(), found)
}

/// Whether a pipe takes nothing at present.
fn is_full(pipe: &PipeWriter) -> bool {
    let mut asked = [PollFd::new(pipe, PollFlags::OUT)];
    poll(&mut asked, Some(&Timespec::default())).unwrap() == 0
}

#[test]
fn events_wait_for_a_slow_reader_and_none_is_lost() {
    let server = Server::start(&[]);
    publish_many(&server, EVENTS);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("position");
    let file = file.to_str().unwrap();
    let (read, write) = std::io::pipe().unwrap();
    let other_end = write.try_clone().unwrap();
    let subscriber = Process::spawn(subscribe(&server, file).stdout(write));
    let mut lines = BufReader::new(read).lines();
    let mut next = || sequences(&[lines.next().expect("a line").unwrap()])[0];
    // A reader that takes one and then nothing for a while: an event that was not read is not saved as done.
    assert_eq!(next(), 1);
    let last = until("a pipe that is full", || {
        let last = saved(file);
        (last > 0 && is_full(&other_end)).then_some(last)
    });
    drop(other_end);
    assert!(last < EVENTS, "it ran ahead of its reader: {last}");
    for sequence in 2..=EVENTS {
        assert_eq!(next(), sequence);
    }
    until("the last position", || {
        (saved(file) == EVENTS).then_some(())
    });
    subscriber.signal(Signal::TERM);
    assert_eq!(subscriber.ended().code, Some(0));
}

#[test]
fn a_signal_ends_a_subscriber_whose_reader_is_stuck_and_its_position_is_that_of_the_last_written_event()
 {
    let server = Server::start(&[]);
    publish_many(&server, EVENTS);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("position");
    let file = file.to_str().unwrap();
    for signals in [1, 2] {
        let _ = std::fs::remove_file(file);
        let (read, write) = std::io::pipe().unwrap();
        let mut start = subscribe(&server, file);
        let subscriber = Process::spawn(start.stdout(write));
        drop(start);
        subscriber.stderr.line_with(&["subscribed"]);
        until("something is saved", || (saved(file) > 0).then_some(()));
        for _ in 0..signals {
            subscriber.signal(Signal::TERM);
        }
        let ended = subscriber.ended();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let lines: Vec<_> = BufReader::new(read).lines().map(Result::unwrap).collect();
        let written = sequences(&lines);
        assert_eq!(written, (1..=written.len() as u64).collect::<Vec<_>>());
        assert!(
            written.len() + 1 >= lines.len(),
            "only the last may be cut off"
        );
        assert_eq!(
            saved(file),
            written.len() as u64,
            "the written events, and no more"
        );
    }
    // The next run goes on there.
    let next = Process::spawn(&mut subscribe(&server, file));
    let first = next.stdout.until("an event", |lines| !lines.is_empty());
    assert_eq!(sequences(&first[..1])[0], saved_before(&first));
}

/// The sequence that the first line of a run that goes on has.
fn saved_before(lines: &[String]) -> u64 {
    let first = json(&lines[0]);
    assert_eq!(first["type"], "event");
    first["sequence"].as_u64().unwrap()
}

#[test]
fn events_that_cannot_be_written_end_the_run_and_are_not_taken_for_done() {
    let server = Server::start(&[]);
    publish_many(&server, 10);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("position");
    let file = file.to_str().unwrap();
    for trouble in [Trouble::ClosedPipe, Trouble::FullDevice, Trouble::FullDisk] {
        let Some(sink) = Sink::open(trouble) else {
            continue;
        };
        let ended = Process::spawn(subscribe(&server, file).stdout(sink.stdio())).ended();
        let said: Vec<_> = ended
            .stderr
            .iter()
            .filter(|line| !line.contains("subscribed"))
            .collect();
        if trouble == Trouble::ClosedPipe {
            assert_eq!((ended.code, said.len()), (Some(141), 0), "{ended:?}");
        } else {
            assert_eq!((ended.code, said.len()), (Some(1), 1), "{ended:?}");
            assert!(
                said[0].contains("standard output") && said[0].contains("No space left"),
                "{said:?}"
            );
        }
        assert_eq!(saved(file), 0, "{trouble:?}");
    }
}

#[test]
fn a_subscriber_goes_on_when_standard_error_fails() {
    for trouble in Trouble::ALL {
        let Some(sink) = Sink::open(trouble) else {
            continue;
        };
        let server = Server::start(&[]);
        let flags = ["subscribe", "--server", &server.url, "t", "--json"];
        let subscriber = Process::spawn(command(&flags).stderr(sink.stdio()));
        let mut published = 0;
        let lines = until("an event", || {
            published += 1;
            server.publish("t", "x");
            Some(subscriber.stdout.all()).filter(|lines| !lines.is_empty())
        });
        assert_eq!(json(&lines[0])["type"], "event", "{trouble:?}");
        let address = server.kill();
        let server = Server::start_at(address, &[]);
        subscriber
            .stdout
            .until("the gap, and an event after it", |lines| {
                server.publish("t", "after");
                lines.last().is_some_and(|line| line.contains("after"))
            });
        subscriber.signal(Signal::TERM);
        assert_eq!(subscriber.ended().code, Some(0), "{trouble:?}");
    }
}

fn simulate(server: &str, more: &[&str]) -> Vec<String> {
    let flags = [
        "simulate",
        "--server",
        server,
        "--clients",
        "5",
        "--topic",
        "t",
        "--publish-every",
        "1ms",
    ];
    flags
        .iter()
        .chain(more)
        .map(|&flag| flag.to_owned())
        .collect()
}

fn as_str(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

/// The last sequence that a server has given out.
fn head(url: &str) -> u64 {
    let listed = super::cli_support::run(&["topics", "--server", url, "--json"]);
    json(listed.stdout.last().expect("a sum"))["head"]
        .as_u64()
        .unwrap()
}

#[test]
fn a_fleet_whose_output_nobody_reads_goes_on_and_obeys_signals() {
    for signals in [1, 2] {
        let server = Server::start(&[]);
        let sink = Sink::open(Trouble::UnreadPipe).unwrap();
        let flags = simulate(&server.url, &[]);
        let simulation = Process::spawn(command(&as_str(&flags)).stdout(sink.stdio()));
        until("a run that goes on", || {
            (head(&server.url) > 300).then_some(())
        });
        server.said(&["subscription begins", "subscriber=\"5\""]);
        simulation.signal(Signal::TERM);
        if signals == 2 {
            simulation.signal(Signal::TERM);
        }
        let ended = simulation.ended();
        if signals == 1 {
            // It left as agreed; only its verdict was not read.
            assert_eq!(ended.code, Some(1), "{ended:?}");
            server.said(&["subscriber=\"5\"", "status=\"OK\"", "unsubscribed"]);
            assert!(
                ended.stderr.concat().contains("standard output"),
                "{ended:?}"
            );
        } else {
            assert!(matches!(ended.code, Some(1 | 143)), "{ended:?}");
        }
    }
}

#[test]
fn a_fleet_whose_output_cannot_be_written_runs_to_its_end_and_says_so() {
    let server = Server::start(&[]);
    for trouble in [Trouble::FullDevice, Trouble::FullDisk] {
        let Some(sink) = Sink::open(trouble) else {
            continue;
        };
        let flags = simulate(&server.url, &["--duration", "2s"]);
        let before = head(&server.url);
        let ended = Process::spawn(command(&as_str(&flags)).stdout(sink.stdio())).ended();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let said = ended.stderr.concat();
        assert!(
            said.contains("standard output") && said.contains("No space left"),
            "{said}"
        );
        assert!(head(&server.url) > before, "{trouble:?}");
    }
    let sink = Sink::open(Trouble::ClosedPipe).unwrap();
    let flags = simulate(&server.url, &[]);
    let ended = Process::spawn(command(&as_str(&flags)).stdout(sink.stdio())).ended();
    assert_eq!(
        (ended.code, ended.stderr.len()),
        (Some(141), 0),
        "{ended:?}"
    );
}

#[test]
fn a_fleet_does_not_depend_on_its_standard_error() {
    let server = Server::start(&[]);
    for trouble in Trouble::ALL {
        let Some(sink) = Sink::open(trouble) else {
            continue;
        };
        let flags = simulate(&server.url, &["--duration", "2s"]);
        let ended = Process::spawn(command(&as_str(&flags)).stderr(sink.stdio())).ended();
        assert_eq!(ended.code, Some(0), "{trouble:?}: {ended:?}");
        // It has something to say there.
        let sink = Sink::open(trouble).unwrap();
        let nobody = format!("http://{}", free_address());
        let record = [
            "simulate",
            "--server",
            &nobody,
            "--record",
            "/nonexistent/history",
        ];
        let ended = Process::spawn(command(&record).stderr(sink.stdio())).ended();
        assert_eq!(ended.code, Some(1), "{trouble:?}: {ended:?}");
    }
}

/// The line that a slow reader of a fleet gets once it reads on.
#[test]
fn lines_that_a_fleet_left_out_are_counted_and_the_verdict_waits_for_its_reader() {
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join("history");
    let sink = Sink::open(Trouble::UnreadPipe).unwrap();
    let mut flags = simulate(&server.url, &["--json", "--record"]);
    flags.push(history.to_str().unwrap().to_owned());
    let simulation = Process::spawn(command(&as_str(&flags)).stdout(sink.stdio()));
    until("everybody listens", || {
        (head(&server.url) > 0).then_some(())
    });
    for client in ["1", "2", "3", "4", "5"] {
        server.said(&["subscription begins", &format!("subscriber=\"{client}\"")]);
    }
    publish_many(&server, EVENTS / 2);
    let is_event = |line: &&str| line.starts_with("{\"kind\":\"event\"");
    until("more events than wait anywhere", || {
        let told = std::fs::read_to_string(&history).unwrap();
        (told.lines().filter(is_event).count() as u64 > 5 * EVENTS / 2).then_some(())
    });
    let read = sink.relieved();
    simulation.signal(Signal::TERM);
    let ended = simulation.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines = read();
    let kinds: Vec<_> = lines
        .iter()
        .map(|line| json(line)["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds.last().map(String::as_str), Some("verdict"));
    assert!(
        kinds.iter().any(|kind| kind == "left_out"),
        "{} lines",
        lines.len()
    );
}

#[test]
fn a_demo_whose_output_nobody_reads_obeys_a_signal_and_leaves_nothing_behind() {
    let sink = Sink::open(Trouble::UnreadPipe).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let mut demo = command(&["demo"]);
    demo.stdout(sink.stdio()).env("TMPDIR", temp.path());
    let demo = Process::spawn(&mut demo);
    until("its server", || {
        let found = std::fs::read_dir(temp.path()).unwrap().next()?;
        found.unwrap().path().join("META").exists().then_some(())
    });
    demo.signal(Signal::INT);
    assert_eq!(demo.ended().code, Some(130));
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}
