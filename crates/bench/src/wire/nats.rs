//! The client protocol of NATS: CONNECT, SUB, PUB and PING out, MSG and others in.
//!
//! Holds: the split of the bytes over reads changes nothing that is reported.
//! Does not: know headers (HMSG), which are not asked for.

use std::io::Write as _;

use super::line::{Line, Stamp, number};
use super::payload;

/// Not verbose: nothing is acknowledged one by one.
const CONNECT: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\"lang\":\"rust\",\
    \"version\":\"0\",\"protocol\":1,\"echo\":true,\"headers\":false}\r\n";
pub(crate) const PING: &[u8] = b"PING\r\n";
pub(crate) const PONG: &[u8] = b"PONG\r\n";

/// A message of the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// A message to one of this connection's subscriptions and when it was sent, where its payload is long
    /// enough to say that.
    Message {
        subscription: u32,
        sent_ns: Option<u64>,
    },
    /// To be answered with [`PONG`].
    Ping,
    /// All that was sent before our PING was handled.
    Pong,
    /// A refusal, in the server's words.
    Error(&'a [u8]),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the answer is not the protocol of NATS")]
pub(crate) struct NotNats;

/// Per connection; survives between reads.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    line: Line,
    message: Message,
}

/// The message whose payload is arriving.
#[derive(Debug, Clone, Copy, Default)]
struct Message {
    subscription: u32,
    stamp: Stamp,
    payload_left: usize,
    /// Bytes of its end that are still to come; 0 when there is no message.
    end_left: usize,
}

impl Reader {
    pub(crate) fn read(
        &mut self,
        mut bytes: &[u8],
        heard: &mut impl FnMut(Heard<'_>),
    ) -> Result<(), NotNats> {
        while !bytes.is_empty() {
            if self.message.end_left > 0 {
                bytes = self.message.read(bytes, heard);
                continue;
            }
            let (line, rest) = self.line.next(bytes);
            bytes = rest;
            match line {
                Some(line @ [b'M', ..]) => self.message = Message::begin(line).ok_or(NotNats)?,
                Some(line) => read_other(line, heard)?,
                None => {}
            }
        }
        Ok(())
    }
}

impl Message {
    /// `MSG <subject> <subscription> [reply] <bytes>`.
    fn begin(line: &[u8]) -> Option<Self> {
        let mut words = line.strip_prefix(b"MSG ")?.split(|byte| *byte == b' ');
        let (_subject, subscription, last) = (words.next()?, words.next()?, words.next()?);
        let bytes = words.next().unwrap_or(last);
        Some(Self {
            subscription: u32::try_from(number(subscription)?).ok()?,
            stamp: Stamp::default(),
            payload_left: usize::try_from(number(bytes)?).ok()?,
            end_left: 2,
        })
    }

    fn read<'a>(&mut self, bytes: &'a [u8], heard: &mut impl FnMut(Heard<'_>)) -> &'a [u8] {
        let (payload, rest) = bytes.split_at(self.payload_left.min(bytes.len()));
        self.payload_left -= payload.len();
        self.stamp.take(payload);
        let end = self.end_left.min(rest.len());
        self.end_left -= end;
        if self.end_left == 0 {
            heard(Heard::Message {
                subscription: self.subscription,
                sent_ns: self.stamp.get(),
            });
        }
        &rest[end..]
    }
}

fn read_other(line: &[u8], heard: &mut impl FnMut(Heard<'_>)) -> Result<(), NotNats> {
    let word = line.split(|byte| *byte == b' ').next().unwrap_or(line);
    match word {
        b"PING" => heard(Heard::Ping),
        b"PONG" => heard(Heard::Pong),
        b"-ERR" => heard(Heard::Error(line[word.len()..].trim_ascii())),
        b"INFO" | b"+OK" => {}
        _ => return Err(NotNats),
    }
    Ok(())
}

/// The opening of a connection.
pub(crate) fn connect(out: &mut Vec<u8>) {
    out.extend_from_slice(CONNECT);
}

pub(crate) fn subscribe(out: &mut Vec<u8>, subject: &str, subscription: u32) {
    write!(out, "SUB {subject} {subscription}\r\n").expect("a Vec grows");
}

pub(crate) fn publish(out: &mut Vec<u8>, subject: &str, sent_ns: u64, payload_bytes: usize) {
    write!(out, "PUB {subject} {payload_bytes}\r\n").expect("a Vec grows");
    payload(out, sent_ns, payload_bytes);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::splits::{assert_heard, cuts, stamp_of};

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Said {
        Message(String, u32, Option<String>, Vec<u8>),
        Ping,
        Pong,
        Error(String),
        /// Heard as nothing, and longer than a line that is kept.
        Info(usize),
        Ok,
    }

    fn said() -> impl Strategy<Value = Said> {
        let subject = "[a-z]{1,20}(\\.[a-z0-9-]{1,20}){0,2}";
        let byte = prop_oneof![
            any::<u8>(),
            Just(b'\r'),
            Just(b'\n'),
            Just(b'M'),
            Just(b' ')
        ];
        let message = (
            subject,
            any::<u32>(),
            proptest::option::of(subject),
            vec(byte, 0..300),
        );
        prop_oneof![
            4 => message.prop_map(|(subject, subscription, reply, payload)|
                Said::Message(subject, subscription, reply, payload)),
            1 => Just(Said::Ping),
            1 => Just(Said::Pong),
            1 => "[A-Z][A-Za-z]{0,40}".prop_map(Said::Error),
            1 => (0..2_000_usize).prop_map(Said::Info),
            1 => Just(Said::Ok),
        ]
    }

    fn write(out: &mut Vec<u8>, said: &Said) {
        match said {
            Said::Message(subject, subscription, reply, payload) => {
                write!(out, "MSG {subject} {subscription} ").unwrap();
                if let Some(reply) = reply {
                    write!(out, "{reply} ").unwrap();
                }
                write!(out, "{}\r\n", payload.len()).unwrap();
                out.extend_from_slice(payload);
                out.extend_from_slice(b"\r\n");
            }
            Said::Ping => out.extend_from_slice(PING),
            Said::Pong => out.extend_from_slice(PONG),
            Said::Error(text) => write!(out, "-ERR '{text}'\r\n").unwrap(),
            Said::Info(length) => {
                write!(out, "INFO {{\"x\":\"{}\"}} \r\n", "y".repeat(*length)).unwrap();
            }
            Said::Ok => out.extend_from_slice(b"+OK\r\n"),
        }
    }

    fn expected(said: &Said) -> Option<String> {
        match said {
            Said::Message(_, subscription, _, payload) => {
                Some(format!("message {subscription} {}", stamp_of(payload)))
            }
            Said::Ping => Some("ping".to_owned()),
            Said::Pong => Some("pong".to_owned()),
            Said::Error(text) => Some(format!("error '{text}'")),
            Said::Info(_) | Said::Ok => None,
        }
    }

    fn in_words(heard: &Heard<'_>) -> String {
        match heard {
            Heard::Message {
                subscription,
                sent_ns,
            } => format!("message {subscription} {sent_ns:?}"),
            Heard::Ping => "ping".to_owned(),
            Heard::Pong => "pong".to_owned(),
            Heard::Error(words) => format!("error {}", String::from_utf8_lossy(words)),
        }
    }

    fn heard(pieces: &[&[u8]]) -> Result<Vec<String>, NotNats> {
        let mut reader = Reader::default();
        let mut all = Vec::new();
        for piece in pieces {
            reader.read(piece, &mut |heard| all.push(in_words(&heard)))?;
        }
        Ok(all)
    }

    proptest! {
        #[test]
        fn messages_of_a_server_are_read_with_any_split(
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
        assert_eq!(heard(&[b"*3\r\n"]), Err(NotNats));
        assert_eq!(heard(&[b"MSG a 1\r\n"]), Err(NotNats));
    }

    #[test]
    fn commands_are_lines() {
        let mut out = Vec::new();
        subscribe(&mut out, "a.b", 7);
        publish(&mut out, "a.b", u64::from_le_bytes(*b"01234567"), 10);
        assert_eq!(out, b"SUB a.b 7\r\nPUB a.b 10\r\n01234567..\r\n");
    }
}
