//! Callers with a client certificate, by real certificates.

use longlived_identity::{AuthRules, CertificateNames, CredentialError};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use crate::support::{may_follow, parse, refused};

/// A certificate with these names, in DER.
fn der(subject: &[(DnType, &str)], names: &[SanType]) -> Vec<u8> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in subject {
        params.distinguished_name.push(kind.clone(), *value);
    }
    params.subject_alt_names = names.to_vec();
    let pair = KeyPair::generate().unwrap();
    params.self_signed(&pair).unwrap().der().to_vec()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

fn rules() -> AuthRules {
    parse(
        r#"
        [certificates.gateway]
        uri = "spiffe://prod/gateway"
        subscribe = { allow = [">"] }
        [certificates."edge.1"]
        dns = "Edge.example"
        [certificates.edge2]
        dns = "edge2.example"
        [certificates.old]
        dn = "C=DE, O=Acme\\, Inc., CN=old"
        [certificates.trick]
        dn = "CN=a, O=b"
        "#,
    )
}

/// The caller, or why there is none.
fn caller(der: &[u8]) -> Result<String, String> {
    let names = CertificateNames::of(der).map_err(|error| error.to_string())?;
    let caller = rules().certificate(&names);
    caller
        .map(|caller| caller.principal.to_string())
        .map_err(|error| error.to_string())
}

const OLD: [(DnType, &str); 3] = [
    (DnType::CountryName, "DE"),
    (DnType::OrganizationName, "Acme, Inc."),
    (DnType::CommonName, "old"),
];

#[test]
fn a_uri_decides_and_a_dns_name_and_the_subject_only_where_there_is_none() {
    let gateway = uri("spiffe://prod/gateway");
    let (edge, edge2) = (dns("edge.example"), dns("edge2.example"));
    for (subject, names, expected) in [
        (&OLD[..0], vec![gateway.clone()], Ok("cert/gateway")),
        (
            &OLD,
            vec![edge2.clone(), gateway.clone()],
            Ok("cert/gateway"),
        ),
        (
            &OLD,
            vec![uri("spiffe://prod/other"), edge.clone()],
            Err("no entry is for the certificate's URI `spiffe://prod/other`"),
        ),
        (
            &OLD,
            vec![uri("SPIFFE://prod/gateway")],
            Err("no entry is for the certificate's URI `SPIFFE://prod/gateway`"),
        ),
        (&OLD, vec![edge.clone()], Ok("cert/edge.1")),
        (
            &OLD,
            vec![dns("EDGE.example"), dns("other.example"), edge.clone()],
            Ok("cert/edge.1"),
        ),
        (
            &OLD,
            vec![edge, edge2],
            Err("the certificate's DNS names stand in several entries"),
        ),
        (
            &OLD,
            vec![dns("other.example")],
            Err("no entry is for the certificate's DNS name `other.example`"),
        ),
        (&OLD, vec![], Ok("cert/old")),
        (
            &OLD[1..],
            vec![],
            Err("no entry is for the certificate's subject `O=Acme\\, Inc., CN=old`"),
        ),
        (
            &OLD[..0],
            vec![],
            Err("the certificate has neither a URI nor a DNS name nor a subject"),
        ),
    ] {
        let der = der(subject, &names);
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(caller(&der), expected, "{names:?}");
    }
}

#[test]
fn a_certificate_gets_the_grants_of_its_entry() {
    let names = CertificateNames::of(&der(&[], &[uri("spiffe://prod/gateway")])).unwrap();
    let rules = rules();
    let caller = rules.certificate(&names).unwrap();
    assert!(may_follow(&caller, "a.>"));
    assert_eq!(caller.expires, None);
    assert_eq!(
        rules
            .again(&caller.proof, crate::support::now())
            .unwrap()
            .principal,
        caller.principal
    );
    // The name belongs to another entry now.
    let moved = parse("[certificates.other]\nuri = \"spiffe://prod/gateway\"");
    let gone = moved
        .again(&caller.proof, crate::support::now())
        .unwrap_err();
    assert!(gone.is_revoked());
    let revoked = parse(
        "[revoked]\nprincipals = [\"cert/gateway\"]\n[certificates.gateway]\nuri = \"spiffe://prod/gateway\"",
    );
    let refused = revoked.certificate(&names).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the principal `cert/gateway` is revoked"
    );
}

#[test]
fn names_that_could_be_read_in_two_ways_refuse_the_certificate() {
    let gateway = uri("spiffe://prod/gateway");
    let odd_uri =
        "the certificate has a URI that is empty or has a character outside of ASCII's text";
    let odd_dns =
        "the certificate has a DNS name that is empty or has a character outside of ASCII's text";
    for (names, expected) in [
        (
            vec![gateway.clone(), gateway.clone()],
            "the certificate has more than one URI",
        ),
        (
            vec![gateway.clone(), uri("https://a")],
            "the certificate has more than one URI",
        ),
        (
            vec![uri("spiffe://prod/*")],
            "the certificate has a URI with a wildcard",
        ),
        (vec![uri("spiffe://prod/gateway\0.evil")], odd_uri),
        (vec![uri("spiffe://prod/gateway\n")], odd_uri),
        (vec![uri("spiffe://prod/gateway x")], odd_uri),
        (vec![uri("")], odd_uri),
        (
            vec![dns("*.example")],
            "the certificate has a DNS name with a wildcard",
        ),
        (vec![dns("edge.example\0.evil.example")], odd_dns),
        (vec![dns("")], odd_dns),
        (
            vec![gateway, dns("*.example")],
            "the certificate has a DNS name with a wildcard",
        ),
    ] {
        assert_eq!(
            caller(&der(&OLD, &names)).unwrap_err(),
            expected,
            "{names:?}"
        );
    }
}

#[test]
fn a_subject_is_compared_in_its_order_and_cannot_look_like_another() {
    let (cn, o) = (DnType::CommonName, DnType::OrganizationName);
    for (subject, expected) in [
        (vec![(cn.clone(), "a"), (o.clone(), "b")], Ok("cert/trick")),
        (
            vec![(o.clone(), "b"), (cn.clone(), "a")],
            Err("`O=b, CN=a`"),
        ),
        (vec![(cn.clone(), "a, O=b")], Err("`CN=a\\, O\\=b`")),
        (
            vec![(cn.clone(), "A"), (o.clone(), "b")],
            Err("`CN=A, O=b`"),
        ),
        (
            vec![(cn.clone(), " a"), (o.clone(), "b ")],
            Err("`CN=\\ a, O=b\\ `"),
        ),
        (
            vec![(cn.clone(), "#a+b\"<c>;\\")],
            Err("`CN=\\#a\\+b\\\"\\<c\\>\\;\\\\`"),
        ),
    ] {
        let decided = caller(&der(&subject, &[]));
        match expected {
            Ok(principal) => assert_eq!(decided.unwrap(), principal),
            Err(shown) => assert_eq!(
                decided.unwrap_err(),
                format!("no entry is for the certificate's subject {shown}")
            ),
        }
    }
    let unfit = "the certificate has a subject with a value that is empty, or with a wildcard or a control character";
    for value in ["*", "*.example", "a\0", "a\nb"] {
        assert_eq!(
            caller(&der(&[(cn.clone(), value)], &[])).unwrap_err(),
            unfit,
            "{value:?}"
        );
    }
    // Where another name decides, the subject is not looked at.
    let other = der(&[(cn, "*")], &[uri("spiffe://prod/gateway")]);
    assert_eq!(caller(&other).unwrap(), "cert/gateway");
}

/// Puts two places of the subject into one. The length stays: the second value, which was `b`, is longer.
fn joined(der: &[u8]) -> Vec<u8> {
    let part = |oid: u8, value: &[u8]| {
        let text = [&[0x0c, value.len() as u8], value].concat();
        let pair = [&[0x06, 3, 0x55, 4, oid][..], &text].concat();
        [&[0x30, pair.len() as u8], &pair[..]].concat()
    };
    let set = |parts: &[u8]| [&[0x31, parts.len() as u8], parts].concat();
    let (cn, o) = (part(3, b"a"), part(10, b"b"));
    let before = [set(&cn), set(&o)].concat();
    let after = set(&[cn, part(10, b"bbb")].concat());
    assert_eq!(before.len(), after.len());
    let mut der = der.to_vec();
    // Of issuer and subject, which are the same, the subject is the second.
    let places = der.windows(before.len()).enumerate();
    let places: Vec<_> = places
        .filter(|(_, it)| *it == before)
        .map(|(at, _)| at)
        .collect();
    let at = places[1];
    der[at..at + after.len()].copy_from_slice(&after);
    der
}

#[test]
fn a_subject_with_several_values_in_one_place_is_refused() {
    let two = der(
        &[(DnType::CommonName, "a"), (DnType::OrganizationName, "b")],
        &[],
    );
    assert_eq!(
        caller(&joined(&two)).unwrap_err(),
        "the certificate has a subject with several values in one place"
    );
}

#[test]
fn what_is_no_certificate_is_refused() {
    let good = der(&OLD, &[]);
    let broken = "the certificate is malformed: it is no X.509 certificate";
    for wrong in [
        &[][..],
        &[0x30],
        &good[..good.len() - 1],
        b"-----BEGIN CERTIFICATE-----",
    ] {
        assert_eq!(caller(wrong).unwrap_err(), broken);
    }
    let more = [&good[..], &[0]].concat();
    let followed = "the certificate is malformed: something follows it";
    assert_eq!(caller(&more).unwrap_err(), followed);
    let many: Vec<_> = (0..257).map(|number| dns(&format!("d{number}"))).collect();
    let refused = CertificateNames::of(&der(&[], &many)).unwrap_err();
    assert!(matches!(refused, CredentialError::CertificateNames(_)));
}

#[test]
fn an_entry_has_one_name_that_no_other_entry_has() {
    let one = "certificates.a: needs exactly one of `uri`, `dns` and `dn`";
    for (text, error) in [
        ("[certificates.a]", one),
        ("[certificates.a]\nuri = \"a:b\"\ndns = \"b\"", one),
        (
            "[certificates.a]\nuri = \"\"",
            "certificates.a.uri: \"\" is empty",
        ),
        (
            "[certificates.a]\nuri = \"spiffe://*\"",
            "certificates.a.uri: \"spiffe://*\" has a wildcard",
        ),
        (
            "[certificates.a]\ndns = \"*.example\"",
            "certificates.a.dns: \"*.example\" has a wildcard",
        ),
        (
            "[certificates.a]\ndns = \"ä.example\"",
            "certificates.a.dns: \"ä.example\" has a character that is not of ASCII",
        ),
        (
            "[certificates.a]\ndn = \"CN=a\\u0000\"",
            "certificates.a.dn: \"CN=a\\0\" has a control character",
        ),
        (
            "[certificates.a_b]\nuri = \"a:b\"",
            "certificates.a_b: must have 1 to 64 of the characters A-Z a-z 0-9 - .",
        ),
        (
            "[certificates.\"a/b\"]\nuri = \"a:b\"",
            "certificates.\"a/b\": must have 1 to 64 of the characters A-Z a-z 0-9 - .",
        ),
        (
            "[certificates.a]\ndns = \"x.example\"\n[certificates.b]\ndns = \"X.example\"",
            "certificates.b: has the `dns` of certificates.a",
        ),
    ] {
        assert_eq!(refused(text), error, "{text}");
    }
}
