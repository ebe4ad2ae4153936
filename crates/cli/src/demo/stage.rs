//! Everything that runs during the demo, watched in one loop.
//!
//! Holds: the story waits for facts, never for a length of time alone, and the whole of it has one deadline.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context as _;
use longlived_client::fleet::{Fleet, Happening, What};
use longlived_client::{Gap, GoAwayReason, Outcome, PublishError, Published};
use tokio::time::{Instant, sleep_until};
use tokio_stream::{Stream, StreamExt as _};

use super::board::Board;
use super::page::Page;
use super::server::Server;
use super::strangers::{Ending, Stranger};
use crate::show::{self, Tone};
use crate::signals::StopSignals;

/// How often the ledger is asked whether anything is still owed: that costs a walk over all of it.
const LEDGER_EVERY: Duration = Duration::from_millis(100);

/// Answers to the publisher, in the order of the lines.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<Published, PublishError>> + Send>>;

/// Why the story cannot go on.
#[derive(Debug)]
pub(super) enum Trouble {
    /// A signal, by its number.
    Interrupted(u8),
    /// It took too long: the condition, and its progress.
    Waited(String),
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

pub(super) struct Stage {
    pub(super) signals: StopSignals,
    pub(super) page: Page,
    pub(super) board: Board,
    pub(super) fleet: Fleet,
    /// `None` while it is dead.
    pub(super) server: Option<Server>,
    /// `None` before the publisher starts, and when it is done.
    pub(super) answers: Option<Answers>,
    pub(super) topic: &'static str,
    pub(super) deadline: Instant,
    /// Strangers that were not refused as they should have been.
    pub(super) intruders: u32,
    /// Clients that came back and have not received the missed events yet, with the time they were away.
    pub(super) returned: BTreeMap<u32, Duration>,
}

impl Stage {
    /// Watches everything until the board shows the condition.
    pub(super) async fn until(
        &mut self,
        what: &str,
        done: impl Fn(&Board) -> bool,
    ) -> Result<(), Trouble> {
        while !done(&self.board) {
            let waited = sleep_until(self.deadline);
            self.step(waited, || what.to_owned()).await?;
        }
        Ok(())
    }

    /// Watches everything for a while.
    pub(super) async fn pass(&mut self, time: Duration) -> Result<(), Trouble> {
        let end = Instant::now() + time;
        loop {
            match self.step(sleep_until(end), String::new).await {
                Err(Trouble::Waited(_)) => return Ok(()),
                result => result?,
            }
        }
    }

    /// Watches everything while each stranger asks and is answered.
    pub(super) async fn refuse(&mut self, strangers: &[Stranger]) -> Result<(), Trouble> {
        for stranger in strangers {
            let mut asked = std::pin::pin!(stranger.ask(self.topic));
            let ending = loop {
                let waited = sleep_until(self.deadline);
                tokio::select! {
                    biased;
                    ending = &mut asked => break ending?,
                    stepped = self.step(waited, || format!("an answer to a stranger {}", stranger.brings)) => stepped?,
                }
            };
            let brings = stranger.brings;
            match ending {
                Ending::Refused(said) => {
                    let text = format!("{brings}: refused with {said}");
                    self.page.event("stranger", Tone::Good, &text)?;
                }
                Ending::Wrong(what) => {
                    self.intruders += 1;
                    let text = format!("{brings}: {what}");
                    self.page.event("stranger", Tone::Bad, &text)?;
                }
            }
        }
        Ok(())
    }

    /// Watches everything until nothing that was promised is outstanding.
    pub(super) async fn until_nothing_is_owed(&mut self) -> Result<(), Trouble> {
        while self.fleet.outstanding() > 0 {
            if Instant::now() >= self.deadline {
                let owed = self.fleet.outstanding();
                return Err(Trouble::Waited(format!("{owed} promised deliveries")));
            }
            self.pass(LEDGER_EVERY).await?;
        }
        Ok(())
    }

    /// Handles the next thing that happens. `waited`: when to stop waiting for it.
    async fn step(
        &mut self,
        waited: impl Future<Output = ()>,
        what: impl Fn() -> String,
    ) -> Result<(), Trouble> {
        tokio::select! {
            biased;
            (_, number) = self.signals.next() => Err(Trouble::Interrupted(number)),
            () = waited => Err(Trouble::Waited(format!("{} ({})", what(), self.board.laggards()))),
            answer = next_answer(&mut self.answers) => {
                let answer = answer.with_context(|| {
                    format!("publishing line {}", self.board.acknowledged_lines() + 1)
                })?;
                self.board.acknowledged(answer.position, answer.durability);
                self.fleet.acknowledged(answer.position, self.topic);
                Ok(())
            }
            happening = self.fleet.next_happening() => match happening {
                Some(happening) => self.happened(&happening),
                None => Err(anyhow::anyhow!("every client has ended").into()),
            },
            error = server_ended(self.server.as_mut()) => Err(error.into()),
        }
    }

    fn happened(&mut self, happening: &Happening) -> Result<(), Trouble> {
        let renewals = self.board.renewals_of(happening.client);
        let complete = self.board.happened(happening.client, &happening.what);
        if let Some(line) = complete {
            self.page.line(&line)?;
        }
        let renewed = self.board.renewals_of(happening.client) > renewals;
        match &happening.what {
            // Lines are shown once and not ten times; inboxes are there, and counted, but tell nothing. A second stream with
            // a fresh token follows the word of it, and both are one line.
            What::Event(_)
            | What::HandingOver {
                cause: GoAwayReason::CredentialExpired,
                ..
            } => Ok(()),
            // Only the first of each client is shown.
            What::Resubscribed { .. } if renewed => match renewals {
                0 => self.renewed(happening.client),
                _ => Ok(()),
            },
            // The first attempt in vain is shown of each client; of the others the number.
            What::BackingOff {
                had_stream: false, ..
            } if self.board.failed_attempts_of(happening.client) > 1 => Ok(()),
            // Its gap follows at once, and both are one line.
            What::Resubscribed {
                outcome: Some(Outcome::Reset),
                after,
            } => {
                self.returned.insert(happening.client, *after);
                Ok(())
            }
            What::Gap(gap) => match self.returned.remove(&happening.client) {
                Some(after) => self.returned_with_gap(happening.client, after, gap),
                None => self.tell(happening),
            },
            _ => self.tell(happening),
        }
    }

    fn returned_with_gap(&self, client: u32, after: Duration, gap: &Gap) -> Result<(), Trouble> {
        let (after, last) = (
            show::seconds(after),
            gap.after.map_or(0, |after| after.sequence),
        );
        let text = format!(
            "resubscribed after {after}; gap announced after #{last}: {}",
            gap.reason
        );
        self.page
            .event(&format!("client {client}"), Tone::Good, &text)?;
        Ok(())
    }

    fn renewed(&self, client: u32) -> Result<(), Trouble> {
        let text = "was told that its token ends soon, and renewed it by a second stream";
        self.page
            .event(&format!("client {client}"), Tone::Good, text)?;
        Ok(())
    }

    fn tell(&self, happening: &Happening) -> Result<(), Trouble> {
        if let Some((tone, text)) = show::describe(&happening.what, false) {
            let who = format!("client {}", happening.client);
            self.page.event(&who, tone, &text)?;
        }
        Ok(())
    }

    /// Unsubscribes all clients and waits for the last response of each.
    pub(super) async fn leave(&mut self) -> Result<(), Trouble> {
        self.page.step("Everybody unsubscribes")?;
        self.fleet.leave();
        loop {
            tokio::select! {
                biased;
                (_, number) = self.signals.next() => return Err(Trouble::Interrupted(number)),
                happening = self.fleet.next_happening() => match happening {
                    Some(Happening { what: What::Unsubscribed { ok: true }, .. }) => {}
                    Some(happening) => self.happened(&happening)?,
                    None => return Ok(()),
                },
            }
        }
    }
}

/// Never, where the publisher has not begun or has its last answer. Safe to drop while it waits.
async fn next_answer(answers: &mut Option<Answers>) -> Result<Published, PublishError> {
    if let Some(stream) = answers {
        if let Some(answer) = stream.next().await {
            return answer;
        }
        *answers = None;
    }
    std::future::pending().await
}

/// Never, where there is no server.
async fn server_ended(server: Option<&mut Server>) -> anyhow::Error {
    match server {
        Some(server) => server.ended().await,
        None => std::future::pending().await,
    }
}
