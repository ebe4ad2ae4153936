//! The configuration of a fleet.

use std::time::Duration;

/// Which contract the clients speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Contract {
    /// `longlived.v1`.
    #[default]
    V1,
    /// `protos.Longlived`, frozen: nothing can be known about loss and repetition.
    Protos,
}

/// Which happenings are worth telling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Show {
    /// None: for large fleets, whose numbers are in the snapshot.
    Nothing,
    /// Streams lost and regained, gaps, violations.
    States,
    /// Each event too.
    #[default]
    Everything,
}

/// The configuration of a fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetConfig {
    /// How many clients; client n, from 1, has the id "n".
    pub clients: u32,
    /// The wait between the starts of two clients.
    pub stagger: Duration,
    /// The filters of every client; empty: each its own inbox, `inbox.<id>`. Not used with [`Contract::Protos`].
    pub topics: Vec<String>,
    /// Every client follows its inbox too, beside `topics`.
    pub inbox: bool,
    /// Topics whose messages the caller will register with
    /// [`Fleet::acknowledged`](super::Fleet::acknowledged): only of these is each delivery remembered.
    pub audit: Vec<String>,
    /// Which contract they speak.
    pub contract: Contract,
    /// Which happenings are told.
    pub show: Show,
    /// How long the clients may take to leave; one that takes longer is cut off.
    pub stop_timeout: Duration,
}

impl Default for FleetConfig {
    fn default() -> Self {
        Self {
            clients: 10,
            stagger: Duration::from_millis(200),
            topics: Vec::new(),
            inbox: false,
            audit: Vec::new(),
            contract: Contract::default(),
            show: Show::default(),
            stop_timeout: Duration::from_secs(10),
        }
    }
}
