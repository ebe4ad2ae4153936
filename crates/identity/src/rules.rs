//! What an auth file says, and the caller that a credential makes by it.
//!
//! Holds: one function makes the caller of what was verified, for a new credential and for a live caller that is decided again. A
//! revoked caller is refused there.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use longlived_authorize::{Grants, Placeholder, RuleSet};

use crate::certificate::{CertificateNames, NameKind, Subject};
use crate::error::CredentialError;
use crate::file::{Certificates, Issuer, Issuers, Names, Revoked, StaticToken};
use crate::identity::{Identity, Proof, ProofKind, Said, Verified};
use crate::quotas::Quotas;
use crate::shown::Shown;
use crate::static_token;
use crate::token::{self, SUB_BYTES_MAX, TOKEN_BYTES_MAX};

/// The rules of an auth file.
pub struct AuthRules {
    pub(crate) anonymous: Option<Arc<Grants>>,
    pub(crate) revoked: Revoked,
    pub(crate) issuers: Issuers,
    pub(crate) tokens: HashMap<Box<str>, StaticToken>,
    pub(crate) certificates: Certificates,
    pub(crate) unix: HashMap<u32, Arc<Grants>>,
    /// Of callers without an issuer.
    pub(crate) quotas: Quotas,
    pub(crate) fingerprint: [u8; 32],
}

impl AuthRules {
    pub(crate) fn with_fingerprint(mut self, fingerprint: &[u8]) -> Self {
        self.fingerprint.copy_from_slice(fingerprint);
        self
    }

    /// Of all that was read, the files of keys too: rules with another one are other rules.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The caller of a token: a JWT, or a static token.
    pub fn bearer(&self, token: &str, now: SystemTime) -> Result<Identity, CredentialError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(CredentialError::TokenTooLong(token.len()));
        }
        if static_token::is_static(token) {
            return self.static_token(token, now);
        }
        let verified = token::verify(token, &self.issuers, now)?;
        self.of_jwt(verified)
    }

    /// The caller with a client certificate that TLS has verified.
    pub fn certificate(&self, names: &CertificateNames) -> Result<Identity, CredentialError> {
        let name = self.entry_of(names)?;
        let (_, grants) = &self.certificates.entries[name];
        let kind = ProofKind::Certificate(names.clone());
        self.identity(format!("cert/{name}"), Arc::clone(grants), None, kind)
    }

    /// The caller at the other end of a Unix socket; `None` if no entry is for this user.
    pub fn unix(&self, uid: u32) -> Result<Option<Identity>, CredentialError> {
        let Some(grants) = self.unix.get(&uid) else {
            // A revoked user does not become anonymous.
            let principal = format!("unix/{uid}");
            if self.revoked.principals.contains(&*principal) {
                return Err(CredentialError::Revoked(Shown::from(&*principal)));
            }
            return Ok(None);
        };
        let kind = ProofKind::Unix(uid);
        self.identity(format!("unix/{uid}"), Arc::clone(grants), None, kind)
            .map(Some)
    }

    /// A caller without a credential; `None` if the file gives it no rights.
    pub fn anonymous(&self) -> Option<Identity> {
        let grants = self.anonymous.as_ref()?;
        let kind = ProofKind::Anonymous;
        let anonymous = "anonymous".to_owned();
        self.identity(anonymous, Arc::clone(grants), None, kind)
            .ok()
    }

    /// Decides a live caller again, without its token, under these rules, which may be newer than those that it came under.
    pub fn again(&self, proof: &Proof, now: SystemTime) -> Result<Identity, CredentialError> {
        let decided = match &proof.kind {
            ProofKind::Jwt(verified) => self.jwt_again(verified, now),
            ProofKind::Static { name, sha256 } => match self.tokens.get(name) {
                Some(token) if token.sha256 == *sha256 => self.of_static(name, token, now),
                _ => Err(no_entry(&proof.principal)),
            },
            ProofKind::Certificate(names) => self.certificate(names),
            ProofKind::Unix(uid) => match self.unix(*uid) {
                Ok(None) => Err(no_entry(&proof.principal)),
                Ok(Some(identity)) => Ok(identity),
                Err(error) => Err(error),
            },
            ProofKind::Anonymous => self.anonymous().ok_or_else(|| no_entry(&proof.principal)),
            ProofKind::Named => self.principal(&proof.principal),
        };
        match decided {
            // The certificate is another entry's now.
            Ok(identity) if identity.principal != proof.principal => Err(
                CredentialError::Withdrawn(Box::new(no_entry(&proof.principal))),
            ),
            Ok(identity) => Ok(identity),
            Err(error) if error.is_revoked() || error.is_expired() => Err(error),
            Err(error) => Err(CredentialError::Withdrawn(Box::new(error))),
        }
    }

    /// The caller with this name, as if it had shown a credential; one of an issuer gets what the template gives without claims.
    pub fn principal(&self, name: &str) -> Result<Identity, CredentialError> {
        let no_entry = || no_entry(name);
        let kind = ProofKind::Named;
        let entry = match name.split_once('/') {
            None if name == "anonymous" => self.anonymous.as_ref(),
            None => None,
            Some(("cert", entry)) => {
                let entry = self.certificates.entries.get(entry);
                entry.map(|(_, grants)| grants)
            }
            Some(("token", entry)) => self.tokens.get(entry).map(|token| &token.grants),
            Some(("unix", uid)) => {
                let uid = uid.parse::<u32>().ok();
                let uid = uid.filter(|it| name.ends_with(&format!("/{it}")));
                uid.and_then(|uid| self.unix.get(&uid))
            }
            Some((issuer, sub)) => {
                let issuer = self.issuers.named(issuer).ok_or_else(no_entry)?;
                let is_sub =
                    (1..=SUB_BYTES_MAX).contains(&sub.len()) && !sub.chars().any(char::is_control);
                if !is_sub {
                    return Err(CredentialError::Subject);
                }
                let grants = Arc::new(grants_of(issuer, sub, &Said::Claims([].into()))?);
                return self.identity(name.to_owned(), grants, None, kind);
            }
        };
        let grants = Arc::clone(entry.ok_or_else(no_entry)?);
        self.identity(name.to_owned(), grants, None, kind)
    }

    fn static_token(&self, token: &str, now: SystemTime) -> Result<Identity, CredentialError> {
        let name = static_token::name(token);
        let entry = name.and_then(|name| self.tokens.get_key_value(name));
        // What is not there is compared too.
        let is_known = static_token::is(token, entry.map(|(_, entry)| &entry.sha256));
        let entry = entry.filter(|_| is_known);
        let (name, entry) = entry.ok_or(CredentialError::UnknownToken)?;
        self.of_static(name, entry, now)
    }

    fn of_static(
        &self,
        name: &str,
        token: &StaticToken,
        now: SystemTime,
    ) -> Result<Identity, CredentialError> {
        let ended = |expires: &SystemTime| now >= *expires + token::LEEWAY;
        if let Some(expires) = token.expires.filter(ended) {
            return Err(CredentialError::Expired(expires));
        }
        let kind = ProofKind::Static {
            name: name.into(),
            sha256: token.sha256,
        };
        let grants = Arc::clone(&token.grants);
        self.identity(format!("token/{name}"), grants, token.expires, kind)
    }

    fn jwt_again(&self, verified: &Verified, now: SystemTime) -> Result<Identity, CredentialError> {
        let unknown = || CredentialError::UnknownIssuer(Shown::from(&*verified.iss));
        let issuer = self.issuers.named(&verified.issuer);
        let issuer = issuer.filter(|issuer| issuer.iss == verified.iss);
        let issuer = issuer.ok_or_else(unknown)?;
        if !issuer.keys.iter().any(|key| key.id == verified.key) {
            return Err(CredentialError::KeyGone(verified.issuer.as_ref().into()));
        }
        let is_ours = |aud: &str| issuer.audience.iter().any(|ours| **ours == *aud);
        if !verified.audience.iter().any(|aud| is_ours(aud)) {
            return Err(CredentialError::Audience);
        }
        let max = issuer.max_token_life;
        token::judge_times(verified.expires, verified.begins, max, now)?;
        self.of_jwt(verified.clone())
    }

    /// The caller of a token of which all but its revocation has been checked.
    fn of_jwt(&self, verified: Verified) -> Result<Identity, CredentialError> {
        let issuer = self.issuers.named(&verified.issuer);
        let issuer = issuer.ok_or_else(|| no_entry(&verified.issuer))?;
        if let Some(jti) = &verified.jti {
            let id = format!("{}/{jti}", issuer.name);
            if self.revoked.token_ids.contains(&*id) {
                return Err(CredentialError::RevokedToken(Shown::from(&*id)));
            }
        }
        let grants = Arc::new(grants_of(issuer, &verified.sub, &verified.said)?);
        let principal = format!("{}/{}", issuer.name, verified.sub);
        let expires = Some(verified.expires);
        self.identity(
            principal,
            grants,
            expires,
            ProofKind::Jwt(Box::new(verified)),
        )
    }

    /// The one place where a caller comes to be.
    fn identity(
        &self,
        principal: String,
        grants: Arc<Grants>,
        expires: Option<SystemTime>,
        kind: ProofKind,
    ) -> Result<Identity, CredentialError> {
        if self.revoked.principals.contains(&*principal) {
            return Err(CredentialError::Revoked(Shown::from(&*principal)));
        }
        let principal: Arc<str> = principal.into();
        let proof = Proof {
            principal: Arc::clone(&principal),
            kind,
        };
        let issuer = principal.split_once('/');
        let issuer = issuer.and_then(|(name, _)| self.issuers.named(name));
        Ok(Identity {
            quotas: issuer.map_or(self.quotas, |issuer| issuer.quotas),
            principal,
            grants,
            expires,
            proof: Arc::new(proof),
        })
    }

    /// The name of the entry for a certificate.
    fn entry_of(&self, names: &CertificateNames) -> Result<&Arc<str>, CredentialError> {
        let entry = |kind, name: &str| self.certificates.entry(&Names::new(kind, name));
        let unknown = |kind: NameKind, name: &str| CredentialError::UnknownCertificate {
            kind: kind.shown(),
            name: Shown::from(name),
        };
        if let Some(uri) = &names.uri {
            let found = entry(NameKind::Uri, uri);
            return found.ok_or_else(|| unknown(NameKind::Uri, uri));
        }
        let mut found = names.dns.iter().filter_map(|dns| entry(NameKind::Dns, dns));
        if let Some(first) = found.next() {
            return if found.all(|other| other == first) {
                Ok(first)
            } else {
                Err(CredentialError::SeveralEntries)
            };
        }
        // Who chooses its names may choose its subject: it counts only where it stands alone.
        if let Some(first) = names.dns.first() {
            return Err(unknown(NameKind::Dns, first));
        }
        match &names.subject {
            Subject::Name(name) => {
                let found = entry(NameKind::Dn, name);
                found.ok_or_else(|| unknown(NameKind::Dn, name))
            }
            Subject::Unfit(problem) => Err(CredentialError::CertificateNames(problem)),
        }
    }
}

fn no_entry(principal: &str) -> CredentialError {
    CredentialError::NoEntry(Shown::from(principal))
}

/// What a token of this issuer gets.
fn grants_of(issuer: &Issuer, sub: &str, said: &Said) -> Result<Grants, CredentialError> {
    let mut own = match said {
        Said::Grants(named) => named.clone(),
        Said::Claims(claims) => issuer.template.fill(|placeholder| match placeholder {
            Placeholder::Sub => Some(sub),
            Placeholder::Claim(name) => {
                let mut claims = claims.iter();
                let claim = claims.find(|(claim, _)| **claim == *name);
                claim.map(|(_, value)| &**value)
            }
        })?,
    };
    if issuer.most.is_none() {
        own.admin = RuleSet::default().admin;
    }
    let most = issuer.most.clone();
    Ok(Grants { own, most })
}

impl fmt::Debug for AuthRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthRules")
            .field("issuers", &self.issuers.names().count())
            .field("tokens", &self.tokens.len())
            .field("certificates", &self.certificates.entries.len())
            .field("unix", &self.unix.len())
            .field("anonymous", &self.anonymous.is_some())
            .finish_non_exhaustive()
    }
}
