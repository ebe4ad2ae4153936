//! The tickets that all connections of a load process have been given, for those that come back.
//!
//! Holds: a ticket is used once. There are as many as connections, and the oldest goes first: the store of rustls
//! keeps eight for a server, which is enough for one program and not for a load of thousands.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

pub(super) struct Tickets {
    most: usize,
    given: Mutex<VecDeque<Tls13ClientSessionValue>>,
    group: Mutex<Option<NamedGroup>>,
    /// Until then every connection is a new one: of thousands that are opened together the last ones would find the
    /// tickets of the first.
    are_used: AtomicBool,
}

impl Tickets {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            given: Mutex::default(),
            group: Mutex::default(),
            are_used: AtomicBool::new(false),
        }
    }

    /// From now on a connection takes one.
    pub(super) fn use_them(&self) {
        self.are_used.store(true, Ordering::Relaxed);
    }
}

// A ticket shows nothing of itself.
impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets")
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

// All connections are to one server, so its name is not looked at.
impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _server: ServerName<'static>, group: NamedGroup) {
        *self.group.lock() = Some(group);
    }

    fn kx_hint(&self, _server: &ServerName<'_>) -> Option<NamedGroup> {
        *self.group.lock()
    }

    fn set_tls12_session(&self, _server: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _server: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut tickets = self.given.lock();
        if tickets.len() == self.most {
            tickets.pop_front();
        }
        tickets.push_back(ticket);
    }

    fn take_tls13_ticket(&self, _server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        if !self.are_used.load(Ordering::Relaxed) {
            return None;
        }
        self.given.lock().pop_front()
    }
}
