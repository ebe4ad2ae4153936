//! Which field names and values a message may have (RFC 9113, 8.2 and 8.3.1).

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, header};

/// Why a message is malformed.
pub(super) struct Malformed(pub(super) &'static str);

/// The name of a field.
pub(super) enum Name {
    /// One that only HTTP/1.1 has (8.2.2).
    Connection,
    /// `te`, which may say one thing (8.2.2).
    Te,
    Field(HeaderName),
}

/// A field's name: a token without upper-case letters (8.2.1).
pub(super) fn name(bytes: &[u8]) -> Result<Name, Malformed> {
    // The type takes upper-case letters and makes them lower-case, which a message must not rely on.
    if bytes.iter().any(u8::is_ascii_uppercase) {
        return Err(Malformed("a field name with an upper-case letter (8.2.1)"));
    }
    let name = HeaderName::from_bytes(bytes);
    let name = name.map_err(|_| Malformed("a field name that is no token (8.2.1)"))?;
    Ok(match name {
        header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE => Name::Connection,
        header::TE => Name::Te,
        name if matches!(name.as_str(), "keep-alive" | "proxy-connection") => Name::Connection,
        name => Name::Field(name),
    })
}

/// A field's value: no control characters but the tab, and no white space around it (8.2.1).
pub(super) fn value(bytes: &[u8]) -> Result<HeaderValue, Malformed> {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_blank(bytes.first()) || is_blank(bytes.last()) {
        return Err(Malformed(
            "a field value with white space around it (8.2.1)",
        ));
    }
    HeaderValue::from_bytes(bytes)
        .map_err(|_| Malformed("a field value with a control character (8.2.1)"))
}

/// The number of bytes of a request's content (8.1.1): digits only.
pub(super) fn content_length(bytes: &[u8]) -> Result<u64, Malformed> {
    let no_number = Malformed("content-length is no number (8.1.1)");
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return Err(no_number);
    }
    // The largest number stands for none.
    match str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse().ok())
    {
        Some(length) if length < u64::MAX => Ok(length),
        _ => Err(no_number),
    }
}

/// The scheme of a request: a letter, then letters, digits and three signs (RFC 3986, 3.1).
pub(super) fn scheme(bytes: &[u8]) -> Result<Scheme, Malformed> {
    let no_scheme = || Malformed(":scheme is no scheme (8.3.1)");
    if !bytes.first().is_some_and(u8::is_ascii_alphabetic) {
        return Err(no_scheme());
    }
    Scheme::try_from(bytes).map_err(|_| no_scheme())
}

/// The host of a request, without the name of a user (8.3.1).
pub(super) fn authority(bytes: &[u8]) -> Result<Authority, Malformed> {
    let authority = Authority::try_from(bytes);
    let authority = authority.map_err(|_| Malformed(":authority is no authority (8.3.1)"))?;
    if authority.as_str().contains('@') {
        return Err(Malformed(":authority names a user (8.3.1)"));
    }
    Ok(authority)
}

/// The path of a request: it begins with `/`, or is `*` (8.3.1).
pub(super) fn path(bytes: &[u8]) -> Result<PathAndQuery, Malformed> {
    if bytes.first() != Some(&b'/') && bytes != b"*" {
        return Err(Malformed(":path does not begin with \"/\" (8.3.1)"));
    }
    if bytes.contains(&b'#') {
        return Err(Malformed(":path has a fragment (8.3.1)"));
    }
    PathAndQuery::try_from(bytes).map_err(|_| Malformed(":path is no path (8.3.1)"))
}
