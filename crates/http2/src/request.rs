//! The head of a request, and its trailers, built from the fields of a header block (RFC 9113, 8.1 to 8.5).

mod fields;
mod held;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri, Version, header};

use self::fields::{Malformed, Name};
use crate::hpack::Field;

/// What a field costs beyond its name and value (10.5.1).
const FIELD_BYTES: usize = 32;

/// The longest name of a field. To make a name of octets and to find it in a map takes some 60 instructions an octet.
const NAME_BYTES_MAX: usize = 512;

/// The longest value of a pseudo-header field. A path should have 8,000 octets at least (RFC 9110, 4.1).
const PSEUDO_BYTES_MAX: usize = 8_192;

/// The fields of one header block, as they come.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says a thing of its own"
)]
pub(crate) struct Head {
    list_bytes: usize,
    list_bytes_max: usize,
    /// Of the names and values that are kept.
    text_bytes: usize,
    malformed: Option<&'static str>,
    regular_seen: bool,
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    content_length: Option<u64>,
    /// `content-type` begins with `application/grpc`.
    pub(crate) grpc: bool,
    /// `:method` is HEAD.
    pub(crate) is_head_request: bool,
    fields: HeaderMap,
    /// The `cookie` fields, joined.
    cookies: Vec<u8>,
    trailers: bool,
}

/// A whole head.
pub(crate) struct RequestHead {
    pub(crate) request: Request<()>,
    pub(crate) content_length: Option<u64>,
}

/// Why there is no head at the end of a block.
pub(crate) enum NoHead {
    /// The request is malformed (8.1.1).
    Malformed(&'static str),
    /// The list is over its limit.
    TooLarge,
}

impl Head {
    pub(crate) fn request(list_bytes_max: u32) -> Self {
        Self {
            list_bytes: 0,
            list_bytes_max: list_bytes_max as usize,
            text_bytes: 0,
            malformed: None,
            regular_seen: false,
            method: None,
            scheme: None,
            authority: None,
            path: None,
            content_length: None,
            grpc: false,
            is_head_request: false,
            fields: HeaderMap::new(),
            cookies: Vec::new(),
            trailers: false,
        }
    }

    pub(crate) fn trailers(list_bytes_max: u32) -> Self {
        Self {
            trailers: true,
            ..Self::request(list_bytes_max)
        }
    }

    fn is_too_large(&self) -> bool {
        self.list_bytes > self.list_bytes_max
    }

    /// Bytes of heap that its fields hold.
    pub(crate) fn held_bytes(&self) -> usize {
        held::map_bytes(&self.fields) + self.text_bytes
    }

    /// Takes the next field. What came of a list that is over its limit is dropped, and the rest of it is only counted.
    pub(crate) fn field(&mut self, field: Field<'_>) {
        let size = field.name.len() + field.value.len() + FIELD_BYTES;
        let was_too_large = self.is_too_large();
        self.list_bytes = self.list_bytes.saturating_add(size);
        let is_pseudo = field.name.first() == Some(&b':');
        if field.name.len() > NAME_BYTES_MAX || is_pseudo && field.value.len() > PSEUDO_BYTES_MAX {
            self.list_bytes = self.list_bytes.max(self.list_bytes_max + 1);
        }
        if self.is_too_large() {
            if !was_too_large {
                self.fields = HeaderMap::new();
                self.cookies = Vec::new();
                self.text_bytes = 0;
            }
            if field.name == header::CONTENT_TYPE.as_str().as_bytes() {
                self.grpc = is_grpc(field.value);
            } else if field.name == b":method" {
                self.is_head_request = field.value == Method::HEAD.as_str().as_bytes();
            }
            return;
        }
        if self.malformed.is_none()
            && let Err(Malformed(reason)) = self.take(field)
        {
            self.malformed = Some(reason);
        }
    }

    fn take(&mut self, field: Field<'_>) -> Result<(), Malformed> {
        if field.name.first() == Some(&b':') {
            self.text_bytes += field.value.len();
            return self.pseudo(field);
        }
        self.regular_seen = true;
        let (name, value) = (fields::name(field.name)?, fields::value(field.value)?);
        let name = match name {
            Name::Connection => {
                return Err(Malformed("a field of a connection, as in HTTP/1.1 (8.2.2)"));
            }
            Name::Te if !value.as_bytes().eq_ignore_ascii_case(b"trailers") => {
                return Err(Malformed("te is not \"trailers\" (8.2.2)"));
            }
            Name::Te => header::TE,
            Name::Field(name) => name,
        };
        if !self.trailers {
            if name == header::CONTENT_LENGTH {
                let length = fields::content_length(field.value)?;
                if self
                    .content_length
                    .replace(length)
                    .is_some_and(|was| was != length)
                {
                    return Err(Malformed("two values of content-length (8.1.1)"));
                }
                if self.fields.contains_key(&name) {
                    return Ok(());
                }
            } else if name == header::CONTENT_TYPE {
                self.grpc = is_grpc(field.value);
            } else if name == header::COOKIE {
                // One string, in the order of the fields (8.2.3).
                if !self.cookies.is_empty() {
                    self.cookies.extend_from_slice(b"; ");
                }
                self.cookies.extend_from_slice(value.as_bytes());
                self.text_bytes += value.len();
                return Ok(());
            }
        }
        let repeated = (self.fields.try_append(name, value))
            .map_err(|_| Malformed("more fields than a map of them takes"))?;
        // A map keeps a name once.
        let name_bytes = if repeated { 0 } else { field.name.len() };
        self.text_bytes += name_bytes + field.value.len();
        Ok(())
    }

    /// A pseudo-header field (8.3.1).
    fn pseudo(&mut self, field: Field<'_>) -> Result<(), Malformed> {
        if self.trailers {
            return Err(Malformed("a pseudo-header field in trailers (8.1)"));
        }
        if self.regular_seen {
            return Err(Malformed("a pseudo-header field after a field (8.3)"));
        }
        let twice = match field.name {
            b":method" => {
                let method = Method::from_bytes(field.value);
                let method = method.map_err(|_| Malformed(":method is no method (8.3.1)"))?;
                self.is_head_request = method == Method::HEAD;
                self.method.replace(method).is_some()
            }
            b":scheme" => {
                let scheme = fields::scheme(field.value)?;
                self.scheme.replace(scheme).is_some()
            }
            b":authority" => {
                let authority = fields::authority(field.value)?;
                self.authority.replace(authority).is_some()
            }
            b":path" => {
                let path = fields::path(field.value)?;
                self.path.replace(path).is_some()
            }
            _ => return Err(Malformed("an unknown pseudo-header field (8.3)")),
        };
        if twice {
            return Err(Malformed("a pseudo-header field twice (8.3)"));
        }
        Ok(())
    }

    /// The trailers, at the end of their block.
    pub(crate) fn into_trailers(self) -> Result<HeaderMap, NoHead> {
        if self.is_too_large() {
            return Err(NoHead::TooLarge);
        }
        match self.malformed {
            Some(reason) => Err(NoHead::Malformed(reason)),
            None => Ok(self.fields),
        }
    }

    /// The request, at the end of its block.
    pub(crate) fn into_request(self) -> Result<RequestHead, NoHead> {
        if self.is_too_large() {
            return Err(NoHead::TooLarge);
        }
        if let Some(reason) = self.malformed {
            return Err(NoHead::Malformed(reason));
        }
        let content_length = self.content_length;
        let request = self
            .build()
            .map_err(|Malformed(reason)| NoHead::Malformed(reason))?;
        Ok(RequestHead {
            request,
            content_length,
        })
    }

    fn build(mut self) -> Result<Request<()>, Malformed> {
        if !self.cookies.is_empty() {
            let cookies = fields::value(&self.cookies)?;
            self.fields.insert(header::COOKIE, cookies);
        }
        let method = self.method.ok_or(Malformed("no :method (8.3.1)"))?;
        let mut hosts = self.fields.get_all(header::HOST).iter();
        let host = hosts.next().map(http::HeaderValue::as_bytes);
        if hosts.next().is_some() {
            return Err(Malformed("host twice (RFC 9110, 7.2)"));
        }
        if let (Some(authority), Some(host)) = (&self.authority, host)
            && !authority.as_str().as_bytes().eq_ignore_ascii_case(host)
        {
            return Err(Malformed("host is not :authority (8.3.1)"));
        }
        let mut uri = http::uri::Parts::default();
        if method == Method::CONNECT {
            if self.scheme.is_some() || self.path.is_some() {
                return Err(Malformed("CONNECT with :scheme or :path (8.5)"));
            }
            let authority = self
                .authority
                .ok_or(Malformed("CONNECT without :authority (8.5)"))?;
            uri.authority = Some(authority);
        } else {
            let scheme = self.scheme.ok_or(Malformed("no :scheme (8.3.1)"))?;
            let path = self.path.ok_or(Malformed("no :path (8.3.1)"))?;
            if path.as_str() == "*" && method != Method::OPTIONS {
                return Err(Malformed(
                    ":path is \"*\" and :method is not OPTIONS (8.3.1)",
                ));
            }
            // A URI with a scheme has an authority; without one it is a path, as in HTTP/1.1.
            if let Some(authority) = self.authority {
                uri.scheme = Some(scheme);
                uri.authority = Some(authority);
            }
            uri.path_and_query = Some(path);
        }
        let uri = Uri::from_parts(uri).map_err(|_| Malformed("its parts are no URI (8.3.1)"))?;
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.fields;
        Ok(request)
    }
}

fn is_grpc(content_type: &[u8]) -> bool {
    content_type.starts_with(b"application/grpc")
}
