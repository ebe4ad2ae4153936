//! The flags of `longlived bench fanout --against`: the other servers, and the bare sender's own.

use clap::ValueEnum;
use longlived_console::values;

use super::common::Topics;

/// The servers that are measured in turns with longlived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Peer {
    /// longlived itself
    #[value(skip)]
    Longlived,
    /// A process that does nothing but a bare send() of as many bytes to each socket
    Floor,
    /// redis-server: PUBLISH and SUBSCRIBE, nothing kept
    Redis,
    /// nats-server: PUB and SUB
    Nats,
    /// A hub of grpc-go, which is built with the Go in the PATH: nothing kept
    GrpcGo,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Longlived => "longlived",
            Self::Floor => "floor",
            Self::Redis => "redis",
            Self::Nats => "nats",
            Self::GrpcGo => "grpc-go",
        }
    }
}

/// The parameters of the bare sender.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct FloorArgs {
    #[arg(long, value_parser = values::number(1_u32..=u32::MAX))]
    pub(crate) connections: u32,
    #[arg(long, value_parser = values::number(1_u32..=u32::MAX))]
    pub(crate) streams: u32,
    #[arg(long, value_enum)]
    pub(crate) topics: Topics,
    /// Bytes that one subscriber is sent of one message
    #[arg(long, value_parser = values::number(8_u32..=u32::MAX))]
    pub(crate) record_bytes: u32,
}
