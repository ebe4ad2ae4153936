//! A simulated network: hosts, connections with latency and a bounded buffer, and its faults.
//!
//! Holds: bytes of one direction arrive in order, whole, or not at all; a writer waits while the buffer is full. A
//! connection to a host without power waits; to a host without a listener it is refused.
//! Does not: reorder or lose single packets. TCP hides that. It cannot hide bytes that are late, cut off, or never
//! come.

mod pipe;
mod socket;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

use self::pipe::{Pipe, Reader};
pub(crate) use self::socket::Socket;

/// A machine. The server's is [`SERVER`].
pub(crate) type Host = u16;

/// The machine of the server.
pub(crate) const SERVER: Host = 0;

/// Connections that may wait to be accepted.
const BACKLOG: usize = 128;

/// How the network is when nothing is broken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// The time on the way, in milliseconds, from ...
    pub(crate) latency_min: u64,
    /// ... to.
    pub(crate) latency_max: u64,
    /// Bytes of one direction of a connection that may be on the way or unread.
    pub(crate) buffer_bytes: usize,
}

/// The network; clones are the same one.
#[derive(Clone)]
pub(crate) struct Network {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<Notify>,
}

struct Inner {
    rng: StdRng,
    weather: Weather,
    /// Directions in which nothing arrives for now.
    held: BTreeSet<(Host, Host)>,
    links: Vec<Link>,
    listener: Option<mpsc::Sender<(Socket, SocketAddr)>>,
    /// The server's machine has power.
    power: bool,
    bytes_read: u64,
}

/// One connection: `pipes[i]` carries the bytes that side `i` writes.
struct Link {
    hosts: [Host; 2],
    pipes: [Pipe; 2],
    /// The process of this side is gone; its socket does nothing any more.
    dead: [bool; 2],
    /// Nothing arrives any more, in either direction, and nobody says so.
    lost: bool,
}

impl Network {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                rng: StdRng::seed_from_u64(seed),
                weather,
                held: BTreeSet::new(),
                links: Vec::new(),
                listener: None,
                power: true,
                bytes_read: 0,
            })),
            changed: Arc::new(Notify::new()),
        }
    }

    /// The server's machine accepts connections from here on.
    pub(crate) fn listen(&self) -> Door {
        let (send, incoming) = mpsc::channel(BACKLOG);
        let mut inner = self.inner.lock();
        inner.listener = Some(send);
        let booted = !std::mem::replace(&mut inner.power, true);
        if booted {
            let now = Instant::now();
            inner.forget_connections_of_before(now);
        }
        drop(inner);
        self.changed.notify_waiters();
        incoming
    }

    /// A connection from `from` to the server.
    pub(crate) async fn connect(&self, from: Host) -> io::Result<Socket> {
        let (there, back) = {
            let mut inner = self.inner.lock();
            (inner.latency(), inner.latency())
        };
        sleep(there).await;
        loop {
            let changed = self.changed.notified();
            let passes = {
                let inner = self.inner.lock();
                inner.power
                    && !inner.held.contains(&(from, SERVER))
                    && !inner.held.contains(&(SERVER, from))
            };
            if passes {
                break;
            }
            changed.await;
        }
        let (ours, theirs, listener, peer) = {
            let mut inner = self.inner.lock();
            let Some(listener) = inner.listener.clone() else {
                return Err(io::ErrorKind::ConnectionRefused.into());
            };
            let link = inner.links.len();
            inner.links.push(Link {
                hosts: [from, SERVER],
                pipes: [Pipe::new(), Pipe::new()],
                dead: [false; 2],
                lost: false,
            });
            let peer = SocketAddr::from(([10, 0, 0, from as u8], 1024 + link as u16));
            let ours = Socket::new(self.clone(), link, 0);
            let theirs = Socket::new(self.clone(), link, 1);
            (ours, theirs, listener, peer)
        };
        let accepted = listener.try_send((theirs, peer));
        sleep(back).await;
        match accepted {
            Ok(()) => Ok(ours),
            Err(_) => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    /// The server's process is gone at once; its machine closes its connections.
    pub(crate) fn cut_server(&self) {
        self.kill(SERVER);
    }

    /// The process on `host` is gone at once; its machine closes its connections.
    pub(crate) fn kill(&self, host: Host) {
        self.remove(host, true);
    }

    /// The server's machine is gone at once: bytes that it had not sent yet are lost, and nobody is told.
    pub(crate) fn cut_power(&self) {
        self.remove(SERVER, false);
    }

    fn remove(&self, host: Host, orderly: bool) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if host == SERVER {
            inner.listener = None;
            inner.power = orderly;
        }
        for link in &mut inner.links {
            for side in 0..2 {
                if link.hosts[side] != host || std::mem::replace(&mut link.dead[side], true) {
                    continue;
                }
                if orderly {
                    let reset = inner.rng.random_bool(0.5);
                    link.pipes[side].end(now + latency(&mut inner.rng, inner.weather), reset);
                    link.pipes[1 - side].leave(Reader::Gone(now));
                } else {
                    let kept = inner.rng.random_range(0..=link.pipes[side].len());
                    link.pipes[side].truncate(kept);
                    link.pipes[1 - side].leave(Reader::Silent);
                }
            }
        }
    }

    /// Nothing arrives from `from` at `to` until [`Self::heal`].
    pub(crate) fn hold(&self, from: Host, to: Host) {
        self.inner.lock().held.insert((from, to));
    }

    /// The bytes that were held arrive.
    pub(crate) fn heal(&self, from: Host, to: Host) {
        let mut inner = self.inner.lock();
        inner.held.remove(&(from, to));
        for link in &mut inner.links {
            link.wake();
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Nothing is held any more.
    pub(crate) fn heal_all(&self) {
        let held: Vec<_> = self.inner.lock().held.iter().copied().collect();
        for (from, to) in held {
            self.heal(from, to);
        }
    }

    /// The connections between `host` and the server carry nothing any more, as when something between them
    /// has forgotten them.
    pub(crate) fn lose_connections(&self, host: Host) {
        for link in &mut self.inner.lock().links {
            link.lost |= link.hosts[0] == host;
        }
    }

    /// How the network is from now on.
    pub(crate) fn set_weather(&self, weather: Weather) {
        self.inner.lock().weather = weather;
    }

    /// Connections made and bytes read so far: a replay must repeat them, with everything else.
    pub(crate) fn traffic(&self) -> (usize, u64) {
        let inner = self.inner.lock();
        (inner.links.len(), inner.bytes_read)
    }
}

impl Inner {
    fn latency(&mut self) -> Duration {
        latency(&mut self.rng, self.weather)
    }

    /// The server's machine is back: it knows nothing of its old connections and says so when asked.
    fn forget_connections_of_before(&mut self, now: Instant) {
        for index in 0..self.links.len() {
            let answer = now + self.latency();
            let link = &mut self.links[index];
            if link.pipes[0].reader == Reader::Silent {
                link.pipes[0].leave(Reader::Gone(now));
                if link.pipes[0].len() > 0 {
                    // Bytes that were never acknowledged are sent again, and answered with a reset.
                    link.pipes[1].end(answer, true);
                }
            }
        }
    }
}

impl Link {
    fn wake(&mut self) {
        for pipe in &mut self.pipes {
            pipe.wake_reader();
        }
    }
}

fn latency(rng: &mut StdRng, weather: Weather) -> Duration {
    let range = weather.latency_min * 1_000..=weather.latency_max * 1_000;
    Duration::from_micros(rng.random_range(range))
}

/// The server's end of the network.
pub(crate) type Door = mpsc::Receiver<(Socket, SocketAddr)>;
