//! Sends, and reports the acknowledgements.

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::stream;
use longlived_client::{Message, Published, Publisher};
use parking_lot::Mutex;
use tokio::io::BufReader;
use tokio_stream::{Stream, StreamExt as _};

use super::Args;
use super::lines::{Lines, LinesError};
use crate::show::{self, Record, note};

/// Messages sent and not yet acknowledged.
const IN_FLIGHT: usize = 256;
/// The exit status when acknowledged lines are gone with the history they were in.
const LINES_ARE_GONE: u8 = 3;
/// A person who waits longer than this wants to know the reason.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.check()?;
    let client = args.server.client()?.build()?;
    let publisher = client.publisher().timeout(args.timeout);
    let mut template = Message::new(args.topic, "").key(args.key.unwrap_or_default());
    template.headers = args.headers.into_iter().collect();
    let report = Report { json: args.json };
    match args.payload {
        Some(payload) => {
            let mut message = template;
            message.payload = payload.into();
            message.message_id = args.message_id.unwrap_or_default();
            let answer = publisher.publish(message.clone());
            let answer = patiently(answer, client.url()).await;
            report.one(&message, &answer.with_context(|| client.url().to_owned())?)?;
            Ok(ExitCode::SUCCESS)
        }
        None => lines(&publisher, template, args.message_id, report)
            .await
            .with_context(|| client.url().to_owned()),
    }
}

/// Says after a while that there is no answer yet.
async fn patiently<T>(answer: impl Future<Output = T>, server: &str) -> T {
    let mut answer = std::pin::pin!(answer);
    match tokio::time::timeout(PATIENCE, &mut answer).await {
        Ok(answer) => answer,
        Err(_elapsed) => {
            note(format!("no answer from {server} yet, trying on"));
            answer.await
        }
    }
}

#[derive(Clone, Copy)]
struct Report {
    json: bool,
}

impl Report {
    fn one(self, message: &Message, answer: &Published) -> anyhow::Result<()> {
        let line = if self.json {
            Record::published(message, answer).to_line()
        } else {
            format!("{}, {}", place(answer), durability(answer))
        };
        show::print_line(line).context("printing the answer")
    }
}

fn place(answer: &Published) -> String {
    if answer.duplicate {
        format!("was published before, at {}", answer.position)
    } else {
        format!("published at {}", answer.position)
    }
}

fn durability(answer: &Published) -> String {
    use longlived_client::Durability;
    match answer.durability {
        Durability::Memory => "durability memory: a crash of the server loses it".to_owned(),
        Durability::Disk => "durability disk: synced to the server's disk".to_owned(),
        Durability::Replicated => {
            "durability replicated: acknowledged by the cluster's log".to_owned()
        }
        Durability::Unknown => "durability unknown: the server did not say".to_owned(),
    }
}

/// The state that the source of messages leaves for the side that reads the answers.
#[derive(Default)]
struct Sent {
    /// In the order in which answers come; without payloads.
    unanswered: VecDeque<Message>,
    failure: Option<LinesError>,
}

async fn lines(
    sender: &Publisher,
    template: Message,
    message_id: Option<String>,
    report: Report,
) -> anyhow::Result<ExitCode> {
    let sent = Arc::new(Mutex::new(Sent::default()));
    let messages = messages(template, message_id, sent.clone());
    let mut answers = sender.publish_stream(messages, IN_FLIGHT);
    let mut count = Count::default();
    while let Some(answer) = answers.next().await {
        let answer = answer.with_context(|| count.before_failure())?;
        count.answered(&answer);
        let message = sent.lock().unanswered.pop_front();
        if let Some(message) = message.filter(|_| report.json) {
            report.one(&message, &answer)?;
        }
    }
    if let Some(failure) = sent.lock().failure.take() {
        let published = count.published;
        return Err(failure).with_context(|| format!("{published} lines published, then"));
    }
    if !report.json {
        show::print_line(count.summary()).context("printing the answer")?;
    }
    Ok(match count.loss() {
        None => ExitCode::SUCCESS,
        Some(loss) => {
            note(loss);
            ExitCode::from(LINES_ARE_GONE)
        }
    })
}

/// The acknowledgements. Answers come in the order of the lines.
#[derive(Debug, Default)]
struct Count {
    published: u64,
    duplicates: u64,
    last: Option<Published>,
    /// The lines up to this one were acknowledged in a history that is gone.
    gone: u64,
}

impl Count {
    fn answered(&mut self, answer: &Published) {
        let epoch = answer.position.epoch;
        if self.last.is_some_and(|last| last.position.epoch != epoch) {
            self.gone = self.published;
        }
        self.published += 1;
        self.duplicates += u64::from(answer.duplicate);
        self.last = Some(*answer);
    }

    fn summary(&self) -> String {
        let Some(last) = self.last else {
            return "nothing to publish: standard input was empty".to_owned();
        };
        let lines = if self.published == 1 { "line" } else { "lines" };
        let before = match self.duplicates {
            0 => String::new(),
            duplicates => format!(" ({duplicates} had been published before)"),
        };
        let gone = match self.gone {
            0 => String::new(),
            gone => format!(" of which {gone} are gone,"),
        };
        let (published, position, durability) = (self.published, last.position, durability(&last));
        format!("published {published} {lines}{before},{gone} the last at {position}, {durability}")
    }

    /// The loss of lines although they were acknowledged.
    fn loss(&self) -> Option<String> {
        let lines = match self.gone {
            0 => return None,
            1 => "line 1 was".to_owned(),
            gone => format!("lines 1 to {gone} were"),
        };
        Some(format!(
            "{lines} acknowledged and gone: the server began a new history since, without them; publish them again"
        ))
    }

    /// Where it was when it failed.
    fn before_failure(&self) -> String {
        let (published, next) = (self.published, self.published + 1);
        let in_memory = |last: Published| last.durability == longlived_client::Durability::Memory;
        match self.loss() {
            None if self.last.is_some_and(in_memory) => format!(
                "line {next} ({published} published before it, into the server's memory: gone if the server has ended)"
            ),
            None => format!("line {next} ({published} published before it)"),
            Some(loss) => format!("line {next} ({published} published before it; {loss})"),
        }
    }
}

/// Each line as a message, read as fast as it can be sent.
fn messages(
    template: Message,
    message_id: Option<String>,
    sent: Arc<Mutex<Sent>>,
) -> impl Stream<Item = Message> + Send + 'static {
    let lines = Lines::new(BufReader::new(tokio::io::stdin()));
    stream::unfold(lines, move |mut lines| {
        let (mut message, message_id, sent) = (template.clone(), message_id.clone(), sent.clone());
        async move {
            let (number, line) = match lines.next().await {
                Ok(line) => line?,
                Err(error) => {
                    sent.lock().failure = Some(error);
                    return None;
                }
            };
            if let Some(id) = message_id {
                message.message_id = format!("{id}-{number}");
            }
            sent.lock().unanswered.push_back(message.clone());
            message.payload = line.into();
            Some((message, lines))
        }
    })
}

#[cfg(test)]
mod tests {
    use longlived_client::{Durability, Position};

    use super::*;

    fn answer(duplicate: bool) -> Published {
        Published {
            position: Position::new(7, 42),
            durability: Durability::Memory,
            duplicate,
        }
    }

    #[test]
    fn a_failure_says_when_earlier_lines_may_be_gone_too() {
        let mut count = Count::default();
        assert_eq!(count.before_failure(), "line 1 (0 published before it)");
        count.answered(&answer(false));
        let failure = count.before_failure();
        assert!(
            failure.contains("gone if the server has ended"),
            "{failure}"
        );
        count.answered(&Published {
            durability: Durability::Disk,
            ..answer(false)
        });
        assert_eq!(count.before_failure(), "line 3 (2 published before it)");
    }

    #[test]
    fn the_answer_names_position_and_durability() {
        assert_eq!(place(&answer(false)), "published at 7/42");
        assert_eq!(place(&answer(true)), "was published before, at 7/42");
        assert!(durability(&answer(false)).starts_with("durability memory"));
    }

    #[test]
    fn many_lines_are_one_sentence() {
        let mut count = Count::default();
        for duplicate in [true, false, false] {
            count.answered(&answer(duplicate));
        }
        assert_eq!(
            count.summary(),
            "published 3 lines (1 had been published before), the last at 7/42, durability memory: \
             a crash of the server loses it"
        );
        assert_eq!(count.loss(), None);
        assert!(Count::default().summary().contains("empty"));
    }

    #[test]
    fn lines_whose_history_is_gone_are_named() {
        let mut count = Count::default();
        for epoch in [7, 7, 9, 9, 9] {
            let mut answer = answer(false);
            answer.position.epoch = epoch;
            count.answered(&answer);
        }
        let summary = count.summary();
        assert!(
            summary.starts_with("published 5 lines, of which 2 are gone, the last at 9/42"),
            "{summary}"
        );
        let loss = count.loss().unwrap();
        assert!(
            loss.starts_with("lines 1 to 2 were acknowledged and gone"),
            "{loss}"
        );
        let failure = count.before_failure();
        assert!(
            failure.contains("line 6 (5 published before it; lines 1 to 2"),
            "{failure}"
        );
    }
}
