//! What a decision costs, by hand: `cargo bench -p longlived-authorize`.
//!
//! Sixteen filters in `allow`, of which the last one grants, and sixteen in `deny`, of which none does: every rule is looked at.

use std::hint::black_box;
use std::time::Duration;

use longlived_authorize::{Action, Grants, RuleSet, Rules, Subject, authorize};
use longlived_topic::{TopicFilter, TopicName};

const RULES: usize = 16;
const CALLS: u32 = 200_000;
const ROUNDS: usize = 15;

/// Grants, and a filter and a topic that they allow by the last rule.
struct Case {
    name: &'static str,
    allow: Grants,
    both: Grants,
    filter: TopicFilter,
    topic: TopicName,
}

fn case(
    name: &'static str,
    rule: impl Fn(&str, usize) -> String,
    filter: &str,
    topic: &str,
) -> Case {
    let rules = |kind: &str| -> Box<[TopicFilter]> {
        let texts = (1..=RULES).map(|number| rule(kind, number));
        texts
            .map(|text| TopicFilter::parse(&text).expect("a filter"))
            .collect()
    };
    let grants = |allow, deny| {
        let subscribe = Rules { allow, deny };
        let own = RuleSet {
            subscribe,
            ..RuleSet::default()
        };
        Grants { own, most: None }
    };
    Case {
        name,
        allow: grants(rules("allowed"), [].into()),
        both: grants(rules("allowed"), rules("denied")),
        filter: TopicFilter::parse(filter).expect("a filter"),
        topic: TopicName::parse(topic).expect("a topic"),
    }
}

fn main() {
    let deep = "region.europe.".repeat(6);
    let cases = [
        case(
            "first tokens differ",
            |kind, number| format!("{kind}{number}.>"),
            "allowed16.orders.*",
            "allowed16.orders.new",
        ),
        case(
            "second tokens differ",
            |kind, number| format!("orders.{kind}{number}.>"),
            "orders.allowed16.new.*",
            "orders.allowed16.new.7",
        ),
        case(
            "a wildcard before what differs",
            |kind, number| format!("orders.*.{kind}{number}.>"),
            "orders.eu.allowed16.*",
            "orders.eu.allowed16.new",
        ),
        case(
            "twelve tokens before what differs",
            |kind, number| format!("{deep}{kind}{number}.>"),
            &format!("{deep}allowed16.*"),
            &format!("{deep}allowed16.new"),
        ),
    ];
    println!("{RULES} rules of each kind; ns a call, the median of {ROUNDS} rounds (least)");
    for case in &cases {
        let (filter, topic) = (Subject::Filter(&case.filter), Subject::Topic(&case.topic));
        for (kind, subject) in [("filter", filter), ("topic", topic)] {
            let (median, least) = nanoseconds(&case.allow, subject);
            let (both, both_least) = nanoseconds(&case.both, subject);
            println!(
                "{median:8.1} ({least:.1}) allow, {both:8.1} ({both_least:.1}) allow and deny: {kind}, {}",
                case.name
            );
        }
    }
}

fn nanoseconds(grants: &Grants, subject: Subject<'_>) -> (f64, f64) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = now();
            for _ in 0..CALLS {
                let granted = authorize(black_box(grants), Action::Subscribe, black_box(subject));
                assert!(black_box(granted).is_ok());
            }
            now().saturating_sub(begun).as_secs_f64() * 1e9 / f64::from(CALLS)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    (rounds[ROUNDS / 2], rounds[0])
}

/// Time since some moment.
fn now() -> Duration {
    std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
}
