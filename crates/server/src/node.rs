//! The state that the calls of one node share.
//!
//! Does not: assemble or end it; the server does.

mod pages;

use std::{sync::Arc, time::Duration};

use longlived_broker::{Environment, Log};

pub(crate) use pages::{PageBudget, Reserved};

use crate::{
    config::Config,
    contract::{Caller, CloseReason},
    layers::Sums,
    lifecycle::Drain,
    registry::{Maintenance, Registry},
};

/// Clients come back spread over at least this ...
const RECONNECT_SPREAD_MIN: Duration = Duration::from_secs(1);
/// ... and this much more for each that was live, so that about 2,000 come back in a second ...
const RECONNECT_SPREAD_EACH: Duration = Duration::from_micros(500);
/// ... but not over more than this.
const RECONNECT_SPREAD_MAX: Duration = Duration::from_secs(60);

/// The state that the calls of one node share.
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) config: Config,
    pub(crate) environment: Environment,
    pub(crate) log: Log,
    /// The caller of a call without an identity.
    pub(crate) anonymous: Arc<Caller>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) maintenance: Arc<Maintenance>,
    pub(crate) drain: Drain,
    pub(crate) pages: PageBudget,
    /// The sums of its subscriptions and calls for the log.
    pub(crate) sums: Sums,
}

impl Node {
    /// A node without subscribers, over this log.
    pub(crate) fn new(
        config: Config,
        environment: Environment,
        log: Log,
        drain: Drain,
    ) -> Arc<Self> {
        let registry = Registry::new(config.subscribers_max);
        Arc::new(Self {
            id: format!("{:08x}", environment.random() as u32),
            maintenance: Maintenance::new(
                registry.clone(),
                environment.clone(),
                config.stall_timeout,
            ),
            environment,
            pages: PageBudget::new(config.page_bytes_max),
            config,
            log,
            anonymous: Arc::new(Caller::anonymous()),
            registry,
            drain,
            sums: Sums::default(),
        })
    }

    /// The order to go away, with a turn for coming back.
    pub(crate) fn drain_reason(&self) -> CloseReason {
        CloseReason::Draining {
            reconnect_after: self.spread_turn(),
        }
    }

    /// When a client that is sent away comes back, so that not all return at once.
    pub(crate) fn spread_turn(&self) -> Duration {
        let live = u32::try_from(self.registry.live()).unwrap_or(u32::MAX);
        let spread = (RECONNECT_SPREAD_MIN + RECONNECT_SPREAD_EACH.saturating_mul(live))
            .min(RECONNECT_SPREAD_MAX);
        Duration::from_nanos(self.environment.random_below(spread.as_nanos() as u64))
    }
}
