//! Any bytes in the place of an auth file and the files that it names.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use longlived_identity::{AuthFileError, AuthRules};
use toml::{Table, Value};

/// The most bytes of an error's text.
const ERROR_BYTES_MAX: usize = 2_048;
/// What is shorter may stand in an error by chance.
const SECRET_BYTES_MIN: usize = 12;
/// What separates one file from the next; its name follows, up to the end of the line.
const NEXT_FILE: &str = "\n=== ";

/// An auth file, and the files beside it.
struct Folder<'a> {
    text: &'a str,
    files: BTreeMap<&'a str, &'a str>,
    /// Those that the auth file has asked for.
    asked: RefCell<BTreeSet<String>>,
}

impl<'a> Folder<'a> {
    fn of(input: &'a str) -> Self {
        let mut parts = input.split(NEXT_FILE);
        let text = parts.next().unwrap_or_default();
        let files = parts.map(|part| part.split_once('\n').unwrap_or((part, "")));
        Self {
            text,
            files: files.collect(),
            asked: RefCell::default(),
        }
    }

    /// Reads the auth file; `changed` names a file that has one byte more now.
    fn read(&self, text: &str, changed: Option<&str>) -> Result<AuthRules, AuthFileError> {
        AuthRules::parse(text, &mut |path: &Path| {
            let path = path.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
            let content = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
            self.asked.borrow_mut().insert(path.to_owned());
            let more = if changed == Some(path) { "\n" } else { "" };
            Ok([content, more].concat().into_bytes())
        })
    }

    /// The texts that nobody may see: secrets, those that were put in the place of their file, and private keys.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = Vec::new();
        let table: Table = toml::from_str(self.text).unwrap_or_default();
        let issuers = table.get("issuers").and_then(Value::as_table);
        let keys = issuers
            .into_iter()
            .flatten()
            .filter_map(|(_, issuer)| issuer.get("keys"));
        for key in keys.filter_map(Value::as_array).flatten() {
            let text = |name| key.get(name).and_then(Value::as_str);
            if let Some(path) = text("secret") {
                let content = self.files.get(path);
                secrets.extend(content.map(|content| content.trim_end().to_owned()));
                secrets.push(path.to_owned());
            }
            let set = text("jwks").and_then(|path| self.files.get(path));
            let set = set.and_then(|set| serde_json::from_str::<serde_json::Value>(set).ok());
            let set = set.as_ref().and_then(|set| set.get("keys")?.as_array());
            for key in set.into_iter().flatten() {
                let parts = ["k", "d"]
                    .into_iter()
                    .filter_map(|name| key.get(name)?.as_str());
                secrets.extend(parts.map(str::to_owned));
            }
        }
        secrets.retain(|secret| secret.len() >= SECRET_BYTES_MIN);
        secrets
    }

    /// Nothing that is shown has a secret in it, unless it stands somewhere else too.
    fn conceals(&self, input: &str, shown: &str) {
        for secret in self.secrets() {
            let is_elsewhere = input.matches(&*secret).count() > 1;
            let is_shown = shown.contains(&*secret);
            assert!(is_elsewhere || !is_shown, "{secret:?} is in {shown:?}");
        }
    }
}

/// An auth file. Behind a line `=== NAME` another file begins, which it may name.
///
/// It is refused with one line of bounded length, or read. Either way nothing shows a secret, and it is the same again. Another byte,
/// in it or in a file that it names, makes other rules or none.
pub fn auth_file(data: &[u8]) {
    let input = String::from_utf8_lossy(data);
    let folder = Folder::of(&input);
    let again = folder.read(folder.text, None);
    match folder.read(folder.text, None) {
        Err(error) => {
            let shown = error.to_string();
            assert_eq!(again.err().map(|it| it.to_string()), Some(shown.clone()));
            let is_line = !shown.chars().any(char::is_control);
            assert!(is_line, "{shown:?} is not one line");
            assert!(shown.len() <= ERROR_BYTES_MAX, "{} bytes", shown.len());
            folder.conceals(&input, &format!("{shown} {error:?}"));
        }
        Ok(rules) => {
            let fingerprint = rules.fingerprint();
            assert_eq!(again.ok().map(|it| it.fingerprint()), Some(fingerprint));
            folder.conceals(&input, &format!("{rules:?}"));
            let longer = format!("{}\n", folder.text);
            let longer = folder
                .read(&longer, None)
                .expect("a line break says nothing");
            assert_ne!(longer.fingerprint(), fingerprint);
            let asked = folder.asked.take();
            for path in &asked {
                let changed = folder.read(folder.text, Some(path));
                let same = changed.is_ok_and(|it| it.fingerprint() == fingerprint);
                assert!(!same, "{path:?} is not in the fingerprint");
            }
            callers(&rules);
        }
    }
}

/// The callers that need no credential have the names that were asked for.
fn callers(rules: &AuthRules) {
    if let Some(anonymous) = rules.anonymous() {
        assert_eq!(&*anonymous.principal, "anonymous");
    }
    for uid in [0, 1_000] {
        if let Ok(Some(user)) = rules.unix(uid) {
            assert_eq!(*user.principal, format!("unix/{uid}"));
        }
    }
    for name in [
        "acme/bob",
        "cert/worker",
        "token/ci",
        "unix/1000",
        "anonymous",
        "",
        "/",
    ] {
        if let Ok(caller) = rules.principal(name) {
            assert_eq!(&*caller.principal, name);
        }
    }
}
