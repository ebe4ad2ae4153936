//! The flags of measurements that can be made over TLS.

use std::path::PathBuf;

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct SecurityArgs {
    /// Over TLS 1.3: the server is started with a certificate (ECDSA P-256) that is made for it
    #[arg(long, conflicts_with = "server")]
    pub(crate) tls: bool,
    /// Trust the authorities in this file alone, in PEM, for a --server at https://
    #[arg(long, value_name = "FILE", requires = "server")]
    pub(crate) tls_ca: Option<PathBuf>,
}
