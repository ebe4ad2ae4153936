//! Decisions, in tables; `tests/it` holds them against an oracle.

use std::sync::Arc;

use longlived_topic::TopicName;

use super::*;
use crate::grants::Rules;

fn filters(texts: &[&str]) -> Box<[TopicFilter]> {
    let filters = texts.iter().map(|text| TopicFilter::parse(text).unwrap());
    filters.collect()
}

fn subscribe(allow: &[&str], deny: &[&str]) -> RuleSet {
    RuleSet {
        subscribe: Rules {
            allow: filters(allow),
            deny: filters(deny),
        },
        ..RuleSet::default()
    }
}

fn grants(allow: &[&str], deny: &[&str]) -> Grants {
    Grants {
        own: subscribe(allow, deny),
        most: None,
    }
}

/// The rule that grants a filter, or the refusal as text.
fn decided(grants: &Grants, filter: &str) -> Result<String, String> {
    let filter = TopicFilter::parse(filter).unwrap();
    let granted = authorize(grants, Action::Subscribe, (&filter).into());
    granted
        .map(|granted| granted.rule.to_string())
        .map_err(|refusal| refusal.to_string())
}

#[test]
fn a_filter_is_granted_inside_one_allow_and_apart_from_every_deny() {
    let grants = grants(
        &["orders.>", "news.*"],
        &["orders.secret.>", "orders.*.key"],
    );
    for (filter, rule) in [
        ("orders.eu.new", "orders.>"),
        ("orders.eu.*.*", "orders.>"),
        ("orders.eu.new.>", "orders.>"),
        ("orders.*", "orders.>"),
        ("news.sport", "news.*"),
        ("news.*", "news.*"),
        ("orders.secret", "orders.>"),
    ] {
        assert_eq!(decided(&grants, filter).as_deref(), Ok(rule), "{filter}");
    }
    for filter in [
        "orders",
        "news.>",
        "*",
        ">",
        "*.eu",
        "inbox.bob",
        "$sys.load",
        // Both `allow` together have all of it, and neither alone has.
        "*.sport",
    ] {
        let refused = decided(&grants, filter).unwrap_err();
        let expected = format!(
            "no filter of `subscribe.allow` covers `{filter}` in the grants of the credential"
        );
        assert_eq!(refused, expected);
    }
    for (filter, deny) in [
        ("orders.>", "orders.secret.>"),
        ("orders.secret.*", "orders.secret.>"),
        ("orders.eu.*", "orders.*.key"),
        ("orders.*.*", "orders.secret.>"),
    ] {
        let refused = decided(&grants, filter).unwrap_err();
        let expected = format!(
            "`subscribe.deny` has `{deny}`, which overlaps `{filter}`, in the grants of the credential"
        );
        assert_eq!(refused, expected);
    }
}

#[test]
fn a_leading_wildcard_never_grants_inboxes_and_topics_of_the_server() {
    let everything = grants(&[">", "*", "*.>", "*.*"], &[]);
    for filter in [
        "inbox.bob",
        "inbox.*",
        "inbox.>",
        "$sys.>",
        "$sys.load",
        "inbox",
        "$sys",
    ] {
        assert!(decided(&everything, filter).is_err(), "{filter}");
    }
    assert!(decided(&everything, ">").is_ok());
    let inboxes = grants(&["inbox.bob", "$sys.>"], &[]);
    assert!(decided(&inboxes, "inbox.bob").is_ok());
    assert!(decided(&inboxes, "$sys.load").is_ok());
    assert!(decided(&inboxes, "inbox.eve").is_err());
    // Nor does a deny that begins with one reach them.
    let denied = grants(&["inbox.bob"], &[">"]);
    assert!(decided(&denied, "inbox.bob").is_ok());
}

#[test]
fn a_topic_is_decided_as_the_filter_that_matches_it_alone() {
    let grants = grants(&["orders.>"], &["orders.secret.>"]);
    let decided = |topic: &str| {
        let topic = TopicName::parse(topic).unwrap();
        authorize(&grants, Action::Subscribe, Subject::Topic(&topic)).map_err(|it| it.to_string())
    };
    assert_eq!(decided("orders.eu").unwrap().rule.as_str(), "orders.>");
    let refused = decided("orders.secret.eu").unwrap_err();
    assert_eq!(
        refused,
        "`subscribe.deny` has `orders.secret.>`, which overlaps `orders.secret.eu`, in the grants of the credential"
    );
    assert!(decided("orders").is_err());
    assert!(decided("orders.secret").is_ok());
}

#[test]
fn an_action_is_not_granted_by_the_rules_of_another() {
    let grants = grants(&[">"], &[]);
    let filter = TopicFilter::parse("a").unwrap();
    for action in [Action::Publish, Action::Admin] {
        let refused = authorize(&grants, action, (&filter).into()).unwrap_err();
        let expected =
            format!("no filter of `{action}.allow` covers `a` in the grants of the credential");
        assert_eq!(refused.to_string(), expected);
    }
    assert!(authorize(&Grants::default(), Action::Subscribe, (&filter).into()).is_err());
}

#[test]
fn the_most_of_an_issuer_and_the_grants_of_a_credential_must_both_grant() {
    let most = Some(Arc::new(subscribe(&["users.>"], &["users.root.>"])));
    let own = subscribe(&["users.bob.>", "users.root.*", "orders.>"], &[]);
    let grants = Grants { own, most };
    let bob = TopicFilter::parse("users.bob.*").unwrap();
    let granted = authorize(&grants, Action::Subscribe, (&bob).into()).unwrap();
    assert_eq!(granted.rule.as_str(), "users.bob.>");
    assert_eq!(granted.most.map(TopicFilter::as_str), Some("users.>"));
    assert_eq!(
        decided(&grants, "orders.eu").unwrap_err(),
        "no filter of `subscribe.allow` covers `orders.eu` in the most that its issuer may give"
    );
    assert_eq!(
        decided(&grants, "users.root.key").unwrap_err(),
        "`subscribe.deny` has `users.root.>`, which overlaps `users.root.key`, in the most that its issuer may give"
    );
    assert_eq!(
        decided(&grants, "users.eve.x").unwrap_err(),
        "no filter of `subscribe.allow` covers `users.eve.x` in the grants of the credential"
    );
    // A most without an action gives nothing of it.
    let publish = authorize(&grants, Action::Publish, (&bob).into());
    assert!(publish.is_err());
}
