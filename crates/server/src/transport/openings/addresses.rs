//! The connections of each address, against the limits for one.
//!
//! Holds: what is kept is bounded by the connections that are open and those that came within a second, however often addresses
//! change. Nothing is kept where there is no limit.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::rate::Rate;

/// The limits of one address: an IPv4 address, or an IPv6 network of 64 bits, which is what one customer has at least (RFC 6177).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressLimits {
    /// Connections open at once; `None` for any number.
    pub connections_max: Option<u32>,
    /// Connections that begin in a second, and at once; `None` for any number.
    pub handshakes_max: Option<u32>,
}

/// An address has what it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressRefusal {
    #[error("its address has address_connections_max ({0}) connections open")]
    Connections(u32),
    #[error("its address has begun address_handshakes_max ({0}) connections in a second")]
    Handshakes(u32),
}

impl AddressRefusal {
    /// Every limit as metrics name it, in the order of [`Self::index`].
    pub(crate) const LIMITS: [&'static str; 2] = ["connections", "handshakes"];

    pub(crate) fn index(self) -> usize {
        match self {
            Self::Connections(_) => 0,
            Self::Handshakes(_) => 1,
        }
    }
}

/// The addresses of the peers of a node. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    limits: AddressLimits,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    // The hasher is a random one: peers choose their addresses.
    of: HashMap<Key, Peers>,
    // How many there may be before those that count nothing are removed.
    look_at: usize,
}

/// The fewest that are looked through for those that count nothing.
const LOOK_MIN: usize = 1_024;

/// What is counted as one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    V4(u32),
    /// The first 64 bits.
    V6(u64),
}

impl From<IpAddr> for Key {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// The peers at one address.
#[derive(Debug)]
struct Peers {
    open: u32,
    begun: Rate,
}

impl Peers {
    fn counts_nothing(&self, now: Instant) -> bool {
        self.open == 0 && self.begun.ahead(now).is_zero()
    }
}

impl Addresses {
    pub(super) fn new(limits: AddressLimits) -> Self {
        Self {
            limits,
            known: Arc::default(),
        }
    }

    /// Counts a connection from there, until its place is dropped. None where there is no limit.
    pub(crate) fn enter(&self, from: IpAddr) -> Result<Option<Box<Place>>, AddressRefusal> {
        let AddressLimits {
            connections_max,
            handshakes_max,
        } = self.limits;
        if connections_max.is_none() && handshakes_max.is_none() {
            return Ok(None);
        }
        let (key, now) = (Key::from(from), Instant::now());
        let mut known = self.known.lock();
        known.make_room(now);
        let peers = known.of.entry(key).or_insert_with(|| Peers {
            open: 0,
            begun: Rate::new(now),
        });
        if let Some(max) = connections_max
            && peers.open >= max
        {
            return Err(AddressRefusal::Connections(max));
        }
        if let Some(max) = handshakes_max {
            // Those that are refused count for nothing, so that an address is not locked out by coming back.
            if !peers.begun.wait(max.into(), now).is_zero() {
                return Err(AddressRefusal::Handshakes(max));
            }
            peers.begun.take(1, max.into(), now);
        }
        peers.open += 1;
        drop(known);
        Ok(Some(Box::new(Place {
            addresses: self.clone(),
            key,
        })))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.known.lock().of.len()
    }
}

impl Known {
    fn make_room(&mut self, now: Instant) {
        if self.of.len() >= self.look_at {
            self.of.retain(|_, peers| !peers.counts_nothing(now));
            self.look_at = LOOK_MIN.max(2 * self.of.len());
        }
    }
}

/// The place of a connection among those of its address, until dropped.
#[derive(Debug)]
pub struct Place {
    addresses: Addresses,
    key: Key,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut known = self.addresses.known.lock();
        if let Some(peers) = known.of.get_mut(&self.key) {
            peers.open = peers.open.saturating_sub(1);
            if peers.counts_nothing(Instant::now()) {
                known.of.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn addresses(connections_max: Option<u32>, handshakes_max: Option<u32>) -> Addresses {
        Addresses::new(AddressLimits {
            connections_max,
            handshakes_max,
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_its_connections_and_no_other_has_fewer() {
        let addresses = addresses(Some(2), None);
        let refused = AddressRefusal::Connections(2);
        let mut places = Vec::new();
        for (here, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8:1:2::1", "2001:db8:1:2:9::", "2001:db8:1:3::1"),
        ] {
            places.push(addresses.enter(ip(here)).unwrap());
            places.push(addresses.enter(ip(same)).unwrap());
            assert_eq!(addresses.enter(ip(here)).unwrap_err(), refused);
            places.push(addresses.enter(ip(other)).unwrap());
        }
        assert_eq!(addresses.len(), 4);
        places.remove(1);
        places.push(addresses.enter(ip("192.0.2.1")).unwrap());
        places.clear();
        assert_eq!(addresses.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_begins_as_many_connections_in_a_second_as_it_may() {
        let addresses = addresses(None, Some(10));
        let begin = || {
            let tried = (0..100).map(|_| addresses.enter(ip("192.0.2.1")));
            tried.flatten().count()
        };
        assert_eq!(begin(), 10);
        assert_eq!(begin(), 0);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(begin(), 5);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(begin(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_do_not_come_back_are_forgotten() {
        let addresses = addresses(Some(1), Some(1));
        for number in 0..100_000_u32 {
            let address = IpAddr::from(number.to_be_bytes());
            assert!(addresses.enter(address).is_ok());
            tokio::time::advance(Duration::from_millis(1)).await;
            let len = addresses.len();
            assert!(len <= 2 * LOOK_MIN, "{len} are known");
        }
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let addresses = addresses(None, None);
        assert!(addresses.enter(ip("192.0.2.1")).unwrap().is_none());
        assert_eq!(addresses.len(), 0);
    }
}
