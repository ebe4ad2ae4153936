//! Key files that are refused, and JWK Sets with keys for something else.

use serde_json::{Value, json};

use crate::sign::{Signer, encoded};
use crate::support::{Files, claims, jwks, now};

/// Why an issuer with this entry of `keys`, and a file `f` with `content`, is refused.
fn refused(entry: &str, content: &[u8]) -> String {
    let files = Files::of([("f", content.to_vec())]);
    let text = format!(
        "[issuers.acme]\nissuer = \"https://id.acme.example\"\naudience = \"longlived\"\nkeys = {entry}"
    );
    match files.parse(&text) {
        Ok(_) => panic!("{entry} was taken"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_entry_names_one_file_and_what_it_holds() {
    let one = "issuers.acme.keys[0]: needs exactly one of `jwks`, `pem` and `secret`";
    let inner = "issuers.acme.keys[0]: has `kid` and `algorithm` in the keys of its `jwks` file";
    for (entry, error) in [
        ("[]", "issuers.acme.keys: has no key"),
        (
            "\"f\"",
            "issuers.acme.keys: must be a list, and is of type string",
        ),
        (
            "[\"f\"]",
            "issuers.acme.keys[0]: must be a table, and is of type string",
        ),
        (
            "[{ file = \"f\" }]",
            "issuers.acme.keys[0].file: is not known; there are jwks, kid, algorithm, pem, secret",
        ),
        (
            "[{ jwk = \"f\" }]",
            "issuers.acme.keys[0].jwk: is not known; did you mean `jwks`?",
        ),
        ("[{}]", one),
        ("[{ pem = \"f\", secret = \"f\" }]", one),
        ("[{ jwks = \"f\", kid = \"a\" }]", inner),
        ("[{ jwks = \"f\", algorithm = \"ES256\" }]", inner),
        (
            "[{ pem = \"f\" }]",
            "issuers.acme.keys[0].algorithm: must be one of RS256, ES256, EdDSA",
        ),
        (
            "[{ pem = \"f\", algorithm = \"HS256\" }]",
            "issuers.acme.keys[0].algorithm: must be one of RS256, ES256, EdDSA",
        ),
        (
            "[{ secret = \"f\", algorithm = \"ES256\" }]",
            "issuers.acme.keys[0].algorithm: must be one of HS256",
        ),
        (
            "[{ secret = \"f\", algorithm = \"none\" }]",
            "issuers.acme.keys[0].algorithm: must be one of HS256",
        ),
        (
            "[{ secret = \"other\", algorithm = \"HS256\" }]",
            "issuers.acme.keys[0]: the file of the secret: entity not found",
        ),
    ] {
        assert_eq!(refused(entry, &[b's'; 32]), error);
    }
    let secret = "{ secret = \"f\", algorithm = \"HS256\" }";
    let several = refused(&format!("[{secret}, {secret}]"), &[b's'; 32]);
    assert_eq!(
        several,
        "issuers.acme.keys: has several keys, so each needs a `kid`"
    );
    let named = "{ secret = \"f\", algorithm = \"HS256\", kid = \"a\" }";
    let twice = refused(&format!("[{named}, {named}]"), &[b's'; 32]);
    assert_eq!(twice, "issuers.acme.keys: has the `kid` \"a\" twice");
    let many: Vec<_> = (0..65)
        .map(|kid| named.replace("\"a\"", &format!("\"{kid}\"")))
        .collect();
    let many = refused(&format!("[{}]", many.join(",")), &[b's'; 32]);
    assert_eq!(
        many,
        "issuers.acme.keys: has 65 entries; at most 64 are allowed"
    );
    let large = refused(&format!("[{secret}]"), &vec![b's'; (1 << 20) + 1]);
    assert_eq!(
        large,
        "issuers.acme.keys[0]: f: is larger than 1048576 bytes"
    );
}

#[test]
fn a_secret_or_a_modulus_that_is_too_short_is_refused() {
    let secret = "[{ secret = \"f\", algorithm = \"HS256\" }]";
    let short = "issuers.acme.keys[0]: f: has a secret of 31 bytes; at least 32 are needed";
    assert_eq!(refused(secret, &[b's'; 31]), short);
    assert_eq!(refused(secret, &[&[b's'; 31][..], b"\n"].concat()), short);
    let set = jwks(&[json!({"kty": "oct", "alg": "HS256", "k": encoded([1; 31])})]);
    assert_eq!(refused("[{ jwks = \"f\" }]", &set), short);
    let rsa = |bits: usize, first: u8, exponent: &[u8]| {
        let mut modulus = vec![0xff; bits / 8];
        modulus[0] = first;
        let key = json!({"kty": "RSA", "n": encoded(modulus), "e": encoded(exponent)});
        refused("[{ jwks = \"f\" }]", &jwks(&[key]))
    };
    let exponent = [1, 0, 1];
    for (bits, first, shown) in [
        (1024, 0xff, 1024),
        (2048, 0x7f, 2047),
        (2048, 0x00, 2040),
        (8200, 0xff, 8200),
    ] {
        let text = rsa(bits, first, &exponent);
        let expected = format!(
            "issuers.acme.keys[0]: f: has an RSA key of {shown} bits; 2048 to 8192 are allowed"
        );
        assert_eq!(text, expected);
    }
    for exponent in [&[1][..], &[2], &[], &[1, 0, 0, 0, 0, 1, 1]] {
        let text = rsa(2048, 0xff, exponent);
        let expected = "issuers.acme.keys[0]: f: has an RSA key with an impossible number";
        assert_eq!(text, expected, "{exponent:?}");
    }
}

#[test]
fn what_is_no_public_key_is_refused() {
    let pem = "[{ pem = \"f\", algorithm = \"ES256\" }]";
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let public = pair.public_key_pem();
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let broken = public.replacen("MFkw", "MFkx", 1);
    for (content, problem) in [
        (String::new(), "is no PEM file"),
        ("no key".to_owned(), "is no PEM file"),
        (
            pair.serialize_pem(),
            "holds a private key; the server needs the public one",
        ),
        (format!("{public}{public}"), "has more than one key"),
        (rsa.public_key_pem(), "is a key of EdDSA and not of ES256"),
        (p384.public_key_pem(), "is no key of RSA, P-256 or Ed25519"),
        (
            public.replace("PUBLIC KEY", "X509 CRL"),
            "holds \"X509 CRL\" and no PUBLIC KEY",
        ),
        (
            public.replace("PUBLIC KEY", "CERTIFICATE"),
            "holds no public key",
        ),
        (broken, "holds no public key"),
    ] {
        let text = refused(pem, content.as_bytes());
        assert_eq!(
            text,
            format!("issuers.acme.keys[0]: f: {problem}"),
            "{content}"
        );
    }
    // A point that is not on the curve.
    let point = json!({"kty": "EC", "crv": "P-256", "x": encoded([1; 32]), "y": encoded([1; 32])});
    let text = refused("[{ jwks = \"f\" }]", &jwks(&[point]));
    assert_eq!(text, "issuers.acme.keys[0]: f: is no public key");
}

#[test]
fn a_key_of_a_set_that_cannot_be_used_is_named() {
    let good = Signer::es256().jwk(Some("k"));
    let with = |name: &str, value: Value| {
        let mut key = good.clone();
        key[name] = value;
        jwks(&[key])
    };
    let none = "has no key that verifies signatures of HS256, RS256, ES256, EdDSA";
    for (content, problem) in [
        (b"[]".to_vec(), "is no JWK Set: line 1, column 2"),
        (
            b"{\"keys\": 7}".to_vec(),
            "is no JWK Set: line 1, column 10",
        ),
        (b"{\"keys\": []}".to_vec(), none),
        (with("use", json!("enc")), none),
        (with("key_ops", json!(["sign"])), none),
        (with("alg", json!("ES384")), none),
        (with("crv", json!("P-384")), none),
        (with("kty", json!("AKP")), none),
        (
            with("d", json!("secret-of-the-key")),
            "the key \"k\" is a private key; the server needs the public one",
        ),
        (
            with("alg", json!("RS256")),
            "the key \"k\" is of kind EC, which is not for its `alg` RS256",
        ),
        (
            with("alg", json!("HS256")),
            "the key \"k\" is of kind EC, which is not for its `alg` HS256",
        ),
        (
            with("x", json!("!")),
            "the key \"k\" has a `x` that is no base64url",
        ),
        (
            with("x", json!("AA")),
            "the key \"k\" has an `x` or `y` that is not of 32 bytes",
        ),
        (with("y", json!(null)), "the key \"k\" has no `y`"),
        (
            jwks(&[json!({"kty": "oct", "k": encoded([1; 32])})]),
            "the key at place 0 is a secret, which needs an `alg`",
        ),
    ] {
        let text = refused("[{ jwks = \"f\" }]", &content);
        assert_eq!(text, format!("issuers.acme.keys[0]: f: {problem}"));
    }
}

#[test]
fn a_set_may_have_keys_for_something_else() {
    let signer = Signer::es256();
    let mut other = Signer::rs256().jwk(Some("enc"));
    other["use"] = "enc".into();
    let unknown = json!({"kty": "AKP", "kid": "pq", "alg": "ML-DSA-44", "pub": "AA"});
    let mut own = signer.jwk(Some("k"));
    own["use"] = "sig".into();
    own["key_ops"] = json!(["verify"]);
    own["alg"] = "ES256".into();
    own["x5t"] = "whatever".into();
    let files = Files::of([("f", jwks(&[other, unknown, own]))]);
    let rules = files
        .parse(
            "[issuers.acme]\nissuer = \"https://id.acme.example\"\naudience = \"longlived\"\nkeys = [{ jwks = \"f\" }]",
        )
        .unwrap();
    let token = signer.token(Some("k"), &claims(&json!({})));
    assert!(rules.bearer(&token, now()).is_ok());
}
