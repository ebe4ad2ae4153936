//! RESP2, the protocol of Redis: SUBSCRIBE and PUBLISH out, their answers in.
//!
//! Holds: the split of the bytes over reads changes nothing that is reported.
//! Does not: read arrays within arrays, which neither answer has.

use std::io::Write as _;

use super::line::{Line, Stamp, number};
use super::payload;

/// Of a channel's name so much is kept; the load's own are far shorter.
const CHANNEL_BYTES_MAX: usize = 128;

/// A message of the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// A message and when it was sent, where its payload is long enough to say that.
    Message {
        channel: &'a [u8],
        sent_ns: Option<u64>,
    },
    /// The subscription to one channel stands.
    Subscribed { channel: &'a [u8] },
    /// A number by itself: the receivers of a PUBLISH.
    Number(i64),
    /// A refusal, in the server's words.
    Error(&'a [u8]),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the answer is not RESP2")]
pub(crate) struct NotResp;

/// Per connection; survives between reads.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    line: Line,
    reply: Reply,
}

/// The reply whose bytes are arriving.
#[derive(Debug, Default)]
struct Reply {
    items: i64,
    item: i64,
    bulk: Bulk,
    /// Known from the first letter of the first item.
    kind: Option<Kind>,
    channel: Vec<u8>,
    stamp: Stamp,
}

/// The string whose bytes are arriving.
#[derive(Debug, Clone, Copy, Default)]
struct Bulk {
    /// Still to come.
    content_left: usize,
    /// Bytes of its end that are still to come; 0 when there is no string.
    end_left: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Message,
    Subscribed,
    Other,
}

impl Reader {
    pub(crate) fn read(
        &mut self,
        mut bytes: &[u8],
        heard: &mut impl FnMut(Heard<'_>),
    ) -> Result<(), NotResp> {
        while !bytes.is_empty() {
            if self.reply.bulk.end_left > 0 {
                bytes = self.reply.read_bulk(bytes, heard);
                continue;
            }
            let (line, rest) = self.line.next(bytes);
            bytes = rest;
            if let Some(line) = line {
                self.reply.read_line(line, heard)?;
            }
        }
        Ok(())
    }
}

impl Reply {
    fn read_line(&mut self, line: &[u8], heard: &mut impl FnMut(Heard<'_>)) -> Result<(), NotResp> {
        let (kind, rest) = line.split_first().ok_or(NotResp)?;
        let inside = self.item < self.items;
        match kind {
            b'*' if !inside => {
                self.items = number(rest).ok_or(NotResp)?;
                self.item = 0;
                self.kind = None;
                self.channel.clear();
                self.stamp = Stamp::default();
            }
            b'$' => match usize::try_from(number(rest).ok_or(NotResp)?) {
                Ok(content_left) => {
                    self.bulk = Bulk {
                        content_left,
                        end_left: 2,
                    }
                }
                // A string that does not exist has a negative length and no content.
                Err(_) => self.finish_item(heard),
            },
            b':' | b'+' if inside => self.finish_item(heard),
            b':' => heard(Heard::Number(number(rest).ok_or(NotResp)?)),
            b'+' => {}
            b'-' => {
                heard(Heard::Error(rest));
                self.finish_item(heard);
            }
            _ => return Err(NotResp),
        }
        Ok(())
    }

    fn read_bulk<'a>(&mut self, bytes: &'a [u8], heard: &mut impl FnMut(Heard<'_>)) -> &'a [u8] {
        let (content, rest) = bytes.split_at(self.bulk.content_left.min(bytes.len()));
        self.bulk.content_left -= content.len();
        match self.item {
            0 if self.kind.is_none() => {
                self.kind = content.first().map(|first| match first {
                    b'm' => Kind::Message,
                    b's' => Kind::Subscribed,
                    _ => Kind::Other,
                });
            }
            1 => {
                let free = CHANNEL_BYTES_MAX - self.channel.len();
                self.channel
                    .extend_from_slice(&content[..free.min(content.len())]);
            }
            2 => self.stamp.take(content),
            _ => {}
        }
        let end = self.bulk.end_left.min(rest.len());
        self.bulk.end_left -= end;
        if self.bulk.end_left == 0 {
            self.finish_item(heard);
        }
        &rest[end..]
    }

    fn finish_item(&mut self, heard: &mut impl FnMut(Heard<'_>)) {
        if self.item >= self.items {
            return;
        }
        self.item += 1;
        if self.item < self.items {
            return;
        }
        let channel = &self.channel;
        match self.kind {
            Some(Kind::Message) => heard(Heard::Message {
                channel,
                sent_ns: self.stamp.get(),
            }),
            Some(Kind::Subscribed) => heard(Heard::Subscribed { channel }),
            Some(Kind::Other) | None => {}
        }
    }
}

/// One command for all channels.
pub(crate) fn subscribe(out: &mut Vec<u8>, channels: impl ExactSizeIterator<Item = String>) {
    array(out, channels.len() + 1);
    bulk(out, b"SUBSCRIBE");
    for channel in channels {
        bulk(out, channel.as_bytes());
    }
}

pub(crate) fn publish(out: &mut Vec<u8>, channel: &str, sent_ns: u64, payload_bytes: usize) {
    array(out, 3);
    bulk(out, b"PUBLISH");
    bulk(out, channel.as_bytes());
    length(out, b'$', payload_bytes);
    payload(out, sent_ns, payload_bytes);
    out.extend_from_slice(b"\r\n");
}

fn array(out: &mut Vec<u8>, items: usize) {
    length(out, b'*', items);
}

fn bulk(out: &mut Vec<u8>, content: &[u8]) {
    length(out, b'$', content.len());
    out.extend_from_slice(content);
    out.extend_from_slice(b"\r\n");
}

fn length(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    write!(out, "{length}\r\n").expect("a Vec grows");
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::splits::{assert_heard, cuts, stamp_of};

    /// The messages of a server.
    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Said {
        Message(String, Vec<u8>),
        Subscribed(String),
        Number(i64),
        Error(String),
        /// Heard as nothing, like those below.
        Unsubscribed(String),
        Ok,
        Pong,
    }

    fn said() -> impl Strategy<Value = Said> {
        let name = "[a-z.-]{0,40}";
        // Payloads may look like the protocol.
        let byte = prop_oneof![
            any::<u8>(),
            Just(b'\r'),
            Just(b'\n'),
            Just(b'$'),
            Just(b'3')
        ];
        prop_oneof![
            4 => (name, vec(byte, 0..300)).prop_map(|(name, payload)| Said::Message(name, payload)),
            2 => name.prop_map(Said::Subscribed),
            1 => any::<i64>().prop_map(Said::Number),
            1 => "[A-Za-z ]{0,60}".prop_map(Said::Error),
            1 => name.prop_map(Said::Unsubscribed),
            1 => Just(Said::Ok),
            1 => Just(Said::Pong),
        ]
    }

    fn write(out: &mut Vec<u8>, said: &Said) {
        match said {
            Said::Message(channel, payload) => {
                array(out, 3);
                bulk(out, b"message");
                bulk(out, channel.as_bytes());
                bulk(out, payload);
            }
            Said::Subscribed(channel) => {
                array(out, 3);
                bulk(out, b"subscribe");
                bulk(out, channel.as_bytes());
                out.extend_from_slice(b":1\r\n");
            }
            Said::Unsubscribed(channel) => {
                array(out, 3);
                bulk(out, b"unsubscribe");
                bulk(out, channel.as_bytes());
                out.extend_from_slice(b":0\r\n");
            }
            Said::Number(number) => write!(out, ":{number}\r\n").unwrap(),
            Said::Error(text) => write!(out, "-{text}\r\n").unwrap(),
            Said::Ok => out.extend_from_slice(b"+OK\r\n"),
            Said::Pong => {
                array(out, 2);
                bulk(out, b"pong");
                out.extend_from_slice(b"$-1\r\n");
            }
        }
    }

    /// The same as they must be read, in a form that outlives the reader's buffers.
    fn expected(said: &Said) -> Option<String> {
        match said {
            Said::Message(channel, payload) => {
                Some(format!("message {channel} {}", stamp_of(payload)))
            }
            Said::Subscribed(channel) => Some(format!("subscribed {channel}")),
            Said::Number(number) => Some(format!("number {number}")),
            Said::Error(text) => Some(format!("error {text}")),
            Said::Unsubscribed(_) | Said::Ok | Said::Pong => None,
        }
    }

    fn in_words(heard: &Heard<'_>) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match heard {
            Heard::Message { channel, sent_ns } => {
                format!("message {} {sent_ns:?}", text(channel))
            }
            Heard::Subscribed { channel } => format!("subscribed {}", text(channel)),
            Heard::Number(number) => format!("number {number}"),
            Heard::Error(words) => format!("error {}", text(words)),
        }
    }

    fn heard(pieces: &[&[u8]]) -> Result<Vec<String>, NotResp> {
        let mut reader = Reader::default();
        let mut all = Vec::new();
        for piece in pieces {
            reader.read(piece, &mut |heard| all.push(in_words(&heard)))?;
        }
        Ok(all)
    }

    proptest! {
        #[test]
        fn replies_are_heard_however_they_are_split(
            said in vec(said(), 0..12),
            cuts in cuts(),
        ) {
            let mut bytes = Vec::new();
            for said in &said {
                write(&mut bytes, said);
            }
            let expected: Vec<_> = said.iter().filter_map(expected).collect();
            assert_heard(&bytes, &cuts, &expected, heard);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(pieces in vec(vec(any::<u8>(), 0..50), 0..10)) {
            let pieces: Vec<_> = pieces.iter().map(Vec::as_slice).collect();
            let _ = heard(&pieces);
        }
    }

    #[test]
    fn another_protocol_is_recognised() {
        assert_eq!(heard(&[b"HTTP/1.1 400 Bad Request\r\n"]), Err(NotResp));
    }

    #[test]
    fn commands_are_arrays_of_strings() {
        let mut out = Vec::new();
        subscribe(&mut out, ["a".to_owned(), "bc".to_owned()].into_iter());
        assert_eq!(out, b"*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n$2\r\nbc\r\n");
        let mut out = Vec::new();
        publish(&mut out, "bc", u64::from_le_bytes(*b"01234567"), 10);
        assert_eq!(
            out,
            b"*3\r\n$7\r\nPUBLISH\r\n$2\r\nbc\r\n$10\r\n01234567..\r\n"
        );
    }
}
