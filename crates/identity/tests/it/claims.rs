//! The claims that every token needs, and what is wrong with others.

use longlived_identity::{CredentialError, LEEWAY, TOKEN_BYTES_MAX};
use serde_json::{Value, json};

use crate::sign::{Signer, encoded};
use crate::support::{ACME, NOW, acme, at, claims, judged, now};

/// Why these claims are refused.
fn refused(more: &Value) -> String {
    let signer = Signer::hs256();
    let rules = acme(&signer, "");
    judged(&rules, &signer, more).unwrap_err().to_string()
}

#[test]
fn a_token_needs_four_claims() {
    for claim in ["iss", "aud", "exp", "sub"] {
        let expected = format!("the token has no claim `{claim}` of the right kind");
        assert_eq!(refused(&json!({ claim: null })), expected);
    }
}

#[test]
fn a_claim_of_the_wrong_kind_is_named() {
    let number = "is no number of seconds from 0 to 253402300799";
    for (more, claim, problem) in [
        (json!({"exp": "1800003600"}), "exp", number),
        (json!({"exp": -1}), "exp", number),
        (json!({"exp": 1e300}), "exp", number),
        (json!({"exp": u64::MAX}), "exp", number),
        (json!({"nbf": "0"}), "nbf", number),
        (json!({"iat": "0"}), "iat", number),
        (json!({"iss": [ACME]}), "iss", "is no text"),
        (json!({"sub": 7}), "sub", "is no text"),
        (json!({"jti": 7}), "jti", "is no text"),
    ] {
        let text = refused(&more);
        let named = format!("the token's claim `{claim}` {problem}");
        let missing = format!("the token has no claim `{claim}` of the right kind");
        assert!(text == named || text == missing, "{more}: {text}");
    }
    // The library finds these before.
    for more in [
        json!({"aud": 7}),
        json!({"aud": {"a": 1}}),
        json!({"aud": [1]}),
    ] {
        let text = refused(&more);
        assert_eq!(
            text, "the token has no claim `aud` of the right kind",
            "{more}"
        );
    }
}

#[test]
fn a_token_for_others_is_refused() {
    let other = "the token's audience (`aud`) is not that of this server";
    assert_eq!(refused(&json!({"aud": "others"})), other);
    assert_eq!(refused(&json!({"aud": ["others", "Longlived"]})), other);
    assert_eq!(refused(&json!({"aud": []})), other);
    let signer = Signer::hs256();
    let rules = acme(&signer, "");
    let both = json!({"aud": ["others", "longlived"]});
    assert!(judged(&rules, &signer, &both).is_ok());
    let text = refused(&json!({"iss": "https://id.eve.example"}));
    assert_eq!(
        text,
        "the token's issuer `https://id.eve.example` is not known"
    );
}

#[test]
fn a_token_is_good_from_its_begin_to_its_end_and_for_the_leeway_around_them() {
    let signer = Signer::hs256();
    let rules = acme(&signer, "");
    let leeway = LEEWAY.as_secs();
    let token = signer.token(
        Some("k"),
        &claims(&json!({"iat": NOW, "nbf": NOW, "exp": NOW + 100})),
    );
    for (seconds, is_good) in [
        (NOW - leeway - 1, false),
        (NOW - leeway, true),
        (NOW, true),
        (NOW + 99 + leeway, true),
        (NOW + 100 + leeway, false),
    ] {
        let judged = rules.bearer(&token, at(seconds));
        assert_eq!(judged.is_ok(), is_good, "{seconds}: {judged:?}");
    }
    let identity = rules.bearer(&token, now()).unwrap();
    assert_eq!(identity.expires, Some(at(NOW + 100)));
    let expired = rules.bearer(&token, at(NOW + 1000)).unwrap_err();
    assert!(expired.is_expired() && !expired.is_revoked());
    assert_eq!(
        expired.to_string(),
        "the token expired at 2027-01-15T08:01:40Z"
    );
    let early = rules.bearer(&token, at(NOW - 1000)).unwrap_err();
    assert_eq!(
        early.to_string(),
        "the token is not valid before 2027-01-15T08:00:00Z, by its `nbf`"
    );
}

#[test]
fn times_may_have_fractions_of_seconds() {
    let signer = Signer::hs256();
    let rules = acme(&signer, "");
    let exp = 1_800_000_100.75;
    let identity = judged(&rules, &signer, &json!({"exp": exp})).unwrap();
    assert_eq!(identity.expires, Some(at(NOW + 100)));
}

#[test]
fn a_token_lives_no_longer_than_its_issuer_allows() {
    let signer = Signer::hs256();
    let rules = acme(&signer, "max_token_life = \"1h\"");
    let hour = 3600;
    for (iat, exp, is_good) in [
        (json!(NOW - 10), NOW - 10 + hour, true),
        (json!(NOW - 10), NOW - 9 + hour, false),
        (json!(NOW - hour), NOW + 1, false),
        // Without `iat` it counts from now.
        (json!(null), NOW + hour, true),
        (json!(null), NOW + hour + 1, false),
    ] {
        let judged = judged(&rules, &signer, &json!({"iat": iat, "exp": exp}));
        assert_eq!(judged.is_ok(), is_good, "{iat} {exp}: {judged:?}");
    }
    let text = judged(&rules, &signer, &json!({"exp": NOW - 10 + 2 * hour}));
    let text = text.unwrap_err().to_string();
    assert_eq!(text, "the token lives for 2h; `max_token_life` is 1h");
    // One that was made in the future would otherwise live for years.
    let years = 10 * 365 * 24 * hour;
    let future = json!({"iat": NOW + years, "exp": NOW + years + 60});
    let text = judged(&rules, &signer, &future).unwrap_err().to_string();
    assert_eq!(
        text,
        "the token is not valid before 2037-01-12T08:00:00Z, by its `iat`"
    );
    // A day where the entry does not say.
    let rules = acme(&signer, "");
    let day = 24 * hour;
    let good = json!({"exp": NOW - 10 + day});
    assert!(judged(&rules, &signer, &good).is_ok());
    let long = json!({"exp": NOW - 9 + day});
    assert!(judged(&rules, &signer, &long).is_err());
}

#[test]
fn a_subject_has_1_to_256_bytes_without_control_characters() {
    let signer = Signer::hs256();
    let rules = acme(&signer, "");
    let (most, more) = ("x".repeat(256), "x".repeat(257));
    for (sub, is_good) in [
        ("a/b", true),
        ("*", true),
        ("ä b", true),
        (&most, true),
        (&more, false),
        ("", false),
        ("a\0", false),
        ("a\nb", false),
        ("a\u{85}b", false),
    ] {
        let judged = judged(&rules, &signer, &json!({"sub": sub}));
        match judged {
            Ok(identity) => {
                assert!(is_good, "{sub:?}");
                assert_eq!(*identity.principal, format!("acme/{sub}"));
            }
            Err(error) => {
                assert!(!is_good, "{sub:?}");
                assert_eq!(error, CredentialError::Subject);
            }
        }
    }
}

#[test]
fn what_is_no_token_is_malformed() {
    let signer = Signer::hs256();
    let rules = acme(&signer, "");
    let token = signer.token(Some("k"), &claims(&json!({})));
    let parts: Vec<_> = token.split('.').collect();
    let [head, body, signature] = parts[..] else {
        panic!("{token}")
    };
    let deep = format!("{{\"a\":{}", "[".repeat(3000));
    for wrong in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        "Bearer".to_owned(),
        format!("{head}.{body}"),
        format!("{token}."),
        format!("{token}.{signature}.{signature}"),
        format!("{token}=="),
        format!(" {token}"),
        format!("{head}.{body}="),
        format!("{head}!.{body}.{signature}"),
        format!("{}.{body}.{signature}", encoded("[]")),
        format!("{}.{body}.{signature}", encoded("{")),
        format!("{head}.{}.{signature}", encoded("\"text\"")),
        format!("{head}.{}.{signature}", encoded(deep)),
        format!("{head}.{}.{signature}", encoded([0xff, 0xfe])),
        // Bits of the last character that mean nothing must be zero.
        format!("{head}.{body}.{}_", &signature[..signature.len() - 1]),
    ] {
        let refused = rules.bearer(&wrong, now()).unwrap_err();
        assert!(
            matches!(refused, CredentialError::Malformed(_)),
            "{wrong}: {refused}"
        );
    }
    let long = "x".repeat(TOKEN_BYTES_MAX + 1);
    let refused = rules.bearer(&long, now()).unwrap_err().to_string();
    assert_eq!(
        refused,
        "the token has 8193 bytes; at most 8192 are allowed"
    );
}

#[test]
fn a_token_that_could_be_read_in_two_ways_is_refused() {
    let signer = Signer::hs256();
    let rules = acme(&signer, "");
    let head = json!({"alg": "HS256", "kid": "k"}).to_string();
    let good = claims(&json!({})).to_string();
    for (from, to) in [
        ("\"sub\":\"bob\"", "\"sub\":\"eve\",\"sub\":\"bob\""),
        ("\"exp\":", "\"exp\":9999999999,\"exp\":"),
        ("\"iss\":", "\"iss\":\"https://id.eve.example\",\"iss\":"),
        (
            "\"sub\"",
            "\"longlived\":{\"publish\":[\"a\"],\"publish\":[]},\"sub\"",
        ),
        ("\"sub\"", "\"a\":[{\"b\":1,\"b\":1}],\"sub\""),
    ] {
        let twice = good.replacen(from, to, 1);
        assert_ne!(twice, good, "{from}");
        let refused = rules.bearer(&signer.token_of(&head, &twice), now());
        let refused = refused.unwrap_err();
        assert!(
            matches!(refused, CredentialError::Malformed(_)),
            "{twice}: {refused}"
        );
    }
    for head in [
        r#"{"alg":"none","alg":"HS256","kid":"k"}"#,
        r#"{"alg":"HS256","kid":"k","kid":"k"}"#,
        r#"{"alg":"HS256","kid":"k","crit":["exp"]}"#,
        r#"{"alg":"HS256","kid":"k","crit":[]}"#,
        r#"{"alg":"HS256","kid":"k","b64":false,"crit":["b64"]}"#,
    ] {
        let refused = rules.bearer(&signer.token_of(head, &good), now());
        let refused = refused.unwrap_err();
        assert!(
            matches!(refused, CredentialError::Malformed(_)),
            "{head}: {refused}"
        );
    }
    // A header that names a key by itself changes nothing.
    let other = Signer::es256();
    let head = json!({"alg": "HS256", "kid": "k", "jwk": other.jwk(None), "jku": "https://id.eve.example"});
    let refused = rules.bearer(&other.token_of(&head.to_string(), &good), now());
    assert_eq!(refused.unwrap_err(), CredentialError::Signature);
}

#[test]
fn what_a_peer_wrote_is_cut_in_an_error() {
    let long = format!("https://{}\u{1b}[31m", "ä".repeat(2000));
    let text = refused(&json!({"iss": long}));
    assert!(text.len() < 330, "{} bytes", text.len());
    let text = refused(&json!({"iss": "a\u{1b}[31m\nb"}));
    assert_eq!(text, "the token's issuer `a [31m b` is not known");
}
