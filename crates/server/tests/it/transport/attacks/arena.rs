//! The node that is attacked, its neighbour, and what is looked at before and afterwards.

use std::cell::Cell;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use longlived_broker::Environment;
use longlived_server::listener::ListenAddress;
use longlived_server::{ClientCertificate, Config, Listen, Server, Services, TlsConfig};
use longlived_testkit::attacker::Attacker;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::CHECK;
use crate::contract::metrics::scrape;
use crate::contract::support::{ANY_PORT, Node};
use crate::transport::support::{Client, within};
use longlived_testkit::grpc::framed;
use longlived_testkit::wait::until;

/// What the peers of a node may make it hold.
const HELD_BYTES_MAX: usize = 64 << 20;
/// What is counted of it: a buffer that grows has room for as many again, and stands beside its larger copy for a moment.
const COUNTED_BYTES_MAX: usize = HELD_BYTES_MAX / 3;
/// What is not held for a peer: tables and buffers of the node, and the attackers themselves.
const BESIDE_BYTES_MAX: usize = 8 << 20;
/// What may be left of it: buffers of the thread, tables that have grown.
const LEFT_BYTES_MAX: i64 = 2 << 20;

/// How many times as much as in the gate.
pub(super) fn scale() -> u32 {
    std::env::var("LONGLIVED_ATTACK_SCALE").map_or(1, |text| {
        text.parse().expect("LONGLIVED_ATTACK_SCALE is a number")
    })
}

/// Whether attackers speak TLS.
pub(super) fn is_over_tls() -> bool {
    std::env::var_os("LONGLIVED_ATTACK_TLS").is_some()
}

/// A certificate that attackers of this thread trust, and a listener with it.
fn tls(folder: &Path) -> (TlsConfig, Listen) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![ANY_PORT.ip().to_string()]).expect("an address");
    let certificate = params.self_signed(&key).expect("a certificate");
    Attacker::trust(certificate.der().clone());
    let files = TlsConfig {
        certificate: folder.join("certificate.pem"),
        key: folder.join("key.pem"),
        clients: None,
    };
    fs::write(&files.certificate, certificate.pem()).expect("a disk with room");
    fs::write(&files.key, key.serialize_pem()).expect("a disk with room");
    let listen = Listen::Tls {
        first: ANY_PORT,
        also: Vec::new(),
        proxies: Vec::new(),
        client_certificate: ClientCertificate::None,
        services: Services::All,
    };
    (files, listen)
}

/// A node with one neighbour on it.
pub(super) struct Arena {
    node: Node,
    /// Of the files that it is told.
    _folder: TempDir,
    /// Where the neighbour connects.
    neighbours: SocketAddr,
    /// Calls of the neighbour that were answered.
    answered: Cell<u64>,
}

/// What a node and its process have, as the doors tell it.
#[derive(Clone, Copy, Debug)]
struct Standing {
    connections: f64,
    tasks: usize,
    sockets: usize,
}

impl Standing {
    fn is_within(self, before: Self) -> bool {
        self.connections <= before.connections
            && self.tasks <= before.tasks
            && self.sockets <= before.sockets
    }
}

/// Runs an attack on a node that does not know it, and judges.
///
/// Everything runs on the test's own thread, whose memory is counted: other tests do not disturb it.
pub(super) fn attacked(attack: impl AsyncFnOnce(&Arena)) {
    attacked_by(None, attack);
}

/// The same, of a node that checks its callers by these rules, if there are any.
pub(super) fn attacked_by(rules: Option<&str>, attack: impl AsyncFnOnce(&Arena)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (arena, mut neighbour, before) = runtime.block_on(async {
        let arena = Arena::open(rules).await;
        let mut neighbour = Client::connect(arena.neighbours).await;
        arena.ask(&mut neighbour).await;
        let before = arena.standing().await;
        // The buffers of the thread are there before memory is counted.
        let mut first = Attacker::hello(arena.address()).await;
        first.is_taken().await;
        drop(first);
        arena.is_as(before).await;
        (arena, neighbour, before)
    });
    let held = allocation_counter::measure(|| {
        runtime.block_on(async {
            let asks = async {
                loop {
                    arena.ask(&mut neighbour).await;
                }
            };
            tokio::select! {
                biased;
                () = async { attack(&arena).await } => {}
                () = asks => {}
            }
            arena.is_as(before).await;
            arena.ask(&mut neighbour).await;
        });
    });
    println!(
        "{} KiB at most, {} bytes left",
        held.bytes_max >> 10,
        held.bytes_current
    );
    let allowed = (HELD_BYTES_MAX + BESIDE_BYTES_MAX) as u64;
    assert!(held.bytes_max <= allowed, "{held:?}");
    assert!(held.bytes_current <= LEFT_BYTES_MAX, "{held:?}");
}

impl Arena {
    async fn open(rules: Option<&str>) -> Self {
        let mut config = Config {
            metrics_listen: Some(ANY_PORT),
            ..Config::default()
        };
        config.acceptor.held_bytes_max = COUNTED_BYTES_MAX;
        let folder = tempfile::tempdir().expect("a folder");
        config.listen = if is_over_tls() {
            let (files, listen) = tls(folder.path());
            config.tls = Some(files);
            // The neighbour stays with TCP.
            vec![listen, ANY_PORT.into()]
        } else {
            vec![ANY_PORT.into()]
        };
        config.auth = rules.map(|rules| {
            let file = folder.path().join("auth.toml");
            fs::write(&file, rules).expect("a disk with room");
            file
        });
        let server = Server::bind(config, Environment::system()).await;
        let server = server.expect("a free port");
        let addresses: Vec<_> = server
            .local_addrs()
            .iter()
            .filter_map(ListenAddress::tcp)
            .collect();
        Self {
            node: Node::run(server),
            _folder: folder,
            neighbours: addresses[addresses.len() - 1],
            answered: Cell::new(0),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.node.address
    }

    /// The neighbour's call.
    async fn ask(&self, neighbour: &mut Client) {
        let mut reply = neighbour.call(CHECK, &[], framed(&[])).await;
        let (_, status) = reply.all().await;
        assert_eq!(status.as_deref(), Some("0"), "the neighbour's call");
        self.answered.set(self.answered.get() + 1);
    }

    /// Returns when the neighbour has been answered this many more calls: the server has had its turn with every connection
    /// between two of them.
    pub(super) async fn neighbour_is_answered(&self, calls: u64) {
        // One may have been under way.
        let enough = self.answered.get() + calls + 1;
        until("the neighbour is answered", async || {
            (self.answered.get() >= enough).then_some(())
        })
        .await;
    }

    async fn standing(&self) -> Standing {
        // Before another task answers for the metrics.
        let tasks = Handle::current().metrics().num_alive_tasks();
        let metrics = self.node.metrics.expect("it tells metrics");
        let samples = within("metrics", scrape(metrics)).await;
        Standing {
            connections: samples["longlived_connections"],
            tasks,
            sockets: sockets(self.address().port()),
        }
    }

    /// Connections, tasks and sockets are no more than they were; with the connections their calls have ended.
    async fn is_as(&self, before: Standing) {
        until("everything is as before", async || {
            self.standing().await.is_within(before).then_some(())
        })
        .await;
    }
}

/// Sockets of this port that a process holds, the server's alone: its peers have other ports.
fn sockets(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let of_the_port = |line: &&str| {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1).and_then(|local| local.split_once(':'));
        let is_ours = local.is_some_and(|(_, of)| u16::from_str_radix(of, 16) == Ok(port));
        // No process holds a socket without an inode; its connection is in its last states.
        is_ours && fields.nth(7).is_some_and(|inode| inode != "0")
    };
    table.lines().skip(1).filter(of_the_port).count()
}
