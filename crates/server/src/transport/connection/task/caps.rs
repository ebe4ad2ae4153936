//! The caps on what the calls of a connection hold: when credit is held back, and which call ends.
//!
//! Credit is held back within one connection window of the cap: what the peer may still send fits. Messages that are whole and wait for the
//! store are waited for. A call ends when nothing else would make room: the peer has used up its window, and every call waits for
//! the rest of a message; or too much of answers waits for windows of their streams.
//!
//! Does not: count; [`Account`] does.

use std::sync::Arc;

use longlived_http2::DATA_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Connection;
use crate::transport::connection::account::{Account, Kind};
use crate::transport::connection::response_body::ResponseBody;
use crate::transport::connection::service::ConnectionService;
use crate::transport::connection::wire::{Frames, Wire};
use crate::transport::connection::{ConnectionSettings, RequestError};

impl<T, S, B> Connection<T, S, B>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: ConnectionService<B>,
    B: ResponseBody,
{
    fn open_account(&mut self) -> &Arc<Account> {
        (self.account).open(&self.shared.accounts, &self.context, &self.wakes.socket)
    }

    /// Gives or holds back credit, and ends calls if too much is held.
    pub(super) fn keep_within_caps(&mut self) {
        while let Some(account) = self.account.get() {
            hold_credit(account, &mut self.wire.frames);
            match excess(account, &self.wire.frames) {
                Some(error) if self.end_largest(error) => {}
                _ => break,
            }
        }
        if self
            .account
            .get()
            .is_some_and(|account| account.is_ordered())
        {
            self.obey();
        }
    }

    /// Holds back the connection's credit if what came last brought it near the cap: the next piece must not give any.
    pub(super) fn hold_credit(&mut self) {
        if let Some(account) = self.account.get() {
            hold_credit(account, &mut self.wire.frames);
        }
    }

    /// All connections together hold too much, and this one most.
    fn obey(&mut self) {
        let bytes_max = self.shared.accounts.bytes_max();
        let ended = self.end_largest(RequestError::NodeExhausted(bytes_max));
        if let Some(account) = self.account.get() {
            account.obeyed(ended);
        }
    }

    /// Frames that are half read. There are none on the way of a delivery, nor of a message that comes whole.
    pub(super) fn count_frames(&mut self) {
        let Frames { http2, io, .. } = &self.wire.frames;
        let held = http2.held();
        let bytes = held.half_frames + held.header_blocks + io.unseen_bytes();
        if bytes > 0 || self.account.get().is_some() {
            let tables = held.header_table + held.streams;
            let account = self.open_account();
            account.change([(Kind::Frames, account.of(Kind::Frames), bytes)]);
            account.set_tables(tables);
        }
    }

    /// Counts the pieces that streams have begun to wait with.
    // Never inlined: most deliveries leave nothing.
    #[inline(never)]
    pub(super) fn count_pieces(&mut self) {
        let uncounted = self.wire.frames.take_uncounted();
        if uncounted.is_empty() {
            return;
        }
        let account = Arc::clone(self.open_account());
        let timeout = self.shared.settings.connection.answer_timeout;
        for key in uncounted {
            if let Some(stream) = self.streams.get_mut(key) {
                stream.count_piece(&account);
                if let Some(due) = stream.answer_due(timeout) {
                    self.wire.heartbeats.wants(due);
                    self.untimed = true;
                }
            }
        }
    }

    /// The task's poll has ended: what waits for the peer to read is counted. A connection at rest has no account.
    pub(super) fn count_unsent(&mut self) {
        let Frames { io, .. } = &self.wire.frames;
        // What waits for the next turn is nothing that the peer does not take.
        let bytes = if io.is_blocked() { io.rest_bytes() } else { 0 };
        if bytes == 0 && self.account.get().is_none() {
            return;
        }
        let account = Arc::clone(self.open_account());
        account.change([(Kind::Unsent, account.of(Kind::Unsent), bytes)]);
        let Frames { http2, io, .. } = &self.wire.frames;
        let receive = http2.connection_receive_window();
        account.set_windows(receive, http2.connection_send_window(), io.is_blocked());
        if bytes > 0 || account.waiting() > 0 {
            account.list();
        }
        drop(account);
        self.account.forget_if_empty(&mut self.account_made);
    }

    /// Ends the call that holds most, and of equals the newest. `false` if no call can be ended.
    fn end_largest(&mut self, error: RequestError) -> bool {
        let Some(account) = self.account.get() else {
            return false;
        };
        // The only message under way in a direction may be as large as its own limit, but for what all connections hold together.
        let spares = matches!(error, RequestError::ConnectionExhausted(_));
        let spares_sent = spares && account.senders() <= 1;
        let spares_answer = spares && account.waiting() <= 1;
        let Wire {
            followers, frames, ..
        } = &mut self.wire;
        let http2 = &frames.http2;
        let calls = self.streams.iter_mut().filter_map(|stream| {
            let held = stream.held_bytes();
            let sent = if spares_sent { 0 } else { held.sent };
            let answer = if spares_answer {
                0
            } else {
                stream.waits_with()
            };
            let bytes = sent + held.others + answer;
            (bytes > 0).then(|| (bytes, http2.stream_id(stream.at()), stream))
        });
        let Some((bytes, _, stream)) = calls.max_by_key(|(bytes, id, _)| (*bytes, *id)) else {
            return false;
        };
        account.log_ended(error, bytes);
        stream.detach(followers, frames);
        stream.cut(error);
        let key = stream.key();
        self.streams.wake(key);
        true
    }
}

/// Holds back the connection's credit while what the peer may still send would not fit, unless one call alone sends: its message is to
/// come whole.
fn hold_credit<T>(account: &Account, frames: &mut Frames<T>) {
    let settings = account.accounts().settings();
    let mut holds = is_near_cap(account, settings);
    if holds {
        // What is given back from now on wakes the connection, and what was before is seen here.
        account.set_waits(true);
        holds = is_near_cap(account, settings);
    }
    if !holds {
        account.set_waits(false);
    }
    let Frames { http2, io, .. } = frames;
    if holds != http2.holds_connection_credit() {
        http2.hold_connection_credit(holds, io.out());
    }
}

fn is_near_cap(account: &Account, settings: &ConnectionSettings) -> bool {
    // Credit may go out with the piece that is looked at next.
    let window = settings.connection_window_bytes as usize + DATA_BYTES_MAX;
    let near = settings.connection_bytes_max.saturating_sub(window);
    account.senders() > 1 && account.without_the_only_answer() > near
}

/// Why a call has to end: too much is held, or the peer can send nothing more of messages that are not whole.
fn excess<T>(account: &Account, frames: &Frames<T>) -> Option<RequestError> {
    let is_stuck = frames.http2.holds_connection_credit()
        && frames.http2.connection_receive_window() == 0
        && account.of(Kind::Content) == 0
        && account.senders() > 1;
    (account.is_over() || is_stuck).then(|| RequestError::ConnectionExhausted(account.bytes_max()))
}
