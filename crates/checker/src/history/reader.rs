//! Reads a history from a file, and says where one is wrong: the line, and the field where it can.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use rustc_hash::FxHashMap;
use serde_json::{Value, error::Category};

use super::{
    Answer, FORMAT, Header, History, Position, Publish, PublishOutcome, Record, Said, Step,
    StepGap, Stream, Told, VERSION,
};

/// The contract's `max_event_bytes` when a stream names none.
const EVENT_BYTES_DEFAULT: u64 = 4 << 20;
/// No line of a history is longer; a file without line ends is not read into memory as one.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Why a file is no history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("line {line}: cannot be read: {source}")]
    Read {
        /// At which line.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// There is not one whole line.
    #[error("line 1: the header is missing or cut off")]
    NoHeader,
    /// A line is wrong.
    #[error("line {line}{}: {problem}", in_field(field.as_deref()))]
    Line {
        /// Which.
        line: u64,
        /// Which field, where one is to blame.
        field: Option<String>,
        /// The mistake.
        problem: String,
    },
}

fn in_field(field: Option<&str>) -> String {
    field.map_or_else(String::new, |field| format!(", field `{field}`"))
}

/// Reads a history from a file.
pub fn read(path: impl AsRef<Path>) -> Result<History, HistoryError> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|source| HistoryError::Open {
        path: path.to_owned(),
        source,
    })?;
    read_from(BufReader::with_capacity(1 << 20, file))
}

/// Reads a history from anything.
pub fn read_from(mut source: impl BufRead) -> Result<History, HistoryError> {
    let mut reading = Reading::default();
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        let mut limited = io::Read::take(&mut source, LINE_BYTES_MAX);
        let read = limited.read_until(b'\n', &mut text);
        let length = read.map_err(|source| HistoryError::Read { line, source })?;
        if length == 0 {
            break;
        }
        if length as u64 == LINE_BYTES_MAX && text.last() != Some(&b'\n') {
            return Err(wrong(
                line,
                None,
                format!("is longer than {LINE_BYTES_MAX} bytes"),
            ));
        }
        let whole = text.last() == Some(&b'\n');
        match reading.line(line, &text) {
            Ok(()) => reading.history.lines = line,
            // The last line of a recorder that was killed: a beginning and nothing after it.
            Err(Failed::Parse(error)) if !whole && error.classify() == Category::Eof => {
                reading.history.truncated = Some(line);
            }
            Err(Failed::Parse(error)) => return Err(explain(line, &text, &error)),
            Err(Failed::Wrong(error)) => return Err(error),
        }
    }
    if reading.history.header.is_none() {
        return Err(HistoryError::NoHeader);
    }
    reading
        .history
        .streams
        .iter_mut()
        .for_each(|stream| stream.steps.shrink_to_fit());
    Ok(reading.history)
}

/// Takes a history that is in memory already. The header is line 1, the first record line 2.
pub fn from_records(
    header: Header,
    records: impl IntoIterator<Item = Record>,
) -> Result<History, HistoryError> {
    let mut reading = Reading::default();
    reading.header(header)?;
    for (line, record) in (2..).zip(records) {
        reading.record(line, record)?;
        reading.history.lines = line;
    }
    Ok(reading.history)
}

enum Failed {
    Parse(serde_json::Error),
    Wrong(HistoryError),
}

impl From<serde_json::Error> for Failed {
    fn from(error: serde_json::Error) -> Self {
        Self::Parse(error)
    }
}

fn wrong(line: u64, field: Option<&str>, problem: impl Into<String>) -> HistoryError {
    HistoryError::Line {
        line,
        field: field.map(str::to_owned),
        problem: problem.into(),
    }
}

/// Finds the field to blame: the one without which the complaint is another.
fn explain(line: u64, text: &[u8], error: &serde_json::Error) -> HistoryError {
    let complaint = |value: &Value| {
        if line == 1 {
            serde_json::from_value::<Header>(value.clone()).err()
        } else {
            serde_json::from_value::<Record>(value.clone()).err()
        }
        .map(|error| error.to_string())
    };
    let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(text) else {
        return wrong(line, None, format!("no JSON object: {error}"));
    };
    let whole = complaint(&Value::Object(fields.clone()));
    let named = whole.as_deref().and_then(|text| {
        let rest = text.split_once(" field `")?.1;
        Some(rest.split_once('`')?.0.to_owned())
    });
    let blamed = named.or_else(|| {
        let culprit = fields.keys().find(|name| {
            let mut without = fields.clone();
            without.remove(*name);
            complaint(&Value::Object(without)) != whole && *name != "kind"
        });
        culprit.cloned()
    });
    let blamed = blamed.or_else(|| fields.contains_key("kind").then(|| "kind".to_owned()));
    wrong(
        line,
        blamed.as_deref(),
        whole.unwrap_or_else(|| error.to_string()),
    )
}

/// The history so far.
#[derive(Default)]
struct Reading {
    history: History,
    streams: FxHashMap<u64, usize>,
    publishes: FxHashMap<(u32, u64), usize>,
}

impl Reading {
    fn line(&mut self, line: u64, text: &[u8]) -> Result<(), Failed> {
        if line == 1 {
            let header: Header = serde_json::from_slice(text)?;
            return self.header(header).map_err(Failed::Wrong);
        }
        let record: Record = serde_json::from_slice(text)?;
        self.record(line, record).map_err(Failed::Wrong)
    }

    fn header(&mut self, header: Header) -> Result<(), HistoryError> {
        if header.format != FORMAT {
            let problem = format!("is `{}` and not `{FORMAT}`", header.format);
            return Err(wrong(1, Some("format"), problem));
        }
        if header.version != VERSION {
            let problem = format!("is {}; this program reads {VERSION}", header.version);
            return Err(wrong(1, Some("version"), problem));
        }
        self.history.header = Some(header);
        self.history.lines = 1;
        Ok(())
    }

    fn record(&mut self, line: u64, record: Record) -> Result<(), HistoryError> {
        match record {
            Record::PublishBegun(begun) => return self.begin_publish(line, begun),
            Record::PublishEnded(ended) => return self.end_publish(line, &ended),
            Record::StreamOpened(opened) => return self.open_stream(line, &opened),
            Record::Welcome(it) => {
                let said = Said::Welcome {
                    outcome: it.outcome,
                    position: Position {
                        epoch: it.position_epoch.unwrap_or(it.epoch),
                        sequence: it.sequence,
                    },
                    epoch: it.epoch,
                };
                self.step(line, it.at, it.stream, said)?;
            }
            Record::Event(it) => {
                let topic = self.history.topics.number(&it.topic);
                let told = Told {
                    topic,
                    applied: it.applied,
                    sequence: it.sequence,
                    previous: it.previous_sequence,
                    digest: it.digest,
                };
                self.step(line, it.at, it.stream, Said::Event(told))?;
            }
            Record::Gap(it) => {
                let gap = StepGap {
                    reason: it.reason,
                    after: it.after_sequence,
                    through: it.through_sequence,
                    events: it.events,
                    through_epoch: it.through_epoch.filter(|&epoch| epoch != 0),
                };
                self.step(line, it.at, it.stream, Said::Gap(Box::new(gap)))?;
            }
            Record::Progress(it) => {
                let position = Position {
                    epoch: it.epoch,
                    sequence: it.sequence,
                };
                let current = it.current;
                self.step(line, it.at, it.stream, Said::Progress { position, current })?;
            }
            Record::FilterAdded(it) => {
                let (filter, after) = (self.history.filters.number(&it.filter), it.after);
                self.step(line, it.at, it.stream, Said::FilterAdded { filter, after })?;
            }
            Record::FilterRemoved(it) => {
                let (filter, after) = (self.history.filters.number(&it.filter), it.after);
                self.step(
                    line,
                    it.at,
                    it.stream,
                    Said::FilterRemoved { filter, after },
                )?;
            }
            Record::GoAway(it) => {
                let position = it.position;
                self.step(line, it.at, it.stream, Said::GoAway { position })?;
            }
            Record::StreamEnded(it) => {
                self.seen(it.at);
                let stream = self.stream(line, it.stream)?;
                if stream.ended.is_some() {
                    return Err(wrong(line, Some("stream"), "has ended before"));
                }
                stream.ended = Some((it.at, line, it.returns));
            }
            Record::Fault(it) => {
                self.seen(it.at);
                self.history.faults.push(it.what);
            }
            Record::FaultsOver(it) => {
                self.seen(it.at);
                self.history.faults_over = Some((it.at, line));
            }
            Record::Head(it) => {
                self.seen(it.at);
                let position = Position {
                    epoch: it.epoch,
                    sequence: it.sequence,
                };
                self.history.heads.push((position, line));
            }
            Record::Trimmed(it) => {
                let topic = self.history.topics.number(&it.topic);
                self.history.trimmed.insert((it.epoch, topic), it.through);
            }
        }
        Ok(())
    }

    fn seen(&mut self, at: u64) {
        self.history.last_at = self.history.last_at.max(at);
    }

    fn begin_publish(&mut self, line: u64, begun: super::PublishBegun) -> Result<(), HistoryError> {
        self.seen(begun.at);
        let history = &mut self.history;
        let publisher = history.publishers.number(&begun.publisher);
        let index = history.publishes.len();
        if self
            .publishes
            .insert((publisher, begun.publish), index)
            .is_some()
        {
            let problem = format!(
                "{} was begun before by `{}`",
                begun.publish, begun.publisher
            );
            return Err(wrong(line, Some("publish"), problem));
        }
        history.publishes.push(Publish {
            publisher,
            number: begun.publish,
            principal: history.principals.number(&begun.principal),
            topic: history.topics.number(&begun.topic),
            digest: begun.digest,
            bytes: begun.bytes,
            message_id: begun.message_id.map(|id| history.message_ids.number(&id)),
            begun_at: begun.at,
            begun_line: line,
            answer: Answer::Unknown,
            ended_at: u64::MAX,
            ended_line: 0,
        });
        Ok(())
    }

    fn end_publish(&mut self, line: u64, ended: &super::PublishEnded) -> Result<(), HistoryError> {
        self.seen(ended.at);
        let publisher = self.history.publishers.number(&ended.publisher);
        let Some(&index) = self.publishes.get(&(publisher, ended.publish)) else {
            let problem = format!("{} was not begun by `{}`", ended.publish, ended.publisher);
            return Err(wrong(line, Some("publish"), problem));
        };
        let publish = &mut self.history.publishes[index];
        if publish.ended_line != 0 {
            return Err(wrong(line, Some("publish"), "has ended before"));
        }
        publish.ended_line = line;
        publish.answer = match ended.outcome {
            PublishOutcome::Acknowledged {
                epoch,
                sequence,
                durability,
                duplicate,
            } => Answer::Acknowledged {
                position: Position { epoch, sequence },
                durability,
                duplicate,
            },
            PublishOutcome::Refused { .. } => Answer::Refused,
            PublishOutcome::Unknown => Answer::Unknown,
        };
        if publish.answer != Answer::Unknown {
            publish.ended_at = ended.at;
        }
        Ok(())
    }

    fn open_stream(&mut self, line: u64, opened: &super::StreamOpened) -> Result<(), HistoryError> {
        self.seen(opened.at);
        let history = &mut self.history;
        if self
            .streams
            .insert(opened.stream, history.streams.len())
            .is_some()
        {
            let problem = format!("{} was opened before", opened.stream);
            return Err(wrong(line, Some("stream"), problem));
        }
        history.streams.push(Stream {
            number: opened.stream,
            subscriber: history.subscribers.number(&opened.subscriber),
            opened_at: opened.at,
            opened_line: line,
            filters: opened
                .filters
                .iter()
                .map(|text| history.filters.number(text))
                .collect(),
            resume_after: opened.resume_after,
            start: opened.start,
            gap_policy: opened.gap_policy,
            max_event_bytes: opened.max_event_bytes.unwrap_or(EVENT_BYTES_DEFAULT),
            steps: Vec::new(),
            ended: None,
        });
        Ok(())
    }

    fn stream(&mut self, line: u64, number: u64) -> Result<&mut Stream, HistoryError> {
        let Some(&index) = self.streams.get(&number) else {
            return Err(wrong(
                line,
                Some("stream"),
                format!("{number} was not opened"),
            ));
        };
        Ok(&mut self.history.streams[index])
    }

    fn step(&mut self, line: u64, at: u64, stream: u64, said: Said) -> Result<(), HistoryError> {
        self.seen(at);
        let stream = self.stream(line, stream)?;
        if stream.ended.is_some() {
            return Err(wrong(line, Some("stream"), "has ended before"));
        }
        stream.steps.push(Step { at, line, said });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
