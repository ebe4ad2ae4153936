//! Many subscribers in one program, as `longlived simulate` and `longlived demo` run them: staggered, over
//! shared connections, each counted, all unsubscribed at the end, with a verdict.
//!
//! Holds: a client costs a fixed amount of memory however long it runs; only acknowledgements the caller
//! registers are kept one by one, up to a limit.

mod client;
mod config;
mod happening;
mod tally;
mod verdict;

use std::sync::Arc;

use tokio::sync::mpsc;

pub use self::config::{Contract, FleetConfig, Show};
pub use self::happening::{Happening, What};
pub use self::tally::Snapshot;
pub use self::verdict::{ClientVerdict, Ledger, Lost as LostMessage, Verdict};
use crate::client::Client;
use crate::position::Position;

/// A running fleet.
///
/// ```no_run
/// use longlived_client::Client;
/// use longlived_client::fleet::{Fleet, FleetConfig};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::builder("http://127.0.0.1:7070").connections(1).build()?;
/// let mut fleet = Fleet::start(client, FleetConfig { clients: 3, ..FleetConfig::default() });
/// while let Some(happening) = fleet.next_happening().await {
///     println!("{happening}");
///     if fleet.snapshot().delivered >= 9 {
///         break;
///     }
/// }
/// let verdict = fleet.stop().await;
/// assert_eq!(verdict.lost, Some(0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Fleet {
    happenings: mpsc::Receiver<Happening>,
    shared: Arc<tally::Totals>,
}

impl Fleet {
    /// Starts the clients over the connections of `client`. They may start before their server.
    pub fn start(client: Client, config: FleetConfig) -> Self {
        let _ = (client, config);
        todo!()
    }

    /// What happened next, as far as [`FleetConfig::show`] asks for it; `None` when every client has ended.
    /// The queue is bounded: with [`Show::Everything`] a fleet that is not read waits.
    pub async fn next_happening(&mut self) -> Option<Happening> {
        self.happenings.recv().await
    }

    /// The numbers of this moment. Cheap.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// Registers a message the server acknowledged: each client whose filters match its topic owes it to the
    /// verdict from now on, unless it lies in a gap announced to that client.
    pub fn acknowledged(&self, position: Position, topic: &str) {
        let _ = (position, topic);
        todo!()
    }

    /// How many acknowledged messages are still on the way, over all clients.
    pub fn outstanding(&self) -> u64 {
        todo!()
    }

    /// Unsubscribes every client, sees the OK of each stream, and judges.
    pub async fn stop(self) -> Verdict {
        todo!()
    }
}
