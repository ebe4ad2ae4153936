//! The limit on the requests of probes. Their services know none, and reflection ends with OK when it cannot read one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::limits::PROBE_REQUEST_BYTES_MAX;

/// The bytes before a message of gRPC: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// The messages of a request, as far as their lengths.
#[derive(Default)]
pub(super) struct Messages {
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of it that have come.
    prefix_bytes: usize,
    /// Bytes of the message that are still to come.
    left: usize,
    exceeded: Exceeded,
}

/// Whether a message was over the limit.
#[derive(Clone, Debug, Default)]
pub(super) struct Exceeded(Arc<AtomicBool>);

impl Exceeded {
    pub(super) fn is_so(&self) -> bool {
        self.0.load(SeqCst)
    }
}

impl Messages {
    pub(super) fn new(exceeded: Exceeded) -> Self {
        Self {
            exceeded,
            ..Self::default()
        }
    }

    /// Looks at the next bytes; whether all messages that begin in them are within the limit.
    pub(super) fn are_within(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let missing = (PREFIX_BYTES - self.prefix_bytes).min(bytes.len());
            let (prefix, rest) = bytes.split_at(missing);
            self.prefix[self.prefix_bytes..][..missing].copy_from_slice(prefix);
            self.prefix_bytes += missing;
            bytes = rest;
            if self.prefix_bytes == PREFIX_BYTES {
                let [_, length @ ..] = self.prefix;
                self.left = u32::from_be_bytes(length) as usize;
                self.prefix_bytes = 0;
                if self.left > PROBE_REQUEST_BYTES_MAX {
                    self.exceeded.0.store(true, SeqCst);
                    return false;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use longlived_testkit::grpc::framed;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_message_over_the_limit_is_found_wherever_the_bytes_are_cut(
            lengths in prop::collection::vec(prop_oneof![Just(0), 0..20_usize, Just(PROBE_REQUEST_BYTES_MAX), Just(PROBE_REQUEST_BYTES_MAX + 1)], 0..6),
            cuts in prop::collection::vec(1..5_000_usize, 1..20),
        ) {
            let bytes: Vec<u8> = lengths.iter().flat_map(|length| framed(&vec![0xff; *length])).collect();
            let exceeded = Exceeded::default();
            let mut messages = Messages::new(exceeded.clone());
            let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
            let mut within = true;
            while within && !rest.is_empty() {
                let (part, after) = rest.split_at(rest.len().min(*cuts.next().unwrap_or(&1)));
                within = messages.are_within(part);
                rest = after;
            }
            prop_assert_eq!(within, lengths.iter().all(|length| *length <= PROBE_REQUEST_BYTES_MAX));
            prop_assert_eq!(exceeded.is_so(), !within);
        }
    }
}
