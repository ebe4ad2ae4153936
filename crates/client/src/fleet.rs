//! Many subscribers in one program, as `longlived simulate` and `longlived demo` run them: staggered, over
//! shared connections, each counted, all unsubscribed at the end, with a verdict.
//!
//! Holds: a client costs a fixed amount of memory however long it runs; only acknowledgements the caller
//! registers are kept one by one, up to a limit.

mod client;
mod config;
mod filter;
mod happening;
mod ledger;
mod said;
mod tally;
mod verdict;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use self::client::Common;
pub use self::config::{Contract, FleetConfig, Show};
pub use self::happening::{Happening, What};
pub use self::ledger::{Ledger, Owed};
pub use self::tally::Snapshot;
use self::tally::Totals;
pub use self::verdict::{ClientVerdict, Verdict};
use crate::client::Client;
use crate::position::Position;
use crate::tasks::Tasks;

/// Happenings that wait to be read before the fleet waits.
const HAPPENINGS_MAX: usize = 1_024;

/// Unsubscribe calls in flight: fewer than the streams a server allows on one connection.
const CALLS_MAX: usize = 64;

/// The entries that a ledger keeps, one for each message to a client and each gap: some 100 MB at most.
const LEDGER_ENTRIES_MAX: usize = 2_000_000;

/// A running fleet.
///
/// ```
/// use longlived_client::Client;
/// use longlived_client::fleet::{Fleet, FleetConfig};
///
/// # use longlived_server::{Config, Environment, GeneratorConfig, Server};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = Config { listen: vec![std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()], generator: Some(GeneratorConfig { every: std::time::Duration::from_millis(50), topic: None }), ..Config::default() };
/// # let server = Server::bind(config, Environment::system()).await?;
/// # let url = format!("http://{}", server.local_addr());
/// # tokio::spawn(server.run(std::future::pending()));
/// // Three clients, each with its own inbox, to which the server's generator sends.
/// let config = FleetConfig { clients: 3, ..FleetConfig::default() };
/// let mut fleet = Fleet::start(Client::new(url)?, config);
/// while let Some(happening) = fleet.next_happening().await {
///     println!("{happening}");
///     if fleet.snapshot().delivered >= 9 {
///         break;
///     }
/// }
/// let verdict = fleet.stop().await;
/// assert_eq!(verdict.lost, Some(0));
/// assert_eq!(verdict.repeated, Some(0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping a fleet ends it without a verdict"]
pub struct Fleet {
    common: Arc<Common>,
    happenings: mpsc::Receiver<Happening>,
    tasks: Tasks,
}

impl Fleet {
    /// Starts the clients over the connections of `client`. They may start before their server.
    pub fn start(client: Client, config: FleetConfig) -> Self {
        let (teller, happenings) = mpsc::channel(HAPPENINGS_MAX);
        let common = Arc::new(Common {
            client,
            totals: Totals::new(config.clients),
            ledger: Mutex::new(Ledger::new(LEDGER_ENTRIES_MAX)),
            leave: CancellationToken::new(),
            calls: Semaphore::new(CALLS_MAX),
            done: Mutex::new(Vec::new()),
            config,
        });
        let tasks = Tasks::default();
        for number in 1..=common.config.clients {
            tasks.spawn(
                "fleet client",
                client::run(common.clone(), number, teller.clone()),
            );
        }
        Self {
            common,
            happenings,
            tasks,
        }
    }

    /// The next happening that [`FleetConfig::show`] asks for; `None` when every client has ended. The queue is
    /// bounded: a fleet waits if its happenings are not read.
    pub async fn next_happening(&mut self) -> Option<Happening> {
        self.happenings.recv().await
    }

    /// The numbers of this moment. Cheap.
    pub fn snapshot(&self) -> Snapshot {
        self.common.totals.snapshot()
    }

    /// Registers a message that the server acknowledged on one of the topics of [`FleetConfig::audit`]. Each client
    /// that follows the topic owes it to the verdict from now on. Exempt are messages published before the client had
    /// its first stream, and those in a gap that was announced to it.
    pub fn acknowledged(&self, position: Position, topic: &str) {
        let concerned =
            (1..=self.common.config.clients).filter(|number| self.common.follows(*number, topic));
        self.common.ledger.lock().acknowledge(position, concerned);
    }

    /// How many acknowledged messages are still owed, over all clients. To be waited for before the end. Messages that
    /// found the ledger full are not among them; [`Verdict::not_followed`] counts those.
    pub fn outstanding(&self) -> u64 {
        self.common.ledger.lock().outstanding()
    }

    /// Begins to unsubscribe; [`next_happening`](Self::next_happening) tells how it goes, and
    /// [`stop`](Self::stop) waits for the end of it.
    pub fn leave(&self) {
        self.common.leave.cancel();
    }

    /// Unsubscribes every client, sees the OK of each stream, and judges. Takes at most
    /// [`FleetConfig::stop_timeout`].
    pub async fn stop(mut self) -> Verdict {
        self.leave();
        // From here on the happenings are not read; clients that wait to tell something go on.
        self.happenings.close();
        while self.happenings.try_recv().is_ok() {}
        self.tasks.ended().await;
        let numbers = std::mem::take(&mut *self.common.done.lock());
        let ledger = self.common.ledger.lock();
        Verdict::of(numbers, &ledger, self.common.totals.recover_p50())
    }
}
