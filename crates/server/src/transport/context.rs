//! The context that the connections of a node share, over all listeners.

use std::sync::Arc;

use super::connection::Accounts;
use super::connection_counts::ConnectionCounts;
use super::openings::Openings;
use super::settings::AcceptorSettings;
use crate::age::Ages;
use crate::lifecycle::Drain;
use crate::tasks::Tasks;

/// The service that answers, the limits, and where connections are counted, owned and told to go. A clone has its own
/// service and shares the rest.
#[derive(Clone, Debug)]
pub struct AcceptContext<S> {
    pub(super) service: S,
    pub(super) settings: Arc<AcceptorSettings>,
    pub(super) counts: ConnectionCounts,
    pub(super) openings: Openings,
    pub(super) accounts: Accounts,
    pub(super) ages: Arc<Ages>,
    pub(super) drain: Drain,
    pub(super) tasks: Tasks,
    pub(super) http2: Arc<longlived_http2::Config>,
}

impl<S> AcceptContext<S> {
    /// `tasks` owns the task of each connection.
    pub fn new(
        service: S,
        settings: AcceptorSettings,
        counts: ConnectionCounts,
        drain: Drain,
        tasks: Tasks,
    ) -> Self {
        Self {
            accounts: Accounts::new(settings.held_bytes_max, Arc::clone(&settings.connection)),
            ages: Arc::new(Ages::new(settings.connection.age_max)),
            http2: Arc::new(settings.connection.http2()),
            openings: Openings::new(&settings),
            service,
            settings: Arc::new(settings),
            counts,
            drain,
            tasks,
        }
    }

    /// With what listeners know of that are open already.
    #[must_use]
    pub(crate) fn with_openings(mut self, openings: Openings) -> Self {
        self.openings = openings;
        self
    }

    /// What its connections hold.
    #[cfg(any(test, feature = "testkit"))]
    pub fn accounts(&self) -> Accounts {
        self.accounts.clone()
    }
}
