//! Signatures: each algorithm, from each kind of key file, and what is no signature of the key.

use aws_lc_rs::signature::KeyPair as _;
use longlived_identity::CredentialError;
use serde_json::json;

use crate::sign::{Signer, encoded};
use crate::support::{Files, acme, claims, judged, now};

fn signers() -> [Signer; 4] {
    [
        Signer::hs256(),
        Signer::rs256(),
        Signer::es256(),
        Signer::eddsa(),
    ]
}

#[test]
fn a_token_of_each_algorithm_makes_its_caller() {
    for signer in signers() {
        let rules = acme(&signer, "");
        let identity = judged(&rules, &signer, &json!({})).unwrap();
        assert_eq!(&*identity.principal, "acme/bob", "{}", signer.alg());
    }
}

#[test]
fn a_token_that_another_key_signed_is_refused() {
    for (signer, other) in signers().into_iter().zip(signers()) {
        let rules = acme(&signer, "");
        let refused = judged(&rules, &other, &json!({})).unwrap_err();
        assert_eq!(refused, CredentialError::Signature, "{}", signer.alg());
        assert!(!refused.is_revoked() && !refused.is_expired());
    }
}

#[test]
fn a_token_that_was_changed_is_refused() {
    for signer in signers() {
        let rules = acme(&signer, "");
        let token = signer.token(Some("k"), &claims(&json!({})));
        let parts: Vec<_> = token.split('.').collect();
        let other = encoded(claims(&json!({"sub": "eve"})).to_string());
        let changed = [parts[0], &other, parts[2]].join(".");
        let refused = rules.bearer(&changed, now()).unwrap_err();
        assert_eq!(refused, CredentialError::Signature, "{}", signer.alg());
        // Without a signature, and with half of one.
        for signature in ["", &parts[2][..20]] {
            let cut = [parts[0], parts[1], signature].join(".");
            let refused = rules.bearer(&cut, now()).unwrap_err();
            assert_eq!(refused, CredentialError::Signature, "{}", signer.alg());
        }
    }
}

#[test]
fn a_token_without_an_algorithm_or_with_another_one_is_refused() {
    for signer in signers() {
        let rules = acme(&signer, "");
        let claims = claims(&json!({})).to_string();
        let all = [
            "none", "None", "HS256", "RS256", "ES256", "EdDSA", "HS512", "PS256", "",
        ];
        for alg in all.into_iter().filter(|alg| *alg != signer.alg()) {
            let head = json!({"alg": alg, "kid": "k"}).to_string();
            let message = format!("{}.{}", encoded(&head), encoded(&claims));
            for token in [signer.token_of(&head, &claims), format!("{message}.")] {
                let refused = rules.bearer(&token, now()).unwrap_err();
                let expected = format!(
                    "the token's algorithm `{alg}` is not that of its key, which is {}",
                    signer.alg()
                );
                assert_eq!(refused.to_string(), expected);
            }
        }
        let head = json!({"kid": "k"}).to_string();
        let refused = rules.bearer(&signer.token_of(&head, &claims), now());
        let refused = refused.unwrap_err().to_string();
        assert_eq!(
            refused,
            "the token is malformed: its first part is no header of a JWT"
        );
    }
}

#[test]
fn a_public_key_is_no_secret_of_hs256() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let pem = pair.public_key_pem();
    let files = Files::of([("key.pem", pem.clone().into())]);
    let rules = files
        .parse(
            "[issuers.acme]\nissuer = \"https://id.acme.example\"\naudience = \"longlived\"\n\
             keys = [{ kid = \"k\", algorithm = \"ES256\", pem = \"key.pem\" }]",
        )
        .unwrap();
    let der = pair.public_key_raw().to_vec();
    for secret in [pem.clone().into_bytes(), pem.trim().into(), der] {
        let token = Signer::Hs256(secret).token(Some("k"), &claims(&json!({})));
        let refused = rules.bearer(&token, now()).unwrap_err();
        assert!(
            matches!(refused, CredentialError::Algorithm { .. }),
            "{refused}"
        );
    }
}

#[test]
fn keys_are_read_from_pem_files_with_any_public_key() {
    use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256};
    for (alg, kind) in [
        ("ES256", &PKCS_ECDSA_P256_SHA256),
        ("EdDSA", &PKCS_ED25519),
        ("RS256", &PKCS_RSA_SHA256),
    ] {
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        let der = pair.serialized_der();
        let signer = match alg {
            "ES256" => {
                use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
                Signer::Es256(key.unwrap().into())
            }
            "EdDSA" => {
                let key = aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8(der);
                Signer::EdDsa(key.unwrap().into())
            }
            _ => {
                let key = aws_lc_rs::signature::RsaKeyPair::from_pkcs8(der);
                Signer::Rs256(key.unwrap().into())
            }
        };
        let certificate = rcgen::CertificateParams::new(["a".to_owned()]).unwrap();
        let mut files = vec![
            pair.public_key_pem(),
            certificate.self_signed(&pair).unwrap().pem(),
        ];
        if let Signer::Rs256(pair) = &signer {
            // The older form, of RSA alone.
            let key = base64::Engine::encode(
                &base64::engine::general_purpose::STANDARD,
                pair.public_key().as_ref(),
            );
            let lines: Vec<_> = key
                .as_bytes()
                .chunks(64)
                .map(String::from_utf8_lossy)
                .collect();
            let (begin, end) = (
                "-----BEGIN RSA PUBLIC KEY-----",
                "-----END RSA PUBLIC KEY-----",
            );
            files.push(format!("{begin}\n{}\n{end}\n", lines.join("\n")));
        }
        for file in files {
            let files = Files::of([("key.pem", file.clone().into())]);
            let rules = files.parse(&format!(
                "[issuers.acme]\nissuer = \"https://id.acme.example\"\naudience = \"longlived\"\n\
                 keys = [{{ algorithm = \"{alg}\", pem = \"key.pem\" }}]"
            ));
            let rules = rules.unwrap_or_else(|error| panic!("{error}: {file}"));
            let token = signer.token(None, &claims(&json!({})));
            let identity = rules.bearer(&token, now()).unwrap();
            assert_eq!(&*identity.principal, "acme/bob", "{alg}");
        }
    }
}

#[test]
fn a_secret_is_what_its_file_holds_without_the_line_break_at_its_end() {
    let secret = b"0123456789abcdef0123456789abcdef".to_vec();
    let signer = Signer::Hs256(secret.clone());
    let token = signer.token(None, &claims(&json!({})));
    for end in ["", "\n", "\r\n"] {
        let files = Files::of([("s", [&secret, end.as_bytes()].concat())]);
        let rules = files
            .parse(
                "[issuers.acme]\nissuer = \"https://id.acme.example\"\naudience = \"longlived\"\n\
                 keys = [{ algorithm = \"HS256\", secret = \"s\" }]",
            )
            .unwrap();
        assert!(rules.bearer(&token, now()).is_ok(), "{end:?}");
    }
}
