//! What the demo makes for TLS and tokens: an authority, a certificate for the server, an issuer of tokens, and the auth
//! file that knows this issuer.
//!
//! Holds: the private keys of the authority and of the issuer are in no file, and no token is. The folder is open to this
//! user alone, and gone when this value is removed or dropped.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use longlived_client::TlsOptions;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The address that the certificate names.
const HOST: &str = "127.0.0.1";
const ISSUER: &str = "https://issuer.demo.example";
const AUDIENCE: &str = "longlived-demo";
/// Files of the folder.
const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";
const ISSUER_KEY: &str = "issuer.pem";
const AUTH: &str = "auth.toml";

#[derive(Debug)]
pub(super) struct Credentials {
    folder: TempDir,
    /// Of the authority, in PEM.
    authority: String,
    pub(super) issuer: Arc<Issuer>,
}

impl Credentials {
    pub(super) fn make() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("longlived-demo-tls-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .context("a temporary directory for the certificate and the auth file")?;
        let authority = certify(folder.path()).context("making a certificate")?;
        let issuer = Issuer::new()?;
        fs::write(folder.path().join(ISSUER_KEY), issuer.0.public_key_pem())?;
        fs::write(folder.path().join(AUTH), auth_file())?;
        Ok(Self {
            folder,
            authority,
            issuer: Arc::new(issuer),
        })
    }

    /// The flags of `serve` that name these files.
    pub(super) fn flags(&self) -> Vec<OsString> {
        let flags = [
            ("--tls-cert", CERTIFICATE),
            ("--tls-key", KEY),
            ("--auth", AUTH),
        ];
        let with_path =
            |(flag, name): (&str, &str)| [flag.into(), self.folder.path().join(name).into()];
        flags.into_iter().flat_map(with_path).collect()
    }

    /// Trusts this authority and no other.
    pub(super) fn trust(&self) -> anyhow::Result<TlsOptions> {
        Ok(TlsOptions::default().trust(self.authority.as_bytes())?)
    }

    /// To be called when no server uses the files any more.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        let path = self.folder.path().display().to_string();
        self.folder
            .close()
            .with_context(|| format!("removing {path}"))
    }
}

/// Writes the certificate of a server and its key. Returns the certificate of their authority.
fn certify(folder: &Path) -> anyhow::Result<String> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![HOST.to_owned()])?.signed_by(&key, &authority)?;
    fs::write(folder.join(CERTIFICATE), certificate.pem())?;
    fs::write(folder.join(KEY), key.serialize_pem())?;
    Ok(authority.pem())
}

/// Its tokens say what they grant. A caller without a token has no rights: there is no `[anonymous]`.
fn auth_file() -> String {
    format!(
        "[issuers.demo]\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\n\
         keys = [{{ algorithm = \"ES256\", pem = \"{ISSUER_KEY}\" }}]\n"
    )
}

/// What a token grants, as topic filters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Grants {
    pub(super) publish: &'static [&'static str],
    pub(super) subscribe: &'static [&'static str],
}

/// Signs tokens. Another one has another key and the same name.
pub(super) struct Issuer(KeyPair);

impl Issuer {
    pub(super) fn new() -> anyhow::Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
        Ok(Self(key.context("making the key of an issuer")?))
    }

    /// A token of that `sub` that ends when `life` is over, to a second.
    pub(super) fn token(
        &self,
        sub: &str,
        grants: Grants,
        life: Duration,
    ) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let claims: Value = json!({
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": sub,
            "iat": now,
            "exp": now + life.as_secs(),
            "longlived": { "publish": grants.publish, "subscribe": grants.subscribe },
        });
        let key = EncodingKey::from_ec_der(&self.0.serialize_der());
        encode(&Header::new(Algorithm::ES256), &claims, &key).context("signing a token")
    }
}

impl std::fmt::Debug for Issuer {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issuer")
    }
}

#[cfg(test)]
mod tests {
    use longlived_identity::AuthRules;

    use super::*;

    const SHORT: Duration = Duration::from_secs(4);

    #[test]
    fn the_auth_file_knows_the_tokens_of_its_issuer_and_of_no_other() {
        let credentials = Credentials::make().unwrap();
        let rules = AuthRules::read(&credentials.folder.path().join(AUTH)).unwrap();
        let grants = Grants {
            subscribe: &["demo.lines"],
            ..Grants::default()
        };
        let now = SystemTime::now();
        let token = credentials.issuer.token("clients", grants, SHORT).unwrap();
        let identity = rules.bearer(&token, now).unwrap();
        assert_eq!(&*identity.principal, "demo/clients");
        let foreign = Issuer::new().unwrap();
        let token = foreign.token("clients", grants, SHORT).unwrap();
        assert!(rules.bearer(&token, now).is_err());
    }

    #[test]
    fn the_folder_is_open_to_its_user_alone_has_no_key_of_an_issuer_and_goes() {
        let credentials = Credentials::make().unwrap();
        let folder = credentials.folder.path().to_owned();
        let mode = fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let private: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| fs::read_to_string(path).unwrap().contains("PRIVATE KEY"))
            .collect();
        assert_eq!(private, [folder.join(KEY)], "that of the server");
        credentials.remove().unwrap();
        assert!(!folder.exists());
    }
}
