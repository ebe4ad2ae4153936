//! The limits on the requests of probes. Their services know none: reflection ends with OK when it cannot read a request, and answers two
//! more while nobody takes the first answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

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
    /// Read, and not handed on.
    waiting: Bytes,
}

/// Whether the requests of a call were over a limit.
#[derive(Clone, Debug, Default)]
pub(super) struct Exceeded(Arc<AtomicBool>);

impl Exceeded {
    pub(super) fn is_so(&self) -> bool {
        self.0.load(SeqCst)
    }

    pub(super) fn set(&self) {
        self.0.store(true, SeqCst);
    }
}

/// A message is larger than its limit, or those behind one that waits for its turn are.
#[derive(Debug)]
pub(super) struct TooLarge;

/// A part of the content of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) bytes: Bytes,
    /// A message ends with it.
    pub(super) is_end: bool,
}

impl Messages {
    /// Takes the content that comes next; the content before was handed on.
    pub(super) fn add(&mut self, content: Bytes) {
        self.waiting = content;
    }

    /// The next part: up to the end of a message, or all there is. `None` if there is nothing.
    pub(super) fn part(&mut self) -> Result<Option<Part>, TooLarge> {
        if self.waiting.is_empty() {
            return Ok(None);
        }
        let (mut seen, mut is_end) = (0, false);
        if self.left == 0 {
            seen = (PREFIX_BYTES - self.prefix_bytes).min(self.waiting.len());
            self.prefix[self.prefix_bytes..][..seen].copy_from_slice(&self.waiting[..seen]);
            self.prefix_bytes += seen;
            if self.prefix_bytes == PREFIX_BYTES {
                let [_, length @ ..] = self.prefix;
                self.prefix_bytes = 0;
                self.left = u32::from_be_bytes(length) as usize;
                if self.left > PROBE_REQUEST_BYTES_MAX {
                    return Err(TooLarge);
                }
                is_end = self.left == 0;
            }
        }
        if self.left > 0 {
            let taken = self.left.min(self.waiting.len() - seen);
            self.left -= taken;
            seen += taken;
            is_end = self.left == 0;
        }
        let all = seen == self.waiting.len();
        let bytes = if all {
            std::mem::take(&mut self.waiting)
        } else {
            self.waiting.split_to(seen)
        };
        if self.waiting.len() > PROBE_REQUEST_BYTES_MAX {
            return Err(TooLarge);
        }
        Ok(Some(Part { bytes, is_end }))
    }

    /// What is not handed on now shares no memory with what was read.
    pub(super) fn waits(&mut self) {
        if !self.waiting.is_empty() {
            self.waiting = Bytes::copy_from_slice(&self.waiting);
        }
    }
}

/// Gives a service its next request when there is a reader for the answer.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Semaphore>);

/// The reader of the answers. Dropped, it asks for none any more.
#[derive(Debug)]
pub(super) struct Reader(Turns);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
}

impl Turns {
    /// Returns when an answer is asked for; false when none will be.
    pub(super) async fn next(&self) -> bool {
        let turn = self.0.acquire().await.map(SemaphorePermit::forget);
        turn.is_ok()
    }
}

impl Reader {
    /// Of the answers to these requests.
    pub(super) fn of(turns: Turns) -> Self {
        Self(turns)
    }

    /// Asks for an answer.
    pub(super) fn ask(&self) {
        let Turns(turns) = &self.0;
        if turns.available_permits() == 0 {
            turns.add_permits(1);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let Turns(turns) = &self.0;
        turns.close();
    }
}

#[cfg(test)]
mod tests {
    use longlived_testkit::grpc::framed;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_come_one_by_one_up_to_the_first_over_the_limit_wherever_the_bytes_are_cut(
            lengths in prop::collection::vec(prop_oneof![Just(0), 0..20_usize, Just(PROBE_REQUEST_BYTES_MAX), Just(PROBE_REQUEST_BYTES_MAX + 1)], 0..6),
            cuts in prop::collection::vec(1..4_000_usize, 1..20),
        ) {
            let each: Vec<_> = lengths.iter().map(|length| framed(&vec![0xff; *length])).collect();
            let bytes = Bytes::from(each.concat());
            let mut messages = Messages::default();
            let (mut rest, mut cuts) = (bytes, cuts.iter().cycle());
            let (mut read, mut last, mut exceeded) = (Vec::new(), Vec::new(), false);
            while !exceeded && !rest.is_empty() {
                let cut = rest.len().min(*cuts.next().unwrap_or(&1));
                messages.add(rest.split_to(cut));
                loop {
                    match messages.part() {
                        Ok(None) => break,
                        Ok(Some(Part { bytes, is_end })) => {
                            last.extend_from_slice(&bytes);
                            if is_end {
                                read.push(std::mem::take(&mut last));
                            }
                            messages.waits();
                        }
                        Err(TooLarge) => {
                            exceeded = true;
                            break;
                        }
                    }
                }
            }
            let within = lengths.iter().take_while(|length| **length <= PROBE_REQUEST_BYTES_MAX).count();
            prop_assert_eq!(exceeded, within < lengths.len());
            prop_assert_eq!(read.len(), within);
            for (read, sent) in read.iter().zip(&each) {
                prop_assert_eq!(&read[..], &sent[..]);
            }
        }
    }

    #[test]
    fn no_more_may_wait_behind_a_message_than_one_may_have() {
        let one = framed(&[1, 2, 3]);
        let waiting = vec![0; PROBE_REQUEST_BYTES_MAX];
        let mut messages = Messages::default();
        messages.add([&one[..], &waiting].concat().into());
        let part = messages.part().expect("within the limit");
        assert!(part.expect("a message").is_end);
        messages.add([&one[..], &waiting, &[0]].concat().into());
        messages.part().expect_err("too much waits");
    }
}
