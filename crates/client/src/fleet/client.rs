//! One client of a fleet: reads its subscriber, counts, tells, and leaves when it is told to.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::config::{Contract, FleetConfig, Show};
use super::filter;
use super::happening::{Happening, What};
use super::ledger::Ledger;
use super::said::{self, Driven, Said};
use super::tally::{Tally, Totals};
use super::verdict::ClientVerdict;
use crate::client::Client;
use crate::continuity::Violation;
use crate::subscriber::Outcome;

/// The state that all clients of a fleet share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) client: Client,
    pub(super) config: FleetConfig,
    pub(super) totals: Totals,
    /// Only messages of `config.audit` are entered.
    pub(super) ledger: Mutex<Ledger>,
    /// Cancelled when the fleet is to unsubscribe.
    pub(super) leave: CancellationToken,
    /// Limits how many Unsubscribe calls are in flight.
    pub(super) calls: Semaphore,
    /// One entry for each client that has ended.
    pub(super) done: Mutex<Vec<ClientVerdict>>,
}

impl Common {
    /// The filters of client `number`.
    pub(super) fn filters(&self, number: u32) -> Vec<String> {
        let mut filters = self.config.topics.clone();
        if filters.is_empty() || self.config.inbox {
            filters.push(format!("inbox.{number}"));
        }
        filters
    }

    pub(super) fn follows(&self, number: u32, topic: &str) -> bool {
        self.config
            .topics
            .iter()
            .any(|filter| filter::selects(filter, topic))
            || ((self.config.topics.is_empty() || self.config.inbox)
                && topic.strip_prefix("inbox.") == Some(number.to_string().as_str()))
    }
}

/// Tells the happenings that are asked for. The queue is bounded: a caller that asks for everything must read it.
struct Teller {
    number: u32,
    show: Show,
    happenings: mpsc::Sender<Happening>,
}

impl Teller {
    async fn tell(&self, what: What) {
        let least = match what {
            What::Event(_) | What::Data(_) => Show::Everything,
            _ => Show::States,
        };
        if self.show >= least {
            // The listener has gone: that is no reason to stop counting.
            let _ = self
                .happenings
                .send(Happening {
                    client: self.number,
                    what,
                })
                .await;
        }
    }
}

pub(super) async fn run(common: Arc<Common>, number: u32, happenings: mpsc::Sender<Happening>) {
    let teller = Teller {
        number,
        show: common.config.show,
        happenings,
    };
    let provable = common.config.contract == Contract::V1;
    let mut tally = Tally::new(&common.totals, number, provable);
    let wait = common.config.stagger * number.saturating_sub(1);
    let unsubscribed_ok = tokio::select! {
        biased;
        // Never subscribed, so there is nothing to end.
        () = common.leave.cancelled() => false,
        () = tokio::time::sleep(wait) => match subscriber(&common, number) {
            Ok(subscriber) => drive(&common, &teller, &mut tally, subscriber).await,
            Err(reason) => {
                tally.failed(reason.clone());
                teller.tell(What::Failed { reason }).await;
                false
            }
        },
    };
    let numbers = tally.close(unsubscribed_ok);
    common.done.lock().push(numbers);
}

fn subscriber(common: &Common, number: u32) -> Result<Driven, String> {
    match common.config.contract {
        Contract::V1 => said::v1(&common.client, number.to_string(), common.filters(number))
            .map_err(|error| error.to_string()),
        Contract::Protos => i32::try_from(number)
            .map(|id| said::protos(&common.client, id))
            .map_err(|_| "this contract has no id above 2147483647".to_owned()),
    }
}

/// Reads until the stream ends or the time to leave is over. Returns true when Unsubscribe was answered and
/// the stream ended with OK.
async fn drive(common: &Common, teller: &Teller, tally: &mut Tally<'_>, driven: Driven) -> bool {
    let Driven {
        mut items,
        unsubscribe,
    } = driven;
    let leave = async {
        common.leave.cancelled().await;
        let call = async {
            let _permit = common.calls.acquire().await;
            unsubscribe.await
        };
        tokio::time::timeout(common.config.stop_timeout, call)
            .await
            .unwrap_or(false)
    };
    let deadline = async {
        common.leave.cancelled().await;
        tokio::time::sleep(common.config.stop_timeout).await;
    };
    let mut leave = std::pin::pin!(leave);
    let mut deadline = std::pin::pin!(deadline);
    let mut answered = None;
    let mut stream_ok = false;
    loop {
        tokio::select! {
            biased;
            () = &mut deadline => {
                tally.failed("did not leave in time".to_owned());
                return false;
            }
            answer = &mut leave, if answered.is_none() => {
                answered = Some(answer);
                if !answer {
                    // The server does not end the stream, so nothing would.
                    return false;
                }
            }
            item = items.next() => match item {
                Some(Ok(said)) => {
                    if let Said::Unsubscribed { ok } = said {
                        stream_ok = ok;
                        if !common.leave.is_cancelled() {
                            common.ledger.lock().end(teller.number);
                            tally.failed("another call unsubscribed it".to_owned());
                        }
                    }
                    take(common, teller, tally, said).await;
                }
                Some(Err(error)) => {
                    if !common.leave.is_cancelled() {
                        common.ledger.lock().end(teller.number);
                    }
                    let reason = error.to_string();
                    tally.failed(reason.clone());
                    teller.tell(What::Failed { reason }).await;
                    return false;
                }
                None => break,
            },
        }
    }
    // The stream may have ended before the answer came; without a word of ours there is none to wait for.
    if answered.is_none() && stream_ok && common.leave.is_cancelled() {
        answered = Some(leave.await);
    }
    stream_ok && answered == Some(true)
}

async fn take(common: &Common, teller: &Teller, tally: &mut Tally<'_>, said: Said) {
    let audited = !common.config.audit.is_empty();
    let what = match said {
        Said::Event(event) => {
            tally.event(&event);
            if audited && common.config.audit.contains(&event.topic) {
                common.ledger.lock().deliver(teller.number, event.position);
            }
            What::Event(event)
        }
        Said::Data(data) => {
            tally.data();
            What::Data(data)
        }
        Said::Gap(gap) => {
            tally.gap();
            if audited {
                common.ledger.lock().gap(teller.number, &gap);
            }
            What::Gap(gap)
        }
        Said::Violation(violation) => {
            match &violation {
                Violation::Missing { .. } | Violation::ResetWithoutGap { .. } => tally.missing(),
                Violation::NotRising { .. } => tally.repeated(),
            }
            What::Violation(violation)
        }
        Said::Opened(welcome) => {
            let away = tally.opened();
            if let Some((_, position)) = welcome.filter(|_| audited) {
                common.ledger.lock().begin(teller.number, position);
            }
            match welcome {
                // Progress will say it.
                Some((Outcome::Resumed | Outcome::Reset, _)) => {}
                // It begins with the next event, so there is nothing to catch up with; and the frozen contract
                // has no word for being current.
                Some((Outcome::New, _)) | None => tally.current(),
            }
            match away {
                None => What::Subscribed,
                Some(after) => What::Resubscribed {
                    outcome: welcome.map(|(outcome, _)| outcome),
                    after,
                },
            }
        }
        Said::Current(position) => {
            tally.current();
            if audited {
                common.ledger.lock().reach(teller.number, position);
            }
            What::Current(position)
        }
        Said::Lost { reason, retry_in } => What::BackingOff {
            reason,
            retry_in,
            had_stream: tally.lost(),
        },
        Said::HandingOver { cause } => What::HandingOver {
            cause,
            reason: cause.ahead(),
        },
        Said::Unsubscribed { ok } => What::Unsubscribed { ok },
        Said::FilterRefused(reason) => {
            tally.failed(reason);
            return;
        }
        Said::Aside => return,
    };
    teller.tell(what).await;
}
