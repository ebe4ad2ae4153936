//! Reads the subscription, prints, and keeps the position.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use longlived_client::{
    Client, Event, Item, Notice, Outcome, Position, SubscribeError, Subscriber,
};
use tokio_stream::StreamExt as _;

use super::Args;
use super::position_file::PositionFile;
use crate::show::{self, Output, Record, note};
use crate::signals::StopSignals;
use crate::values;

/// While more events are at hand the position is saved once in so many: it costs a sync of the disk.
const UNSAVED_EVENTS_MAX: u32 = 64;

/// Prints events until the subscription ends, a signal comes, or nobody reads any more.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    values::few_filters(&args.filters)?;
    let mut signals = StopSignals::new()?;
    let mut reading = Reading::new(&args)?;
    let client = Client::builder(args.server.server.as_str());
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
        let item = if let Some(item) = at_hand {
            item
        } else {
            reading.save()?;
            tokio::select! {
                biased;
                _ = signals.next() => break Ok(ExitCode::SUCCESS),
                item = subscriber.next() => item,
            }
        };
        match reading.take(item, &subscriber) {
            Ok(Some(code)) => break Ok(code),
            Ok(None) => {}
            Err(error) => break Err(error),
        }
    };
    reading.save()?;
    match ended {
        // As after `| head -3`: who has read enough did not fail.
        Err(error) if show::is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        ended => ended,
    }
}

struct Reading {
    output: Output,
    /// Named where something goes wrong with it.
    server: String,
    json: bool,
    position_file: Option<PositionFile>,
    /// Everything up to here was printed.
    done: Option<Position>,
    /// Events printed since it was saved.
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
            output: Output::stdout(),
            server: args.server.server.clone(),
            json: args.json,
            position_file,
            done: None,
            unsaved: 0,
        })
    }

    fn save(&mut self) -> anyhow::Result<()> {
        self.unsaved = 0;
        if let (Some(file), Some(done)) = (&mut self.position_file, self.done) {
            file.save(done)?;
        }
        Ok(())
    }

    /// Handles what the subscription yielded; the exit code when it is over.
    fn take(
        &mut self,
        item: Option<Result<Item, SubscribeError>>,
        subscriber: &Subscriber,
    ) -> anyhow::Result<Option<ExitCode>> {
        let Some(item) = item else {
            return Ok(Some(ExitCode::SUCCESS));
        };
        match item.with_context(|| self.server.clone())? {
            Item::Event(event) => {
                self.print(&event).context("printing an event")?;
                self.done = Some(event.position);
                self.unsaved += 1;
            }
            Item::Gap(gap) => {
                note(format!("gap: {gap}"));
                if self.json {
                    let line = Record::gap(&gap, None).to_line();
                    show::print_line(line).context("printing a gap")?;
                }
                self.done = Some(gap.through);
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
            // Nobody needs to know, but the next run begins there. Where something was missed, the gap that
            // says so comes first.
            Notice::Progress { .. } | Notice::Current { .. } => self.done = subscriber.position(),
            Notice::Connected { outcome, .. } => {
                if *outcome != Outcome::Reset {
                    self.done = subscriber.position();
                }
                note(format!("{who}: {notice}"));
            }
            Notice::Disconnected { .. } => note(format!("{who}: {}: {notice}", self.server)),
            Notice::HandingOver { .. }
            | Notice::CredentialExpires { .. }
            | Notice::Unsubscribed { .. } => note(format!("{who}: {notice}")),
        }
    }

    fn print(&self, event: &Event) -> std::io::Result<()> {
        if self.json {
            return show::print_line(Record::event(event, None).to_line());
        }
        show::print_line(show::event_line(event, self.output))
    }
}
