//! The state that the calls of one node share.
//!
//! Does not: assemble or end it; the server does.

mod pages;

use std::{sync::Arc, time::Duration};

use longlived_broker::{Environment, Log};

pub(crate) use pages::{PageBudget, Reserved};

use crate::{
    callers::Callers,
    config::Config,
    contract::CloseReason,
    layers::Sums,
    lifecycle::Drain,
    registry::{Maintenance, Registry},
};

/// The state that the calls of one node share.
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) config: Config,
    pub(crate) environment: Environment,
    pub(crate) log: Log,
    /// Who calls.
    pub(crate) callers: Arc<Callers>,
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
        callers: Arc<Callers>,
        drain: Drain,
    ) -> Arc<Self> {
        let registry = Registry::with_ages(config.subscribers_max, config.max_stream_age);
        Arc::new(Self {
            id: format!("{:08x}", environment.random() as u32),
            maintenance: Maintenance::new(
                registry.clone(),
                callers.clone(),
                environment.clone(),
                config.stall_timeout,
            ),
            environment,
            pages: PageBudget::new(config.page_bytes_max),
            config,
            log,
            callers,
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

    /// The order to move to another node within this time, with a turn that leaves half of it for the move.
    pub(crate) fn move_reason(&self, within: Duration) -> CloseReason {
        CloseReason::Draining {
            reconnect_after: self.registry.turn_within(within / 2, &self.environment),
        }
    }

    /// When a client that is sent away comes back, so that not all return at once.
    pub(crate) fn spread_turn(&self) -> Duration {
        self.registry.turn(&self.environment)
    }
}
