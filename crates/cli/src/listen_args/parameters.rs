//! The parameters of a listener's URL: which there are, and what their values mean.

use longlived_server::{Cidr, ClientCertificate, Services};

/// What stands before the first question mark, and what behind it.
pub(super) fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once('?') {
        Some((place, parameters)) => (place, Some(parameters)),
        None => (text, None),
    }
}

/// The name of each that is given.
pub(super) fn names(given: Option<&str>) -> impl Iterator<Item = &str> {
    let parameters = given.into_iter().flat_map(|given| given.split('&'));
    parameters.map(|it| it.split_once('=').map_or(it, |(name, _)| name))
}

/// As they stand in a URL, each as `NAME=VALUE`.
pub(super) fn joined(given: &[String]) -> String {
    match given {
        [] => String::new(),
        _ => format!("?{}", given.join("&")),
    }
}

/// The value of each of the `names`, if it is given.
pub(super) fn known<'a, const N: usize>(
    scheme: &str,
    given: Option<&'a str>,
    names: [&str; N],
) -> Result<[Option<&'a str>; N], String> {
    let mut values = [None; N];
    for parameter in given.into_iter().flat_map(|given| given.split('&')) {
        let (name, value) = parameter
            .split_once('=')
            .ok_or_else(|| format!("its parameter `{parameter}` has no value: NAME=VALUE"))?;
        let Some(index) = names.iter().position(|known| *known == name) else {
            return Err(unknown(scheme, name, &names));
        };
        if values[index].replace(value).is_some() {
            return Err(format!("its parameter `{name}` is given twice"));
        }
    }
    Ok(values)
}

fn unknown(scheme: &str, name: &str, names: &[&str]) -> String {
    let likely = names
        .iter()
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    let hint = match likely {
        Some((_, known)) => format!("did you mean `{known}`?"),
        None if names.is_empty() => format!("{scheme} has none"),
        None => format!("{scheme} has {}", names.join(", ")),
    };
    format!("its parameter `{name}` is not known; {hint}")
}

/// How like a known name an unknown one must be to be taken for a slip of it: clap's own bound for flags.
const LIKE: f64 = 0.7;

pub(super) fn client_certificate(text: Option<&str>) -> Result<ClientCertificate, String> {
    match text {
        None | Some("none") => Ok(ClientCertificate::None),
        Some("optional") => Ok(ClientCertificate::Optional),
        Some("required") => Ok(ClientCertificate::Required),
        Some(text) => Err(format!(
            "its client-cert `{text}` is not none, optional or required"
        )),
    }
}

pub(super) fn client_certificate_text(asked: ClientCertificate) -> Option<String> {
    let value = match asked {
        ClientCertificate::None => return None,
        ClientCertificate::Optional => "optional",
        ClientCertificate::Required => "required",
    };
    Some(format!("client-cert={value}"))
}

/// The proxies that name their clients; none unless given.
pub(super) fn proxies(text: Option<&str>) -> Result<Vec<Cidr>, String> {
    let cidr = |one: &str| match one.parse() {
        Ok(cidr) => Ok(cidr),
        Err(error) => Err(format!("its proxy `{one}`: {error}")),
    };
    text.into_iter()
        .flat_map(|text| text.split(','))
        .map(cidr)
        .collect()
}

pub(super) fn proxies_text(proxies: &[Cidr]) -> Option<String> {
    let texts: Vec<_> = proxies.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| format!("proxy={}", texts.join(",")))
}

/// What it serves; all unless given.
pub(super) fn services(text: Option<&str>) -> Result<Services, String> {
    match text {
        None => Ok(Services::All),
        Some("public") => Ok(Services::Public),
        Some("admin") => Ok(Services::Admin),
        Some(text) => Err(format!("its services `{text}` are not public or admin")),
    }
}

pub(super) fn services_text(services: Services) -> Option<&'static str> {
    match services {
        Services::Public => Some("services=public"),
        Services::Admin => Some("services=admin"),
        _ => None,
    }
}

pub(super) fn file_mode(text: &str) -> Result<u32, String> {
    let is_octal = !text.is_empty() && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| is_octal);
    mode.filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("its mode `{text}` is not from 0000 to 0777, in octal digits"))
}
