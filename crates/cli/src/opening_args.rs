//! The flags about connections that open: how many from one address, and how many handshakes at a time.

use longlived_console::values;
use longlived_server::Config;

#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_field_names, reason = "they are the names of flags")]
pub(crate) struct OpeningArgs {
    /// Connections open at once from one IPv4 address, or from one IPv6 network of 64 bits. Behind a balancer: of the client that
    /// it names (proxy=). Unlimited unless given.
    #[arg(long, env = "LONGLIVED_ADDRESS_CONNECTIONS_MAX", value_name = "NUMBER", value_parser = values::number(1_u32..=100_000_000))]
    address_connections_max: Option<u32>,

    /// Connections that such an address may begin in a second, and at once. Unlimited unless given.
    #[arg(long, env = "LONGLIVED_ADDRESS_HANDSHAKES_MAX", value_name = "NUMBER", value_parser = values::number(1_u32..=1_000_000))]
    address_handshakes_max: Option<u32>,

    /// Handshakes at a time, of TLS and of peers whose first bytes come in parts; further ones wait, within
    /// --handshake-timeout. While others wait, each has 3 s. An unfinished one of TLS may hold 64 KiB.
    #[arg(
        long,
        env = "LONGLIVED_HANDSHAKES_MAX",
        value_name = "NUMBER",
        value_parser = values::number(1_usize..=1_000_000),
        default_value_t = Config::default().acceptor.handshakes_max
    )]
    handshakes_max: usize,
}

impl OpeningArgs {
    pub(crate) fn set(&self, config: &mut Config) {
        let acceptor = &mut config.acceptor;
        acceptor.address.connections_max = self.address_connections_max;
        acceptor.address.handshakes_max = self.address_handshakes_max;
        acceptor.handshakes_max = self.handshakes_max;
    }
}
