//! Grants that a token names by itself: `authorization_details` (RFC 9396), or the claim `longlived`.

use longlived_authorize::{Action, RuleSet};
use serde_json::{Value, json};

use crate::sign::Signer;
use crate::support::{acme, judged, may, may_follow};

const TEMPLATE: &str = "[issuers.acme.template]\nsubscribe = { allow = [\"by-template\"] }";

/// The filters that a caller may follow, of three: by the template, by the claim, and by the details.
fn source(more: &Value) -> Vec<&'static str> {
    let signer = Signer::hs256();
    let rules = acme(&signer, TEMPLATE);
    let caller = judged(&rules, &signer, more).unwrap();
    let sources = ["by-template", "by-claim", "by-details"];
    sources
        .into_iter()
        .filter(|it| may_follow(&caller, it))
        .collect()
}

#[test]
fn grants_come_from_exactly_one_source() {
    let claim = json!({"subscribe": ["by-claim"]});
    let ours = json!({"type": "longlived", "subscribe": ["by-details"]});
    let other = json!({"type": "payment", "subscribe": ["by-template"], "amount": 7});
    for (more, expected) in [
        (json!({}), vec!["by-template"]),
        (json!({"longlived": claim}), vec!["by-claim"]),
        (json!({"authorization_details": [ours]}), vec!["by-details"]),
        (
            json!({"authorization_details": [ours], "longlived": claim}),
            vec!["by-details"],
        ),
        (
            json!({"authorization_details": [other, ours]}),
            vec!["by-details"],
        ),
        (
            json!({"authorization_details": [other], "longlived": claim}),
            vec!["by-claim"],
        ),
        (
            json!({"authorization_details": [other]}),
            vec!["by-template"],
        ),
        (json!({"authorization_details": []}), vec!["by-template"]),
        // Naming nothing is a source too.
        (json!({"longlived": {}}), vec![]),
        (
            json!({"authorization_details": [{"type": "longlived"}], "longlived": claim}),
            vec![],
        ),
    ] {
        assert_eq!(source(&more), expected, "{more}");
    }
}

#[test]
fn rules_are_a_list_or_allow_and_deny_and_add_up_over_the_entries() {
    let signer = Signer::hs256();
    let rules = acme(&signer, "");
    let details = json!([
        {"type": "longlived", "publish": ["a.*"], "subscribe": {"allow": ["a.>", "b.>"]}},
        {"type": "longlived", "subscribe": {"deny": ["a.secret.>"], "allow": ["c"]}},
    ]);
    let caller = judged(&rules, &signer, &json!({"authorization_details": details})).unwrap();
    for filter in ["a.b", "b.>", "c"] {
        assert!(may_follow(&caller, filter), "{filter}");
    }
    for filter in ["a.>", "a.secret.x", "d"] {
        assert!(!may_follow(&caller, filter), "{filter}");
    }
    assert!(may(&caller, Action::Publish, "a.b"));
    let claim = json!({"longlived": {"publish": {"allow": ["x.>"], "deny": ["x.y"]}}});
    let caller = judged(&rules, &signer, &claim).unwrap();
    assert!(may(&caller, Action::Publish, "x.z"));
    assert!(!may(&caller, Action::Publish, "x.y"));
    assert!(!may_follow(&caller, "x.z"));
}

#[test]
fn a_token_administers_only_what_the_most_of_its_issuer_has() {
    let signer = Signer::hs256();
    let details = json!({"authorization_details": [{"type": "longlived", "admin": [">"], "subscribe": ["a"]}]});
    let caller = judged(&acme(&signer, ""), &signer, &details).unwrap();
    assert_eq!(caller.grants.own.admin, RuleSet::default().admin);
    assert!(may_follow(&caller, "a"));
    let most = "[issuers.acme.most]\nadmin = { allow = [\"ops.>\"] }";
    let caller = judged(&acme(&signer, most), &signer, &details).unwrap();
    assert!(may(&caller, Action::Admin, "ops.a"));
    assert!(!may(&caller, Action::Admin, "other"));
    assert!(!may_follow(&caller, "a"));
}

/// The value of the claim `longlived`, and why it refuses the token.
const CLAIMS: &[(&str, &str)] = &[
    ("[]", "is no object"),
    ("\"a\"", "is no object"),
    (r#"{"read": ["a"]}"#, "has `read`, which is not known"),
    (r#"{"type": "x"}"#, "has `type`, which is not known"),
    (r#"{"admin": ["a"]}"#, "has `admin`, which is not known"),
    (
        r#"{"publish": "a"}"#,
        "has `publish`, which is neither a list nor an object",
    ),
    (
        r#"{"publish": {"allow": "a"}}"#,
        "has `publish.allow`, which is no list",
    ),
    (
        r#"{"publish": {"only": []}}"#,
        "has `publish.only`, which is not known",
    ),
    (
        r#"{"publish": [7]}"#,
        "has a filter of `publish` that is no text",
    ),
    (
        r#"{"publish": ["a..b"]}"#,
        "has the filter `a..b` of `publish`, which has an empty token (number 2); each token has 1 to 64 characters",
    ),
    (
        r#"{"subscribe": ["{sub}"]}"#,
        "has the filter `{sub}` of `subscribe`, which holds the character '{'; tokens are made of A-Z a-z 0-9 _ -",
    ),
];

/// The same of `authorization_details`.
const DETAILS: &[(&str, &str)] = &[
    ("{}", "is no list"),
    ("[\"a\"]", "has an entry that is no object"),
    ("[{}]", "has an entry without a `type`"),
    (r#"[{"type": 7}]"#, "has an entry without a `type`"),
    (
        r#"[{"type": "longlived", "locations": ["a"]}]"#,
        "has `locations`, which is not known",
    ),
];

/// Why a token with this claim is refused.
fn refused(claim: &str, value: &Value) -> String {
    let signer = Signer::hs256();
    let rules = acme(&signer, TEMPLATE);
    let refused = judged(&rules, &signer, &json!({ claim: value }));
    refused.unwrap_err().to_string()
}

#[test]
fn grants_that_are_not_understood_refuse_the_token() {
    for (claim, table) in [("longlived", CLAIMS), ("authorization_details", DETAILS)] {
        for (value, problem) in table {
            let value = serde_json::from_str(value).unwrap();
            let expected = format!("the token's claim `{claim}` {problem}");
            assert_eq!(refused(claim, &value), expected, "{value}");
        }
    }
}

#[test]
fn grants_of_a_token_have_limits() {
    let many: Vec<_> = (0..65).map(|number| format!("a.{number}")).collect();
    let expected = "has more than 64 filters in one list of `publish`, which is the limit";
    let text = refused("longlived", &json!({"publish": {"deny": many}}));
    assert_eq!(text, format!("the token's claim `longlived` {expected}"));
    // Also over several entries.
    let half = json!({"type": "longlived", "publish": &many[..33]});
    let text = refused("authorization_details", &json!([half, half]));
    assert_eq!(
        text,
        format!("the token's claim `authorization_details` {expected}")
    );
    let entries = vec![json!({"type": "longlived"}); 65];
    let text = refused("authorization_details", &json!(entries));
    assert_eq!(
        text,
        "the token's claim `authorization_details` has more than 64 entries"
    );
}
