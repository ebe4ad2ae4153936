//! Random grants, filters and topics. `LONGLIVED_GRANTS` is how many cases are tried, `LONGLIVED_SEED` where they begin.

use std::env;
use std::sync::Arc;

use longlived_authorize::{Action, Grants, RuleSet, Rules, Subject, authorize};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::oracle::{Lists, World};

const CASES: u64 = 100_000;

/// How many cases, and from which seed.
fn cases() -> (u64, SmallRng) {
    let number = |name, default| match env::var(name) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => default,
    };
    let seed = number("LONGLIVED_SEED", 1);
    (
        number("LONGLIVED_GRANTS", CASES),
        SmallRng::seed_from_u64(seed),
    )
}

/// Grants, as the crate has them and as the oracle has them.
#[derive(Debug)]
struct Case {
    action: Action,
    own: Lists,
    most: Option<Lists>,
    grants: Grants,
}

impl Case {
    fn new(world: &World, action: Action, own: Lists, most: Option<Lists>) -> Self {
        let rule_set = |lists: &Lists| {
            let filters = |places: &[usize]| -> Box<[_]> {
                let filters = places.iter().map(|place| world.filters[*place].clone());
                filters.collect()
            };
            let mut rules = RuleSet::default();
            *rules.of_mut(action) = Rules {
                allow: filters(&lists.allow),
                deny: filters(&lists.deny),
            };
            rules
        };
        let grants = Grants {
            own: rule_set(&own),
            most: most.as_ref().map(|most| Arc::new(rule_set(most))),
        };
        Self {
            action,
            own,
            most,
            grants,
        }
    }

    fn draw(world: &World, rng: &mut SmallRng) -> Self {
        let action = *Action::ALL.choose(rng).unwrap();
        let own = lists(world, rng);
        let most = rng.random_ratio(1, 4).then(|| lists(world, rng));
        Self::new(world, action, own, most)
    }

    fn grants_filter(&self, world: &World, filter: usize) -> bool {
        let subject = Subject::Filter(&world.filters[filter]);
        authorize(&self.grants, self.action, subject).is_ok()
    }

    fn grants_topic(&self, world: &World, topic: usize) -> bool {
        let subject = Subject::Topic(&world.topics[topic]);
        authorize(&self.grants, self.action, subject).is_ok()
    }

    /// What the oracle says of each list that counts.
    fn all(&self, granted: impl Fn(&Lists) -> bool) -> bool {
        granted(&self.own) && self.most.as_ref().is_none_or(granted)
    }
}

fn lists(world: &World, rng: &mut SmallRng) -> Lists {
    let mut some = |most: usize| -> Vec<usize> {
        let count = rng.random_range(0..=most);
        (0..count)
            .map(|_| rng.random_range(0..world.filters.len()))
            .collect()
    };
    let mut lists = Lists {
        allow: some(4),
        deny: some(2),
    };
    // Two random filters seldom meet, and everything is often allowed.
    if rng.random_ratio(1, 3) {
        lists.allow.push(0);
    }
    lists
}

#[test]
fn a_decision_is_what_the_names_of_the_filters_say() {
    let world = World::new();
    let (cases, mut rng) = cases();
    let (mut filters_granted, mut topics_granted) = (0_u64, 0_u64);
    for number in 0..cases {
        let case = Case::draw(&world, &mut rng);
        let filter = rng.random_range(0..world.filters.len());
        let topic = rng.random_range(0..world.topics.len());
        let (of_filter, of_topic) = (
            case.grants_filter(&world, filter),
            case.grants_topic(&world, topic),
        );
        let asked = || {
            let (filter, topic) = (&world.filters[filter], &world.topics[topic]);
            format!("case {number}: {filter} and {topic} of {:?}", case.grants)
        };
        let expected = case.all(|lists| world.grants_filter(lists, filter));
        assert_eq!(of_filter, expected, "{}", asked());
        let expected = case.all(|lists| world.grants_topic(lists, topic));
        assert_eq!(of_topic, expected, "{}", asked());
        // What a granted filter brings could have been asked for by itself.
        let bypass = of_filter && world.matches(filter, topic) && !of_topic;
        assert!(!bypass, "{}", asked());
        filters_granted += u64::from(of_filter);
        topics_granted += u64::from(of_topic);
    }
    // Neither answer is rare.
    for granted in [filters_granted, topics_granted] {
        assert!((cases / 20..cases / 2).contains(&granted), "{granted}");
    }
}

#[test]
fn a_deny_that_is_added_never_enlarges_what_is_granted() {
    let world = World::new();
    let (cases, mut rng) = cases();
    let mut taken = 0_u64;
    for number in 0..cases {
        let before = Case::draw(&world, &mut rng);
        let (mut own, mut most) = (before.own.clone(), before.most.clone());
        let deny = rng.random_range(0..world.filters.len());
        let place = |lists: &mut Lists, rng: &mut SmallRng| {
            let at = rng.random_range(0..=lists.deny.len());
            lists.deny.insert(at, deny);
        };
        match &mut most {
            Some(most) if rng.random() => place(most, &mut rng),
            _ => place(&mut own, &mut rng),
        }
        let after = Case::new(&world, before.action, own, most);
        let filter = rng.random_range(0..world.filters.len());
        let topic = rng.random_range(0..world.topics.len());
        for (was, is) in [
            (
                before.grants_filter(&world, filter),
                after.grants_filter(&world, filter),
            ),
            (
                before.grants_topic(&world, topic),
                after.grants_topic(&world, topic),
            ),
        ] {
            let deny = &world.filters[deny];
            assert!(was || !is, "case {number}: {deny} added to {before:?}");
            taken += u64::from(was && !is);
        }
    }
    assert!(taken > cases / 100, "{taken} were taken away");
}
