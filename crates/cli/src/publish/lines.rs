//! Lines of standard input, as they come.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

/// A longer line is no message that any server takes; reading on would only fill the memory.
const LINE_BYTES_MAX: usize = 16 << 20;

/// Why there are no more lines.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinesError {
    #[error("line {number} of standard input is longer than {LINE_BYTES_MAX} bytes")]
    TooLong { number: u64 },
    #[error("standard input cannot be read")]
    Read(#[from] io::Error),
}

/// Reads bytes up to each line feed; neither it nor a carriage return before it belongs to the line.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: R,
    number: u64,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, number: 0 }
    }

    /// The next line and its number, from 1; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<(u64, Vec<u8>)>, LinesError> {
        let mut line = Vec::new();
        let mut ended = false;
        self.number += 1;
        while !ended {
            let buffer = self.input.fill_buf().await?;
            if buffer.is_empty() {
                if line.is_empty() {
                    return Ok(None);
                }
                break;
            }
            let taken = if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                ended = true;
                line.extend_from_slice(&buffer[..end]);
                end + 1
            } else {
                line.extend_from_slice(buffer);
                buffer.len()
            };
            self.input.consume(taken);
            if line.len() > LINE_BYTES_MAX {
                return Err(LinesError::TooLong {
                    number: self.number,
                });
            }
        }
        if ended && line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some((self.number, line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut lines = Lines::new(input);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line);
        }
        all
    }

    #[tokio::test]
    async fn each_line_is_one_message_also_an_empty_one_and_a_last_one_without_its_end() {
        let expected: Vec<(u64, Vec<u8>)> = vec![
            (1, b"one".to_vec()),
            (2, Vec::new()),
            (3, b"thr\xff\xfe".to_vec()),
            (4, b"four".to_vec()),
        ];
        assert_eq!(lines(b"one\r\n\nthr\xff\xfe\nfour").await, expected);
        assert_eq!(lines(b"one\r\n\nthr\xff\xfe\nfour\n").await, expected);
        assert!(lines(b"").await.is_empty());
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let endless = tokio::io::BufReader::new(tokio::io::repeat(b'x'));
        let error = Lines::new(endless).next().await.unwrap_err();
        assert!(matches!(error, LinesError::TooLong { number: 1 }));
    }
}
