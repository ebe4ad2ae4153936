//! Who calls: the rules of the auth file, and the callers that they make of credentials.
//!
//! Holds: a call with an `authorization` field is the caller of that token or is refused, and never falls back to what its
//! connection proves. A caller is made under one set of rules; [`Callers::again`] decides it under the present ones.
//! Does not: decide what a caller may; [`Caller`] does.

mod reload;
mod usages;
mod verifying;

pub(crate) use reload::read_settled;
pub(crate) use verifying::Unverified;

use std::path::{Path, PathBuf};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderMap, header::AUTHORIZATION};
use longlived_broker::{Environment, Principal};
use longlived_identity::{AuthRules, CertificateNames, Identity, TOKEN_BYTES_MAX};
use parking_lot::{Mutex, RwLock};
use quick_cache::sync::Cache;
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

use self::usages::Usages;
use crate::contract::{Caller, CallerError, Credential, Rights};
use crate::limits;
use crate::throttle::Seldom;
use crate::transport::connection::ConnectionContext;
use crate::transport::listener::Peer;

/// The callers of a node.
pub(crate) struct Callers {
    // Where nobody is checked, everybody; otherwise one without rights.
    unknown: Arc<Caller>,
    checked: Option<Checked>,
    // Calls without a caller, and their lines in the log.
    refused: AtomicU64,
    lines: Mutex<Seldom>,
}

/// What is found of the caller of a call.
pub(crate) enum Found {
    /// Nobody is checked.
    Unchecked,
    Known(Arc<Caller>),
    /// It brings a token that is to be verified.
    Unverified(Unverified),
    Nobody(CallerError),
}

/// Of a node that checks them.
struct Checked {
    path: PathBuf,
    environment: Environment,
    current: RwLock<Arc<Current>>,
    usages: Usages,
    // Tokens that are verified at a time.
    verifiers: Arc<Semaphore>,
    // Why the file cannot be used as it is now.
    trouble: Mutex<Option<String>>,
    asked: Arc<Notify>,
}

/// A set of rules, and the callers that it has made. They go together: a caller is never known longer than its rules.
struct Current {
    rules: AuthRules,
    // 1 is the first set.
    number: u64,
    known: Cache<Key, Arc<Caller>>,
}

/// What proves who calls, as it is looked up.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    /// The SHA-256 of a token.
    Token([u8; 32]),
    /// The same of a certificate.
    Certificate([u8; 32]),
    Unix(u32),
    Anonymous,
}

impl Callers {
    /// Nobody is checked.
    pub(crate) fn unchecked() -> Arc<Self> {
        Arc::new(Self {
            unknown: Arc::new(Caller::anonymous()),
            checked: None,
            refused: AtomicU64::new(0),
            lines: Mutex::new(Seldom::new(limits::REFUSED_LINES_INTERVAL)),
        })
    }

    /// By the rules of this file.
    pub(crate) fn checked(path: &Path, rules: AuthRules, environment: Environment) -> Arc<Self> {
        let current = Current::new(rules, 1);
        Arc::new(Self {
            unknown: Arc::new(Caller::nobody()),
            checked: Some(Checked {
                path: path.to_owned(),
                environment,
                current: RwLock::new(Arc::new(current)),
                usages: Usages::default(),
                verifiers: Arc::new(Semaphore::new(limits::VERIFIERS_MAX)),
                trouble: Mutex::default(),
                asked: Arc::default(),
            }),
            refused: AtomicU64::new(0),
            lines: Mutex::new(Seldom::new(limits::REFUSED_LINES_INTERVAL)),
        })
    }

    /// The caller of a call that has passed no check: of a server that checks nobody, or of a path that forgot to.
    pub(crate) fn unknown(&self) -> &Arc<Caller> {
        &self.unknown
    }

    /// Whether callers are checked.
    pub(crate) fn are_checked(&self) -> bool {
        self.checked.is_some()
    }

    /// The number of the present rules; it rises with each change of the auth file, and is 0 where there is none.
    pub(crate) fn rules(&self) -> u64 {
        self.checked
            .as_ref()
            .map_or(0, |checked| checked.current.read().number)
    }

    /// Whether the auth file cannot be used as it is now, so that older rules go on; `None` where there is no file.
    pub(crate) fn is_stale(&self) -> Option<bool> {
        let checked = self.checked.as_ref()?;
        Some(checked.trouble.lock().is_some())
    }

    /// The caller of a call with these headers on this connection. Where nobody is checked there is none.
    pub(crate) fn of_call(
        self: &Arc<Self>,
        headers: &HeaderMap,
        connection: Option<&Arc<ConnectionContext>>,
    ) -> Found {
        let Some(checked) = &self.checked else {
            return Found::Unchecked;
        };
        let found = match bearer(headers) {
            Ok(Some(token)) => match checked.known_token(token) {
                Some(known) => Ok(Found::Known(known)),
                None if has_signature(token) => {
                    Ok(Found::Unverified(Unverified::new(self, token, connection)))
                }
                // A hash, or nothing at all: no reason to wait.
                None => checked.of_token(token).map(Found::Known),
            },
            Ok(None) => {
                let connection = connection.map(|context| &**context);
                checked.of_connection(connection).map(Found::Known)
            }
            Err(error) => Err(error),
        };
        found.unwrap_or_else(|error| Found::Nobody(self.refuse(error)))
    }

    fn refuse(&self, error: CallerError) -> CallerError {
        self.refused.fetch_add(1, Ordering::Relaxed);
        error
    }

    /// One line for many: a peer makes thousands of such calls a second.
    pub(crate) fn tell_refused(&self, error: &CallerError, connection: Option<&ConnectionContext>) {
        if let Some(unlogged) = self.lines.lock().now() {
            let peer = connection.map(|context| context.peer);
            let peer = peer.as_ref().map(tracing::field::display);
            tracing::warn!(peer, %error, unlogged, "a call without a caller is refused");
        }
    }

    /// How many calls were refused because they had no caller.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The caller of a token that came within a call. `None` where nobody is checked.
    pub(crate) fn of_token(
        self: &Arc<Self>,
        token: &str,
        connection: Option<&Arc<ConnectionContext>>,
    ) -> Option<Unverified> {
        self.checked.as_ref()?;
        Some(Unverified::new(self, token, connection))
    }

    /// The same caller under the present rules, by what it has proved before.
    pub(crate) fn again(&self, caller: &Arc<Caller>) -> Result<Arc<Caller>, CallerError> {
        let Some((checked, credential)) = self.checked.as_ref().zip(caller.credential.as_ref())
        else {
            return Ok(caller.clone());
        };
        let current = checked.current();
        let identity = current
            .rules
            .again(&credential.proof, checked.environment.now())?;
        let mut again = checked.caller(&current, identity);
        // An end that was told before stays the moment that it was, however the clocks were set meanwhile.
        if let Some(again) = &mut again.credential
            && again.expires_at == credential.expires_at
        {
            again.expires = credential.expires;
        }
        Ok(Arc::new(again))
    }

    /// Whether the caller of a call that has gone on for a while has changed: under the present rules, if its credential has not ended.
    pub(crate) fn still(&self, caller: &Arc<Caller>) -> Result<Option<Arc<Caller>>, CallerError> {
        if self.checked.is_none() {
            return Ok(None);
        }
        let has_ended = |ends| ends <= Instant::now();
        if caller.ends().is_some_and(has_ended) {
            return Err(CallerError::Ended);
        }
        if caller.rules() == self.rules() {
            return Ok(None);
        }
        self.again(caller).map(Some)
    }
}

impl Checked {
    fn current(&self) -> Arc<Current> {
        self.current.read().clone()
    }

    /// The caller of a token that was verified before.
    fn known_token(&self, token: &str) -> Option<Arc<Caller>> {
        let current = self.current();
        current.known(&Key::Token(sha256(token.as_bytes())))
    }

    fn of_token(&self, token: &str) -> Result<Arc<Caller>, CallerError> {
        self.known(Key::Token(sha256(token.as_bytes())), |rules, now| {
            Ok(rules.bearer(token, now)?)
        })
    }

    fn of_connection(
        &self,
        connection: Option<&ConnectionContext>,
    ) -> Result<Arc<Caller>, CallerError> {
        if let Some(certificate) = connection.and_then(|one| one.certificate.as_ref()) {
            let der = certificate.as_bytes();
            return self.known(Key::Certificate(sha256(der)), |rules, _| {
                Ok(rules.certificate(&CertificateNames::of(der)?)?)
            });
        }
        if let Some(Peer::Unix(peer)) = connection.map(|one| one.peer) {
            let user = self.known(Key::Unix(peer.uid), |rules, _| {
                rules.unix(peer.uid)?.ok_or(CallerError::Missing)
            });
            // A user that has no entry is a caller without a credential, as one that comes over TCP.
            if !matches!(user, Err(CallerError::Missing)) {
                return user;
            }
        }
        self.known(Key::Anonymous, |rules, _| {
            rules.anonymous().ok_or(CallerError::Missing)
        })
    }

    /// The caller that is known by this key, or that `find` finds.
    fn known(
        &self,
        key: Key,
        find: impl FnOnce(&AuthRules, SystemTime) -> Result<Identity, CallerError>,
    ) -> Result<Arc<Caller>, CallerError> {
        let current = self.current();
        if let Some(known) = current.known(&key) {
            return Ok(known);
        }
        let identity = find(&current.rules, self.environment.now())?;
        let caller = Arc::new(self.caller(&current, identity));
        current.known.insert(key, caller.clone());
        Ok(caller)
    }

    fn caller(&self, current: &Current, identity: Identity) -> Caller {
        let principal = match &*identity.principal {
            "anonymous" => Principal::anonymous(),
            name => Principal::named(name).expect("the rules give no other names"),
        };
        Caller {
            usage: Some(
                self.usages
                    .of(&identity.principal, identity.quotas, current.number),
            ),
            principal,
            rights: Rights::Granted(identity.grants),
            credential: Some(Credential {
                expires: identity
                    .expires
                    .map(|at| instant(at, self.environment.now())),
                expires_at: identity.expires,
                verified: Instant::now(),
                proof: identity.proof,
                rules: current.number,
            }),
        }
    }
}

impl Current {
    fn new(rules: AuthRules, number: u64) -> Self {
        Self {
            rules,
            number,
            known: Cache::new(limits::KNOWN_CALLERS_MAX),
        }
    }

    /// The caller that this proved before, if its credential has not ended.
    fn known(&self, key: &Key) -> Option<Arc<Caller>> {
        let goes_on = |caller: &Arc<Caller>| caller.ends().is_none_or(|ends| Instant::now() < ends);
        self.known.get(key).filter(goes_on)
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// The moment of a time, which may be over for a while.
fn instant(at: SystemTime, now: SystemTime) -> Instant {
    /// Of one that is never: tokio's timers end before.
    const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);
    match at.duration_since(now) {
        Ok(left) => Instant::now() + left.min(FAR),
        Err(over) => {
            let now = Instant::now();
            now.checked_sub(over.duration()).unwrap_or(now)
        }
    }
}

/// Whether a token may be a JWT, whose signature takes time (RFC 7515, 7.1).
fn has_signature(token: &str) -> bool {
    token.len() <= TOKEN_BYTES_MAX && token.bytes().filter(|&byte| byte == b'.').count() == 2
}

/// The token of a call, if it has one (RFC 6750, 2.1).
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, CallerError> {
    let mut fields = headers.get_all(AUTHORIZATION).into_iter();
    let Some(field) = fields.next() else {
        return Ok(None);
    };
    if fields.next().is_some() {
        return Err(CallerError::Repeated);
    }
    let text = field.to_str().map_err(|_| CallerError::NotText)?;
    let (scheme, token) = text.split_once(' ').ok_or(CallerError::Scheme)?;
    let token = token.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(CallerError::Scheme);
    }
    Ok(Some(token))
}
