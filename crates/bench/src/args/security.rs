//! The flags of measurements that can be made over TLS, or with tokens.

use std::path::PathBuf;

use clap::ValueEnum;

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct SecurityArgs {
    /// Over TLS 1.3: the server is started with a certificate (ECDSA P-256) that is made for it
    #[arg(long, conflicts_with = "server")]
    pub(crate) tls: bool,
    /// Trust the authorities in this file alone, in PEM, for a --server at https://
    #[arg(long, value_name = "FILE", requires = "server")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Callers bring tokens, and the server is started with an auth file that knows them
    #[arg(long, value_enum, value_name = "TOKENS", conflicts_with = "server")]
    pub(crate) auth: Option<AuthKind>,
}

/// The tokens of callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuthKind {
    /// One static token, which all bring
    Static,
    /// A JWT (ES256) for each subscriber, with a `sub` of its own, signed before the first connection
    Es256,
}
