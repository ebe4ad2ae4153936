//! Connections that are about to open: how many an address may have, and how many make their handshake at a time.
//!
//! Does not: count the open ones of all addresses; `connection_counts` does.

mod addresses;
mod handshakes;

pub(crate) use self::addresses::{AddressLimits, AddressRefusal, Addresses, Place};
pub(crate) use self::handshakes::{Handshakes, TURN_OVER};
use super::settings::AcceptorSettings;

/// What the listeners of a node share about such connections. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Openings {
    pub(crate) addresses: Addresses,
    pub(crate) handshakes: Handshakes,
}

impl Openings {
    pub(crate) fn new(settings: &AcceptorSettings) -> Self {
        Self {
            addresses: Addresses::new(settings.address),
            handshakes: Handshakes::new(settings.handshakes_max),
        }
    }
}
