//! The names of a client certificate, and which of them decides.
//!
//! Holds: one certificate has one name that decides. A URI decides where there is one, and no other name is asked then. A name with a
//! wildcard or a control character, and a second URI, refuse the certificate.
//! Does not: verify a certificate, which TLS has done.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::x509::X509Name;

use crate::error::CredentialError;

/// The kinds of names, in the order in which they decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum NameKind {
    Uri,
    Dns,
    Dn,
}

impl NameKind {
    pub(crate) const ALL: [Self; 3] = [Self::Uri, Self::Dns, Self::Dn];

    /// The key of the auth file.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Uri => "uri",
            Self::Dns => "dns",
            Self::Dn => "dn",
        }
    }

    /// As errors name it.
    pub(crate) fn shown(self) -> &'static str {
        match self {
            Self::Uri => "URI",
            Self::Dns => "DNS name",
            Self::Dn => "subject",
        }
    }
}

/// DNS names of one certificate that are looked at.
const DNS_NAMES_MAX: usize = 256;

/// The names of a client certificate by which it can be known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateNames {
    pub(crate) uri: Option<Box<str>>,
    pub(crate) dns: Box<[Box<str>]>,
    pub(crate) subject: Subject,
}

/// The distinguished name of the owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Name(Box<str>),
    /// It has none that could be compared, and why.
    Unfit(&'static str),
}

/// What makes a name unfit to be compared.
pub(crate) fn problem_of(kind: NameKind, name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("is empty");
    }
    if name.chars().any(char::is_control) {
        return Some("has a control character");
    }
    if kind != NameKind::Dn && !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some("has a character that is not of ASCII");
    }
    name.contains('*').then_some("has a wildcard")
}

impl CertificateNames {
    /// The names of a certificate in DER, which has been verified.
    pub fn of(der: &[u8]) -> Result<Self, CredentialError> {
        let parsed = x509_parser::parse_x509_certificate(der);
        let (rest, certificate) =
            parsed.map_err(|_| CredentialError::Certificate("it is no X.509 certificate"))?;
        if !rest.is_empty() {
            let problem = "something follows it";
            return Err(CredentialError::Certificate(problem));
        }
        Self::of_parsed(&certificate)
    }

    fn of_parsed(certificate: &X509Certificate<'_>) -> Result<Self, CredentialError> {
        let alternative = certificate
            .subject_alternative_name()
            .map_err(|_| CredentialError::Certificate("its alternative names cannot be read"))?;
        let names = alternative.as_ref().map(|it| &it.value.general_names[..]);
        let mut uri = None;
        let mut dns = Vec::new();
        for name in names.unwrap_or_default() {
            match name {
                GeneralName::URI(text) => {
                    fit(NameKind::Uri, text)?;
                    if uri.replace((*text).into()).is_some() {
                        let problem = "has more than one URI";
                        return Err(CredentialError::CertificateNames(problem));
                    }
                }
                GeneralName::DNSName(text) => {
                    fit(NameKind::Dns, text)?;
                    dns.push(text.to_ascii_lowercase().into());
                }
                GeneralName::Invalid(..) => {
                    let problem = "has an alternative name that cannot be read";
                    return Err(CredentialError::CertificateNames(problem));
                }
                _ => {}
            }
        }
        if dns.len() > DNS_NAMES_MAX {
            let problem = "has more than 256 DNS names";
            return Err(CredentialError::CertificateNames(problem));
        }
        Ok(Self {
            uri,
            dns: dns.into(),
            subject: match subject(certificate.subject()) {
                Ok(text) => Subject::Name(text.into()),
                Err(problem) => Subject::Unfit(problem),
            },
        })
    }
}

fn fit(kind: NameKind, name: &str) -> Result<(), CredentialError> {
    let Some(problem) = problem_of(kind, name) else {
        return Ok(());
    };
    Err(CredentialError::CertificateNames(match (kind, problem) {
        (NameKind::Uri, "has a wildcard") => "has a URI with a wildcard",
        (NameKind::Uri, _) => "has a URI that is empty or has a character outside of ASCII's text",
        (_, "has a wildcard") => "has a DNS name with a wildcard",
        _ => "has a DNS name that is empty or has a character outside of ASCII's text",
    }))
}

/// The subject as the auth file has it: `TYPE=VALUE`, in the order of the certificate, joined by `, `. Characters of a value that
/// would make two subjects look alike are escaped as in RFC 4514.
fn subject(name: &X509Name<'_>) -> Result<String, &'static str> {
    let mut parts = Vec::new();
    for rdn in name.iter_rdn() {
        let mut attributes = rdn.iter();
        let (Some(attribute), None) = (attributes.next(), attributes.next()) else {
            return Err("has a subject with several values in one place");
        };
        let value = attribute.as_str();
        let value = value.map_err(|_| "has a subject with a value that is no text")?;
        if problem_of(NameKind::Dn, value).is_some() {
            return Err(
                "has a subject with a value that is empty, or with a wildcard or a control character",
            );
        }
        let kind = match oid2abbrev(attribute.attr_type(), oid_registry()) {
            Ok(abbreviation) => abbreviation.to_owned(),
            Err(_) => attribute.attr_type().to_id_string(),
        };
        parts.push(format!("{kind}={}", escaped(value)));
    }
    if parts.is_empty() {
        return Err("has neither a URI nor a DNS name nor a subject");
    }
    Ok(parts.join(", "))
}

fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for (index, c) in value.char_indices() {
        let at_end = index == 0 || index + c.len_utf8() == value.len();
        let is_special = matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=')
            || (c == ' ' && at_end)
            || (c == '#' && index == 0);
        if is_special {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
