//! The header that a proxy sends before the bytes of its client: the PROXY protocol, versions 1 and 2 (proxy-protocol.txt of HAProxy).
//!
//! Holds: a function of the bytes alone, which says how many more certainly belong to the header, so that a reader takes none of what
//! follows it; it looks at [`BEGIN_BYTES_MAX`] bytes at most, and panics for none.
//! Does not: read TLVs, the fields of version 2 after the addresses; they are passed over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::ParseIntError;
use std::str::FromStr;

use crate::limits::PROXY_HEADER_BYTES_MAX;

/// The most bytes of a header that are looked at: a line of version 1, with its end. Of version 2 it is less.
pub const BEGIN_BYTES_MAX: usize = V1_BYTES_MAX;
/// The longest line of version 1, by the protocol: UNKNOWN with two IPv6 addresses.
const V1_BYTES_MAX: usize = 107;
/// `PROXY UNKNOWN` and the end of the line.
const V1_BYTES_MIN: usize = 15;
const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The part of version 2 before the addresses: what it begins with, version and command, family, length.
const V2_FIXED_BYTES: usize = 16;

/// What the bytes of a header say so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The header goes on with at least this many bytes.
    Unfinished(usize),
    /// All that is looked at is there.
    Read(Header),
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The client that the proxy names. `None` where it speaks for itself, or does not know the client, or the client has no address
    /// of TCP.
    pub client: Option<SocketAddr>,
    /// How long the header is. Of version 2 it may be longer than what was looked at.
    pub bytes: usize,
}

/// Why bytes are no header that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// They are something else.
    #[error("it does not begin with a PROXY header")]
    Missing,
    /// Of version 1.
    #[error("its PROXY line has no end within {V1_BYTES_MAX} bytes")]
    EndlessLine,
    /// Of version 1.
    #[error("the protocol of its PROXY line is not TCP4, TCP6 or UNKNOWN")]
    Protocol,
    /// Of version 1.
    #[error("its PROXY line does not have two addresses and two ports, each after one blank")]
    Fields,
    /// Of version 1.
    #[error("the {0} of its PROXY line is not an address of {1}")]
    Address(End, &'static str),
    /// Of version 1.
    #[error("the port of the {0} of its PROXY line is not a number from 0 to 65535")]
    Port(End),
    /// Of version 2.
    #[error("the version of its binary PROXY header is {0}, not 2")]
    Version(u8),
    /// Of version 2.
    #[error("the command of its PROXY header is {0}, not LOCAL (0) or PROXY (1)")]
    Command(u8),
    /// Of version 2.
    #[error("the family of its PROXY header is {0:#04x}, which the protocol does not know")]
    Family(u8),
    /// Of version 2.
    #[error("its PROXY header has {length} bytes of addresses; their family needs {needed}")]
    Short {
        /// As the header says.
        length: usize,
        /// For two of them.
        needed: usize,
    },
    /// Of version 2.
    #[error("its PROXY header has {0} bytes; at most {PROXY_HEADER_BYTES_MAX}")]
    Long(usize),
}

/// An end of the client's connection to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client.
    Source,
    /// Where the proxy listens.
    Destination,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Destination => "destination",
        })
    }
}

/// Whether a connection that begins so begins with a header; `None` when it is too early to tell.
pub fn begins(begin: &[u8]) -> Option<bool> {
    let mut of = [V1, V2].into_iter();
    if of.any(|it| begin.starts_with(it)) {
        return Some(true);
    }
    let possible = [V1, V2].iter().any(|it| it.starts_with(begin));
    (!possible).then_some(false)
}

/// Reads as much of a header as is there. What stands behind its end is not looked at.
pub fn read(begin: &[u8]) -> Result<Progress, HeaderError> {
    if begin.is_empty() {
        return Ok(Progress::Unfinished(V1_BYTES_MIN));
    }
    match begins(begin) {
        Some(false) => Err(HeaderError::Missing),
        _ if begin[0] == V1[0] => v1(begin),
        _ => v2(begin),
    }
}

fn v1(begin: &[u8]) -> Result<Progress, HeaderError> {
    let looked_at = &begin[..begin.len().min(V1_BYTES_MAX)];
    let end = looked_at.windows(2).position(|two| two == b"\r\n");
    if let Some(end) = end {
        let client = line(&begin[V1.len().min(end)..end])?;
        let bytes = end + 2;
        return Ok(Progress::Read(Header { client, bytes }));
    }
    let left = V1_BYTES_MAX - looked_at.len();
    if left == 0 {
        return Err(HeaderError::EndlessLine);
    }
    let end_bytes = if begin.ends_with(b"\r") { 1 } else { 2 };
    let more = V1_BYTES_MIN.saturating_sub(begin.len()).max(end_bytes);
    Ok(Progress::Unfinished(more.min(left)))
}

/// The client in a line, without its begin and its end.
fn line(line: &[u8]) -> Result<Option<SocketAddr>, HeaderError> {
    let mut words = line.split(|byte| *byte == b' ');
    match words.next() {
        Some(b"TCP4") => fields::<Ipv4Addr>(words, "IPv4"),
        Some(b"TCP6") => fields::<Ipv6Addr>(words, "IPv6"),
        // What else its line says is not to be looked at.
        Some(b"UNKNOWN") => Ok(None),
        _ => Err(HeaderError::Protocol),
    }
}

fn fields<'a, A: FromStr + Into<IpAddr>>(
    words: impl Iterator<Item = &'a [u8]>,
    family: &'static str,
) -> Result<Option<SocketAddr>, HeaderError> {
    let words: smallvec::SmallVec<[&[u8]; 4]> = words.take(5).collect();
    let &[source, destination, source_port, destination_port] = words.as_slice() else {
        return Err(HeaderError::Fields);
    };
    let address = |end, word| {
        let address: Option<A> = std::str::from_utf8(word)
            .ok()
            .and_then(|it| it.parse().ok());
        address.ok_or(HeaderError::Address(end, family))
    };
    let client = address(End::Source, source)?;
    address(End::Destination, destination)?;
    let client_port = port(source_port).ok_or(HeaderError::Port(End::Source))?;
    port(destination_port).ok_or(HeaderError::Port(End::Destination))?;
    Ok(Some(named(client.into(), client_port)))
}

/// In decimal digits, without zeros in front.
fn port(word: &[u8]) -> Option<u16> {
    let digits = word.iter().all(u8::is_ascii_digit);
    let plain = digits && (word == b"0" || !word.starts_with(b"0"));
    let parsed: Result<u16, ParseIntError> = std::str::from_utf8(word).ok()?.parse();
    parsed.ok().filter(|_| plain)
}

fn v2(begin: &[u8]) -> Result<Progress, HeaderError> {
    let Some((fixed, addresses)) = begin.split_at_checked(V2_FIXED_BYTES) else {
        return Ok(Progress::Unfinished(V2_FIXED_BYTES - begin.len()));
    };
    let [version_and_command, family, high, low] = [fixed[12], fixed[13], fixed[14], fixed[15]];
    let length = usize::from(u16::from_be_bytes([high, low]));
    let bytes = V2_FIXED_BYTES + length;
    let version = version_and_command >> 4;
    if version != 2 {
        return Err(HeaderError::Version(version));
    }
    if bytes > PROXY_HEADER_BYTES_MAX {
        return Err(HeaderError::Long(bytes));
    }
    match version_and_command & 0xf {
        // Nothing of the rest is to be looked at, the family included.
        0 => {
            return Ok(Progress::Read(Header {
                client: None,
                bytes,
            }));
        }
        1 => {}
        command => return Err(HeaderError::Command(command)),
    }
    // Two addresses, and the ports where there are any.
    let needed = match family {
        0x00 => 0,
        0x11 | 0x12 => 2 * 4 + 2 * 2,
        0x21 | 0x22 => 2 * 16 + 2 * 2,
        0x31 | 0x32 => 2 * 108,
        _ => return Err(HeaderError::Family(family)),
    };
    if length < needed {
        return Err(HeaderError::Short { length, needed });
    }
    // TCP alone: a client of a Unix socket or of UDP has no address that would mean something here.
    let client = match family {
        0x11 => source::<4>(addresses),
        0x21 => source::<16>(addresses),
        _ => {
            return Ok(Progress::Read(Header {
                client: None,
                bytes,
            }));
        }
    };
    Ok(match client {
        Some(_) => Progress::Read(Header { client, bytes }),
        None => Progress::Unfinished(needed - addresses.len()),
    })
}

/// The first of two addresses and of the two ports behind them; `None` if they are not all there.
fn source<const BYTES: usize>(addresses: &[u8]) -> Option<SocketAddr>
where
    [u8; BYTES]: Into<IpAddr>,
{
    let (source, rest) = addresses.split_first_chunk::<BYTES>()?;
    let (_, ports) = rest.split_first_chunk::<BYTES>()?;
    let [high, low, _, _] = *ports.first_chunk::<4>()?;
    Some(named((*source).into(), u16::from_be_bytes([high, low])))
}

/// A proxy that listens at `[::]` may name a client of IPv4 in the form of IPv6.
fn named(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
}

#[cfg(test)]
mod tests;
