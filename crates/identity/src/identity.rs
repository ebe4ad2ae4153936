//! A caller, and what was verified of it.
//!
//! Holds: a proof has no token and no key, so it can be kept as long as the caller is connected.

use std::{fmt, sync::Arc, time::SystemTime};

use longlived_authorize::{Grants, RuleSet};

use crate::certificate::CertificateNames;
use crate::quotas::Quotas;

/// A caller.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name: `ISSUER/SUB`, `cert/NAME`, `token/NAME`, `unix/UID` or `anonymous`.
    pub principal: Arc<str>,
    /// What it may do.
    pub grants: Arc<Grants>,
    /// When its credential ends, without leeway. The end of a certificate is not among it: its connection ends then.
    pub expires: Option<SystemTime>,
    /// How much it may use of a node, together with all callers of its name.
    pub quotas: Quotas,
    /// What was verified.
    pub proof: Arc<Proof>,
}

/// What was verified of a caller, by which it is decided again under newer rules: [`AuthRules::again`](crate::AuthRules::again).
pub struct Proof {
    /// Of the caller that it made.
    pub(crate) principal: Arc<str>,
    pub(crate) kind: ProofKind,
}

pub(crate) enum ProofKind {
    Jwt(Box<Verified>),
    Static {
        name: Box<str>,
        sha256: [u8; 32],
    },
    Certificate(CertificateNames),
    Unix(u32),
    Anonymous,
    /// Nothing was shown: the name was asked for.
    Named,
}

/// What is kept of a JWT.
#[derive(Clone)]
pub(crate) struct Verified {
    /// The name of its issuer in the file.
    pub(crate) issuer: Arc<str>,
    /// Its `iss`.
    pub(crate) iss: Box<str>,
    /// Which key and algorithm signed it.
    pub(crate) key: [u8; 32],
    pub(crate) sub: Box<str>,
    pub(crate) jti: Option<Box<str>>,
    pub(crate) audience: Box<[Box<str>]>,
    pub(crate) expires: SystemTime,
    /// When it began, or when it was first seen.
    pub(crate) begins: SystemTime,
    pub(crate) said: Said,
}

/// Where the grants of a JWT come from.
#[derive(Clone)]
pub(crate) enum Said {
    /// From the token.
    Grants(RuleSet),
    /// From its issuer's template: the claims that can fill a placeholder.
    Claims(Box<[(Box<str>, Box<str>)]>),
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof")
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}
