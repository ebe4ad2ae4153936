use super::*;
use crate::contract::{Attempt, Caller, Credential};

fn register(registry: &Arc<Registry>, number: u64) -> Registration {
    let attempt = Attempt {
        instance: 7,
        number,
    };
    let session = Session::of(
        &SubscriberKey::anonymous("s"),
        registry.next_generation(),
        attempt,
    );
    registry.register(session).expect("it is the newest")
}

#[tokio::test]
async fn the_sessions_of_an_id_are_named_newest_first_also_when_the_newest_has_left() {
    let registry = Registry::new(10);
    let mut registered: Vec<_> = (1..=4).map(|number| register(&registry, number)).collect();
    let numbers = || -> Vec<u64> {
        let sessions = registry.sessions_of(&SubscriberKey::anonymous("s"));
        sessions.iter().map(|one| one.attempt.number).collect()
    };
    assert_eq!(numbers(), [4, 3, 2, 1]);
    registered.pop();
    assert_eq!(numbers(), [3, 2, 1]);
}

#[tokio::test]
async fn an_id_that_is_given_back_makes_room_for_another() {
    let registry = Registry::new(1);
    let session = |id: &str| {
        let attempt = Attempt {
            instance: 0,
            number: 0,
        };
        let generation = registry.next_generation();
        Session::of(&SubscriberKey::anonymous(id), generation, attempt)
    };
    for id in ["a", "b", "c"] {
        let registered = registry.register(session(id));
        let other = registry.register(session("other"));
        assert!(matches!(other, Err(RegisterError::SubscribersExhausted(1))));
        drop(registered.expect("there is room"));
    }
}

#[tokio::test]
async fn ids_that_have_left_make_room_the_oldest_first_and_those_that_are_here_do_not() {
    let registry = Registry::new(4);
    let register = |id: &str, number| {
        let attempt = Attempt {
            instance: 7,
            number,
        };
        let key = SubscriberKey::anonymous(id);
        registry.register(Session::of(&key, registry.next_generation(), attempt))
    };
    let is_known = |id: &str| registry.slots.contains_key(&SubscriberKey::anonymous(id));
    let stays = register("stays", 1).expect("there is room");
    for id in ["a", "b", "c"] {
        drop(register(id, 9).expect("there is room"));
    }
    // It came back.
    let back = register("a", 10).expect("there is room");
    let first = register("first", 1).expect("an id has left");
    assert_eq!(["a", "b", "c"].map(is_known), [true, false, true]);
    let second = register("second", 1).expect("an id has left");
    assert_eq!(["a", "b", "c"].map(is_known), [true, false, false]);
    let third = register("third", 1);
    assert!(matches!(third, Err(RegisterError::SubscribersExhausted(4))));
    // What is known of ids that are here is kept.
    assert!(register("a", 3).is_err(), "an older attempt");
    drop(back);
    let third = register("third", 1).expect("an id has left");
    assert_eq!(registry.slots_count.load(Ordering::Relaxed), 4);
    drop((stays, first, second, third));
    // Each is forgotten at most once: the count is that of the map.
    for id in 0..20 {
        drop(register(&id.to_string(), 1).expect("ids have left"));
    }
    assert_eq!(registry.slots.len(), 4);
    assert_eq!(registry.slots_count.load(Ordering::Relaxed), 4);
    assert!(registry.unsettled.lock().len() <= 4);
}

#[tokio::test(start_paused = true)]
async fn an_id_that_was_fought_over_makes_room_once_the_fight_is_forgotten_however_often_others_come()
 {
    let registry = Registry::new(1);
    let register = |id: &str, instance| {
        let attempt = Attempt {
            instance,
            number: 1,
        };
        let key = SubscriberKey::anonymous(id);
        registry.register(Session::of(&key, registry.next_generation(), attempt))
    };
    let one = register("fought over", 7).expect("there is room");
    let other = register("fought over", 8).expect("it takes the id over");
    drop((one, other));
    let begun = Instant::now();
    let came = loop {
        match register("other", 9) {
            Ok(came) => break came,
            Err(_) => tokio::time::advance(Duration::from_secs(1)).await,
        }
        assert!(
            begun.elapsed() < 2 * limits::TAKEOVER_WINDOW,
            "it is never forgotten"
        );
    };
    assert!(begun.elapsed() >= limits::TAKEOVER_WINDOW / 2);
    drop(came);
}

#[tokio::test(start_paused = true)]
async fn sessions_hear_of_the_end_of_their_credential_and_end_after_it_a_few_at_a_time_and_not_before()
 {
    let registry = Registry::new(100);
    let begin = Instant::now();
    let after = |seconds: u64| begin + Duration::from_secs(seconds);
    let of = |id: u64, expires: Option<Instant>| {
        let caller = expires.map_or_else(Caller::anonymous, |at| caller_until(Some(at)));
        let attempt = Attempt {
            instance: 7,
            number: 1,
        };
        let id = id.to_string().into();
        let session = Session::of_caller(caller, id, registry.next_generation(), attempt);
        registry.register(session).expect("it is the newest")
    };
    let turn = || Duration::from_secs(3);
    let mind = |at, limit| registry.mind_credentials(at, limit, turn);
    let stays = of(0, None);
    let later = of(1, Some(after(1_000)));
    let sooner: Vec<_> = (2..7).map(|id| of(id, Some(after(100)))).collect();
    let told = || {
        let told = sooner.iter().filter_map(|one| one.session().closing());
        let ends = |reason: &CloseReason| matches!(reason, CloseReason::CredentialExpired { reconnect_after } if *reconnect_after == turn());
        told.filter(ends).count()
    };
    let reminded = || {
        let orders = sooner.iter().map(|one| one.session().take_orders());
        orders.filter(|orders| orders.remind).count()
    };
    assert_eq!(registry.expiring.len(), 5, "those that expire soon");
    assert!(!mind(after(74), 100));
    assert_eq!(reminded(), 0);
    assert!(mind(after(85), 4), "one is left");
    assert_eq!(reminded(), 4);
    assert!(!mind(after(85), 4));
    assert_eq!(reminded(), 1);
    registry.look_ahead(after(85)).await;
    assert_eq!(registry.expiring.len(), 5, "they have not ended");

    let leeway = longlived_identity::LEEWAY.as_secs();
    assert!(!mind(after(100 + leeway - 1), 100));
    assert_eq!(told(), 0);
    assert!(mind(after(100 + leeway), 4));
    assert_eq!(told(), 4);
    assert!(!mind(after(100 + leeway), 4));
    assert_eq!((told(), reminded()), (5, 0));
    assert_eq!(registry.expiring.len(), 0);
    let looked_ahead = async |from: u64, until: u64| {
        let mut soon = Vec::new();
        for at in (from..until).step_by(10) {
            registry.look_ahead(after(at)).await;
            let remind = || later.session().take_orders().remind;
            mind(after(at), 100);
            soon.extend(remind().then_some(at));
        }
        soon
    };
    let [told_at] = looked_ahead(130, 1_000).await[..] else {
        panic!("once");
    };
    assert!((750..=860).contains(&told_at), "{told_at}");
    registry.look_ahead(after(1_000)).await;
    assert_eq!(registry.expiring.len(), 1, "its end comes soon");

    let renewed = caller_until(Some(after(10_000)));
    registry.renew(later.session(), Arc::new(renewed));
    assert!(
        !mind(after(1_000 + leeway), 100),
        "it has another credential"
    );
    assert_eq!(later.session().closing(), None);
    drop(later);
    assert_eq!(registry.expiring.len(), 0, "one that has ended is not kept");
    assert_eq!(stays.session().closing(), None);
}

/// A caller whose credential expires then.
fn caller_until(expires: Option<Instant>) -> Caller {
    let mut caller = Caller::nobody();
    let rules = "[anonymous]\nsubscribe = { allow = [\">\"] }";
    let rules = longlived_identity::AuthRules::parse(rules, &mut |_| unreachable!());
    let proof = rules
        .expect("rules")
        .anonymous()
        .expect("they have it")
        .proof;
    caller.credential = Some(Credential {
        verified: Instant::now(),
        expires,
        expires_at: None,
        proof,
        rules: 1,
    });
    caller
}

#[tokio::test(start_paused = true)]
async fn subscribers_that_left_long_ago_are_forgotten_a_few_at_a_time_and_live_ones_are_not_looked_at()
 {
    let registry = Registry::new(100);
    let register = |id: usize| {
        let attempt = Attempt {
            instance: 7,
            number: 1,
        };
        let key = SubscriberKey::anonymous(&id.to_string());
        let session = Session::of(&key, registry.next_generation(), attempt);
        registry.register(session).expect("it is the newest")
    };
    let stays = register(0);
    drop((1..=10).map(register).collect::<Vec<_>>());
    assert_eq!(registry.unsettled.lock().len(), 10);
    // Coming and going does not wait twice.
    drop(register(1));
    assert_eq!(registry.unsettled.lock().len(), 10);
    let mut steps = 0;
    for _ in 0..40 {
        tokio::time::advance(LOOK_AGAIN).await;
        loop {
            steps += 1;
            if !registry.look_again(Instant::now(), 4) {
                break;
            }
        }
    }
    assert_eq!(registry.slots.len(), 1);
    assert_eq!(registry.slots_count.load(Ordering::Relaxed), 1);
    assert!(registry.unsettled.lock().is_empty());
    assert!(steps > 40, "several steps a look: {steps}");
    drop(stays);
}

#[tokio::test(start_paused = true)]
async fn streams_move_at_their_age_a_few_at_a_time_and_end_when_their_time_to_is_over() {
    let max = Duration::from_secs(1_000);
    let registry = Registry::with_ages(100, Some(max));
    let begin = Instant::now();
    let of = |id: u64, instance| {
        let attempt = Attempt {
            instance,
            number: 1,
        };
        let key = SubscriberKey::anonymous(&id.to_string());
        let session = Session::of(&key, registry.next_generation(), attempt);
        registry.register(session).expect("it is the newest")
    };
    let turn = || Duration::from_secs(3);
    let reason = CloseReason::StreamAge {
        reconnect_after: turn(),
    };
    let mind = |at, limit| registry.mind_ages(at, limit, turn);
    let left = of(0, 7);
    drop(left);
    let alone = of(1, 0);
    let moving: Vec<_> = (2..7).map(|id| of(id, 7)).collect();
    let aged = || registry.ages.as_ref().expect("they have ages").len();
    assert_eq!(aged(), 6, "one that has left is not kept");

    assert!(!mind(begin + max * 9 / 10 - Duration::from_millis(1), 100));
    assert!(mind(begin + max, 4), "two are left");
    assert!(!mind(begin + max, 4));
    let ends = begin + max + registry.spread() + slot::REPLACED_MAX;
    for one in &moving {
        assert_eq!(one.session().closing(), None);
        assert_eq!(one.session().take_move(), Some((reason, ends)));
        assert_eq!(one.session().take_move(), None, "it is said once");
        assert!(one.session().knows_of(reason));
        assert!(!one.session().knows_of(CloseReason::Unsubscribed));
    }
    assert_eq!(alone.session().closing(), Some(reason), "it ends at once");
    assert_eq!(aged(), 5);

    assert!(!mind(ends - Duration::from_millis(1), 100));
    assert!(moving.iter().all(|one| one.session().closing().is_none()));
    assert!(!mind(ends, 100));
    assert!(
        moving
            .iter()
            .all(|one| one.session().closing() == Some(reason))
    );
    assert_eq!(aged(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_word_of_a_drain_holds_over_that_of_an_age() {
    let registry = Registry::with_ages(100, Some(Duration::from_secs(100)));
    let one = register(&registry, 1);
    let over = Instant::now() + Duration::from_secs(100);
    let turn = Duration::ZERO;
    let draining = CloseReason::Draining {
        reconnect_after: turn,
    };
    registry.move_all(over, || draining);
    assert!(!registry.mind_ages(over, 100, || turn));
    assert_eq!(one.session().take_move(), Some((draining, over)));
}
