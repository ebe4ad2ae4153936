//! Values of auth files that are refused, each named.

use crate::support::{Files, refused};

/// Files, and why they are refused.
type Table = &'static [(&'static str, &'static str)];

fn check(table: Table) {
    for (text, error) in table {
        assert_eq!(refused(text), *error, "{text}");
    }
}

const RULES: Table = &[
    (
        "anonymous = 1",
        "anonymous: must be a table, and is of type integer",
    ),
    ("unix = []", "unix: must be a table, and is of type array"),
    (
        "[unix]\n1 = true",
        "unix.1: must be a table, and is of type boolean",
    ),
    (
        "[anonymous]\npublish = [\"a\"]",
        "anonymous.publish: must be a table, and is of type array",
    ),
    (
        "[anonymous]\npublish = { allow = \"a\" }",
        "anonymous.publish.allow: must be a list, and is of type string",
    ),
    (
        "[anonymous]\npublish = { allow = [\"a\", 1] }",
        "anonymous.publish.allow[1]: must be a text, and is of type integer",
    ),
    (
        "[anonymous]\npublish = { allow = [\"a..b\"] }",
        "anonymous.publish.allow: `a..b` has an empty token (number 2); each token has 1 to 64 characters",
    ),
    (
        "[anonymous]\npublish = { allow = [\"a.{sub}\"] }",
        "anonymous.publish: `a.{sub}`: placeholders stand in a template only",
    ),
    (
        "[anonymous]\npublish = { deny = [\"a{sub}\"] }",
        "anonymous.publish.deny: `a{sub}` has a placeholder beside other text in token 1; a placeholder is a whole token",
    ),
];

#[test]
fn rules_are_two_lists_of_filters() {
    check(RULES);
    let many: Vec<_> = (0..65).map(|number| format!("\"a.{number}\"")).collect();
    let many = format!("[anonymous]\npublish = {{ allow = [{}] }}", many.join(","));
    let expected = "anonymous.publish.allow: has 65 entries; at most 64 are allowed";
    assert_eq!(refused(&many), expected);
}

const USER: &str = "must be the number of a user, such as 1000";
const TOKEN: &str = "must have 1 to 64 of the characters A-Z a-z 0-9 -";

#[test]
fn entries_have_names_of_their_kind() {
    for (text, at, problem) in [
        ("[unix.bob]", "unix.bob", USER),
        ("[unix.01]", "unix.01", USER),
        ("[unix.4294967296]", "unix.4294967296", USER),
        ("[unix.\"\"]", "unix.\"\"", USER),
        ("[tokens.a_b]", "tokens.a_b", TOKEN),
        ("[tokens.\"a.b\"]", "tokens.\"a.b\"", TOKEN),
    ] {
        assert_eq!(refused(text), format!("{at}: {problem}"));
    }
}

#[test]
fn a_static_token_has_a_hash_and_perhaps_an_end() {
    let hash =
        "tokens.ci.sha256: must be 64 hexadecimal digits, as `longlived token new` prints them";
    assert_eq!(refused("[tokens.ci]"), "tokens.ci: needs `sha256`");
    let long = "0".repeat(65);
    let signed = "+0".repeat(32);
    for sha256 in ["ab", "", &long, &signed, &"ä".repeat(32)] {
        assert_eq!(
            refused(&format!("[tokens.ci]\nsha256 = \"{sha256}\"")),
            hash
        );
    }
    let sha256 = "00".repeat(32);
    let form = "must be a date with a time and an offset, such as 2027-01-01T00:00:00Z";
    for (expires, error) in [
        (
            "\"2027-01-01\"",
            "must be a date and time, and is of type string",
        ),
        ("2027-01-01", form),
        ("2027-01-01T00:00:00", form),
        ("00:00:00", form),
        ("1969-12-31T00:00:00Z", form),
    ] {
        let text = format!("[tokens.ci]\nsha256 = \"{sha256}\"\nexpires = {expires}");
        assert_eq!(refused(&text), format!("tokens.ci.expires: {error}"));
    }
}

#[test]
fn a_slip_in_what_is_revoked_is_noticed() {
    let form = "must be ISSUER/SUB, cert/NAME, token/NAME or unix/UID";
    for (list, text, problem) in [
        ("principals", "bob", form),
        ("principals", "cert/", form),
        (
            "principals",
            "anonymous",
            "is revoked by removing `[anonymous]`",
        ),
        (
            "principals",
            "acne/bob",
            "has no issuer in this file; did you mean `acme`?",
        ),
        (
            "principals",
            "ACME/bob",
            "does not begin with the name of an issuer",
        ),
        ("token_ids", "9f3c", "must be ISSUER/JTI"),
        ("token_ids", "acme/", "must be ISSUER/JTI"),
        (
            "token_ids",
            "token/ci",
            "does not begin with the name of an issuer",
        ),
    ] {
        let files = Files::of([("s", vec![b's'; 32])]);
        let file = format!(
            "[issuers.acme]\nissuer = \"a\"\naudience = \"a\"\nkeys = [{{ algorithm = \"HS256\", secret = \"s\" }}]\n\
             [revoked]\n{list} = [\"{text}\"]"
        );
        let refused = files.parse(&file).unwrap_err().to_string();
        assert_eq!(refused, format!("revoked.{list}: \"{text}\" {problem}"));
    }
    assert_eq!(
        refused("[revoked]\nprincipals = [\"acme/bob\"]"),
        "revoked.principals: \"acme/bob\" has no issuer in this file; there is none"
    );
}

/// What stands behind the keys of an issuer `acme`, and why it is refused.
const ISSUER: Table = &[
    ("audience = \"a\"", ": needs `issuer`"),
    ("issuer = \"\"\naudience = \"a\"", ".issuer: is empty"),
    ("issuer = \"a\"", ": needs `audience`"),
    ("issuer = \"a\"\naudience = []", ".audience: is empty"),
    (
        "issuer = \"a\"\naudience = \"\"",
        ".audience: has an empty text",
    ),
    (
        "issuer = \"a\"\naudience = 7",
        ".audience: must be a text or a list of texts, and is of type integer",
    ),
    (
        "issuer = \"a\"\naudience = \"a\"\nmax_token_life = \"0s\"",
        ".max_token_life: `0s` must be a duration above 0, such as 15min or 24h",
    ),
    (
        "issuer = \"a\"\naudience = \"a\"\nmax_token_life = \"long\"",
        ".max_token_life: `long` must be a duration above 0, such as 15min or 24h",
    ),
    (
        "issuer = \"a\"\naudience = \"a\"\nmost = { subscribe = { allow = [\"{sub}\"] } }",
        ".most.subscribe: `{sub}`: placeholders stand in a template only",
    ),
];

/// An issuer that is in order but for its name and for `more`.
fn issuer(name: &str, more: &str) -> String {
    format!("[issuers.{name}]\nkeys = [{{ algorithm = \"HS256\", secret = \"s\" }}]\n{more}\n")
}

fn issuers_refused(text: &str) -> String {
    let files = Files::of([("s", vec![b's'; 32])]);
    files.parse(text).unwrap_err().to_string()
}

#[test]
fn an_issuer_says_what_it_needs() {
    for (more, error) in ISSUER {
        let refused = issuers_refused(&issuer("acme", more));
        assert_eq!(refused, format!("issuers.acme{error}"));
    }
    let without = "[issuers.acme]\nissuer = \"a\"\naudience = \"a\"";
    assert_eq!(issuers_refused(without), "issuers.acme: needs `keys`");
}

#[test]
fn an_issuer_has_a_name_that_is_no_kind_of_principal_and_an_iss_of_its_own() {
    let good = "issuer = \"a\"\naudience = \"a\"";
    for kind in ["cert", "token", "unix", "anonymous"] {
        let refused = issuers_refused(&issuer(kind, good));
        let problem = "is a kind of principal and names no issuer; choose another name";
        assert_eq!(refused, format!("issuers.{kind}: {problem}"));
    }
    let long = "x".repeat(33);
    for name in ["Acme", "a_b", "\"\"", "\"a/b\"", &long] {
        let refused = issuers_refused(&issuer(name, good));
        let problem = "must have 1 to 32 of the characters a-z 0-9 -";
        assert_eq!(refused, format!("issuers.{name}: {problem}"));
    }
    let two = [issuer("one", good), issuer("two", good)].concat();
    let refused = issuers_refused(&two);
    assert_eq!(refused, "issuers.two: has the `issuer` of issuers.one");
}

#[test]
fn what_is_wrong_is_one_line_of_bounded_length() {
    let good = "issuer = \"a\"\naudience = \"a\"";
    let life = issuer("acme", &format!("{good}\nmax_token_life = \"a\\nb\""));
    assert_eq!(
        issuers_refused(&life),
        "issuers.acme.max_token_life: `a b` must be a duration above 0, such as 15min or 24h"
    );
    let file = format!("[issuers.acme]\n{good}\nkeys = [{{ jwks = \"a\\nb\" }}]");
    assert_eq!(
        issuers_refused(&file),
        "issuers.acme.keys[0]: a b: entity not found"
    );
    let long = "x".repeat(100_000);
    for text in [
        format!("{long} = 1"),
        format!("[revoked]\nprincipals = [\"{long}\"]"),
        issuer("acme", &format!("{good}\nmax_token_life = \"{long}\"")),
        format!("[issuers.acme]\n{good}\nkeys = [{{ jwks = \"{long}\" }}]"),
    ] {
        let refused = issuers_refused(&text);
        assert!(refused.len() < 1_600, "{} bytes", refused.len());
        assert!(refused.contains('…'), "{refused}");
    }
}
