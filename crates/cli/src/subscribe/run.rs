//! Reads the subscription, prints, and keeps the position.

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use longlived_client::{Event, Item, Notice, Outcome, Position, SubscribeError, Subscriber};
use longlived_console::sink::{self, Failing, OutputError, Sink};
use tokio_stream::StreamExt as _;

use super::Args;
use super::position_file::PositionFile;
use crate::show::{self, Output, Record, note};
use crate::signals::StopSignals;
use crate::values;

/// While more events are at hand the position is saved once in this many events, because it costs a sync of the disk.
const UNSAVED_EVENTS_MAX: u32 = 64;
/// Bytes of lines that wait for a slow reader, beside what its pipe holds; no more is read from the server meanwhile.
const LINES_BYTES_MAX: usize = 64 << 10;

/// Prints events until the subscription ends, a signal comes, or the reader has gone.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    values::few_filters(&args.filters)?;
    let mut signals = StopSignals::new()?;
    let mut reading = Reading::new(&args)?;
    let client = args.server.client()?;
    let client = args.compression.apply(client).build()?;
    let id = args
        .id
        .unwrap_or_else(|| format!("cli-{:016x}", rand::random::<u64>()));
    let mut builder = client.subscriber(id).filters(args.filters);
    let saved = reading.position_file.as_ref().and_then(PositionFile::saved);
    match (saved, args.from) {
        (Some(saved), _) => builder = builder.resume_after(saved),
        (None, Some(begin)) => builder = begin.apply(builder, SystemTime::now()),
        (None, None) => {}
    }
    let mut subscriber = builder.build()?;
    let ended = loop {
        // Only when nothing is at hand, or much was printed, is it time to save and to look for a signal.
        let at_hand = if reading.unsaved < UNSAVED_EVENTS_MAX {
            subscriber.next().now_or_never()
        } else {
            None
        };
        let step = async {
            let item = if let Some(item) = at_hand {
                item
            } else {
                // A reader that is slow holds up the events here, and with them the server.
                reading.out.settled().await?;
                reading.save()?;
                subscriber.next().await
            };
            reading.take(item, &subscriber).await
        };
        tokio::select! {
            biased;
            _ = signals.next() => break Ok(ExitCode::SUCCESS),
            taken = step => match taken {
                Ok(None) => {}
                Ok(Some(code)) => break Ok(code),
                Err(error) => break Err(error),
            },
        }
    };
    reading.end()?;
    ended
}

struct Reading {
    /// The events. Nothing of them may be missing.
    out: &'static Sink,
    output: Output,
    /// Named where something goes wrong with it.
    server: String,
    json: bool,
    position_file: Option<PositionFile>,
    /// Positions, each with the last line that is to be written before it is reached.
    ahead: VecDeque<(u64, Position)>,
    /// Everything up to here was written.
    done: Option<Position>,
    /// Events taken since it was saved.
    unsaved: u32,
}

impl Reading {
    fn new(args: &Args) -> anyhow::Result<Self> {
        let position_file = args
            .position_file
            .as_deref()
            .map(PositionFile::open)
            .transpose()?;
        if let Some(warning) = position_file.as_ref().and_then(PositionFile::warning) {
            note(warning);
        }
        Ok(Self {
            // Nothing is turned away here, so nothing is told in its place.
            out: sink::stdout(LINES_BYTES_MAX, Failing::Ends, |_| String::new()),
            output: Output::stdout(),
            server: args.server.server.clone(),
            json: args.json,
            position_file,
            ahead: VecDeque::new(),
            done: None,
            unsaved: 0,
        })
    }

    fn save(&mut self) -> anyhow::Result<()> {
        self.unsaved = 0;
        let written = self.out.written();
        while let Some(&(line, position)) = self.ahead.front()
            && line <= written
        {
            self.done = Some(position);
            self.ahead.pop_front();
        }
        if let (Some(file), Some(done)) = (&mut self.position_file, self.done) {
            file.save(done)?;
        }
        Ok(())
    }

    /// Saves the position of the last written event, at the end.
    fn end(&mut self) -> anyhow::Result<()> {
        self.out.flush();
        self.out.stop();
        self.save()
    }

    /// This is where it stands once the lines taken in so far are written.
    fn stands_at(&mut self, position: Option<Position>) {
        let line = self.out.accepted();
        let Some(position) = position else { return };
        match self.ahead.back_mut() {
            Some((last, at)) if *last == line => *at = position,
            _ => self.ahead.push_back((line, position)),
        }
    }

    async fn print(&self, mut line: String) -> Result<(), OutputError> {
        line.push('\n');
        self.out.put(line.as_bytes()).await?;
        Ok(())
    }

    /// Handles an item of the subscription; the exit code when it is over.
    async fn take(
        &mut self,
        item: Option<Result<Item, SubscribeError>>,
        subscriber: &Subscriber,
    ) -> anyhow::Result<Option<ExitCode>> {
        let Some(item) = item else {
            return Ok(Some(ExitCode::SUCCESS));
        };
        match item.with_context(|| self.server.clone())? {
            Item::Event(event) => {
                self.print(self.line(&event)).await?;
                self.stands_at(Some(event.position));
                self.unsaved += 1;
            }
            Item::Gap(gap) => {
                note(format!("gap: {gap}"));
                if self.json {
                    self.print(Record::gap(&gap, None).to_line()).await?;
                }
                self.stands_at(Some(gap.through));
            }
            Item::Violation(violation) => {
                note(format!("the server broke its promise: {violation}"));
            }
            Item::Notice(notice) => self.notice(&notice, subscriber),
        }
        Ok(None)
    }

    fn notice(&mut self, notice: &Notice, subscriber: &Subscriber) {
        let who = subscriber.id();
        match notice {
            // Not printed, but the next run begins there. Where something was missed, the gap that says so comes first.
            Notice::Progress { .. } | Notice::Current { .. } => {
                self.stands_at(subscriber.position());
            }
            Notice::Connected { outcome, .. } => {
                if *outcome != Outcome::Reset {
                    self.stands_at(subscriber.position());
                }
                note(format!("{who}: {notice}"));
            }
            Notice::Disconnected { .. } => note(format!("{who}: {}: {notice}", self.server)),
            Notice::HandingOver { .. }
            | Notice::CredentialExpires { .. }
            | Notice::FilterRefused { .. }
            | Notice::Unsubscribed { .. } => note(format!("{who}: {notice}")),
        }
    }

    fn line(&self, event: &Event) -> String {
        if self.json {
            Record::event(event, None).to_line()
        } else {
            show::event_line(event, self.output)
        }
    }
}
