//! `longlived bench handshakes`: how much longer connections take over TLS than TLS itself takes.
//!
//! A run opens all connections together to three servers on the same core, one after the other: longlived without TLS,
//! longlived with TLS, and a bare acceptor with TLS alone. The figure is the time of the second divided by the sum of the
//! other two. Then each server has all of them once more, which now resume their sessions with tickets, and the same
//! figure is taken of that.
//!
//! Holds: the load and the certificate are the same for both servers with TLS; the second round begins when the server has
//! let go of the first.

use std::process::{Command as Program, ExitCode};

use anyhow::Context as _;
use longlived_console::CompressionFlag;

use super::args::{CommonArgs, HandshakesArgs, PayloadKind, Topics};
use super::figures::Figures;
use super::load::control::Protocol;
use super::pin::{Cores, Pinning};
use super::refuse::refuse;
use super::repeat::repeat;
use super::rig::{Connect, Rig, Shape};
use super::room::Room;
use super::security::Security;
use super::server::{Server, listening_on};
use super::stop::Stop;
use super::wire::records::HELLO_BYTES;

/// Of both servers with TLS; nothing is published.
const RECORD_BYTES: u32 = HELLO_BYTES as u32;

pub(super) fn handshakes(args: &HandshakesArgs, stop: &Stop) -> anyhow::Result<ExitCode> {
    let common = &args.common;
    refuse(
        "handshakes",
        &[
            ("--server", common.server.is_some()),
            ("--server-pid", common.server_pid.is_some()),
        ],
        "starts its servers itself",
    )?;
    Room::of(common, args.connections)?.ensure()?;
    let in_words = format!(
        "handshakes: {} connections x 1 stream, opened together: without TLS, over TLS 1.3 (ECDSA P-256), and as bare \
         handshakes; then once more with tickets",
        args.connections
    );
    let security = Security::with_tickets()?;
    repeat(in_words, common, |cores| {
        let clear = Security::default();
        let plain = Rounds::of_longlived(args, &clear, cores, stop)?;
        let tls = Rounds::of_longlived(args, &security, cores, stop)?;
        let bare = Rounds::of_acceptor(args, &security, cores, stop)?;
        Ok(figures(args.connections, &plain, &tls, &bare))
    })
}

/// How all connections were opened to one server, the first time and again.
struct Rounds {
    first: Connect,
    again: Connect,
}

impl Rounds {
    fn of_longlived(
        args: &HandshakesArgs,
        security: &Security,
        cores: &Pinning,
        stop: &Stop,
    ) -> anyhow::Result<Self> {
        let shape = shape(args.connections, Protocol::Grpc);
        let rig = Rig::connect(&args.common, security, shape, cores, stop)?;
        Self::of(rig, &args.common)
    }

    fn of_acceptor(
        args: &HandshakesArgs,
        security: &Security,
        cores: &Pinning,
        stop: &Stop,
    ) -> anyhow::Result<Self> {
        let protocol = Protocol::Records {
            bytes: RECORD_BYTES,
        };
        let shape = shape(args.connections, protocol);
        let start = || start_acceptor(security, &cores.server);
        let rig = Rig::connect_to(start, &args.common, shape, cores, stop)?;
        Self::of(rig, &args.common)
    }

    fn of(mut rig: Rig<'_>, common: &CommonArgs) -> anyhow::Result<Self> {
        let first = rig.connect;
        rig.connect_again(common.connect_timeout)?;
        Ok(Self {
            first,
            again: rig.connect,
        })
    }
}

fn shape(connections: u32, protocol: Protocol) -> Shape {
    Shape {
        connections,
        streams: 1,
        topics: Topics::One,
        sample_every: 1,
        protocol,
        compression: CompressionFlag::None,
        payload_kind: PayloadKind::Dots,
    }
}

/// With the certificate of the server that it is compared with.
fn start_acceptor(security: &Security, cores: &Cores) -> anyhow::Result<Server> {
    let program = std::env::current_exe().context("finding this executable")?;
    let mut command = Program::new(program);
    command
        .args(["bench", "acceptor"])
        .args(security.certificate_args("--cert", "--key"));
    let mut server = Server::launch_with_log(command, listening_on, cores)?;
    server.tls.clone_from(&security.tls);
    Ok(server)
}

fn figures(connections: u32, plain: &Rounds, tls: &Rounds, bare: &Rounds) -> Figures {
    let mut figures = Figures::default();
    let ratio = |of: fn(&Rounds) -> &Connect| {
        let ns = |rounds| of(rounds).all_welcome_ns as f64;
        ns(tls) / (ns(plain) + ns(bare))
    };
    figures.add(
        "ratio",
        "over TLS / (without + bare handshakes)",
        ratio(|rounds| &rounds.first),
    );
    figures.add(
        "tickets_ratio",
        "the same with tickets",
        ratio(|rounds| &rounds.again),
    );
    for (prefix, with, of) in [
        ("", "", (|rounds| &rounds.first) as fn(&Rounds) -> &Connect),
        ("tickets_", " with tickets", |rounds| &rounds.again),
    ] {
        for (name, label, rounds) in [
            ("plain", "without TLS", plain),
            ("tls", "over TLS", tls),
            ("bare", "bare handshakes", bare),
        ] {
            let label = match name {
                // The second round of it, beside which the others stand.
                "plain" if !prefix.is_empty() => "without TLS again".to_owned(),
                _ => format!("{label}{with}"),
            };
            add(
                &mut figures,
                &format!("{prefix}{name}"),
                &label,
                connections,
                of(rounds),
            );
        }
    }
    for (name, rounds) in [("over TLS", tls), ("bare handshakes", bare)] {
        let (first, again) = (rounds.first.sessions_resumed, rounds.again.sessions_resumed);
        if first > 0 || again < u64::from(connections) {
            figures.troubles.push(format!(
                "{name}: {first} sessions of {connections} were resumed without tickets, {again} with them"
            ));
        }
    }
    figures
}

/// How one server and its load were busy until all were connected.
fn add(figures: &mut Figures, name: &str, label: &str, connections: u32, connect: &Connect) {
    let all_ns = connect.all_welcome_ns as f64;
    figures.add(
        format!("{name}_ms"),
        format!("{label}: all connected after (ms)"),
        all_ns / 1e6,
    );
    if let Some(cpu_ns) = connect.server_cpu_ns {
        figures.add(
            format!("{name}_server_cpu_us"),
            format!("{label}: server CPU per connection (us)"),
            cpu_ns as f64 / 1e3 / f64::from(connections),
        );
    }
    figures.add(
        format!("{name}_load_cpu_us"),
        format!("{label}: load CPU per connection (us)"),
        connect.load_cpu_ns as f64 / 1e3 / f64::from(connections),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_of_both_rounds_and_sessions_that_were_not_resumed_are_a_trouble() {
        let rounds = |first_ns, again_ns, sessions_resumed| {
            let connect = |all_welcome_ns, sessions_resumed| Connect {
                all_welcome_ns,
                sessions_resumed,
                ..Connect::default()
            };
            Rounds {
                first: connect(first_ns, 0),
                again: connect(again_ns, sessions_resumed),
            }
        };
        let (plain, bare) = (rounds(10, 5, 0), rounds(10, 5, 7));
        let good = figures(7, &plain, &rounds(30, 10, 7), &bare);
        assert_eq!(good.value("ratio"), Some(1.5));
        assert_eq!(good.value("tickets_ratio"), Some(1.0));
        assert!(good.troubles.is_empty());
        let trouble = figures(7, &plain, &rounds(30, 10, 6), &bare).troubles;
        let said = "over TLS: 0 sessions of 7 were resumed without tickets, 6 with them";
        assert_eq!(trouble, [said]);
    }
}
