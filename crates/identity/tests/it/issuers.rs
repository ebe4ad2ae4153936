//! Several issuers, and several keys of one.

use longlived_identity::CredentialError;
use serde_json::json;

use crate::sign::Signer;
use crate::support::{Files, claims, jwks, now};

const EVE: &str = "https://id.eve.example";

/// Two issuers, each with a key of the same `kid`.
fn two(first: [(&str, &str); 2], acme: &Signer, eve: &Signer) -> longlived_identity::AuthRules {
    let files = Files::of([
        ("acme.json", jwks(&[acme.jwk(Some("k"))])),
        ("eve.json", jwks(&[eve.jwk(Some("k"))])),
    ]);
    let entry = |(name, iss): (&str, &str)| {
        format!(
            "[issuers.{name}]\nissuer = \"{iss}\"\naudience = \"longlived\"\nkeys = [{{ jwks = \"{name}.json\" }}]\n"
        )
    };
    files.parse(&first.map(entry).concat()).unwrap()
}

#[test]
fn a_key_of_one_issuer_signs_nothing_for_another_with_the_same_kid() {
    let entries = [("acme", "https://id.acme.example"), ("eve", EVE)];
    let (acme, eve) = (Signer::es256(), Signer::es256());
    let by_eve = claims(&json!({"iss": EVE}));
    let by_acme = claims(&json!({}));
    for order in [entries, [entries[1], entries[0]]] {
        // Each is asked first once: nothing is kept of a key by its `kid`.
        for turn in 0..2 {
            let rules = two(order, &acme, &eve);
            let own = [(&acme, &by_acme, "acme/bob"), (&eve, &by_eve, "eve/bob")];
            for at in [turn, 1 - turn] {
                let (signer, claims, principal) = own[at];
                let token = signer.token(Some("k"), claims);
                let identity = rules.bearer(&token, now()).unwrap();
                assert_eq!(&*identity.principal, principal);
                let crossed = own[1 - at].0.token(Some("k"), claims);
                let refused = rules.bearer(&crossed, now()).unwrap_err();
                assert_eq!(refused, CredentialError::Signature);
            }
        }
    }
}

#[test]
fn several_keys_of_an_issuer_are_told_apart_by_their_kid() {
    let (old, new) = (Signer::es256(), Signer::eddsa());
    let files = Files::of([(
        "k.json",
        jwks(&[old.jwk(Some("old")), new.jwk(Some("new"))]),
    )]);
    let rules = files
        .parse(
            "[issuers.acme]\nissuer = \"https://id.acme.example\"\naudience = [\"longlived\", \"other\"]\n\
             keys = [{ jwks = \"k.json\" }]",
        )
        .unwrap();
    let claims = claims(&json!({}));
    for (signer, kid) in [(&old, "old"), (&new, "new")] {
        assert!(
            rules
                .bearer(&signer.token(Some(kid), &claims), now())
                .is_ok()
        );
        let unnamed = rules.bearer(&signer.token(None, &claims), now());
        assert_eq!(
            unnamed.unwrap_err().to_string(),
            "the token names no key (`kid`), and the issuer `acme` has several"
        );
        let unknown = rules.bearer(&signer.token(Some("newest"), &claims), now());
        assert_eq!(
            unknown.unwrap_err().to_string(),
            "the issuer `acme` has no key `newest`"
        );
    }
    // One that says to be signed by the other key.
    let refused = rules.bearer(&old.token(Some("new"), &claims), now());
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, CredentialError::Algorithm { .. }),
        "{refused}"
    );
}

#[test]
fn a_token_that_names_no_key_is_for_the_only_one() {
    let signer = Signer::es256();
    let rules = crate::support::acme(&signer, "");
    assert!(
        rules
            .bearer(&signer.token(None, &claims(&json!({}))), now())
            .is_ok()
    );
    let other = signer.token(Some("other"), &claims(&json!({})));
    let refused = rules.bearer(&other, now()).unwrap_err().to_string();
    assert_eq!(refused, "the issuer `acme` has no key `other`");
}
