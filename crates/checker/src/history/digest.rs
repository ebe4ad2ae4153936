//! The digest by which a delivered event is known to be the message that was published.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Digest of a message's content; in a history 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub u64);

/// The digest of a message's payload, key, headers (in any order) and whether it deletes. The same in every process and
/// on every machine.
pub fn digest<'a>(
    payload: &[u8],
    key: &str,
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    deleted: bool,
) -> Digest {
    let mut whole = Fnv::new();
    whole.part(payload);
    whole.part(key.as_bytes());
    // A sum, because headers are a map and have no order.
    let headers = headers.into_iter().map(|(name, value)| {
        let mut header = Fnv::new();
        header.part(name.as_bytes());
        header.part(value.as_bytes());
        header.end()
    });
    let headers = headers.fold(0u64, u64::wrapping_add);
    whole.part(&headers.to_le_bytes());
    whole.part(&[u8::from(deleted)]);
    Digest(whole.end())
}

/// FNV-1a, finished with a mix so that near contents do not get near digests.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// One part and its length, so that no two lists of parts read the same.
    fn part(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().chain(&(bytes.len() as u64).to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn end(self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hex;
        impl serde::de::Visitor<'_> for Hex {
            type Value = Digest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a digest of 16 hexadecimal digits")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Digest, E> {
                let plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                let number = u64::from_str_radix(text, 16).ok().filter(|_| plain);
                let wrong = || E::custom(format!("`{text}` is not 16 hexadecimal digits"));
                number.map(Digest).ok_or_else(wrong)
            }
        }
        deserializer.deserialize_str(Hex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_counts_and_the_order_of_headers_does_not() {
        let base = digest(b"p", "k", [("a", "1"), ("b", "2")], false);
        assert_eq!(base, digest(b"p", "k", [("b", "2"), ("a", "1")], false));
        let others = [
            digest(b"q", "k", [("a", "1"), ("b", "2")], false),
            digest(b"p", "l", [("a", "1"), ("b", "2")], false),
            digest(b"p", "k", [("a", "2"), ("b", "1")], false),
            digest(b"p", "k", [("a", "1")], false),
            digest(b"p", "k", [("a", "1"), ("b", "2")], true),
            digest(b"pk", "", [("a", "1"), ("b", "2")], false),
        ];
        for other in others {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn it_is_the_same_in_every_build() {
        assert_eq!(
            digest(b"hello", "", [], false).to_string(),
            "014c9d1993cf0747"
        );
    }
}
