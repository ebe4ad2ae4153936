//! `longlived token new` and `longlived auth check`: what they print is what a server would do.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::cli_support::{Ended, run};

/// An auth file in a folder of its own.
struct AuthFile {
    folder: TempDir,
}

impl AuthFile {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("auth.toml"), text).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What `auth check` says of a caller.
    fn check(&self, caller: [&str; 2], asked: [&str; 2]) -> Ended {
        let file = self.path("auth.toml");
        let auth = ["auth", "check", "--auth", file.to_str().unwrap()];
        run(&[&auth[..], &caller, &asked].concat())
    }

    /// The same for the caller of a token.
    fn check_token(&self, token: &str, asked: [&str; 2]) -> Ended {
        let file = self.path("token");
        fs::write(&file, token).unwrap();
        self.check(["--token-file", file.to_str().unwrap()], asked)
    }
}

/// The token, and the entry for the auth file.
fn new_token(more: &[&str]) -> (String, String) {
    let ended = run(&[&["token", "new", "ci"], more].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.is_empty(), "{ended:?}");
    let (token, entry) = ended.stdout.split_first().unwrap();
    (token.clone(), entry.join("\n"))
}

#[test]
fn a_new_token_is_the_caller_of_its_entry() {
    let (token, entry) = new_token(&["--expires", "2999-01-01T00:00:00Z"]);
    assert!(token.starts_with("llt_ci_"), "{token}");
    assert!(!entry.contains(&token["llt_ci_".len()..]), "{entry}");
    assert!(
        entry.ends_with("\nexpires = 2999-01-01T00:00:00Z"),
        "{entry}"
    );
    let file = AuthFile::new(&format!("{entry}\npublish = {{ allow = [\"builds.>\"] }}"));
    for text in [token.clone(), format!("{token}\n")] {
        let ended = file.check_token(&text, ["publish", "builds.eu"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let expected = "allowed: token/ci, publish `builds.eu`, by `builds.>` of `publish.allow`";
        assert_eq!(ended.stdout, [expected]);
    }
    let ended = file.check_token(&token, ["publish", "orders.eu"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let expected = "not allowed: token/ci: no filter of `publish.allow` covers `orders.eu` in the grants of the credential";
    assert_eq!(ended.stdout, [expected]);
    let (other, _) = new_token(&[]);
    for (wrong, reason) in [
        (other.as_str(), "the static token is not known"),
        (
            "",
            "the token is malformed: it is neither a JWT, which has three parts, nor a static token",
        ),
        (
            "a.b.c",
            "the token is malformed: its first part is no header of a JWT",
        ),
    ] {
        let ended = file.check_token(wrong, ["publish", "builds.eu"]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.stdout, [format!("refused: {reason}")]);
        assert!(ended.stderr.is_empty(), "{ended:?}");
    }
    let long = file.check_token(&"x".repeat(10_000), ["publish", "a"]);
    assert!(
        long.stdout[0].ends_with("at most 8192 are allowed"),
        "{long:?}"
    );
}

const RULES: &str = r#"
[anonymous]
subscribe = { allow = ["news.>"], deny = ["news.internal.>"] }
[revoked]
principals = ["unix/7"]
[unix.1000]
admin = { allow = [">"] }
[unix.7]
[issuers.acme]
issuer = "https://id.acme.example"
audience = "longlived"
keys = [{ algorithm = "HS256", secret = "keys/acme" }]
[issuers.acme.template]
subscribe = { allow = ["users.{sub}.>"] }
[issuers.acme.most]
subscribe = { allow = ["users.>"] }
"#;

#[test]
fn a_principal_is_told_what_it_may_and_by_which_filter() {
    let file = AuthFile::new(RULES);
    fs::create_dir(file.path("keys")).unwrap();
    fs::write(file.path("keys/acme"), [b's'; 32]).unwrap();
    for (principal, asked, code, said) in [
        (
            "anonymous",
            ["subscribe", "news.*"],
            0,
            "allowed: anonymous, subscribe `news.*`, by `news.>` of `subscribe.allow`",
        ),
        (
            "anonymous",
            ["subscribe", "news.>"],
            1,
            "not allowed: anonymous: `subscribe.deny` has `news.internal.>`, which overlaps `news.>`, in the grants of the credential",
        ),
        (
            "unix/1000",
            ["admin", "orders.>"],
            0,
            "allowed: unix/1000, admin `orders.>`, by `>` of `admin.allow`",
        ),
        (
            "unix/1000",
            ["admin", "inbox.bob"],
            1,
            "not allowed: unix/1000: no filter of `admin.allow` covers `inbox.bob` in the grants of the credential",
        ),
        (
            "unix/7",
            ["admin", "a"],
            1,
            "refused: the principal `unix/7` is revoked",
        ),
        (
            "unix/8",
            ["admin", "a"],
            1,
            "refused: the auth file has no entry for `unix/8`",
        ),
        (
            "acme/bob",
            ["subscribe", "users.bob.>"],
            0,
            "allowed: acme/bob, subscribe `users.bob.>`, by `users.bob.>` of `subscribe.allow`, and `users.>` in the most that its issuer may give",
        ),
        (
            "acme/*",
            ["subscribe", "users.bob.>"],
            1,
            "not allowed: acme/*: no filter of `subscribe.allow` covers `users.bob.>` in the grants of the credential",
        ),
        (
            "x\u{1b}[31m",
            ["admin", "a"],
            1,
            "refused: the auth file has no entry for `x [31m`",
        ),
    ] {
        let ended = file.check(["--principal", principal], asked);
        assert_eq!(ended.code, Some(code), "{principal} {asked:?}: {ended:?}");
        assert_eq!(ended.stdout, [said]);
        assert!(ended.stderr.is_empty(), "{ended:?}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named_in_one_line() {
    let anonymous = ["--principal", "anonymous"];
    for (text, said) in [
        (
            "[anonymus]",
            "longlived: --auth: anonymus: is not known; did you mean `anonymous`?",
        ),
        ("[unix.1]\nb = \u{1}", "longlived: --auth: line 2: "),
        (
            "[issuers.a]\nissuer = \"a\"\naudience = \"a\"\nkeys = [{ jwks = \"gone\" }]",
            "longlived: --auth: issuers.a.keys[0]: gone: No such file or directory",
        ),
    ] {
        let ended = AuthFile::new(text).check(anonymous, ["subscribe", "a"]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert_eq!(ended.stderr.len(), 1, "{ended:?}");
        assert!(ended.stderr[0].starts_with(said), "{ended:?}");
        assert!(ended.stdout.is_empty(), "{ended:?}");
    }
    let file = AuthFile::new("");
    let gone = file.path("gone");
    let ended = file.check(["--token-file", gone.to_str().unwrap()], ["subscribe", "a"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let said = format!("longlived: --token-file: {}: No such file", gone.display());
    assert!(ended.stderr[0].starts_with(&said), "{ended:?}");
}
