//! The auth file of a server that is started here, and the tokens that fit it.

use std::process::Command;

use anyhow::{Context as _, ensure};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use tempfile::TempDir;

use crate::args::AuthKind;
use crate::load::control::SHARED_TOPIC;
use crate::tokens::{AUDIENCE, ISSUER, KEY_ID, TokenPlan};

#[derive(Debug)]
pub(super) struct AuthFile {
    folder: TempDir,
}

impl AuthFile {
    pub(super) fn new(kind: AuthKind) -> anyhow::Result<(Self, TokenPlan)> {
        let file = Self {
            folder: TempDir::new()?,
        };
        let (rules, tokens) = match kind {
            AuthKind::Static => static_token()?,
            AuthKind::Es256 => file.issuer()?,
        };
        std::fs::write(file.path(), rules)?;
        Ok((file, tokens))
    }

    pub(super) fn path(&self) -> String {
        let path = self.folder.path().join("auth.toml");
        path.to_string_lossy().into_owned()
    }

    /// An issuer whose template grants to each subscriber its own inbox, and the topic that all share.
    fn issuer(&self) -> anyhow::Result<(String, TokenPlan)> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        std::fs::write(self.folder.path().join("issuer.pem"), key.public_key_pem())?;
        let rules = format!(
            "[issuers.bench]\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\n\
             keys = [{{ kid = \"{KEY_ID}\", algorithm = \"ES256\", pem = \"issuer.pem\" }}]\n\
             [issuers.bench.template]\n\
             publish = {{ allow = [\"{SHARED_TOPIC}\", \"inbox.*\"] }}\n\
             subscribe = {{ allow = [\"{SHARED_TOPIC}\", \"inbox.{{sub}}\"] }}\n"
        );
        Ok((rules, TokenPlan::Es256(key.serialize_pem())))
    }
}

/// A token that the command for operators makes, with its entry.
fn static_token() -> anyhow::Result<(String, TokenPlan)> {
    let program = std::env::current_exe().context("finding this executable")?;
    let made = Command::new(program)
        .args(["token", "new", "bench"])
        .output()
        .context("making a token")?;
    ensure!(made.status.success(), "making a token: {}", made.status);
    let text = String::from_utf8(made.stdout).context("making a token")?;
    let (token, entry) = text.split_once('\n').context("making a token")?;
    let filters = format!("{{ allow = [\"{SHARED_TOPIC}\", \"inbox.*\"] }}");
    let rules = format!("{entry}publish = {filters}\nsubscribe = {filters}\n");
    Ok((rules, TokenPlan::Static(token.trim().to_owned())))
}
