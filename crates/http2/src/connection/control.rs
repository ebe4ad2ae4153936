//! The peer's frames other than DATA and header blocks, when they are whole (RFC 9113, 5.1 and 6).

use super::Connection;
use super::closing::{Closing, GO_AWAY_PING};
use crate::closed::Closed;
use crate::error::{ConnectionError, ErrorCode, StreamError};
use crate::event::Event;
use crate::frame::{self, FrameHead, FrameType};
use crate::output::Output;
use crate::settings;
use crate::slot::Slot;

impl<V> Connection<V> {
    /// A frame other than DATA, whole. Its first byte came at `since`.
    pub(super) fn control<'a>(
        &mut self,
        head: FrameHead,
        payload: &[u8],
        out: &mut Output,
    ) -> Result<Option<Event<'a, V>>, ConnectionError> {
        match head.kind {
            FrameType::Priority => {
                self.priority(head.stream_id, number(payload) & 0x7fff_ffff, out)
            }
            FrameType::RstStream => self.rst_stream(head.stream_id, ErrorCode(number(payload))),
            FrameType::Settings => {
                if head.has(frame::ACK) {
                    self.settings_acknowledged();
                } else {
                    self.settings(payload, out)?;
                }
                Ok(None)
            }
            FrameType::Ping => {
                let payload = *payload.first_chunk().expect("a PING has eight bytes");
                Ok(self.pinged(payload, head.has(frame::ACK), out))
            }
            FrameType::GoAway => Ok(Some(Event::GoAway(ErrorCode(number(&payload[4..]))))),
            FrameType::WindowUpdate => {
                self.window_update(head.stream_id, number(payload) & 0x7fff_ffff, out)
            }
            FrameType::Data
            | FrameType::Headers
            | FrameType::Continuation
            | FrameType::PushPromise
            | FrameType::Unknown => {
                unreachable!("handled before")
            }
        }
    }

    fn settings(&mut self, payload: &[u8], out: &mut Output) -> Result<(), ConnectionError> {
        self.settings_received = true;
        for (id, value) in settings::parse(payload) {
            let before = self.peer.initial_window;
            self.peer.apply(id, value)?;
            self.initial_window_moved(before)?;
        }
        frame::settings_ack(out);
        Ok(())
    }

    /// Our stricter values hold from now on (6.5.3). An ACK that was not asked for says nothing.
    fn settings_acknowledged(&mut self) {
        if self.settings_sent.take().is_some() {
            self.receive_initial = self.config.stream_window;
            self.decoder
                .set_table_size_max(self.config.header_table_bytes);
        }
    }

    fn pinged<'a>(
        &mut self,
        payload: [u8; 8],
        ack: bool,
        out: &mut Output,
    ) -> Option<Event<'a, V>> {
        if !ack {
            frame::ping(out, payload, true);
            return None;
        }
        if payload == GO_AWAY_PING {
            if matches!(self.closing, Closing::Announced(_)) {
                self.go_away_now(out);
            }
            return None;
        }
        Some(Event::Pong(payload))
    }

    /// PRIORITY says nothing any more (5.3.2), but a stream cannot depend on itself.
    fn priority<'a>(
        &mut self,
        id: u32,
        depends_on: u32,
        out: &mut Output,
    ) -> Result<Option<Event<'a, V>>, ConnectionError> {
        if id != depends_on {
            return Ok(None);
        }
        if self.is_idle(id) {
            return Err(ConnectionError::protocol("a stream depends on itself"));
        }
        let error = StreamError::malformed("a stream depends on itself");
        Ok(self
            .streams
            .find(id)
            .map(|slot| self.fail_stream(slot, error, out)))
    }

    fn rst_stream<'a>(
        &mut self,
        id: u32,
        code: ErrorCode,
    ) -> Result<Option<Event<'a, V>>, ConnectionError> {
        if self.is_idle(id) {
            return Err(ConnectionError::protocol(
                "RST_STREAM of an idle stream (6.4)",
            ));
        }
        let Some(slot) = self.streams.find(id) else {
            return Ok(None);
        };
        let stream = self.remove(slot);
        self.closed.insert(id, Closed::ByPeer);
        let value = stream.value;
        Ok(Some(Event::Reset { value, code }))
    }

    fn window_update<'a>(
        &mut self,
        id: u32,
        increment: u32,
        out: &mut Output,
    ) -> Result<Option<Event<'a, V>>, ConnectionError> {
        if id == 0 {
            self.widen_connection(increment)?;
            let slot = None;
            return Ok(Some(Event::WindowUpdate { slot, increment }));
        }
        if self.is_idle(id) {
            return Err(ConnectionError::protocol(
                "WINDOW_UPDATE of an idle stream (5.1)",
            ));
        }
        // Both ends may close a stream before the other knows (5.1).
        let Some(slot) = self.streams.find(id) else {
            return Ok(None);
        };
        let event = match self.widen_stream(slot, increment) {
            Ok(()) => {
                let slot = Some(slot);
                Event::WindowUpdate { slot, increment }
            }
            Err(error) => self.fail_stream(slot, error, out),
        };
        Ok(Some(event))
    }

    /// Neither end has used this stream, nor one above it.
    pub(super) fn is_idle(&self, id: u32) -> bool {
        // Streams of even numbers are opened by servers, and this one opens none.
        id.is_multiple_of(2) || id > self.highest_seen
    }

    /// Resets a stream because of an error of the peer.
    pub(super) fn fail_stream<'a>(
        &mut self,
        slot: Slot,
        error: StreamError,
        out: &mut Output,
    ) -> Event<'a, V> {
        let value = self.reset(slot, error.code, out);
        Event::Failed { value, error }
    }
}

/// The number at the begin of a payload whose size was checked.
fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(*payload.first_chunk().expect("four bytes"))
}
