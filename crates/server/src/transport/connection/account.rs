//! What peers make this node hold, counted where it is held, and the caps on it.
//!
//! Each connection that holds something has an [`Account`]; a connection at rest has none. Its counts are by kind. What ends with a call
//! counts against two caps: `connection_bytes_max`, and `held_bytes_max` for all connections together. The others are bounded by
//! themselves: frames that the socket does not take, which cannot be taken back, and tables.
//!
//! The sum of all connections is told in steps of [`STEP`] bytes, so that an ordinary message does not touch what all threads
//! share. It is off by less than that for each connection.
//!
//! Holds: over a cap the largest call is told to end, of the connection that holds most, and of equals the newest. What a call holds
//! that was told to end is written off at once. The only call under way on a connection is never ended for the connection's cap.
//! Does not: know HTTP/2 or gRPC, or end calls. The connection does, when it is ordered to.

mod held;
mod numbers;
mod pieces;

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::task::Waker;

use parking_lot::Mutex;
use slab::Slab;
use tokio::time::Instant;

pub(super) use held::{Held, HeldBytes};
#[cfg(any(test, feature = "testkit"))]
pub use numbers::ConnectionHeld;
pub use numbers::Kind;
use pieces::Pieces;
pub(super) use pieces::Waiting;

use super::{ConnectionContext, ConnectionSettings};
use crate::limits;
use crate::throttle::Seldom;

/// In what steps the sum of all connections is told what one of them holds.
pub(super) const STEP: usize = 4 << 10;

/// A connection that has needed an account as often as this keeps it.
const OFTEN: u8 = 8;

/// The connections of a node; clones are the same ones.
#[derive(Clone, Debug)]
pub struct Accounts(Arc<Node>);

#[derive(Debug)]
struct Node {
    settings: Arc<ConnectionSettings>,
    bytes_max: usize,
    /// What the accounts have told.
    bytes: AtomicUsize,
    /// Accounts that were made: the newest has the highest number.
    made: AtomicU64,
    /// A connection was ordered to end a call, and has not yet.
    ordered: AtomicBool,
    began: Instant,
    /// Those that have held a step or more, or answers that were not taken.
    listed: Mutex<Slab<Arc<Account>>>,
    /// Of answers that wait.
    pieces: Pieces,
    log: Mutex<Seldom>,
}

impl Accounts {
    /// Nothing is held. All connections together may hold `bytes_max`, and each what its settings say.
    pub fn new(bytes_max: usize, settings: Arc<ConnectionSettings>) -> Self {
        Self(Arc::new(Node {
            settings,
            bytes_max,
            bytes: AtomicUsize::new(0),
            made: AtomicU64::new(0),
            ordered: AtomicBool::new(false),
            began: Instant::now(),
            listed: Mutex::default(),
            pieces: Pieces::default(),
            log: Mutex::new(Seldom::new(limits::ACCEPT_LOG_INTERVAL)),
        }))
    }

    /// The limits of its connections.
    pub(super) fn settings(&self) -> &ConnectionSettings {
        &self.0.settings
    }

    /// The cap for all connections together.
    pub(super) fn bytes_max(&self) -> usize {
        self.0.bytes_max
    }

    /// Whether all connections together hold more than they may.
    pub(super) fn is_over(&self) -> bool {
        self.0.bytes.load(SeqCst) > self.0.bytes_max
    }

    /// Orders the connection that holds most to end a call, if all together hold too much. One order is out at a time.
    fn relieve(&self) {
        if !self.is_over() || self.0.ordered.swap(true, SeqCst) {
            return;
        }
        let most = {
            let listed = self.0.listed.lock();
            let accounts = listed.iter().map(|(_, account)| account);
            let fit = accounts.filter(|account| !account.barren.load(SeqCst));
            let most = fit.max_by_key(|account| (account.capped(), account.number));
            let most = most.filter(|account| account.capped() > 0).cloned();
            // Under the lock: one that closes is still listed, or was not found.
            if let Some(account) = &most {
                account.ordered.store(true, SeqCst);
            }
            most
        };
        match most {
            Some(account) => account.task.wake_by_ref(),
            None => self.0.ordered.store(false, SeqCst),
        }
    }

    /// What is held by all connections together, less than [`STEP`] off for each.
    #[cfg(any(test, feature = "testkit"))]
    pub fn bytes(&self) -> usize {
        self.0.bytes.load(SeqCst)
    }

    /// The connections that hold something. No connection waits for the one who asks.
    #[cfg(any(test, feature = "testkit"))]
    pub fn connections(&self) -> Vec<ConnectionHeld> {
        let listed: Vec<_> = {
            let listed = self.0.listed.lock();
            listed.iter().map(|(_, one)| Arc::clone(one)).collect()
        };
        listed.iter().map(|account| account.numbers()).collect()
    }
}

const UNLISTED: u32 = u32::MAX;
const CLOSED: u32 = u32::MAX - 1;

/// What one connection holds. Its task and its calls write the counts, and the layers above read them.
#[derive(Debug)]
pub(super) struct Account {
    of: Accounts,
    connection: Arc<ConnectionContext>,
    number: u64,
    /// Is woken when there is an order, or less is held while the connection waits for that.
    task: Waker,
    /// In the order of [`Kind`].
    held: [AtomicUsize; Kind::ALL.len()],
    /// Calls with content, or with a message that has not come whole.
    senders: AtomicUsize,
    /// Streams with a piece of their answer.
    waiting: AtomicUsize,
    /// What the sum of all knows: a multiple of [`STEP`].
    told: AtomicUsize,
    /// The connection gives no credit, and waits until less is held.
    waits: AtomicBool,
    /// The connection is to end its largest call.
    ordered: AtomicBool,
    /// It had no call to end when it was last ordered to, and nothing has come since.
    barren: AtomicBool,
    /// Its key in the list.
    listed: AtomicU32,
    receive_window: AtomicU32,
    send_window: AtomicU32,
    /// Since when the socket takes nothing, in milliseconds since the node began, and 1 more; 0 while it does.
    blocked_since: AtomicU64,
}

impl Account {
    /// Nothing is held yet. `task` is the connection's.
    pub(super) fn new(of: Accounts, connection: Arc<ConnectionContext>, task: Waker) -> Arc<Self> {
        Arc::new(Self {
            number: of.0.made.fetch_add(1, SeqCst),
            of,
            connection,
            task,
            held: Default::default(),
            senders: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
            waits: AtomicBool::new(false),
            ordered: AtomicBool::new(false),
            barren: AtomicBool::new(false),
            listed: AtomicU32::new(UNLISTED),
            receive_window: AtomicU32::new(0),
            send_window: AtomicU32::new(0),
            blocked_since: AtomicU64::new(0),
        })
    }

    /// Bytes of one kind.
    pub(super) fn of(&self, kind: Kind) -> usize {
        self.held[kind as usize].load(SeqCst)
    }

    /// Bytes that count against the caps.
    pub(super) fn capped(&self) -> usize {
        Kind::CAPPED.into_iter().map(|kind| self.of(kind)).sum()
    }

    /// Those of all connections.
    pub(super) fn accounts(&self) -> &Accounts {
        &self.of
    }

    /// The connection's cap.
    pub(super) fn bytes_max(&self) -> usize {
        self.of.settings().connection_bytes_max
    }

    /// Whether the calls of this connection hold more than they may. A message that is the only one under way in its direction may be as
    /// large as its own limit.
    pub(super) fn is_over(&self) -> bool {
        if self.capped() <= self.bytes_max() {
            return false;
        }
        let only_sent = match self.senders() {
            0 | 1 => self.of(Kind::Content) + self.of(Kind::Messages),
            _ => 0,
        };
        self.without_the_only_answer().saturating_sub(only_sent) > self.bytes_max()
    }

    /// Bytes that count against the caps, but for an answer that is the only one to wait.
    pub(super) fn without_the_only_answer(&self) -> usize {
        let only = match self.waiting() {
            0 | 1 => self.of(Kind::Answers),
            _ => 0,
        };
        self.capped().saturating_sub(only)
    }

    /// Calls with content, or with a message that has not come whole.
    pub(super) fn senders(&self) -> usize {
        self.senders.load(SeqCst)
    }

    /// Streams with a piece of their answer, which waits for a window.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Counts of these kinds, which stood at the first number, stand at the second now.
    pub(super) fn change<const N: usize>(self: &Arc<Self>, changes: [(Kind, usize, usize); N]) {
        let (mut more, mut less) = (false, false);
        for (kind, before, after) in changes {
            let held = &self.held[kind as usize];
            if after > before {
                held.fetch_add(after - before, SeqCst);
                more = true;
            } else if after < before {
                held.fetch_sub(before - after, SeqCst);
                less = true;
            }
        }
        if more && self.barren.load(SeqCst) {
            self.barren.store(false, SeqCst);
        }
        if more || less {
            self.tell();
        }
        if less && self.waits.load(SeqCst) {
            self.task.wake_by_ref();
        }
    }

    /// Tells the sum of all what has changed by a step or more. It looks again after each change that it told, so the thread that changes a
    /// count last finds it told, or tells it.
    fn tell(self: &Arc<Self>) {
        let sum = &self.of.0.bytes;
        loop {
            let (held, told) = (self.capped(), self.told.load(SeqCst));
            if held < told + STEP && held + STEP > told {
                return;
            }
            let now = held - held % STEP;
            let swapped = (self.told).compare_exchange(told, now, SeqCst, SeqCst);
            if swapped.is_err() {
                continue;
            }
            if now > told {
                sum.fetch_add(now - told, SeqCst);
                self.list();
            } else {
                sum.fetch_sub(told - now, SeqCst);
            }
            self.of.relieve();
        }
    }

    /// Those who watch are shown it from now on.
    pub(super) fn list(self: &Arc<Self>) {
        if self.listed.load(SeqCst) != UNLISTED {
            return;
        }
        let mut listed = self.of.0.listed.lock();
        if self.listed.load(SeqCst) == UNLISTED {
            let key = listed.insert(Arc::clone(self));
            // There are fewer connections than sockets.
            let key = u32::try_from(key).unwrap_or(CLOSED);
            self.listed.store(key, SeqCst);
        }
    }

    /// Those who watch are shown it no longer, unless it was just found to hold most.
    fn unlist(&self) -> bool {
        if self.listed.load(SeqCst) == UNLISTED {
            return true;
        }
        let mut listed = self.of.0.listed.lock();
        let idle = !self.ordered.load(SeqCst);
        if idle {
            let key = self.listed.swap(UNLISTED, SeqCst);
            if key < CLOSED {
                listed.remove(key as usize);
            }
        }
        idle
    }

    /// The connection is over. What its calls still hold stays counted.
    fn close(self: &Arc<Self>) {
        for kind in [Kind::Frames, Kind::Unsent] {
            self.change([(kind, self.of(kind), 0)]);
        }
        {
            let mut listed = self.of.0.listed.lock();
            let key = self.listed.swap(CLOSED, SeqCst);
            if key < CLOSED {
                listed.remove(key as usize);
            }
        }
        if self.ordered.swap(false, SeqCst) {
            self.of.0.ordered.store(false, SeqCst);
            self.of.relieve();
        }
    }
}

/// A connection's way to its account: there is one while the connection holds something.
#[derive(Debug, Default)]
pub(super) struct OwnAccount(Option<Arc<Account>>);

/// The ends of accounts.
impl Drop for OwnAccount {
    fn drop(&mut self) {
        if let Some(account) = self.0.take() {
            account.close();
        }
    }
}

impl OwnAccount {
    /// The account among those of a node, which is made if there is none.
    pub(super) fn open(
        &mut self,
        of: &Accounts,
        connection: &Arc<ConnectionContext>,
        task: &Waker,
    ) -> &Arc<Account> {
        (self.0)
            .get_or_insert_with(|| Account::new(of.clone(), Arc::clone(connection), task.clone()))
    }

    /// The account, if there is one.
    pub(super) fn get(&self) -> Option<&Arc<Account>> {
        self.0.as_ref()
    }

    /// A connection at rest has none. One that has held much, or has needed an account as often as `made` counts to, keeps it: making
    /// one touches what all threads share.
    pub(super) fn forget_if_empty(&mut self, made: &mut u8) {
        if let Some(account) = &self.0
            && *made < OFTEN
            && account.is_empty()
            && account.unlist()
            && Arc::strong_count(account) == 1
        {
            *made += 1;
            self.0 = None;
        }
    }
}

/// For connections that obey orders.
impl Account {
    fn is_empty(&self) -> bool {
        let mut kinds = Kind::ALL.into_iter();
        self.waiting() == 0 && kinds.all(|kind| kind == Kind::Tables || self.of(kind) == 0)
    }

    /// The connection waits until less is held, or no longer does. It looks at the counts after this.
    pub(super) fn set_waits(&self, waits: bool) {
        // Only the connection writes it, for each piece of content, and seldom anything else than it is.
        if self.waits.load(Relaxed) != waits {
            self.waits.store(waits, SeqCst);
        }
    }

    /// Whether the connection is to end its largest call.
    pub(super) fn is_ordered(&self) -> bool {
        self.ordered.load(SeqCst)
    }

    /// The connection has ended a call, or had none to end.
    pub(super) fn obeyed(&self, ended: bool) {
        if !ended {
            let before = self.capped();
            self.barren.store(true, SeqCst);
            // What has come meanwhile may have seen it fruitful.
            if self.capped() > before {
                self.barren.store(false, SeqCst);
            }
        }
        self.ordered.store(false, SeqCst);
        self.of.0.ordered.store(false, SeqCst);
        self.of.relieve();
    }

    /// Tables are counted against no cap.
    pub(super) fn set_tables(&self, bytes: usize) {
        self.held[Kind::Tables as usize].store(bytes, Relaxed);
    }

    /// The windows of both directions, and whether the socket takes nothing.
    pub(super) fn set_windows(&self, receive: u32, send: u32, blocked: bool) {
        self.receive_window.store(receive, SeqCst);
        self.send_window.store(send, SeqCst);
        if blocked != (self.blocked_since.load(SeqCst) > 0) {
            let since = if blocked { 1 + self.of.0.millis() } else { 0 };
            self.blocked_since.store(since, SeqCst);
        }
    }

    /// Tells of a call that was ended, once a second.
    pub(super) fn log_ended(&self, error: super::RequestError, bytes: usize) {
        if let Some(unlogged) = self.of.0.log.lock().now() {
            let held = self.numbers();
            let peer = held.connection.peer;
            tracing::warn!(%peer, %error, bytes, %held, unlogged, "a call was ended: too much is held for calls");
        }
    }
}

impl Node {
    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

#[cfg(test)]
mod tests;
