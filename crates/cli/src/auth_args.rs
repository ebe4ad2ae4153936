//! The flags that say who may come in: the auth file, and what addresses beyond loopback may lack.

use std::path::PathBuf;

use longlived_server::Insecure;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AuthArgs {
    /// Check callers by this file (TOML): tokens, certificates and users of Unix sockets, and what each may publish and
    /// follow. Read again when it or a file that it names changes, and on SIGHUP, which then does not end the server.
    /// Without it nobody is checked.
    #[arg(long, env = "LONGLIVED_AUTH", value_name = "FILE")]
    auth: Option<PathBuf>,

    /// What --listen may lack at addresses that other machines reach: no-tls, no-auth or both. Unless given, such an
    /// address needs tls:// and --auth.
    #[arg(
        long,
        env = "LONGLIVED_INSECURE",
        value_name = "WHAT",
        value_delimiter = ','
    )]
    insecure: Vec<Lacking>,
}

/// What an address beyond loopback may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Lacking {
    /// TLS: machines on the way read and change everything, tokens too
    NoTls,
    /// Callers are not checked: a machine that reaches the address may do everything
    NoAuth,
}

impl AuthArgs {
    pub(crate) fn auth(&self) -> Option<PathBuf> {
        self.auth.clone()
    }

    pub(crate) fn insecure(&self) -> Insecure {
        Insecure {
            no_tls: self.insecure.contains(&Lacking::NoTls),
            no_auth: self.insecure.contains(&Lacking::NoAuth),
        }
    }
}
