//! Auth files: what is refused, with which words, and what is read anew.

use std::fs;

use longlived_identity::AuthRules;

use crate::sign::Signer;
use crate::support::{Files, jwks, parse, refused, try_acme};

#[test]
fn an_empty_file_gives_nobody_anything() {
    let rules = parse("");
    assert!(rules.anonymous().is_none());
    assert!(rules.unix(0).unwrap().is_none());
}

#[test]
fn the_example_of_the_manual_is_an_auth_file() {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/OPERATIONS.md");
    let manual = fs::read_to_string(manual).unwrap();
    let (_, section) = manual.split_once("\n## The auth file\n").unwrap();
    let (_, example) = section.split_once("```toml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let files = Files::of([
        ("acme.jwks.json", jwks(&[Signer::eddsa().jwk(Some("1"))])),
        ("acme.pem", pair.public_key_pem().into()),
        ("acme.secret", vec![b's'; 32]),
    ]);
    let rules = files.parse(example).unwrap();
    for principal in [
        "anonymous",
        "acme/bob",
        "token/ci",
        "cert/gateway",
        "unix/1000",
    ] {
        rules.principal(principal).unwrap();
    }
    assert!(rules.principal("acme/mallory").unwrap_err().is_revoked());
}

#[test]
fn a_key_that_is_not_known_is_refused_with_what_was_meant() {
    for (text, error) in [
        (
            "[anonymus]",
            "anonymus: is not known; did you mean `anonymous`?",
        ),
        (
            "[certs.a]",
            "certs: is not known; did you mean `certificates`?",
        ),
        (
            "[xyz]",
            "xyz: is not known; there are anonymous, revoked, issuers, tokens, certificates, unix, quotas",
        ),
        (
            "\"a b\" = 1",
            "\"a b\": is not known; there are anonymous, revoked, issuers, tokens, certificates, unix, quotas",
        ),
        (
            "[anonymous]\nsubscribes = {}",
            "anonymous.subscribes: is not known; did you mean `subscribe`?",
        ),
        (
            "[anonymous]\nadmin = {}",
            "anonymous.admin: is not known; there are publish, subscribe",
        ),
        (
            "[unix.1]\npublish = { allows = [] }",
            "unix.1.publish.allows: is not known; did you mean `allow`?",
        ),
        (
            "[tokens.ci]\nsha265 = \"\"",
            "tokens.ci.sha265: is not known; did you mean `sha256`?",
        ),
        (
            "[certificates.\"a.b\"]\nurl = \"\"",
            "certificates.\"a.b\".url: is not known; did you mean `uri`?",
        ),
        (
            "[issuers.acme]\naudiense = \"\"",
            "issuers.acme.audiense: is not known; did you mean `audience`?",
        ),
        (
            "[revoked]\nprincipal = []",
            "revoked.principal: is not known; did you mean `principals`?",
        ),
    ] {
        assert_eq!(refused(text), error, "{text}");
    }
    let error = try_acme(
        &Signer::hs256(),
        "[issuers.acme.template]\nsubscribe = { denied = [] }",
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "issuers.acme.template.subscribe.denied: is not known; did you mean `deny`?"
    );
}

#[test]
fn a_mistake_of_toml_is_told_with_its_line_and_without_its_text() {
    let text = refused("[tokens.ci]\nsha256 = \"00\"\nexpires = secret-word\n");
    assert!(text.starts_with("line 3: "), "{text}");
    assert!(!text.contains("secret-word"), "{text}");
    assert!(refused("[unix.1]\n[unix.1]").starts_with("line 2: duplicate key"));
    let deep = format!("a = {}", "[".repeat(10_000));
    assert!(refused(&deep).starts_with("line 1: "));
}

#[test]
fn tables_have_a_limit() {
    let entries: Vec<_> = (0..10_001).map(|uid| format!("[unix.{uid}]\n")).collect();
    let entries = entries.concat();
    assert_eq!(
        refused(&entries),
        "unix: has 10001 entries; at most 10000 are allowed"
    );
    let revoked: Vec<_> = (0..10_001).map(|uid| format!("\"unix/{uid}\"")).collect();
    let revoked = format!("[revoked]\nprincipals = [{}]", revoked.join(","));
    assert_eq!(
        refused(&revoked),
        "revoked.principals: has 10001 entries; at most 10000 are allowed"
    );
    let large = " ".repeat((16 << 20) + 1);
    assert_eq!(
        refused(&large),
        "the auth file is larger than 16777216 bytes"
    );
}

#[test]
fn the_fingerprint_tells_every_change_of_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auth.toml");
    let text = "[issuers.acme]\nissuer = \"https://a\"\naudience = \"a\"\nkeys = [{ algorithm = \"HS256\", secret = \"keys/s\" }]\n";
    fs::create_dir(folder.path().join("keys")).unwrap();
    let secret = folder.path().join("keys/s");
    fs::write(&secret, [b's'; 32]).unwrap();
    fs::write(&path, text).unwrap();
    let read = || AuthRules::read(&path).unwrap().fingerprint();
    let first = read();
    assert_eq!(read(), first);
    fs::write(&path, format!("{text} ")).unwrap();
    let second = read();
    assert_ne!(second, first);
    fs::write(&secret, [b't'; 32]).unwrap();
    assert_ne!(read(), second);
    fs::write(&path, text).unwrap();
    fs::write(&secret, [b's'; 32]).unwrap();
    assert_eq!(read(), first);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auth.toml");
    let shown = path.display();
    let read = || AuthRules::read(&path).unwrap_err().to_string();
    assert_eq!(
        read(),
        format!("{shown}: No such file or directory (os error 2)")
    );
    fs::write(&path, [0xff]).unwrap();
    assert_eq!(read(), "the auth file is not UTF-8");
    fs::write(
        &path,
        "[issuers.a]\nissuer = \"a\"\naudience = \"a\"\nkeys = [{ jwks = \"gone\" }]",
    )
    .unwrap();
    assert_eq!(
        read(),
        "issuers.a.keys[0]: gone: No such file or directory (os error 2)"
    );
    fs::write(&path, vec![b'#'; (16 << 20) + 1]).unwrap();
    assert_eq!(read(), format!("{shown}: is larger than 16777216 bytes"));
    fs::remove_file(&path).unwrap();
    // As a pipe, of which nothing would ever come.
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert_eq!(read(), format!("{shown}: is not a regular file"));
}
