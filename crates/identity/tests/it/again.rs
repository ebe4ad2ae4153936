//! Live callers under newer rules, and what is revoked.

use longlived_identity::{AuthRules, Identity, NewToken};
use serde_json::json;

use crate::sign::Signer;
use crate::support::{Files, NOW, acme, at, judged, jwks, may_follow, now, parse};

fn again(rules: &AuthRules, caller: &Identity) -> Result<Identity, (bool, String)> {
    let decided = rules.again(&caller.proof, now());
    decided.map_err(|error| (error.is_revoked(), error.to_string()))
}

#[test]
fn a_principal_and_a_token_id_can_be_revoked() {
    let signer = Signer::hs256();
    let before = acme(&signer, "");
    let more = json!({"jti": "9f3c"});
    let caller = judged(&before, &signer, &more).unwrap();
    for (revoked, text) in [
        (
            "principals = [\"acme/bob\"]",
            "the principal `acme/bob` is revoked",
        ),
        (
            "token_ids = [\"acme/9f3c\"]",
            "the token with the id `acme/9f3c` is revoked",
        ),
    ] {
        let rules = acme(&signer, &format!("[revoked]\n{revoked}"));
        let refused = judged(&rules, &signer, &more).unwrap_err();
        assert!(refused.is_revoked() && !refused.is_expired());
        assert_eq!(refused.to_string(), text);
        assert_eq!(again(&rules, &caller).unwrap_err(), (true, text.to_owned()));
        // Others do not notice.
        let other = json!({"sub": "eve", "jti": "other"});
        assert!(judged(&rules, &signer, &other).is_ok());
    }
    let text = "[revoked]\nprincipals = [\"token/ci\", \"unix/7\", \"cert/gw\"]\n[unix.7]\n[certificates.gw]\nuri = \"spiffe://prod/gw\"";
    let rules = parse(text);
    assert!(rules.unix(7).unwrap_err().is_revoked());
    for principal in ["unix/7", "cert/gw"] {
        assert!(
            rules.principal(principal).unwrap_err().is_revoked(),
            "{principal}"
        );
    }
    assert!(rules.unix(8).unwrap().is_none());
}

#[test]
fn a_live_caller_gets_the_grants_of_the_newer_rules() {
    let signer = Signer::hs256();
    let template =
        |filters: &str| format!("template = {{ subscribe = {{ allow = [{filters}] }} }}");
    let before = acme(&signer, &template("\"users.{sub}.>\""));
    let more = json!({"team": "red", "teams": ["red"]});
    let caller = judged(&before, &signer, &more).unwrap();
    assert!(!may_follow(&caller, "team.red"));
    // Claims that no template asked for before are kept.
    let after = acme(&signer, &template("\"team.{claim:team}\""));
    let decided = again(&after, &caller).unwrap();
    assert!(may_follow(&decided, "team.red") && !may_follow(&decided, "users.bob.a"));
    assert_eq!(decided.principal, caller.principal);
    assert_eq!(decided.expires, caller.expires);
    // And again from what was decided again.
    let decided = again(&before, &decided).unwrap();
    assert!(may_follow(&decided, "users.bob.a"));
    // What the token named stays, under another most.
    let named = json!({"longlived": {"subscribe": ["a.>"]}});
    let caller = judged(&before, &signer, &named).unwrap();
    let after = acme(&signer, "most = { subscribe = { allow = [\"a.b.>\"] } }");
    let decided = again(&after, &caller).unwrap();
    assert!(may_follow(&decided, "a.b.c") && !may_follow(&decided, "a.c"));
}

#[test]
fn a_deny_that_newer_rules_have_and_cannot_fill_withdraws_the_caller() {
    let signer = Signer::hs256();
    let caller = judged(&acme(&signer, ""), &signer, &json!({})).unwrap();
    let after = acme(
        &signer,
        "template = { subscribe = { deny = [\"news.{claim:rival}\"] } }",
    );
    let (is_revoked, text) = again(&after, &caller).unwrap_err();
    assert!(
        is_revoked && text.starts_with("the credential is no longer accepted: the deny filter")
    );
}

#[test]
fn a_caller_whose_key_or_issuer_is_gone_is_revoked() {
    let (old, new) = (Signer::es256(), Signer::es256());
    let rules = |name: &str, iss: &str, audience: &str, keys: &[serde_json::Value]| {
        let files = Files::of([("k.json", jwks(keys))]);
        let text = format!(
            "[issuers.{name}]\nissuer = \"{iss}\"\naudience = \"{audience}\"\nkeys = [{{ jwks = \"k.json\" }}]"
        );
        files.parse(&text).unwrap()
    };
    let acme = "https://id.acme.example";
    let before = rules("acme", acme, "longlived", &[old.jwk(Some("k"))]);
    let caller = judged(&before, &old, &json!({})).unwrap();
    let both = rules(
        "acme",
        acme,
        "longlived",
        &[new.jwk(Some("k")), old.jwk(Some("other"))],
    );
    // The key, and not its name, is what was verified.
    assert!(again(&both, &caller).is_ok());
    for (after, reason) in [
        (
            rules("acme", acme, "longlived", &[new.jwk(Some("k"))]),
            "the issuer `acme` no longer has the key of the token",
        ),
        (
            rules("other", acme, "longlived", &[old.jwk(Some("k"))]),
            "the token's issuer `https://id.acme.example` is not known",
        ),
        (
            rules(
                "acme",
                "https://other.example",
                "longlived",
                &[old.jwk(Some("k"))],
            ),
            "the token's issuer `https://id.acme.example` is not known",
        ),
        (
            rules("acme", acme, "others", &[old.jwk(Some("k"))]),
            "the token's audience (`aud`) is not that of this server",
        ),
        (
            parse(""),
            "the token's issuer `https://id.acme.example` is not known",
        ),
    ] {
        let expected = format!("the credential is no longer accepted: {reason}");
        assert_eq!(again(&after, &caller).unwrap_err(), (true, expected));
    }
}

#[test]
fn a_caller_whose_token_has_ended_or_lives_too_long_now_goes() {
    let signer = Signer::hs256();
    let rules = acme(&signer, "");
    let caller = judged(&rules, &signer, &json!({"iat": null})).unwrap();
    let ended = rules.again(&caller.proof, at(NOW + 3630)).unwrap_err();
    assert!(ended.is_expired() && !ended.is_revoked());
    assert!(rules.again(&caller.proof, at(NOW + 3629)).is_ok());
    let shorter = acme(&signer, "max_token_life = \"59min\"");
    let (is_revoked, text) = again(&shorter, &caller).unwrap_err();
    assert!(
        is_revoked && text.ends_with("the token lives for 1h; `max_token_life` is 59m"),
        "{text}"
    );
    // It is the life of the token that counts, and not what is left of it.
    let same = acme(&signer, "max_token_life = \"1h\"");
    assert!(same.again(&caller.proof, at(NOW + 60)).is_ok());
}

#[test]
fn callers_without_a_jwt_are_decided_again_by_their_entries() {
    let token = NewToken::new("ci").unwrap();
    let entry = |sha256: &str| {
        format!(
            "[anonymous]\n[tokens.ci]\nsha256 = \"{sha256}\"\nexpires = 2030-01-01T00:00:00Z\n[unix.7]\nsubscribe = {{ allow = [\"a\"] }}"
        )
    };
    let before = parse(&entry(&token.sha256()));
    let bearer = before.bearer(token.token(), now()).unwrap();
    let user = before.unix(7).unwrap().unwrap();
    let anonymous = before.anonymous().unwrap();
    for caller in [&bearer, &user, &anonymous] {
        assert_eq!(again(&before, caller).unwrap().principal, caller.principal);
        let (is_revoked, text) = again(&parse(""), caller).unwrap_err();
        let name = &caller.principal;
        assert!(is_revoked);
        assert_eq!(
            text,
            format!(
                "the credential is no longer accepted: the auth file has no entry for `{name}`"
            )
        );
    }
    let replaced = parse(&entry(&NewToken::new("ci").unwrap().sha256()));
    assert!(again(&replaced, &bearer).unwrap_err().0);
    assert!(again(&replaced, &user).is_ok());
    let ended = before.again(&bearer.proof, at(2_000_000_000)).unwrap_err();
    assert!(ended.is_expired());
}

#[test]
fn a_caller_by_name_is_decided_again_by_its_name() {
    let rules = parse("[unix.7]\n[anonymous]");
    let caller = rules.principal("unix/7").unwrap();
    assert!(again(&rules, &caller).is_ok());
    assert!(again(&parse(""), &caller).unwrap_err().0);
}
