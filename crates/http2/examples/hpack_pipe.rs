//! Decodes the header blocks that a program writes to standard input: docs/TESTING.md, "Header compression in step".
//!
//! All numbers are 32 bits, big-endian. A request is its length and the blocks of one connection, whose table begins with a
//! limit of 4,096. Each part of it begins with one octet:
//!
//!     l NUMBER                    this limit holds from now on
//!     b NUMBER LENGTH OCTETS      a block, whose first fragment ends after NUMBER octets
//!     t                           what is in the table
//!
//! An answer is its length and the answers to `b` and `t`, in their order:
//!
//!     f NUMBER FIELDS             a block's fields, each with an octet that is 1 if it must never be indexed
//!     e LENGTH NAME               the error that ends the connection; what follows in the request has no answer
//!     t SIZE NUMBER ENTRIES       the table, newest entry first
//!
//! A field or an entry has the lengths of name and value, name and value.

use std::io::{self, Read, Write};

use longlived_http2::hpack::{DecodeError, Decoder};

const TABLE_SIZE_MAX: u32 = 4_096;

/// What is left of a request.
struct Request<'a>(&'a [u8]);

impl<'a> Request<'a> {
    fn octets(&mut self, len: usize) -> &'a [u8] {
        let (octets, rest) = self.0.split_at(len);
        self.0 = rest;
        octets
    }

    fn number(&mut self) -> u32 {
        let octets = self.octets(4).try_into();
        u32::from_be_bytes(octets.expect("four octets"))
    }

    fn kind(&mut self) -> Option<u8> {
        (!self.0.is_empty()).then(|| self.octets(1)[0])
    }
}

fn push_number(answer: &mut Vec<u8>, number: usize) {
    let number = u32::try_from(number).expect("answers are short");
    answer.extend(number.to_be_bytes());
}

fn push_pair(answer: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    push_number(answer, name.len());
    push_number(answer, value.len());
    answer.extend_from_slice(name);
    answer.extend_from_slice(value);
}

fn answer(mut request: Request<'_>, scratch: &mut Vec<u8>) -> Vec<u8> {
    let mut decoder = Decoder::new(TABLE_SIZE_MAX);
    let mut answer = Vec::new();
    while let Some(kind) = request.kind() {
        match kind {
            b'l' => decoder.set_table_size_max(request.number()),
            b'b' => {
                let cut = request.number() as usize;
                let len = request.number() as usize;
                let block = request.octets(len);
                match fields(&mut decoder, block, cut, scratch) {
                    Ok((count, fields)) => {
                        answer.push(b'f');
                        push_number(&mut answer, count);
                        answer.extend(fields);
                    }
                    Err(error) => {
                        let name = format!("{error:?}");
                        answer.push(b'e');
                        push_number(&mut answer, name.len());
                        answer.extend(name.into_bytes());
                        break;
                    }
                }
            }
            b't' => {
                let (mut size, mut count, mut entries) = (0, 0, Vec::new());
                for (name, value) in decoder.table() {
                    size += name.len() + value.len() + 32;
                    count += 1;
                    push_pair(&mut entries, name, value);
                }
                answer.push(b't');
                push_number(&mut answer, size);
                push_number(&mut answer, count);
                answer.extend(entries);
            }
            other => panic!("a request has no part {other}"),
        }
    }
    answer
}

/// The fields of a block, as they stand in an answer, and their number.
fn fields(
    decoder: &mut Decoder,
    block: &[u8],
    cut: usize,
    scratch: &mut Vec<u8>,
) -> Result<(usize, Vec<u8>), DecodeError> {
    let (mut count, mut fields) = (0, Vec::new());
    let mut taken = 0;
    decoder.begin_block();
    for end in [cut, block.len()] {
        taken += decoder.decode(&block[taken..end], scratch, &mut |field| {
            count += 1;
            fields.push(u8::from(field.never_indexed));
            push_pair(&mut fields, field.name, field.value);
        })?;
    }
    decoder.end_block(&block[taken..])?;
    Ok((count, fields))
}

fn main() -> io::Result<()> {
    let (mut requests, mut answers) = (io::stdin().lock(), io::stdout().lock());
    let mut scratch = Vec::new();
    let mut len = [0; 4];
    while requests.read_exact(&mut len).is_ok() {
        let mut request = vec![0; u32::from_be_bytes(len) as usize];
        requests.read_exact(&mut request)?;
        let answer = answer(Request(&request), &mut scratch);
        let mut len = Vec::new();
        push_number(&mut len, answer.len());
        answers.write_all(&len)?;
        answers.write_all(&answer)?;
        answers.flush()?;
    }
    Ok(())
}
