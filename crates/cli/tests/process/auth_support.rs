//! An auth file with one issuer, and its tokens.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Map, Value, json};

use super::server_tls::Files;

/// An issuer of tokens, and the auth file that knows it.
pub(crate) struct Auth {
    key: KeyPair,
    pub(crate) file: PathBuf,
}

/// The claims of a token.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) subject: &'static str,
    pub(crate) audience: &'static str,
    /// How many seconds from now on.
    pub(crate) lasts: i64,
    /// Further claims.
    pub(crate) claims: Value,
}

impl Default for Token {
    fn default() -> Self {
        Self {
            subject: "ann",
            audience: "longlived",
            lasts: 3_600,
            claims: json!({}),
        }
    }
}

/// What the tokens of the issuer get that name nothing themselves.
pub(crate) const TEMPLATE: &str = r#"
[issuers.acme.template]
publish = { allow = [">", "inbox.>"] }
subscribe = { allow = [">", "inbox.>"], deny = ["secret.>"] }
"#;

impl Auth {
    /// In the folder of these files. A second one has another key, and the same names.
    pub(crate) fn new(files: &Files) -> Self {
        Self::with(files, TEMPLATE)
    }

    pub(crate) fn with(files: &Files, rules: &str) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let file = tempfile::Builder::new()
            .suffix(".toml")
            .tempfile_in(files.folder())
            .unwrap();
        let file = file.keep().unwrap().1;
        fs::write(file.with_extension("pem"), key.public_key_pem()).unwrap();
        let auth = Self { key, file };
        auth.write(rules);
        auth
    }

    /// Replaces what stands after the issuer.
    pub(crate) fn write(&self, rules: &str) {
        let pem = self.file.with_extension("pem");
        let issuer = format!(
            "[issuers.acme]\nissuer = \"https://acme.example\"\naudience = \"longlived\"\n\
             keys = [{{ kid = \"k\", algorithm = \"ES256\", pem = \"{}\" }}]\n{rules}",
            pem.file_name().unwrap().display()
        );
        let new = self.file.with_extension("new");
        fs::write(&new, issuer).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    pub(crate) fn path(&self) -> String {
        self.file.to_str().unwrap().to_owned()
    }

    pub(crate) fn token(&self, token: Token) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = i64::try_from(now.as_secs()).unwrap();
        let Value::Object(claims) = token.claims else {
            panic!("claims are an object");
        };
        let mut all: Map<String, Value> = claims;
        all.insert("iss".to_owned(), json!("https://acme.example"));
        all.insert("aud".to_owned(), json!(token.audience));
        all.insert("sub".to_owned(), json!(token.subject));
        all.insert("iat".to_owned(), json!(now.min(now + token.lasts - 1)));
        all.insert("exp".to_owned(), json!(now + token.lasts));
        let header = Header {
            kid: Some("k".to_owned()),
            ..Header::new(Algorithm::ES256)
        };
        let key = EncodingKey::from_ec_der(&self.key.serialize_der());
        encode(&header, &all, &key).unwrap()
    }
}

/// A request that brings a token.
pub(crate) fn with<T>(token: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let value = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}
