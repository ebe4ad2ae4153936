use std::net::SocketAddr;
use std::task::Waker;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::transport::connection::{Accepted, ListenerContext};

const CAP: usize = 100_000;

fn accounts(connection: usize, all: usize) -> Accounts {
    let settings = ConnectionSettings {
        connection_bytes_max: connection,
        ..ConnectionSettings::default()
    };
    Accounts::new(all, Arc::new(settings))
}

fn open(own: &mut OwnAccount, accounts: &Accounts) -> Arc<Account> {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut accepted = Accepted {
        peer: address.into(),
        listener: Arc::new(ListenerContext::from(address)),
        queue: None,
        place: None,
    };
    let context = accepted.context();
    Arc::clone(own.open(accounts, &Arc::new(context), Waker::noop()))
}

#[test]
fn the_only_message_of_a_connection_may_be_larger_than_the_cap() {
    let accounts = accounts(100, 100_000);
    let account = open(&mut OwnAccount::default(), &accounts);
    let mut large = Held::nothing(Arc::clone(&account));
    large.set(0, 500);
    assert!(!account.is_over());
    let mut second = Held::nothing(Arc::clone(&account));
    second.set(0, 1);
    assert!(account.is_over());
    drop(large);
    assert!(!account.is_over());
    // Fields are no message.
    second.set_fields(101);
    assert!(account.is_over());
    drop(second);
    assert_eq!(account.capped(), 0);
}

#[test]
fn the_connection_that_holds_most_is_ordered_and_of_equals_the_newest() {
    let accounts = accounts(CAP, CAP);
    let mut own = [0; 3].map(|_| OwnAccount::default());
    let account = own.each_mut().map(|own| open(own, &accounts));
    let mut held = account.each_ref().map(|one| Held::nothing(Arc::clone(one)));
    let ordered = || account.each_ref().map(|one| one.is_ordered());
    held[0].set(40_000, 0);
    held[2].set(40_000, 0);
    assert_eq!(ordered(), [false, false, false]);
    held[1].set(30_000, 0);
    assert_eq!(ordered(), [false, false, true], "the newest of two");
    // One order is out at a time.
    held[0].set(50_000, 0);
    assert_eq!(ordered(), [false, false, true]);
    account[2].obeyed(false);
    assert_eq!(
        ordered(),
        [true, false, false],
        "the other had no call to end"
    );
    held[0].write_off(0);
    account[0].obeyed(true);
    assert_eq!(ordered(), [false, false, false]);
    // One that goes away with its order hands it on.
    held[2].set(90_000, 0);
    assert_eq!(ordered(), [false, false, true]);
    held[1].set(20_000, 0);
    let [_, _, last] = own;
    drop(last);
    assert_eq!(ordered(), [false, true, false]);
}

#[test]
fn what_was_written_off_is_shown_until_it_is_let_go() {
    let accounts = accounts(CAP, CAP);
    let mut own = OwnAccount::default();
    let account = open(&mut own, &accounts);
    let mut held = Held::nothing(Arc::clone(&account));
    held.set(10_000, 20_000);
    held.set_trailers(5_000);
    held.write_off(4_000);
    assert_eq!(account.of(Kind::Ended), 24_000);
    assert_eq!(account.capped(), 5_000, "the trailers are let go apart");
    held.clear();
    let listed = accounts.connections();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].bytes, [0; Kind::ALL.len()]);
    assert_eq!(accounts.bytes(), 0);
}

#[test]
fn a_connection_at_rest_has_no_account() {
    let accounts = accounts(CAP, CAP);
    let mut own = OwnAccount::default();
    let mut held = Held::nothing(open(&mut own, &accounts));
    held.set(0, STEP - 1);
    let mut made = 0;
    own.forget_if_empty(&mut made);
    assert!(own.get().is_some());
    assert!(accounts.connections().is_empty(), "less than a step");
    drop(held);
    own.forget_if_empty(&mut made);
    assert!(own.get().is_none());
    // One that is busy again and again keeps it.
    for _ in 0..OFTEN {
        open(&mut own, &accounts);
        own.forget_if_empty(&mut made);
    }
    assert!(own.get().is_some());
    assert_eq!(size_of::<OwnAccount>(), 8);
}

#[derive(Clone, Debug)]
enum Change {
    Call(usize, usize, Of),
    Leave(usize, usize),
    Frames(usize, usize),
    Close(usize),
}

/// What changes of a call.
#[derive(Clone, Debug)]
enum Of {
    Sent(usize, usize),
    Trailers(usize),
    Fields(usize),
    Ended,
}

fn change() -> impl Strategy<Value = Change> {
    let (connection, call) = (0..3_usize, 0..4_usize);
    let bytes = || prop_oneof![Just(0_usize), 0..3 * STEP, Just(STEP), 0..200_000_usize];
    let of_call = prop_oneof![
        6 => (bytes(), bytes()).prop_map(|(content, message)| Of::Sent(content, message)),
        2 => bytes().prop_map(Of::Trailers),
        2 => bytes().prop_map(Of::Fields),
        1 => Just(Of::Ended),
    ];
    prop_oneof![
        9 => (connection.clone(), call.clone(), of_call).prop_map(|(a, b, c)| Change::Call(a, b, c)),
        2 => (connection.clone(), call).prop_map(|(a, b)| Change::Leave(a, b)),
        2 => (connection.clone(), bytes()).prop_map(|(a, b)| Change::Frames(a, b)),
        1 => connection.prop_map(Change::Close),
    ]
}

proptest! {
    /// Whatever calls and connections do, and in whatever order they end.
    #[test]
    fn the_sum_is_what_all_hold_and_nothing_when_they_are_gone(
        changes in prop::collection::vec(change(), 0..200),
    ) {
        let accounts = accounts(CAP, 1 << 40);
        let mut owns = [0, 1, 2].map(|_| OwnAccount::default());
        let mut calls: Vec<[Option<Held>; 4]> = (0..3).map(|_| [const { None }; 4]).collect();
        for change in changes {
            match change {
                Change::Call(at, call, change) => {
                    let account = open(&mut owns[at], &accounts);
                    let held = calls[at][call].get_or_insert_with(|| Held::nothing(account));
                    match change {
                        Of::Sent(content, message) => held.set(content, message),
                        Of::Trailers(bytes) => held.set_trailers(bytes),
                        Of::Fields(bytes) => held.set_fields(bytes),
                        Of::Ended => held.write_off(100),
                    }
                }
                Change::Leave(at, call) => calls[at][call] = None,
                Change::Frames(at, bytes) => {
                    let account = open(&mut owns[at], &accounts);
                    account.change([(Kind::Frames, account.of(Kind::Frames), bytes)]);
                }
                // Its calls may live on.
                Change::Close(at) => owns[at] = OwnAccount::default(),
            }
            for own in &mut owns {
                own.forget_if_empty(&mut 0);
            }
            let held: usize = calls.iter().flatten().flatten().map(|held| {
                let held = held.bytes();
                held.sent + held.others
            }).sum();
            let frames: usize = owns.iter().filter_map(OwnAccount::get).map(|one| one.of(Kind::Frames)).sum();
            let (counted, told) = (held + frames, accounts.bytes());
            // One account for each connection, and for each call whose connection closed.
            prop_assert!(told.abs_diff(counted) < 15 * STEP, "{told} and not {counted}");
        }
        drop(calls);
        drop(owns);
        prop_assert_eq!(accounts.bytes(), 0);
        prop_assert!(accounts.connections().is_empty());
    }
}

proptest! {
    /// Any streams wait with any pieces, and leave in any order.
    #[test]
    fn a_piece_is_counted_while_anybody_waits_with_it(
        steps in prop::collection::vec((any::<bool>(), 0..3_usize, 0..4_usize, any::<prop::sample::Index>()), 0..200),
    ) {
        let accounts = accounts(CAP, 1 << 40);
        let mut owns = [0, 1, 2].map(|_| OwnAccount::default());
        let accounts_of = owns.each_mut().map(|own| open(own, &accounts));
        let pieces = [1, 10_000, 100_001, 1_000_000].map(|bytes| Bytes::from(vec![0; bytes]));
        let mut waiting: Vec<(usize, usize, Waiting)> = Vec::new();
        for (comes, at, piece, who) in steps {
            if comes || waiting.is_empty() {
                waiting.push((piece, at, Waiting::with(&pieces[piece].slice(pieces[piece].len() / 2..), pieces[piece].len(), &accounts_of[at])));
            } else {
                waiting.swap_remove(who.index(waiting.len()));
            }
            let streams = |piece| waiting.iter().filter(|(of, _, _)| *of == piece).count();
            let held = (0..pieces.len()).filter(|piece| streams(*piece) > 0);
            let held: usize = held.map(|piece| pieces[piece].len()).sum();
            let told = accounts.bytes();
            prop_assert!(told.abs_diff(held) < 3 * STEP, "{told} of {held}");
            let charged: usize = accounts_of.iter().map(|account| account.of(Kind::Answers)).sum();
            prop_assert_eq!(charged, held);
            for (at, account) in accounts_of.iter().enumerate() {
                let waits = waiting.iter().filter(|(_, of, _)| *of == at).count();
                prop_assert_eq!(account.waiting(), waits);
                prop_assert!(waits > 0 || account.of(Kind::Answers) == 0, "charged for others");
                let parts = waiting.iter().filter(|(_, of, _)| *of == at).map(|(_, _, one)| one.part());
                prop_assert_eq!(parts.sum::<usize>() > 0, account.of(Kind::Answers) > 0);
            }
        }
        drop(waiting);
        prop_assert_eq!(accounts.bytes(), 0);
    }
}

/// A connection and its calls change counts from several threads at once.
#[test]
fn nothing_stays_told_when_threads_give_back_at_the_same_time() {
    let accounts = accounts(CAP, 1 << 40);
    let mut own = OwnAccount::default();
    let account = open(&mut own, &accounts);
    for round in 0..200 {
        std::thread::scope(|scope| {
            for thread in 1..=3 {
                let account = Arc::clone(&account);
                scope.spawn(move || {
                    let mut held = Held::nothing(account);
                    for step in 0..50 {
                        held.set(step * thread * 1_000 % 30_000, round * step % 9_000);
                    }
                });
            }
        });
        assert_eq!(account.capped(), 0);
        assert_eq!(accounts.bytes(), 0, "round {round}");
    }
}
