//! Grants by an issuer's template.

use longlived_authorize::Action;
use longlived_identity::CredentialError;
use serde_json::json;

use crate::sign::Signer;
use crate::support::{acme, judged, may, may_follow, try_acme};

const TEMPLATE: &str = r#"
    [issuers.acme.template]
    subscribe = { allow = ["users.{sub}.>", "inbox.{sub}", "team.{claim:team}.news", "news.>"] }
    publish = { allow = ["users.{sub}.{claim:team}"] }
"#;

#[test]
fn a_token_gets_what_the_template_gives_its_values() {
    let signer = Signer::hs256();
    let rules = acme(&signer, TEMPLATE);
    let bob = judged(&rules, &signer, &json!({"team": "red"})).unwrap();
    for filter in [
        "users.bob.>",
        "users.bob.a.*",
        "inbox.bob",
        "team.red.news",
        "news.eu",
    ] {
        assert!(may_follow(&bob, filter), "{filter}");
    }
    for filter in [
        "users.>",
        "users.*.a",
        "users.eve.a",
        "inbox.eve",
        "inbox.*",
        "team.*.news",
        ">",
    ] {
        assert!(!may_follow(&bob, filter), "{filter}");
    }
    assert!(may(&bob, Action::Publish, "users.bob.red"));
    assert!(!may(&bob, Action::Publish, "users.bob.blue"));
    assert!(!may(&bob, Action::Admin, "users.bob.red"));
}

#[test]
fn a_value_that_is_no_token_of_a_topic_grants_nothing() {
    let signer = Signer::hs256();
    let rules = acme(&signer, TEMPLATE);
    let long = "x".repeat(65);
    for sub in [
        "*", ">", "a.b", &long, "ä", "a b", "bob.>", "$sys", "{sub}", "a/b",
    ] {
        let caller = judged(&rules, &signer, &json!({"sub": sub, "team": "red"})).unwrap();
        let own = &caller.grants.own;
        let allowed: Vec<_> = own
            .subscribe
            .allow
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(allowed, ["team.red.news", "news.>"], "{sub}");
        assert!(own.publish.allow.is_empty(), "{sub}");
    }
    let empty = judged(&rules, &signer, &json!({"sub": ""}));
    assert_eq!(empty.unwrap_err(), CredentialError::Subject);
    for team in [
        json!("*"),
        json!(">"),
        json!("a.b"),
        json!(""),
        json!(long),
        json!("ä"),
        json!(7),
        json!(["red"]),
        json!(null),
    ] {
        let caller = judged(&rules, &signer, &json!({"team": team})).unwrap();
        for filter in [
            "team.red.news",
            "team.*.news",
            "team.7.news",
            "team.a.b.news",
        ] {
            assert!(!may_follow(&caller, filter), "{team} {filter}");
        }
        assert!(may_follow(&caller, "users.bob.a"), "{team}");
    }
}

#[test]
fn a_deny_without_a_value_refuses_the_caller() {
    let signer = Signer::hs256();
    let rules = acme(
        &signer,
        r#"
        [issuers.acme.template]
        subscribe = { allow = ["news.>"], deny = ["news.{claim:rival}.>"] }
        "#,
    );
    let caller = judged(&rules, &signer, &json!({"rival": "red"})).unwrap();
    assert!(may_follow(&caller, "news.blue.*"));
    assert!(!may_follow(&caller, "news.red.*"));
    for rival in [json!(null), json!("*"), json!("a.b"), json!(""), json!(7)] {
        let refused = judged(&rules, &signer, &json!({"rival": rival}));
        assert_eq!(
            refused.unwrap_err().to_string(),
            "the deny filter `news.{claim:rival}.>` of the issuer's template has no value for this token"
        );
    }
}

#[test]
fn a_token_without_grants_and_without_a_template_gets_nothing() {
    let signer = Signer::hs256();
    let caller = judged(&acme(&signer, ""), &signer, &json!({})).unwrap();
    assert_eq!(caller.grants.own, longlived_authorize::RuleSet::default());
}

#[test]
fn the_most_of_an_issuer_limits_its_template() {
    let signer = Signer::hs256();
    let rules = acme(
        &signer,
        r#"
        [issuers.acme.template]
        subscribe = { allow = ["users.{sub}.>", "news.>"] }
        admin = { allow = [">"] }
        [issuers.acme.most]
        subscribe = { allow = ["users.>"], deny = ["users.*.secret"] }
        admin = { allow = ["users.>"] }
        "#,
    );
    let bob = judged(&rules, &signer, &json!({})).unwrap();
    assert!(may_follow(&bob, "users.bob.a"));
    assert!(!may_follow(&bob, "users.bob.*"));
    assert!(!may_follow(&bob, "news.eu"));
    assert!(may(&bob, Action::Admin, "users.eve.a"));
    assert!(!may(&bob, Action::Admin, "news.eu"));
}

#[test]
fn a_template_gives_nobody_the_right_to_administer_that_the_most_does_not_give() {
    let signer = Signer::hs256();
    for most in ["", "[issuers.acme.most]\nsubscribe = { allow = [\">\"] }"] {
        let text = format!("[issuers.acme.template]\nadmin = {{ allow = [\">\"] }}\n{most}");
        let refused = try_acme(&signer, &text).unwrap_err().to_string();
        assert_eq!(
            refused,
            "issuers.acme.template.admin: grants nothing without issuers.acme.most.admin"
        );
    }
}
