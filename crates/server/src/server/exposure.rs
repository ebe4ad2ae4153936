//! Addresses that others than this machine reach: TLS and an auth file guard them, or somebody has said that they need not.
//!
//! Does not: look at Unix sockets, whose files have a mode.

use std::net::SocketAddr;

use crate::config::{Config, Insecure};
use crate::transport::bind::Listen;

/// An address beyond loopback lacks what guards it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Exposed {
    address: SocketAddr,
    /// All that is missing.
    missing: Insecure,
}

impl std::fmt::Display for Exposed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = self.address;
        let (why, allowed) = match self.missing {
            Insecure {
                no_tls: true,
                no_auth: true,
            } => (
                "neither TLS (tls://) nor an auth file (--auth)",
                "no-tls,no-auth",
            ),
            Insecure { no_tls: true, .. } => ("no TLS (tls://)", "no-tls"),
            _ => ("no auth file (--auth)", "no-auth"),
        };
        write!(
            f,
            "{address} is reached by other machines and has {why}; --insecure={allowed} allows it"
        )
    }
}

/// Every address that is not the loopback has what guards it, or may lack it.
pub(super) fn check(config: &Config) -> Result<(), Exposed> {
    for listen in &config.listen {
        let (addresses, has_tls) = match listen {
            Listen::Tcp { first, also, .. } => ((first, also), false),
            Listen::Tls { first, also, .. } => ((first, also), true),
            Listen::Unix { .. } => continue,
        };
        let missing = Insecure {
            no_tls: !has_tls && !config.insecure.no_tls,
            no_auth: config.auth.is_none() && !config.insecure.no_auth,
        };
        let mut all = std::iter::once(addresses.0).chain(addresses.1);
        let exposed = all.find(|address| !address.ip().to_canonical().is_loopback());
        if let Some(&address) = exposed
            && missing != Insecure::default()
        {
            // What is allowed and missing is named too: the flag is given as a whole.
            let missing = Insecure {
                no_tls: !has_tls,
                no_auth: config.auth.is_none(),
            };
            return Err(Exposed { address, missing });
        }
    }
    Ok(())
}
