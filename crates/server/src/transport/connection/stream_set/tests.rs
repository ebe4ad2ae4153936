use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Writes down that it was polled; the test decides the rest.
struct Told {
    name: usize,
    polled: Rc<RefCell<Vec<usize>>>,
    does: Does,
    waker: Rc<RefCell<Vec<Waker>>>,
}

#[derive(Clone, Copy)]
enum Does {
    Wait,
    /// Hands over a chunk and has more.
    Send,
    /// Hands over a chunk, and waits when it is asked for another.
    SendOne,
    End,
}

/// The bytes that each sends: a turn has a budget for sixteen.
const CHUNK: usize = limits::CONNECTION_TURN_BYTES / 16;
const TURN: usize = 16;

impl Member<()> for Told {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        _: &StreamWaker,
        turn: &mut Turn,
        (): &mut (),
    ) -> Poll<()> {
        self.polled.borrow_mut().push(self.name);
        let mut wakers = self.waker.borrow_mut();
        if wakers.len() <= self.name {
            wakers.resize(self.name + 1, Waker::noop().clone());
        }
        wakers[self.name] = cx.waker().clone();
        match self.does {
            Does::Wait => Poll::Pending,
            Does::Send | Does::SendOne => {
                if let Does::SendOne = self.does {
                    self.does = Does::Wait;
                }
                turn.spend(CHUNK);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Does::End => Poll::Ready(()),
        }
    }

    fn waits_for_socket(&mut self, _: &mut Context<'_>, own: &StreamWaker, (): &mut ()) -> bool {
        matches!(self.does, Does::Send | Does::SendOne) && !own.is_aborted()
    }
}

struct Rig {
    set: StreamSet<Told>,
    polled: Rc<RefCell<Vec<usize>>>,
    wakers: Rc<RefCell<Vec<Waker>>>,
    woken: Arc<Count>,
}

impl Rig {
    fn new(streams: usize, does: Does) -> Self {
        let woken = Arc::new(Count(AtomicUsize::new(0)));
        let mut rig = Self {
            set: StreamSet::new(Waker::from(Arc::clone(&woken))),
            polled: Rc::default(),
            wakers: Rc::default(),
            woken,
        };
        for name in 0..streams {
            rig.insert(name, does);
        }
        rig
    }

    fn insert(&mut self, name: usize, does: Does) {
        self.set.insert(|_, _| Told {
            name,
            polled: Rc::clone(&self.polled),
            does,
            waker: Rc::clone(&self.wakers),
        });
    }

    fn wake(&self, name: usize) {
        self.wakers.borrow()[name].wake_by_ref();
    }

    /// The streams that are polled in the next turn, and whether it left some.
    fn turn(&mut self) -> (Vec<usize>, bool) {
        let early = self.set.poll_woken(&mut Turn::new(), &mut ());
        (self.polled.take(), early)
    }

    fn task_was_woken(&self) -> bool {
        self.woken.0.swap(0, Ordering::SeqCst) > 0
    }
}

#[test]
fn streams_that_were_woken_are_polled_once_each_in_their_order() {
    let mut rig = Rig::new(200, Does::Wait);
    assert!(rig.task_was_woken());
    assert_eq!(rig.turn(), ((0..200).collect(), false));
    assert_eq!(rig.turn(), (vec![], false));
    for name in [199, 3, 70, 3] {
        rig.wake(name);
    }
    assert!(rig.task_was_woken());
    assert_eq!(rig.turn(), (vec![3, 70, 199], false));
}

#[test]
fn a_turn_that_is_over_goes_on_where_it_ended() {
    let turn = TURN;
    let mut rig = Rig::new(100, Does::Send);
    let mut polled = Vec::new();
    while polled.len() < 200 {
        let (some, early) = rig.turn();
        assert!(some.len() <= turn);
        assert!(early || some.last() == Some(&99) || some.len() == turn);
        polled.extend(some);
    }
    let mut times = [0; 100];
    for name in polled {
        times[name] += 1;
    }
    assert!(
        times.iter().all(|times| (1..=3).contains(times)),
        "{times:?}"
    );
}

#[test]
fn a_stream_with_more_before_those_left_over_were_looked_at_is_not_forgotten() {
    let turn = TURN;
    let mut rig = Rig::new(turn, Does::SendOne);
    rig.insert(turn, Does::Send);
    assert_eq!(rig.turn(), ((0..turn).collect(), true));
    rig.task_was_woken();
    let (polled, left) = rig.turn();
    assert_eq!(polled.len(), turn + 1);
    assert!(left || rig.task_was_woken(), "a stream asks for a turn");
    assert_eq!(rig.turn().0, [turn]);
}

#[test]
fn the_slot_of_a_stream_that_ended_is_used_again_and_its_old_waker_does_no_harm() {
    let mut rig = Rig::new(2, Does::End);
    assert_eq!(rig.turn().0, [0, 1]);
    rig.wake(0);
    assert_eq!(rig.turn().0, [0; 0]);
    rig.insert(2, Does::Wait);
    rig.insert(3, Does::Wait);
    assert_eq!(rig.turn().0.len(), 2);
    rig.wake(0);
    assert_eq!(rig.turn().0.len(), 1);
    rig.wake(2);
    rig.wake(3);
    assert!(rig.task_was_woken());
    assert_eq!(rig.turn().0.len(), 2);
}

#[test]
fn while_the_socket_is_blocked_only_those_that_end_or_have_not_begun_are_polled() {
    let mut rig = Rig::new(3, Does::Send);
    rig.insert(3, Does::Wait);
    assert_eq!(rig.turn().0, [0, 1, 2, 3]);
    rig.task_was_woken();
    rig.set.poll_blocked(&mut ());
    assert_eq!(rig.polled.take(), [0; 0]);
    // Its bit's block has others that are woken, and still it is heard of.
    rig.set.slots.get_mut(1).unwrap().own.abort();
    assert!(rig.task_was_woken());
    rig.set.slots.get_mut(1).unwrap().stream.does = Does::End;
    rig.wake(3);
    rig.set.poll_blocked(&mut ());
    assert_eq!(rig.polled.take(), [1, 3]);
    assert_eq!(rig.turn().0, [0, 2], "the others are not forgotten");
}
