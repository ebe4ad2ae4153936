//! Any bytes in the place of a bearer token, against rules that do not change.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longlived_authorize::{Action, Grants, RuleSet, Subject, authorize};
use longlived_identity::{
    AuthRules, CredentialError, Identity, LEEWAY, MAX_TOKEN_LIFE_DEFAULT, SUB_BYTES_MAX,
};
use longlived_topic::TopicFilter;
use serde_json::{Value, json};

/// The most bytes of an error's text.
const ERROR_BYTES_MAX: usize = 2_048;
/// Now, in seconds since 1970.
const NOW: u64 = 1_800_000_000;
/// The static token of the rules, which have its SHA-256.
const STATIC: &str = "llt_ci_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
/// The issuer `acme` has a template and a limit, and two keys. The issuer `open` has neither, and one key without a name.
const RULES: &str = r#"
[issuers.acme]
issuer = "https://id.acme.example"
audience = ["longlived", "fleet"]
keys = [{ jwks = "acme.json" }]
template.subscribe.allow = ["orders.{sub}", "inbox.{claim:team}.>"]
template.publish.allow = ["orders.{sub}"]
most.subscribe.allow = ["orders.>"]
most.subscribe.deny = ["orders.secret"]
most.publish.allow = ["orders.>"]

[issuers.open]
issuer = "open"
audience = "longlived"
keys = [{ algorithm = "HS256", secret = "open" }]

[revoked]
principals = ["acme/mallory"]
token_ids = ["acme/9f3c"]

[tokens.ci]
sha256 = "486c5ffe1577e93f6e80e0912e219f833d574b88f5fd7309040edfae1bfba968"
subscribe.allow = ["ci.>"]
"#;
/// What callers of `acme` may get at most, as the rules say it.
const MOST: [(Action, &[&str], &[&str]); 2] = [
    (Action::Subscribe, &["orders.>"], &["orders.secret"]),
    (Action::Publish, &["orders.>"], &[]),
];
/// Filters that are asked for.
const ASKED: [&str; 8] = [
    ">",
    "*",
    "orders.>",
    "orders.*",
    "orders.1",
    "orders.secret",
    "inbox.red.1",
    "other",
];

/// A key that signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signer {
    Acme,
    Open,
    /// In no file.
    Nobody,
}

impl Signer {
    fn secret(self) -> [u8; 32] {
        match self {
            Self::Acme => [b'a'; 32],
            Self::Open => [b'o'; 32],
            Self::Nobody => [b'n'; 32],
        }
    }

    fn token(self, header: &[u8], claims: &[u8]) -> String {
        let message = [header, claims]
            .map(|part| URL_SAFE_NO_PAD.encode(part))
            .join(".");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret());
        let signature = hmac::sign(&key, message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The rules, what `acme` may give at most, and tokens that are good.
struct Fixed {
    rules: AuthRules,
    most: Grants,
    good: Vec<String>,
    asked: Vec<TopicFilter>,
}

static FIXED: LazyLock<Fixed> = LazyLock::new(|| {
    // The public key of RFC 8037, A.2. Nobody here has its private one.
    let ed25519 = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let set = json!({"keys": [
        {"kty": "oct", "kid": "k", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(Signer::Acme.secret())},
        {"kty": "OKP", "kid": "e", "crv": "Ed25519", "x": ed25519},
    ]});
    let rules = AuthRules::parse(RULES, &mut |path| {
        Ok(match path.to_str() {
            Some("acme.json") => set.to_string().into(),
            _ => Signer::Open.secret().to_vec(),
        })
    });
    let mut own = RuleSet::default();
    for (action, allow, deny) in MOST {
        let rules = own.of_mut(action);
        rules.allow = filters(allow).into();
        rules.deny = filters(deny).into();
    }
    let claims = |iss: &str| {
        let claims = json!({"iss": iss, "aud": "longlived", "sub": "bob", "exp": NOW + 3_600});
        claims.to_string().into_bytes()
    };
    let named = json!({"alg": "HS256", "kid": "k"}).to_string();
    let plain = json!({"alg": "HS256"}).to_string();
    Fixed {
        rules: rules.expect("the rules are in order"),
        most: Grants { own, most: None },
        good: vec![
            Signer::Acme.token(named.as_bytes(), &claims("https://id.acme.example")),
            Signer::Open.token(plain.as_bytes(), &claims("open")),
            STATIC.to_owned(),
        ],
        asked: filters(&ASKED),
    }
});

fn filters(texts: &[&str]) -> Vec<TopicFilter> {
    let filter = |text: &&str| TopicFilter::parse(text).expect("a filter");
    texts.iter().map(filter).collect()
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// Its first byte says what the others are.
///
/// `a`, `o` and `n` sign: the first line is the header, the rest are the claims, and the key is that of `acme`, that of `open` or
/// nobody's. `m` changes a good token: a byte chooses it, and then three bytes each are a place and what stands there. Everything else is
/// a token itself.
///
/// A token that no key of the rules has signed makes no caller. A signed one makes the caller that its claims name, with no more than its
/// issuer may give, for no longer than it lives; so it does again. A refusal is one line of bounded length.
pub fn tokens(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    let signer = match kind {
        b'a' => Signer::Acme,
        b'o' => Signer::Open,
        b'n' => Signer::Nobody,
        b'm' => return unsigned(&changed(rest)),
        _ => return unsigned(&String::from_utf8_lossy(data)),
    };
    let line = rest.iter().position(|byte| *byte == b'\n');
    let (header, claims) = rest.split_at(line.unwrap_or(rest.len()));
    let claims = claims.get(1..).unwrap_or_default();
    let token = signer.token(header, claims);
    match FIXED.rules.bearer(&token, now()) {
        Ok(caller) => signed(&caller, signer, claims),
        Err(error) => refused(&error, &token),
    }
}

/// A good token with other bytes at some places.
fn changed(changes: &[u8]) -> String {
    let Some((choice, changes)) = changes.split_first() else {
        return String::new();
    };
    let good = &FIXED.good[usize::from(*choice) % FIXED.good.len()];
    let mut token = good.clone().into_bytes();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % token.len();
        token[at] = change[2];
    }
    String::from_utf8_lossy(&token).into_owned()
}

/// Nobody signed it here: it is one of the good ones, or refused.
fn unsigned(token: &str) {
    let is_good = FIXED.good.iter().any(|good| good == token);
    match FIXED.rules.bearer(token, now()) {
        Ok(caller) => assert!(is_good, "{token} makes {caller:?}"),
        Err(error) => {
            assert!(!is_good, "{error}");
            refused(&error, token);
        }
    }
}

fn refused(error: &CredentialError, token: &str) {
    let shown = error.to_string();
    let is_line = !shown.chars().any(char::is_control);
    assert!(is_line, "{shown:?} is not one line");
    assert!(shown.len() <= ERROR_BYTES_MAX, "{} bytes", shown.len());
    let signature = token.rsplit('.').next().unwrap_or_default();
    let is_long = signature.len() >= 40;
    assert!(!is_long || !shown.contains(signature), "{shown}");
}

/// The caller of a token with these claims is who they say.
fn signed(caller: &Identity, signer: Signer, claims: &[u8]) {
    let claims: Value = serde_json::from_slice(claims).expect("claims that were read");
    let text = |name: &str| claims[name].as_str().unwrap_or_default();
    let (issuer, iss) = match signer {
        Signer::Acme => ("acme", "https://id.acme.example"),
        Signer::Open => ("open", "open"),
        Signer::Nobody => panic!("{caller:?} is nobody's"),
    };
    let sub = text("sub");
    assert_eq!(text("iss"), iss);
    assert_eq!(*caller.principal, format!("{issuer}/{sub}"));
    assert!((1..=SUB_BYTES_MAX).contains(&sub.len()));
    assert!(!sub.chars().any(char::is_control));
    assert_ne!(&*caller.principal, "acme/mallory");
    let is_revoked = signer == Signer::Acme && text("jti") == "9f3c";
    assert!(!is_revoked, "{caller:?}");
    let audience = strings(&claims["aud"]);
    assert!(audience.contains("longlived") || audience.contains("fleet"));
    lives(caller, &claims);
    grants(caller, signer, &claims);
    let again = FIXED.rules.again(&caller.proof, now());
    let again = again.expect("the rules are the same");
    assert_eq!(again.principal, caller.principal);
    assert_eq!(
        (again.grants, again.expires),
        (caller.grants.clone(), caller.expires)
    );
}

/// It ends when its `exp` says, which is not too far away.
fn lives(caller: &Identity, claims: &Value) {
    let expires = caller.expires.expect("every JWT ends");
    if let Some(seconds) = claims["exp"].as_u64() {
        assert_eq!(expires, UNIX_EPOCH + Duration::from_secs(seconds));
    }
    assert!(now() < expires + LEEWAY);
    assert!(expires <= now() + LEEWAY + MAX_TOKEN_LIFE_DEFAULT);
    let ended = FIXED.rules.again(&caller.proof, expires + LEEWAY);
    assert!(ended.is_err_and(|error| error.is_expired()));
}

/// It may do what its claims or its template say, within the most of its issuer.
fn grants(caller: &Identity, signer: Signer, claims: &Value) {
    let mut said = strings(claims);
    if signer == Signer::Acme {
        let (sub, team) = (claims["sub"].as_str(), claims["team"].as_str());
        said.extend(sub.map(|sub| format!("orders.{sub}")));
        said.extend(team.map(|team| format!("inbox.{team}.>")));
    }
    for action in Action::ALL {
        for rule in &caller.grants.own.of(action).allow {
            assert!(said.contains(rule.as_str()), "nobody said {rule}");
        }
        for filter in &FIXED.asked {
            let allows = |grants| authorize(grants, action, Subject::Filter(filter)).is_ok();
            let within = match signer {
                Signer::Acme => allows(&FIXED.most),
                _ => action != Action::Admin,
            };
            assert!(within || !allows(&caller.grants), "{action} {filter}");
        }
    }
}

/// Every text in a value.
fn strings(value: &Value) -> BTreeSet<String> {
    match value {
        Value::String(text) => BTreeSet::from([text.clone()]),
        Value::Array(list) => list.iter().flat_map(strings).collect(),
        Value::Object(map) => map.values().flat_map(strings).collect(),
        _ => BTreeSet::new(),
    }
}
