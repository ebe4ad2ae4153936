//! The flags of `longlived bench`.
//!
//! - [`common`]: the flags that every measurement or several of them have.
//! - [`security`]: those of measurements that can be made over TLS or with tokens.
//! - [`fanout`], [`handshakes`], [`publish`], [`against`], [`slow`], [`storm`], [`store`]: those of one kind of measurement.

mod against;
mod common;
mod fanout;
mod handshakes;
mod publish;
mod security;
mod slow;
mod store;
mod storm;

pub(crate) use self::against::{FloorArgs, Peer};
pub(crate) use self::common::{CommonArgs, CoreList, PayloadKind, ServerAt, Topics};
pub(crate) use self::fanout::{FanoutArgs, FanoutLoad, IdleArgs};
pub(crate) use self::handshakes::{AcceptorArgs, HandshakesArgs};
pub(crate) use self::publish::PublishArgs;
pub(crate) use self::security::{AuthKind, SecurityArgs};
pub(crate) use self::slow::{SlowArgs, StallHow};
pub(crate) use self::store::{CatchupArgs, CommitArgs, ReopenArgs};
pub(crate) use self::storm::{StormArgs, StormLoad};

/// Measures a server from outside: CPU per delivery, memory per subscriber, latency, time to connect.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Many subscribers, nothing published: time until all are connected, memory, CPU while idle
    Idle(IdleArgs),
    /// Messages to many subscribers: CPU per delivery, deliveries per second, latency, memory
    Fanout(FanoutArgs),
    /// A load of `fanout` with the server on one core and on any, in turns: CPU per delivery of both, and their ratio
    Cores(FanoutArgs),
    /// Connections opened together over TLS, beside those without TLS and bare handshakes: the ratio of their times
    Handshakes(HandshakesArgs),
    /// Messages without subscribers: messages per second, CPU per message, messages per commit, time to the answer
    Publish(PublishArgs),
    /// Subscribers that stop reading beside some that go on: latency of those with and without them, memory
    Slow(SlowArgs),
    /// A server that is killed and started again: time until all its subscribers are back, memory, the waits of clients
    Storm(StormArgs),
    /// Commits of the store on disk beside bare writes of the same size into the same file system
    Commit(CommitArgs),
    /// A server that was killed: time until it listens again and until a subscriber has resumed
    Reopen(ReopenArgs),
    /// History from disk: events per second to one subscriber or many, and what they make the store read
    Catchup(CatchupArgs),
    /// The load generator; `idle` and `fanout` start it and talk to it on its standard input
    #[command(hide = true)]
    Load,
    /// The bare sender of `fanout --against floor`
    #[command(hide = true)]
    Floor(FloorArgs),
    /// The bare acceptor of `handshakes`
    #[command(hide = true)]
    Acceptor(AcceptorArgs),
    /// The load generator of `publish`
    #[command(hide = true)]
    PublishLoad,
    /// The load generator of `storm --library`
    #[command(hide = true)]
    StormLibrary,
    /// The load generator of `catchup`
    #[command(hide = true)]
    ReadLoad,
}
