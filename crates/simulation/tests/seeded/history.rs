//! A trace as the checker reads it: the events that clients saw and nothing else.
//!
//! Holds: each of a subscriber's incarnations is an application of its own, since one that was killed before it had
//! saved its position gets some events again; a stream begins with its Welcome and ends when its subscriber says so.

use std::collections::BTreeMap;
use std::time::Duration;

use longlived_checker::Limits;
use longlived_checker::history::{
    self, Durability, Event, FaultRecord, FaultsOver, Gap, GapPolicy, GapReason, Header, Position,
    Progress, PublishBegun, PublishEnded, PublishOutcome, Record as Line, Start, StreamEnded,
    StreamOpened, Welcome, WelcomeOutcome, Writer, digest,
};
use longlived_client as client;
use longlived_client::{Item, Notice};

use crate::run::SETTLES_IN;
use crate::trace::{Answer, Incarnation, Record};

/// The checker's verdict on a run, a line for each violation.
pub(crate) fn check(records: &[(Duration, Record)]) -> Vec<String> {
    let lines = lines(records);
    let header = Header::new(Vec::<String>::new());
    let mut writer = Writer::new(Vec::new(), &header).expect("memory takes everything");
    for line in &lines {
        writer.append(line).expect("memory takes everything");
    }
    let bytes = writer.finish().expect("memory takes everything");
    let history = match history::read_from(&*bytes) {
        Ok(history) => history,
        Err(error) => return vec![format!("the history cannot be read: {error}")],
    };
    let limits = Limits {
        head_within: SETTLES_IN,
        ..Limits::default()
    };
    let report = longlived_checker::check(&history, &limits);
    let violations = report.violations.into_iter();
    violations
        .map(|violation| format!("checker: {violation}"))
        .collect()
}

/// The lines of the history.
fn lines(records: &[(Duration, Record)]) -> Vec<Line> {
    let mut recorder = Recorder::default();
    for (at, record) in records {
        recorder.at = at.as_nanos() as u64;
        recorder.record(record);
        if matches!(record, Record::Settled) {
            // Everybody is sent home after this, which is none of the history's matter.
            break;
        }
    }
    recorder.lines
}

#[derive(Default)]
struct Recorder {
    at: u64,
    lines: Vec<Line>,
    streams: u64,
    applications: BTreeMap<Incarnation, Application>,
}

/// One incarnation.
struct Application {
    name: String,
    filters: Vec<String>,
    gap_policy: GapPolicy,
    event_bytes_max: Option<u32>,
    start: Option<Start>,
    at: Option<client::Position>,
    stream: Option<u64>,
    /// Since when it has had no stream, or asked for one.
    since: u64,
    /// The end of its last stream, which is a return only if another follows.
    ending: Option<StreamEnded>,
}

fn position(position: client::Position) -> Position {
    Position {
        epoch: position.epoch,
        sequence: position.sequence,
    }
}

impl Recorder {
    fn record(&mut self, record: &Record) {
        let at = self.at;
        match record {
            Record::Sent(sent) => {
                let (publisher, publish) = parts(&sent.name);
                self.lines.push(Line::PublishBegun(PublishBegun {
                    at,
                    publisher,
                    publish,
                    principal: String::new(),
                    topic: sent.topic.clone(),
                    digest: digest(&sent.payload, "", [], false),
                    // The tags and lengths of its two fields.
                    bytes: (sent.payload.len() + sent.topic.len() + 2 + 4) as u64,
                    message_id: sent.id.then(|| sent.name.clone()),
                }));
            }
            Record::Answered { message, answer } => {
                let (publisher, publish) = parts(message);
                let outcome = match answer {
                    Answer::Stored {
                        position,
                        duplicate,
                    } => PublishOutcome::Acknowledged {
                        epoch: position.epoch,
                        sequence: position.sequence,
                        durability: Durability::Memory,
                        duplicate: *duplicate,
                    },
                    Answer::NotStored(code) => PublishOutcome::Refused { code: code.clone() },
                    // A history has no word for it: where it is, only the last of a bulk was told.
                    Answer::Unknown(_) | Answer::StoredInBulk => PublishOutcome::Unknown,
                };
                self.lines.push(Line::PublishEnded(PublishEnded {
                    at,
                    publisher,
                    publish,
                    outcome,
                }));
            }
            Record::Began(began) => {
                let application = Application {
                    name: format!("{}#{}", began.subscriber, began.incarnation),
                    filters: began.filters.clone(),
                    gap_policy: match began.gap_policy {
                        client::GapPolicy::Earliest => GapPolicy::Earliest,
                        client::GapPolicy::Latest => GapPolicy::Latest,
                        client::GapPolicy::Fail => GapPolicy::Fail,
                    },
                    event_bytes_max: began.event_bytes_max,
                    start: began.earliest.then_some(Start::Earliest),
                    at: began.after,
                    stream: None,
                    since: at,
                    ending: None,
                };
                self.applications.insert(began.incarnation, application);
            }
            Record::Got {
                incarnation,
                item,
                position,
            } => {
                let application = self
                    .applications
                    .get_mut(incarnation)
                    .expect("it has begun");
                match item {
                    Item::Event(event) => {
                        let line = told_event(at, application.stream, event);
                        self.lines.extend(line.map(Line::Event));
                    }
                    Item::Gap(gap) => {
                        let line = told_gap(at, application.stream, gap);
                        self.lines.extend(line.map(Line::Gap));
                    }
                    Item::Violation(_) => {}
                    Item::Notice(notice) => {
                        let (streams, lines) = (&mut self.streams, &mut self.lines);
                        application.noticed(at, notice, streams, lines);
                    }
                }
                application.at = *position;
            }
            Record::Ended { incarnation, how } => {
                let application = self
                    .applications
                    .get_mut(incarnation)
                    .expect("it has begun");
                application.lost(at, format!("{how:?}"));
                if let Some(ended) = application.ending.take() {
                    self.lines.push(Line::StreamEnded(ended));
                }
            }
            Record::Fault(what) => {
                let what = what.clone();
                self.lines.push(Line::Fault(FaultRecord { at, what }));
            }
            Record::Calm => self.lines.push(Line::FaultsOver(FaultsOver { at })),
            Record::Stored { .. } | Record::Server(_) | Record::Settled => {}
        }
    }
}

impl Application {
    fn noticed(&mut self, at: u64, notice: &Notice, streams: &mut u64, lines: &mut Vec<Line>) {
        match notice {
            Notice::Connected {
                outcome,
                position,
                epoch,
                ..
            } => {
                self.lost(at, "replaced".to_owned());
                if let Some(mut ended) = self.ending.take() {
                    ended.returns = true;
                    lines.push(Line::StreamEnded(ended));
                }
                *streams += 1;
                self.stream = Some(*streams);
                lines.push(Line::StreamOpened(StreamOpened {
                    at: self.since,
                    subscriber: self.name.clone(),
                    stream: *streams,
                    filters: self.filters.clone(),
                    resume_after: self.at.map(self::position),
                    start: self.start.filter(|_| self.at.is_none()),
                    gap_policy: self.gap_policy,
                    max_event_bytes: self.event_bytes_max.map(u64::from),
                }));
                lines.push(Line::Welcome(Welcome {
                    at,
                    stream: *streams,
                    outcome: match outcome {
                        client::Outcome::New => WelcomeOutcome::New,
                        client::Outcome::Resumed => WelcomeOutcome::Resumed,
                        client::Outcome::Reset => WelcomeOutcome::Reset,
                    },
                    epoch: *epoch,
                    sequence: position.sequence,
                    position_epoch: (position.epoch != *epoch).then_some(position.epoch),
                }));
            }
            Notice::Current { position } | Notice::Progress { position } => {
                lines.extend(self.stream.map(|stream| {
                    Line::Progress(Progress {
                        at,
                        stream,
                        epoch: position.epoch,
                        sequence: position.sequence,
                        current: matches!(notice, Notice::Current { .. }),
                    })
                }));
            }
            Notice::Disconnected { reason, .. } => self.lost(at, reason.to_string()),
            Notice::Unsubscribed { .. } => self.lost(at, "unsubscribed".to_owned()),
            Notice::HandingOver { .. }
            | Notice::CredentialExpires { .. }
            | Notice::FilterRefused { .. } => {}
        }
    }

    /// Its stream, if it has one, is over.
    fn lost(&mut self, at: u64, how: String) {
        if let Some(stream) = self.stream.take() {
            self.since = at;
            self.ending = Some(StreamEnded {
                at,
                stream,
                how,
                returns: false,
            });
        }
    }
}

fn told_event(at: u64, stream: Option<u64>, event: &client::Event) -> Option<Event> {
    let headers = event.headers.iter();
    let headers = headers.map(|(name, value)| (name.as_str(), value.as_str()));
    Some(Event {
        at,
        stream: stream?,
        topic: event.topic.clone(),
        sequence: event.position.sequence,
        previous_sequence: event.previous_sequence,
        digest: digest(&event.payload, &event.key, headers, event.deleted),
        applied: true,
    })
}

fn told_gap(at: u64, stream: Option<u64>, gap: &client::Gap) -> Option<Gap> {
    let of_other = gap
        .after
        .is_none_or(|after| after.epoch != gap.through.epoch);
    Some(Gap {
        at,
        stream: stream?,
        reason: match gap.reason {
            client::GapReason::Trimmed => GapReason::Trimmed,
            client::GapReason::EpochChanged => GapReason::EpochChanged,
            client::GapReason::Future => GapReason::Future,
            client::GapReason::TooLarge => GapReason::TooLarge,
            client::GapReason::Damaged | client::GapReason::Other(_) => GapReason::Damaged,
        },
        after_sequence: gap.after.map_or(0, |after| after.sequence),
        through_sequence: gap.through.sequence,
        events: gap.events.unwrap_or(0),
        through_epoch: (of_other && gap.after.is_some()).then_some(gap.through.epoch),
    })
}

/// The publisher and the number of a message, from its name.
fn parts(name: &str) -> (String, u64) {
    let (publisher, number) = name.split_once('-').expect("names have two parts");
    let number = number.parse().expect("the second part is a number");
    (publisher.to_owned(), number)
}
