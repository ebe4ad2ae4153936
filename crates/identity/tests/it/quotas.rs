//! Quotas: those of everybody, those of an issuer, and values that are none.

use std::io;

use longlived_identity::{AuthRules, Quotas};

/// The rules of a file whose issuer has a key in the folder.
fn parse(text: &str) -> Result<AuthRules, String> {
    let secret = vec![b'k'; 32];
    let issuer = "\nissuer = \"https://acme\"\naudience = \"a\"\nkeys = [{ kid = \"1\", algorithm = \"HS256\", secret = \"s\" }]\n";
    let text = text.replace("[issuers.acme]", &format!("[issuers.acme]{issuer}"));
    let mut load = |_: &std::path::Path| -> io::Result<Vec<u8>> { Ok(secret.clone()) };
    AuthRules::parse(&text, &mut load).map_err(|error| error.to_string())
}

fn of(rules: &AuthRules, principal: &str) -> Quotas {
    rules.principal(principal).expect("it is known").quotas
}

#[test]
fn an_issuers_callers_have_its_quotas_and_others_those_of_everybody() {
    let rules = parse(
        "[quotas]\nstreams = 7\npublish_bytes = 0\n[anonymous]\n[issuers.acme]\n[issuers.acme.quotas]\nstreams = 3\n",
    );
    let rules = rules.expect("rules");
    let everybody = Quotas {
        streams: 7,
        publish_bytes: 0,
        ..Quotas::DEFAULT
    };
    assert_eq!(of(&rules, "anonymous"), everybody);
    let streams = 3;
    assert_eq!(
        of(&rules, "acme/ann"),
        Quotas {
            streams,
            ..everybody
        }
    );
    let rules = parse("[anonymous]\n").expect("rules");
    assert_eq!(of(&rules, "anonymous"), Quotas::DEFAULT);
}

#[test]
fn a_value_that_is_no_quota_is_refused_with_its_key_and_the_range() {
    for (text, expected) in [
        (
            "[quotas]\nstreams = -1\n",
            "quotas.streams: must be from 0 to 1099511627776",
        ),
        (
            "[quotas]\nin_flight_bytes = 0\n",
            "quotas.in_flight_bytes: must be from 1024 to 1099511627776",
        ),
        (
            "[quotas]\nfilters = \"many\"\n",
            "quotas.filters: must be a number",
        ),
        ("[quotas]\nstream = 1\n", "quotas.stream: is not known"),
        (
            "[issuers.acme]\nquotas = { streams = 1.5 }\n",
            "issuers.acme.quotas.streams: must be a number",
        ),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.contains(expected), "{error}");
    }
}
