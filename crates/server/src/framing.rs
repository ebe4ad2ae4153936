//! How gRPC frames messages: each stands behind a prefix that says whether it is compressed, and how long it is.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
//!
//! Does not: hold bytes, or judge the fields of a prefix.

pub(crate) use longlived_broker::PREFIX_BYTES;

/// The prefix of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// 0 for a plain message, 1 for a compressed one.
    pub(crate) flag: u8,
    /// Bytes of the message.
    pub(crate) length: u32,
}

impl Prefix {
    /// The prefix at the begin of `bytes`, and the rest; `None` when it has not come whole.
    pub(crate) fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (&[flag, length @ ..], rest) = bytes.split_first_chunk::<PREFIX_BYTES>()?;
        let length = u32::from_be_bytes(length);
        Some((Self { flag, length }, rest))
    }
}

/// Where in a sequence of messages a stream of bytes is.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    /// As much of a prefix as has come, where it came in parts.
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of the prefix that have come.
    prefix_len: usize,
    /// Bytes of the message that have not, once the prefix is whole.
    missing: usize,
    /// Bytes that have come, the prefix included.
    under_way: usize,
}

impl Framing {
    /// Whether a message ended in `data`, and how much has come of the one that has not.
    pub(crate) fn advance(&mut self, mut data: &[u8]) -> (bool, usize) {
        let mut ended = false;
        while !data.is_empty() {
            if self.prefix_len < PREFIX_BYTES {
                data = self.begin(data);
            }
            if self.prefix_len == PREFIX_BYTES {
                let taken = data.len().min(self.missing);
                data = &data[taken..];
                self.missing -= taken;
                self.under_way += taken;
                if self.missing == 0 {
                    ended = true;
                    *self = Self::default();
                }
            }
        }
        (ended, self.under_way)
    }

    /// Takes the part of the prefix that `data` has; returns the rest.
    fn begin<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        // Nearly always the prefix is there in one piece.
        if self.prefix_len == 0
            && let Some((prefix, rest)) = Prefix::read(data)
        {
            self.prefix_len = PREFIX_BYTES;
            self.missing = prefix.length as usize;
            self.under_way = PREFIX_BYTES;
            return rest;
        }
        let taken = data.len().min(PREFIX_BYTES - self.prefix_len);
        let (part, rest) = data.split_at(taken);
        self.prefix[self.prefix_len..][..taken].copy_from_slice(part);
        self.prefix_len += taken;
        self.under_way += taken;
        if self.prefix_len == PREFIX_BYTES {
            let whole = Prefix::read(&self.prefix);
            self.missing = whole.map_or(0, |(prefix, _)| prefix.length as usize);
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend((length as u32).to_be_bytes());
        bytes.resize(bytes.len() + length, 0xff);
        bytes
    }

    #[test]
    fn a_message_under_way_is_counted_with_its_prefix() {
        let mut framing = Framing::default();
        assert_eq!(framing.advance(&[0, 0, 0]), (false, 3));
        assert_eq!(framing.advance(&[0, 2, 7]), (false, 6));
        assert_eq!(framing.advance(&[7]), (true, 0));
        assert_eq!(framing.advance(&message(0)), (true, 0));
    }

    proptest! {
        #[test]
        fn messages_end_where_they_end_however_they_are_cut(
            lengths in prop::collection::vec(0_usize..400, 1..20),
            cuts in prop::collection::vec(1_usize..500, 1..40),
            last in 1_usize..5,
        ) {
            let mut bytes: Vec<u8> = lengths.iter().flat_map(|&length| message(length)).collect();
            bytes.extend(&message(9)[..last]);
            let mut framing = Framing::default();
            let mut rest = &bytes[..];
            let mut under_way = 0;
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at(cut.min(rest.len()));
                under_way = framing.advance(now).1;
                rest = later;
            }
            prop_assert_eq!(under_way, last);
        }
    }
}
