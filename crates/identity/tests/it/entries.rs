//! Static tokens, Unix users, anonymous callers, and callers by name.

use longlived_authorize::Action;
use longlived_identity::{CredentialError, LEEWAY, NewToken};

use crate::sign::Signer;
use crate::support::{acme, at, may, may_follow, now, parse};

#[test]
fn a_static_token_is_found_by_its_name_and_compared_as_a_whole() {
    let token = NewToken::new("ci-1").unwrap();
    let rules = parse(&format!(
        "[tokens.ci-1]\nsha256 = \"{}\"\npublish = {{ allow = [\"builds.>\"] }}\n[tokens.other]\nsha256 = \"{}\"",
        token.sha256(),
        "00".repeat(32),
    ));
    let text = token.token();
    assert!(
        text.starts_with("llt_ci-1_") && text.len() == "llt_ci-1_".len() + 43,
        "43 characters are 32 bytes"
    );
    let caller = rules.bearer(text, now()).unwrap();
    assert_eq!(&*caller.principal, "token/ci-1");
    assert_eq!(caller.expires, None);
    assert!(may(&caller, Action::Publish, "builds.*"));
    assert!(!may_follow(&caller, "builds.*"));

    let secret = &text["llt_ci-1_".len()..];
    let another = NewToken::new("ci-1").unwrap();
    for wrong in [
        another.token().to_owned(),
        format!("{text}="),
        text[..text.len() - 1].to_owned(),
        format!("llt_ci-2_{secret}"),
        format!("llt_other_{secret}"),
        format!("llt_CI-1_{secret}"),
        format!("llt_{secret}"),
        "llt_".to_owned(),
        "llt_ci-1_".to_owned(),
        "llt_ci-1".to_owned(),
        "llt__".to_owned(),
    ] {
        let refused = rules.bearer(&wrong, now()).unwrap_err();
        assert_eq!(refused, CredentialError::UnknownToken, "{wrong}");
    }
    let shifted = rules.bearer(&format!(" {text}"), now()).unwrap_err();
    assert!(matches!(shifted, CredentialError::Malformed(_)));
}

#[test]
fn every_new_token_is_another_and_its_name_has_few_characters() {
    let tokens = [NewToken::new("a").unwrap(), NewToken::new("a").unwrap()];
    assert_ne!(tokens[0].token(), tokens[1].token());
    let long = "x".repeat(65);
    for name in ["", "a_b", "a.b", "a/b", "ä", "a b", &long] {
        let refused = NewToken::new(name).unwrap_err();
        assert_eq!(refused, "must have 1 to 64 of the characters A-Z a-z 0-9 -");
    }
}

#[test]
fn a_static_token_ends_where_its_entry_says() {
    let token = NewToken::new("ci").unwrap();
    for (expires, seconds) in [
        ("2027-01-01T00:00:00Z", 1_798_761_600),
        ("2027-01-01T02:30:00+02:30", 1_798_761_600),
        ("2026-12-31T19:00:00-05:00", 1_798_761_600),
        ("2027-01-01T00:00:00.5Z", 1_798_761_600),
    ] {
        let sha256 = token.sha256();
        let rules = parse(&format!(
            "[tokens.ci]\nsha256 = \"{sha256}\"\nexpires = {expires}"
        ));
        let leeway = LEEWAY.as_secs();
        let caller = rules
            .bearer(token.token(), at(seconds + leeway - 1))
            .unwrap();
        let ends = caller.expires.unwrap().duration_since(at(0)).unwrap();
        assert_eq!(ends.as_secs(), seconds, "{expires}");
        let ended = rules
            .bearer(token.token(), at(seconds + leeway + 1))
            .unwrap_err();
        assert!(ended.is_expired(), "{expires}: {ended}");
    }
}

#[test]
fn a_unix_user_is_known_by_its_number() {
    let rules = parse("[unix.1000]\nadmin = { allow = [\">\"] }\n[unix.0]");
    let caller = rules.unix(1000).unwrap().unwrap();
    assert_eq!(&*caller.principal, "unix/1000");
    assert!(may(&caller, Action::Admin, "a"));
    assert!(rules.unix(0).unwrap().is_some());
    assert!(rules.unix(1).unwrap().is_none());
}

#[test]
fn callers_without_a_credential_have_what_the_file_gives_them() {
    assert!(parse("").anonymous().is_none());
    let rules = parse(
        "[anonymous]\nsubscribe = { allow = [\"news.>\"], deny = [\"news.internal.>\"] }\npublish = { allow = [\"news.feedback\"] }",
    );
    let caller = rules.anonymous().unwrap();
    assert_eq!(&*caller.principal, "anonymous");
    assert!(may_follow(&caller, "news.sport"));
    assert!(!may_follow(&caller, "news.>"));
    assert!(may(&caller, Action::Publish, "news.feedback"));
    assert!(!may(&caller, Action::Publish, "news.sport"));
}

#[test]
fn a_caller_is_found_by_its_name() {
    let signer = Signer::hs256();
    let rules = acme(
        &signer,
        "template = { subscribe = { allow = [\"users.{sub}\", \"team.{claim:team}\"] } }\n\
         [anonymous]\n[unix.7]\n[certificates.gw]\ndns = \"gw.example\"\n\
         subscribe = { allow = [\"a\"] }\n",
    );
    let bob = rules.principal("acme/bob").unwrap();
    assert!(may_follow(&bob, "users.bob") && !may_follow(&bob, "team.red"));
    assert!(may_follow(&rules.principal("cert/gw").unwrap(), "a"));
    // The subject is all after the first `/`.
    let principal = rules.principal("acme/a/b").unwrap().principal;
    assert_eq!(&*principal, "acme/a/b");
    for name in ["unix/7", "anonymous"] {
        assert_eq!(&*rules.principal(name).unwrap().principal, name);
    }
    for name in [
        "",
        "bob",
        "acme",
        "eve/bob",
        "cert/other",
        "token/x",
        "unix/8",
        "unix/07",
        "unix/+7",
        "unix/",
        "anonymous/",
        "anonymous/a",
    ] {
        let refused = rules.principal(name).unwrap_err().to_string();
        assert_eq!(refused, format!("the auth file has no entry for `{name}`"));
    }
    assert_eq!(
        rules.principal("acme/").unwrap_err(),
        CredentialError::Subject
    );
    let strict = acme(
        &signer,
        "template = { subscribe = { deny = [\"a.{claim:team}\"] } }",
    );
    let refused = strict.principal("acme/bob").unwrap_err();
    assert!(matches!(refused, CredentialError::VoidDeny(_)));
}
