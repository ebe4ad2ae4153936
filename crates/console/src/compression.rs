//! Which encoding a client asks for.

use clap::ValueEnum;
use longlived_client::{ClientBuilder, Compression};
use serde::{Deserialize, Serialize};

/// Of the commands that subscribe.
#[derive(Clone, Debug, clap::Args)]
pub struct ClientCompressionArgs {
    /// Ask the server to compress events of 1 KiB or more. It pays where the network is slower than this machine.
    #[arg(long, value_enum, default_value = "none")]
    compression: CompressionFlag,
}

/// The encoding that the client asks for.
#[expect(
    missing_docs,
    reason = "the names say it, and a comment would stand in the help of the flag"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompressionFlag {
    None,
    Gzip,
    Zstd,
}

impl CompressionFlag {
    /// As gRPC names it, where it is any.
    pub fn encoding(self) -> Option<&'static str> {
        self.asked().map(Compression::as_str)
    }

    fn asked(self) -> Option<Compression> {
        match self {
            Self::None => None,
            Self::Gzip => Some(Compression::Gzip),
            Self::Zstd => Some(Compression::Zstd),
        }
    }
}

impl ClientCompressionArgs {
    /// A client whose subscribers ask for it.
    pub fn apply(&self, builder: ClientBuilder) -> ClientBuilder {
        match self.compression.asked() {
            None => builder,
            Some(compression) => builder.compression(compression),
        }
    }
}
