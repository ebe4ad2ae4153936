//! The control messages of version 1 as frames. Events are not here: the broker has them ready.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use longlived_api::v1::{self, subscribe_response};
use longlived_broker::{Epoch, Gap, GapReason, Outcome, Position, Published, encode};
use longlived_topic::{TOKEN_BYTES_MAX, TOKENS_MAX};
use prost::encoding::{encode_varint, encoded_len_varint};
use prost_types::Timestamp;

use super::CloseReason;
use crate::limits;

/// The result of an added or removed filter.
pub(crate) enum Change {
    /// Holds for events after this.
    Added(Position),
    /// Holds for events after this.
    Removed(Position),
    /// Nothing changes; why.
    Refused(String),
    /// The stream goes on without it after this; why.
    Withdrawn(Position, String),
}

fn response(frame: subscribe_response::Frame) -> Bytes {
    encode(&v1::SubscribeResponse { frame: Some(frame) })
}

/// A position on the wire.
pub(crate) fn position(position: Position) -> v1::Position {
    v1::Position {
        epoch: position.epoch.get(),
        sequence: position.sequence,
    }
}

fn duration(duration: Duration) -> prost_types::Duration {
    // Durations here are configured or clamped, far below the limit of the message.
    prost_types::Duration::try_from(duration).unwrap_or_default()
}

/// The first message of a stream.
pub(crate) struct Welcome<'a> {
    /// Which node speaks.
    pub node_id: &'a str,
    /// Tells its sessions apart.
    pub generation: u64,
    /// How the stream begins.
    pub outcome: Outcome,
    /// Everything after this will follow.
    pub position: Position,
    /// The quiet that is promised.
    pub max_silence: Duration,
    /// The age at which the stream ends, if it does.
    pub max_stream_age: Option<Duration>,
    /// When the caller's credential expires.
    pub credential_expires: Option<SystemTime>,
    /// Which history the log has now.
    pub epoch: u64,
}

pub(crate) fn welcome(welcome: &Welcome<'_>) -> Bytes {
    let outcome = match welcome.outcome {
        Outcome::New => v1::welcome::Outcome::New,
        Outcome::Resumed => v1::welcome::Outcome::Resumed,
        Outcome::Reset => v1::welcome::Outcome::Reset,
    };
    response(subscribe_response::Frame::Welcome(v1::Welcome {
        session_id: [welcome.node_id, "-", &welcome.generation.to_string()].concat(),
        outcome: outcome.into(),
        position: Some(position(welcome.position)),
        max_silence: Some(duration(welcome.max_silence)),
        max_stream_age: welcome.max_stream_age.map(duration),
        node_id: welcome.node_id.to_owned(),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        credential_expires: welcome.credential_expires.map(Timestamp::from),
        epoch: welcome.epoch,
    }))
}

pub(crate) fn progress(at: Position, now: SystemTime, current: bool) -> Bytes {
    response(subscribe_response::Frame::Progress(v1::Progress {
        position: Some(position(at)),
        server_time: Some(Timestamp::from(now)),
        current,
        padding: Bytes::new(),
    }))
}

/// Events up to a position, with a Progress behind them that says just that and makes both so large together.
pub(crate) fn padded(events: &Bytes, at: Position, bytes: usize) -> Bytes {
    const ZEROS: &[u8] = &[0; limits::SMALL_FRAME_BYTES];
    let missing = bytes.saturating_sub(events.len()).min(ZEROS.len());
    let progress = response(subscribe_response::Frame::Progress(v1::Progress {
        position: Some(position(at)),
        server_time: None,
        current: false,
        padding: Bytes::from_static(&ZEROS[..missing]),
    }));
    [&events[..], &progress].concat().into()
}

pub(crate) fn gap(gap: &Gap) -> Bytes {
    response(subscribe_response::Frame::Gap(gap_message(gap)))
}

/// A gap on the wire.
pub(crate) fn gap_message(gap: &Gap) -> v1::Gap {
    let reason = match gap.reason {
        GapReason::Trimmed => v1::gap::Reason::Trimmed,
        GapReason::Damaged => v1::gap::Reason::Damaged,
        GapReason::EpochChanged => v1::gap::Reason::EpochChanged,
        GapReason::Future => v1::gap::Reason::Future,
        GapReason::TooLarge => v1::gap::Reason::TooLarge,
    };
    v1::Gap {
        reason: reason.into(),
        after_sequence: gap.after,
        through_sequence: gap.through,
        events: gap.events,
        through_epoch: gap.through_epoch.map_or(0, Epoch::get),
    }
}

pub(crate) fn go_away(reason: CloseReason, at: Position, ends_in: Option<Duration>) -> Bytes {
    use v1::go_away::Reason;
    let (wire_reason, wait) = match reason {
        CloseReason::Draining { reconnect_after } => (Reason::Draining, Some(reconnect_after)),
        CloseReason::StreamAge { reconnect_after } => (Reason::StreamAge, Some(reconnect_after)),
        CloseReason::Unsubscribed => (Reason::Unsubscribed, None),
        CloseReason::Replaced => (Reason::Replaced, None),
        CloseReason::TakenOver => (Reason::TakenOver, None),
        CloseReason::CredentialExpired { reconnect_after } => {
            (Reason::CredentialExpired, Some(reconnect_after))
        }
        CloseReason::Revoked => (Reason::Revoked, None),
        CloseReason::Slow { reconnect_after } => (Reason::Slow, Some(reconnect_after)),
    };
    response(subscribe_response::Frame::GoAway(v1::GoAway {
        reason: wire_reason.into(),
        position: Some(position(at)),
        reconnect_after: wait.map(duration),
        reconnect: reason.retryable(),
        ends_in: ends_in.map(duration),
    }))
}

/// Bytes of the longest topic filter: its tokens with a dot between two.
const FILTER_BYTES_MAX: usize = TOKENS_MAX * (TOKEN_BYTES_MAX + 1) - 1;

/// As much of a text as the longest topic filter has. An answer is kept while its reader takes nothing, and a request may
/// have 128 KiB.
fn echoed(filter: &str) -> &str {
    let mut end = filter.len().min(FILTER_BYTES_MAX);
    while !filter.is_char_boundary(end) {
        end -= 1;
    }
    &filter[..end]
}

pub(crate) fn subscription_change(filter: &str, change: &Change) -> Bytes {
    use v1::subscription_change::State;
    let (state, after, message) = match change {
        Change::Added(after) => (State::Added, Some(*after), ""),
        Change::Removed(after) => (State::Removed, Some(*after), ""),
        Change::Refused(why) => (State::Refused, None, why.as_str()),
        Change::Withdrawn(after, why) => (State::Refused, Some(*after), why.as_str()),
    };
    response(subscribe_response::Frame::SubscriptionChange(
        v1::SubscriptionChange {
            topic_filter: echoed(filter).to_owned(),
            state: state.into(),
            after: after.map(position),
            message: message.to_owned(),
        },
    ))
}

pub(crate) fn request_refused(number: u64, why: &str) -> Bytes {
    response(subscribe_response::Frame::RequestRefused(
        v1::RequestRefused {
            number,
            message: why.to_owned(),
        },
    ))
}

pub(crate) fn credential_notice(expires: Option<SystemTime>) -> Bytes {
    response(subscribe_response::Frame::CredentialNotice(
        v1::CredentialNotice {
            expires: expires.map(Timestamp::from),
        },
    ))
}

/// The answers to messages of one stream, one `PublishResponse` each, as prost would write them. A stream answers
/// many at a time, and only the sequence differs.
pub(crate) fn published(epoch: u64, durability: v1::Durability, answers: &[Published]) -> Bytes {
    // Field number and wire type, as one byte.
    const POSITION: u8 = 0x0a;
    const EPOCH: u8 = 0x09;
    const SEQUENCE: u8 = 0x10;
    const DURABILITY: u8 = 0x10;
    const DUPLICATE: u8 = 0x18;
    /// Without its sequence, whose ten bytes are the longest.
    const ANSWER_BYTES: usize = 5 + 2 + 9 + 1 + 2 + 2;

    let durability = durability as u8;
    let mut out = Vec::with_capacity(answers.len() * (ANSWER_BYTES + 10));
    for answer in answers {
        let position = 9 + 1 + encoded_len_varint(answer.sequence);
        let body = 2 + position + 2 + 2 * usize::from(answer.duplicate);
        let [high, low] = (body as u16).to_be_bytes();
        out.extend_from_slice(&[0, 0, 0, high, low, POSITION, position as u8, EPOCH]);
        out.extend_from_slice(&epoch.to_le_bytes());
        out.push(SEQUENCE);
        encode_varint(answer.sequence, &mut out);
        out.extend_from_slice(&[DURABILITY, durability]);
        if answer.duplicate {
            out.extend_from_slice(&[DUPLICATE, 1]);
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn answers_are_the_bytes_that_prost_would_write(
            epoch in 1..1_u64 << 53,
            answers in prop::collection::vec((1..=u64::MAX, any::<bool>()), 0..20),
        ) {
            let answers = answers.into_iter().map(|(sequence, duplicate)| Published { sequence, duplicate });
            let answers: Vec<_> = answers.collect();
            let durability = v1::Durability::Memory;
            let mut expected = Vec::new();
            for answer in &answers {
                expected.extend(encode(&v1::PublishResponse {
                    position: Some(v1::Position { epoch, sequence: answer.sequence }),
                    durability: durability.into(),
                    duplicate: answer.duplicate,
                }));
            }
            prop_assert_eq!(published(epoch, durability, &answers), expected);
        }
    }
}
