//! A response to a client, as a record of the history.

use longlived_api::v1;
use longlived_checker::history::{
    self, Digest, Durability, Event, Gap, GapPolicy, GapReason, GoAway, Position, Progress,
    PublishBegun, PublishEnded, PublishOutcome, Record, Start, StreamEnded, StreamOpened, Welcome,
    WelcomeOutcome,
};
use longlived_client::record::{Recorded, StreamEnd, Told};
use longlived_client::{Durability as Kept, PublishError, Published};
use prost::Message as _;
use tonic::Code;

/// The only publisher of a simulation.
const PUBLISHER: &str = "simulate";
/// It has no credential.
const PRINCIPAL: &str = "anonymous";

/// The record; `None` where there is none for it, and an error where the format has no word for it.
pub(super) fn of(at: u64, happened: &Recorded<'_>) -> Result<Option<Record>, String> {
    Ok(Some(match happened {
        Recorded::PublishBegun { publish, request } => Record::PublishBegun(PublishBegun {
            at,
            publisher: PUBLISHER.to_owned(),
            publish: *publish,
            principal: PRINCIPAL.to_owned(),
            topic: request.topic.clone(),
            digest: digest_of_request(request),
            bytes: bytes_as_event(request),
            message_id: Some(request.message_id.clone()).filter(|id| !id.is_empty()),
        }),
        Recorded::PublishEnded { publish, answer } => Record::PublishEnded(PublishEnded {
            at,
            publisher: PUBLISHER.to_owned(),
            publish: *publish,
            outcome: outcome(*answer)?,
        }),
        Recorded::StreamOpened { stream, request } => {
            Record::StreamOpened(opened(at, *stream, request)?)
        }
        Recorded::Told { stream, told } => return self::told(at, *stream, told),
        Recorded::StreamEnded {
            stream,
            end,
            returns,
        } => Record::StreamEnded(StreamEnded {
            at,
            stream: *stream,
            how: how(end),
            returns: *returns,
        }),
    }))
}

fn digest<'a>(
    payload: &[u8],
    key: &str,
    headers: impl IntoIterator<Item = (&'a String, &'a String)>,
    deleted: bool,
) -> Digest {
    let headers = headers.into_iter();
    let headers = headers.map(|(name, value)| (name.as_str(), value.as_str()));
    history::digest(payload, key, headers, deleted)
}

fn digest_of_request(request: &v1::PublishRequest) -> Digest {
    digest(
        &request.payload,
        &request.key,
        &request.headers,
        request.deleted,
    )
}

/// The message as an event, without the fields that the log adds.
fn bytes_as_event(request: &v1::PublishRequest) -> u64 {
    let event = v1::Event {
        topic: request.topic.clone(),
        payload: request.payload.clone(),
        key: request.key.clone(),
        headers: request.headers.clone(),
        deleted: request.deleted,
        ..v1::Event::default()
    };
    event.encoded_len() as u64
}

fn outcome(answer: Result<&Published, &PublishError>) -> Result<PublishOutcome, String> {
    let refused = |code: &str| PublishOutcome::Refused {
        code: code.to_owned(),
    };
    Ok(match answer {
        Ok(answer) => PublishOutcome::Acknowledged {
            epoch: answer.position.epoch,
            sequence: answer.position.sequence,
            durability: match answer.durability {
                Kept::Memory => Durability::Memory,
                Kept::Disk => Durability::Disk,
                Kept::Replicated => Durability::Replicated,
                Kept::Unknown => return Err("an answer names no durability".to_owned()),
            },
            duplicate: answer.duplicate,
        },
        Err(PublishError::Refused(refusal)) => refused(&format!("{:?}", refusal.code)),
        Err(PublishError::NotSent { .. }) => refused("not sent"),
        Err(PublishError::Credential(_)) => refused("no credential"),
        Err(PublishError::Unknown { .. }) => PublishOutcome::Unknown,
    })
}

fn position(wire: v1::Position) -> Position {
    Position {
        epoch: wire.epoch,
        sequence: wire.sequence,
    }
}

fn opened(at: u64, stream: u64, request: &v1::SubscribeRequest) -> Result<StreamOpened, String> {
    let start = match request.start.as_ref().and_then(|start| start.at.as_ref()) {
        None => None,
        Some(v1::start::At::Earliest(_)) => Some(Start::Earliest),
        Some(v1::start::At::Time(time)) => {
            let seconds = time.seconds.checked_mul(1_000_000_000);
            let nanos = seconds.and_then(|nanos| nanos.checked_add(time.nanos.into()));
            Some(Start::TimeNanos(
                nanos.ok_or("a start in no time that counts in nanoseconds")?,
            ))
        }
    };
    Ok(StreamOpened {
        at,
        subscriber: request.subscriber_id.clone(),
        stream,
        filters: request
            .subscriptions
            .iter()
            .map(|subscription| subscription.topic_filter.clone())
            .collect(),
        resume_after: request.resume_after.map(position),
        start,
        gap_policy: match request.gap_policy() {
            v1::GapPolicy::Unspecified | v1::GapPolicy::Earliest => GapPolicy::Earliest,
            v1::GapPolicy::Latest => GapPolicy::Latest,
            v1::GapPolicy::Fail => GapPolicy::Fail,
        },
        max_event_bytes: Some(u64::from(request.max_event_bytes)).filter(|bytes| *bytes > 0),
    })
}

fn told(at: u64, stream: u64, told: &Told<'_>) -> Result<Option<Record>, String> {
    Ok(Some(match told {
        Told::Welcome(welcome) => {
            let position = welcome.position.map(position);
            let position = position.ok_or("a Welcome names no position")?;
            let epoch = match welcome.epoch {
                0 => position.epoch,
                epoch => epoch,
            };
            Record::Welcome(Welcome {
                at,
                stream,
                outcome: match welcome.outcome() {
                    v1::welcome::Outcome::New => WelcomeOutcome::New,
                    v1::welcome::Outcome::Resumed => WelcomeOutcome::Resumed,
                    v1::welcome::Outcome::Reset => WelcomeOutcome::Reset,
                    v1::welcome::Outcome::Unspecified => {
                        return Err("a Welcome names no outcome".to_owned());
                    }
                },
                epoch,
                sequence: position.sequence,
                position_epoch: (position.epoch != epoch).then_some(position.epoch),
            })
        }
        Told::Event { event, applied } => Record::Event(Event {
            at,
            stream,
            topic: event.topic.clone(),
            sequence: event.sequence,
            previous_sequence: event.previous_sequence,
            digest: digest(&event.payload, &event.key, &event.headers, event.deleted),
            applied: *applied,
        }),
        Told::Gap(gap) => Record::Gap(Gap {
            at,
            stream,
            reason: gap_reason(gap.reason)?,
            after_sequence: gap.after_sequence,
            through_sequence: gap.through_sequence,
            events: gap.events,
            through_epoch: Some(gap.through_epoch).filter(|epoch| *epoch != 0),
        }),
        Told::Progress(progress) => match progress.position.map(position) {
            None => return Ok(None),
            Some(position) => Record::Progress(Progress {
                at,
                stream,
                epoch: position.epoch,
                sequence: position.sequence,
                current: progress.current,
            }),
        },
        Told::GoAway(go_away) => Record::GoAway(GoAway {
            at,
            stream,
            reason: go_away
                .reason()
                .as_str_name()
                .trim_start_matches("REASON_")
                .to_owned(),
            position: go_away.position.map(position),
            reconnect: go_away.reconnect,
        }),
    }))
}

/// By its name, so that a reason this build does not know yet is not taken for another.
fn gap_reason(reason: i32) -> Result<GapReason, String> {
    let name = v1::gap::Reason::try_from(reason).map(|reason| reason.as_str_name());
    match name {
        Ok("REASON_TRIMMED") => Ok(GapReason::Trimmed),
        Ok("REASON_EPOCH_CHANGED") => Ok(GapReason::EpochChanged),
        Ok("REASON_FUTURE") => Ok(GapReason::Future),
        Ok("REASON_TOO_LARGE") => Ok(GapReason::TooLarge),
        Ok("REASON_DAMAGED") => Ok(GapReason::Damaged),
        Ok(_) | Err(_) => Err(format!(
            "a gap has reason {reason}, for which the format has no word"
        )),
    }
}

fn how(end: &StreamEnd) -> String {
    match end {
        StreamEnd::Status(Code::Ok) => "ok".to_owned(),
        StreamEnd::Status(code) => format!("{code:?}"),
        StreamEnd::Lost(lost) => lost.to_string(),
        StreamEnd::Left => "left".to_owned(),
    }
}
