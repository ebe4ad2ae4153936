//! Millions of records are read and judged within a few seconds of an optimised build.

use std::io::Write as _;

use longlived_checker::history::{
    Digest, Durability, Event, Header, PublishBegun, PublishEnded, PublishOutcome, Record,
    StreamOpened, Welcome, WelcomeOutcome, Writer,
};
use longlived_checker::{Limits, check, read};

/// Writes this number of publishes and hands each of them to every subscriber.
fn write(path: &std::path::Path, publishes: u64, subscribers: u64) {
    let mut writer = Writer::create(path, &Header::new(["inbox.>"])).unwrap();
    for stream in 1..=subscribers {
        let opened = Record::StreamOpened(StreamOpened {
            at: 1,
            subscriber: format!("s{stream}"),
            stream,
            filters: vec!["t.>".to_owned()],
            resume_after: None,
            start: None,
            gap_policy: longlived_checker::history::GapPolicy::Earliest,
            max_event_bytes: None,
        });
        let welcome = Record::Welcome(Welcome {
            at: 2,
            stream,
            outcome: WelcomeOutcome::New,
            epoch: 5,
            sequence: 0,
            position_epoch: None,
        });
        writer.append(&opened).unwrap();
        writer.append(&welcome).unwrap();
    }
    for number in 1..=publishes {
        let topic = format!("t.{}", number % 100);
        writer
            .append(&Record::PublishBegun(PublishBegun {
                at: number * 10,
                publisher: "p".to_owned(),
                publish: number,
                principal: "me".to_owned(),
                topic: topic.clone(),
                digest: Digest(number),
                bytes: 50,
                message_id: None,
            }))
            .unwrap();
        writer
            .append(&Record::PublishEnded(PublishEnded {
                at: number * 10 + 3,
                publisher: "p".to_owned(),
                publish: number,
                outcome: PublishOutcome::Acknowledged {
                    epoch: 5,
                    sequence: number,
                    durability: Durability::Disk,
                    duplicate: false,
                },
            }))
            .unwrap();
        for stream in 1..=subscribers {
            let event = Event {
                at: number * 10 + 5,
                stream,
                topic: topic.clone(),
                sequence: number,
                previous_sequence: number.saturating_sub(100),
                digest: Digest(number),
                applied: true,
            };
            writer.append(&Record::Event(event)).unwrap();
        }
    }
    writer.finish().unwrap().flush().unwrap();
}

#[test]
fn a_written_history_of_many_events_is_read_and_lawful() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    // By hand, with --release: LONGLIVED_PUBLISHES=200000 is two million events.
    let asked = std::env::var("LONGLIVED_PUBLISHES").ok();
    let publishes = asked.map_or(2_000, |count| count.parse().unwrap());
    write(&path, publishes, 10);
    let history = read(&path).unwrap();
    let report = check(&history, &Limits::default());
    assert!(report.is_lawful(), "{:?}", report.violations);
    assert_eq!(report.summary.delivered, publishes * 10);
    assert_eq!(report.summary.acknowledged, publishes);
}
