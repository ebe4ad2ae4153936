//! The sources of a connection's wake-ups. It wakes the task no oftener than needed.
//!
//! The task has four sources of work: its streams, those that read for several streams, its socket and its timers. Each
//! has a waker of its own. A wake-up while the task is being polled only notes the source, which the task looks at before it
//! sleeps, and a hundred streams that are woken together reach the runtime once.
//!
//! Holds: a source that was woken by any thread, at any time, is polled after that.

use std::sync::Arc;
use std::task::{Wake, Waker};

use super::sync::{AtomicU8, AtomicU64, AtomicWaker, Ordering};

/// Streams that can go on.
pub(super) const STREAMS: u8 = 1;
/// Bytes to read or write, or frames that wait to be written.
pub(super) const SOCKET: u8 = 1 << 1;
/// Keepalive and the end of the server.
pub(super) const CONTROL: u8 = 1 << 2;
/// Groups of streams for which something was read.
pub(super) const GROUPS: u8 = 1 << 3;

/// The task is being polled and will look at the sources before it sleeps.
const POLLING: u8 = 1 << 7;

/// The wakers of one connection.
pub(super) struct Wakes {
    shared: Arc<Shared>,
    pub(super) streams: Waker,
    pub(super) socket: Waker,
    pub(super) control: Waker,
}

struct Shared {
    /// Sources woken since they were taken, and POLLING. Set by any thread, taken by the task.
    state: AtomicU8,
    // Which groups; those whose numbers differ by 64 share a bit.
    groups: AtomicU64,
    task: AtomicWaker,
}

impl Shared {
    fn raise(&self, source: u8) {
        // If anything was set, the task either is being polled or was woken already.
        if self.state.fetch_or(source, Ordering::AcqRel) == 0 {
            self.task.wake();
        }
    }
}

struct Source {
    shared: Arc<Shared>,
    bit: u8,
}

/// Wakes one group. Here and not in a set of wake-ups like that of the streams: with one stream on a connection each
/// event would pay for the lines of cache in between.
struct OfGroup {
    shared: Arc<Shared>,
    group: u64,
}

impl Wake for OfGroup {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.shared.groups.fetch_or(self.group, Ordering::AcqRel);
        self.shared.raise(GROUPS);
    }
}

impl Wake for Source {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.shared.raise(self.bit);
    }
}

/// Makes wakers for groups, and knows which were woken.
#[derive(Clone)]
pub(super) struct GroupWakes(Arc<Shared>);

impl GroupWakes {
    /// Wakes the group of this number.
    pub(super) fn waker(&self, group: usize) -> Waker {
        Waker::from(Arc::new(OfGroup {
            shared: Arc::clone(&self.0),
            group: Self::bit(group),
        }))
    }

    /// The bits of the groups that were woken; they no longer are.
    pub(super) fn take(&self) -> u64 {
        self.0.groups.swap(0, Ordering::AcqRel)
    }

    /// These are woken again, and the task is not told.
    pub(super) fn put_back(&self, groups: u64) {
        self.0.groups.fetch_or(groups, Ordering::AcqRel);
    }

    /// The bit of the group of this number.
    pub(super) fn bit(group: usize) -> u64 {
        1 << (group % 64)
    }
}

impl Wakes {
    /// Every source counts as woken at first.
    pub(super) fn new() -> Self {
        let state = AtomicU8::new(STREAMS | SOCKET | CONTROL);
        let shared = Arc::new(Shared {
            state,
            groups: AtomicU64::new(0),
            task: AtomicWaker::new(),
        });
        let waker = |bit| {
            Waker::from(Arc::new(Source {
                shared: Arc::clone(&shared),
                bit,
            }))
        };
        Self {
            streams: waker(STREAMS),
            socket: waker(SOCKET),
            control: waker(CONTROL),
            shared,
        }
    }

    /// The wake-ups of groups.
    pub(super) fn groups(&self) -> GroupWakes {
        GroupWakes(Arc::clone(&self.shared))
    }

    /// The task is polled with `task` as its waker.
    pub(super) fn begin(&self, task: &Waker) {
        self.shared.task.register(task);
        self.shared.state.fetch_or(POLLING, Ordering::AcqRel);
    }

    /// Which of these sources were woken. Clears them.
    pub(super) fn take(&self, sources: u8) -> u8 {
        self.shared.state.fetch_and(!sources, Ordering::AcqRel) & sources
    }

    /// Notes that `source` was woken.
    pub(super) fn mark(&self, source: u8) {
        self.shared.state.fetch_or(source, Ordering::AcqRel);
    }

    /// Whether any source was woken.
    pub(super) fn any_woken(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) & !POLLING != 0
    }

    /// The task wants to sleep. False if a source was woken again: then it must go on, or `give_way`.
    pub(super) fn end(&self) -> bool {
        self.shared
            .state
            .compare_exchange(POLLING, 0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// The task stops although a source may have been woken; it is woken at once, behind the others.
    pub(super) fn give_way(&self, task: &Waker) {
        self.shared.state.fetch_and(!POLLING, Ordering::AcqRel);
        task.wake_by_ref();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn counting() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        (Arc::clone(&count), Waker::from(count))
    }

    fn asleep(wakes: &Wakes, task: &Waker) {
        wakes.begin(task);
        wakes.take(STREAMS | SOCKET | CONTROL);
        assert!(wakes.end());
    }

    #[test]
    fn many_wake_ups_of_a_sleeping_task_reach_it_once() {
        let (count, task) = counting();
        let wakes = Wakes::new();
        asleep(&wakes, &task);
        for _ in 0..100 {
            wakes.streams.wake_by_ref();
        }
        wakes.socket.wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        wakes.begin(&task);
        assert_eq!(wakes.take(STREAMS), STREAMS);
        assert_eq!(wakes.take(SOCKET), SOCKET);
        assert_eq!(wakes.take(CONTROL), 0);
    }

    #[test]
    fn a_wake_up_while_polling_keeps_the_task_awake_without_the_runtime() {
        let (count, task) = counting();
        let wakes = Wakes::new();
        wakes.begin(&task);
        wakes.take(STREAMS | SOCKET | CONTROL);
        wakes.socket.wake_by_ref();
        assert!(!wakes.end());
        assert_eq!(wakes.take(SOCKET), SOCKET);
        assert!(wakes.end());
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn groups_are_told_apart_by_their_number() {
        let (count, task) = counting();
        let wakes = Wakes::new();
        asleep(&wakes, &task);
        let groups = wakes.groups();
        groups.waker(3).wake_by_ref();
        groups.waker(65).wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        wakes.begin(&task);
        assert_eq!(wakes.take(GROUPS), GROUPS);
        assert_eq!(wakes.take(STREAMS), 0);
        assert_eq!(groups.take(), GroupWakes::bit(3) | GroupWakes::bit(1));
        assert_eq!(groups.take(), 0);
    }

    #[test]
    fn giving_way_wakes_the_task_and_keeps_its_sources() {
        let (count, task) = counting();
        let wakes = Wakes::new();
        wakes.begin(&task);
        wakes.give_way(&task);
        wakes.streams.wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        wakes.begin(&task);
        assert_eq!(wakes.take(STREAMS), STREAMS);
    }
}
