//! No Debug output and no error shows a token, a key, a secret or a hash.

use std::fmt::Write as _;

use longlived_identity::NewToken;
use serde_json::json;

use crate::sign::{Signer, encoded};
use crate::support::{Files, claims, jwks, now, refused};

#[test]
fn nothing_that_can_be_shown_has_a_secret_in_it() {
    let signer = Signer::hs256();
    let Signer::Hs256(secret) = &signer else {
        unreachable!()
    };
    let text_secret = "a-secret-of-more-than-32-characters";
    let static_token = NewToken::new("ci").unwrap();
    let files = Files::of([
        ("k.json", jwks(&[signer.jwk(Some("k"))])),
        ("s", text_secret.into()),
    ]);
    let sha256 = static_token.sha256();
    let rules = files
        .parse(&format!(
            "[issuers.acme]\nissuer = \"https://id.acme.example\"\naudience = \"longlived\"\n\
             keys = [{{ jwks = \"k.json\" }}, {{ kid = \"s\", algorithm = \"HS256\", secret = \"s\" }}]\n\
             [tokens.ci]\nsha256 = \"{sha256}\""
        ))
        .unwrap();
    let good = signer.token(Some("k"), &claims(&json!({"jti": "an-id", "email": "bob"})));
    let bearers = [
        good.clone(),
        format!("{good}x"),
        Signer::Hs256(text_secret.into()).token(Some("s"), &claims(&json!({"aud": "other"}))),
        signer.token(Some("k"), &claims(&json!({"exp": 1}))),
        signer.token(Some("other"), &claims(&json!({}))),
        static_token.token().to_owned(),
        format!("{}x", static_token.token()),
        "x".repeat(9000),
    ];
    let mut shown = format!("{rules:?} {rules:#?} {static_token:?}");
    for bearer in &bearers {
        match rules.bearer(bearer, now()) {
            Ok(caller) => {
                let again = rules.again(&caller.proof, now());
                write!(shown, "{caller:?} {caller:#?} {again:?}").unwrap();
            }
            Err(error) => write!(shown, "{error} {error:?} {error:#?}").unwrap(),
        }
    }
    let refused = Files::of([("s", b"too-short-secret".to_vec())]).parse(
        "[issuers.acme]\nissuer = \"a\"\naudience = \"a\"\nkeys = [{ algorithm = \"HS256\", secret = \"s\" }]",
    );
    let refused = refused.unwrap_err();
    write!(shown, "{refused} {refused:?}").unwrap();

    assert!(
        shown.contains("acme/bob") && shown.contains("token/ci"),
        "{shown}"
    );
    let mut secrets = vec![
        encoded(secret),
        format!("{secret:?}"),
        text_secret.to_owned(),
        encoded(text_secret),
        "too-short-secret".to_owned(),
        sha256,
    ];
    for bearer in &bearers {
        // Whole, and each of its parts.
        let parts = bearer.split(['.', '_']).filter(|part| part.len() > 20);
        secrets.extend(parts.map(str::to_owned));
    }
    for secret in secrets {
        assert!(!shown.contains(&secret), "{secret} is in {shown}");
    }
}

#[test]
fn a_secret_in_the_place_of_its_file_is_not_shown() {
    let secret = "a-secret-of-more-than-32-characters";
    let refused = refused(&format!(
        "[issuers.acme]\nissuer = \"a\"\naudience = \"a\"\nkeys = [{{ algorithm = \"HS256\", secret = \"{secret}\" }}]"
    ));
    assert_eq!(
        refused,
        "issuers.acme.keys[0]: the file of the secret: entity not found"
    );
}
