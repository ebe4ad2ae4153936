//! A live tail as the source that several sessions of one connection share.

use std::task::{Context, Poll};

use longlived_broker::{TailReader, TailSource};

use crate::transport::connection::{SharedPiece, SharedReader};

impl SharedReader for TailReader {
    type Source<'a> = TailSource<'a>;

    fn source(&self) -> TailSource<'_> {
        TailReader::source(self)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, bytes_max: usize) -> Poll<Option<SharedPiece>> {
        TailReader::poll_next(self, cx, bytes_max).map(|delivery| {
            let delivery = delivery?;
            Some(SharedPiece {
                bytes: delivery.bytes,
                events: delivery.count as u64,
                after: delivery.after,
            })
        })
    }

    fn position(&self) -> u64 {
        TailReader::position(self)
    }

    fn settle(&self) {
        TailReader::settle(self);
    }

    fn hold(&self, sending: bool) {
        TailReader::hold(self, sending);
    }
}
