//! `--json`: one object a line. Each names its `type`; the fields of an event are the same in every command.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use longlived_client::fleet::{Happening, Snapshot, Verdict, What};
use longlived_client::{Event, Gap, GapReason, Message, Outcome, Position, Published};
use serde::Serialize;

use super::text::rfc3339;

/// One line.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Record<'a> {
    Event(EventRecord<'a>),
    Gap(GapRecord),
    Published(PublishedRecord<'a>),
    Data {
        client: u32,
        data: &'a str,
    },
    Subscribed {
        client: u32,
    },
    Resubscribed {
        client: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        outcome: Option<&'static str>,
        after_ms: u64,
    },
    BackingOff {
        client: u32,
        reason: &'a str,
        retry_in_ms: u64,
        /// False when an attempt to come back failed.
        had_stream: bool,
    },
    HandingOver {
        client: u32,
        reason: &'a str,
    },
    Current {
        client: u32,
        epoch: u64,
        sequence: u64,
    },
    Violation {
        client: u32,
        violation: String,
    },
    Unsubscribed {
        client: u32,
        ok: bool,
    },
    Failed {
        client: u32,
        reason: &'a str,
    },
    Health {
        server: &'a str,
        service: &'a str,
        serving: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
    },
    NoData {
        seconds: u64,
        hint: &'a str,
    },
    /// Lines that the reader did not take.
    LeftOut {
        lines: u64,
    },
    Summary(SummaryRecord),
    Verdict(VerdictRecord),
}

/// An event.
#[derive(Debug, Serialize)]
pub(crate) struct EventRecord<'a> {
    /// The client that received it; only where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<u32>,
    epoch: u64,
    sequence: u64,
    topic: &'a str,
    key: &'a str,
    #[serde(flatten)]
    payload: Payload<'a>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
}

/// The payload as text, or as base64 where it is none.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Payload<'a> {
    Payload(&'a str),
    PayloadBase64(String),
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Payload(text),
            Err(_) => Self::PayloadBase64(BASE64_STANDARD.encode(bytes)),
        }
    }
}

/// Events that matched and will not come.
#[derive(Debug, Serialize)]
pub(crate) struct GapRecord {
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<u32>,
    reason: &'static str,
    /// Nothing up to here is missing; absent when nothing had been received yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<PositionRecord>,
    through: PositionRecord,
    /// How many are missing; absent when that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<u64>,
}

#[derive(Debug, Serialize)]
struct PositionRecord {
    epoch: u64,
    sequence: u64,
}

impl From<Position> for PositionRecord {
    fn from(position: Position) -> Self {
        Self {
            epoch: position.epoch,
            sequence: position.sequence,
        }
    }
}

/// A message that was acknowledged.
#[derive(Debug, Serialize)]
pub(crate) struct PublishedRecord<'a> {
    epoch: u64,
    sequence: u64,
    topic: &'a str,
    key: &'a str,
    durability: String,
    /// Its message id had been seen; the position is that of the first.
    duplicate: bool,
}

/// The numbers of one moment.
#[derive(Debug, Serialize)]
pub(crate) struct SummaryRecord {
    clients: u32,
    connected: u32,
    reconnecting: u32,
    delivered: u64,
    delivered_per_second: f64,
    gaps: u64,
    reconnects: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_ms: Option<f64>,
}

/// The end of a simulation.
#[derive(Debug, Serialize)]
pub(crate) struct VerdictRecord {
    /// Nothing is known to be lost or repeated, and all clients took part to the end.
    clean: bool,
    clients: u32,
    delivered: u64,
    /// Null when the contract does not let anybody know.
    lost: Option<u64>,
    repeated: Option<u64>,
    gaps: u64,
    reconnects: u64,
    /// Streams opened beside one that went on.
    handovers: u64,
    recover_p50_ms: Option<f64>,
    recover_max_ms: Option<f64>,
    unsubscribed_ok: u32,
    /// Clients that never had everything there was, or never even a stream.
    never_current: u32,
    /// Clients that ended before they were told to.
    failed: u32,
    /// Promised deliveries for which the ledger had no room.
    not_followed: u64,
}

impl<'a> Record<'a> {
    pub(crate) fn event(event: &'a Event, client: Option<u32>) -> Self {
        Self::Event(EventRecord {
            client,
            epoch: event.position.epoch,
            sequence: event.position.sequence,
            topic: &event.topic,
            key: &event.key,
            payload: Payload::from(&*event.payload),
            headers: &event.headers,
            deleted: event.deleted,
            time: event.publish_time.and_then(rfc3339),
        })
    }

    pub(crate) fn gap(gap: &Gap, client: Option<u32>) -> Self {
        Self::Gap(GapRecord {
            client,
            reason: match gap.reason {
                GapReason::Trimmed => "trimmed",
                GapReason::EpochChanged => "epoch_changed",
                GapReason::Future => "future",
                GapReason::TooLarge => "too_large",
                GapReason::Damaged => "damaged",
                GapReason::Other(_) => "other",
            },
            after: gap.after.map(Into::into),
            through: gap.through.into(),
            events: gap.events,
        })
    }

    pub(crate) fn published(message: &'a Message, answer: &Published) -> Self {
        Self::Published(PublishedRecord {
            epoch: answer.position.epoch,
            sequence: answer.position.sequence,
            topic: &message.topic,
            key: &message.key,
            durability: answer.durability.to_string(),
            duplicate: answer.duplicate,
        })
    }

    pub(crate) fn happening(happening: &'a Happening) -> Self {
        let client = happening.client;
        match &happening.what {
            What::Subscribed => Self::Subscribed { client },
            What::Event(event) => Self::event(event, Some(client)),
            What::Data(data) => Self::Data { client, data },
            What::BackingOff {
                reason,
                retry_in,
                had_stream,
            } => Self::BackingOff {
                client,
                reason,
                retry_in_ms: retry_in.as_millis() as u64,
                had_stream: *had_stream,
            },
            What::HandingOver { reason, .. } => Self::HandingOver { client, reason },
            What::Resubscribed { outcome, after } => Self::Resubscribed {
                client,
                outcome: outcome.map(|outcome| match outcome {
                    Outcome::New => "new",
                    Outcome::Resumed => "resumed",
                    Outcome::Reset => "reset",
                }),
                after_ms: after.as_millis() as u64,
            },
            What::Gap(gap) => Self::gap(gap, Some(client)),
            What::Violation(violation) => Self::Violation {
                client,
                violation: violation.to_string(),
            },
            What::Current(position) => Self::Current {
                client,
                epoch: position.epoch,
                sequence: position.sequence,
            },
            What::Unsubscribed { ok } => Self::Unsubscribed { client, ok: *ok },
            What::Failed { reason } => Self::Failed { client, reason },
        }
    }

    pub(crate) fn summary(snapshot: &Snapshot, delivered_per_second: f64) -> Self {
        Self::Summary(SummaryRecord {
            clients: snapshot.clients,
            connected: snapshot.connected,
            reconnecting: snapshot.reconnecting,
            delivered: snapshot.delivered,
            delivered_per_second: (delivered_per_second * 10.0).round() / 10.0,
            gaps: snapshot.gaps,
            reconnects: snapshot.reconnects,
            lag_ms: snapshot.lag.map(millis),
        })
    }

    pub(crate) fn verdict(verdict: &Verdict) -> Self {
        Self::Verdict(VerdictRecord {
            clean: verdict.is_clean(),
            clients: verdict.clients,
            delivered: verdict.delivered,
            lost: verdict.lost,
            repeated: verdict.repeated,
            gaps: verdict.gaps,
            reconnects: verdict.reconnects,
            handovers: verdict.handovers,
            recover_p50_ms: verdict.recover_p50.map(millis),
            recover_max_ms: verdict.recover_max.map(millis),
            unsubscribed_ok: verdict.unsubscribed_ok,
            never_current: verdict.never_current,
            failed: verdict.failed,
            not_followed: verdict.not_followed,
        })
    }

    /// The object on one line.
    pub(crate) fn to_line(&self) -> String {
        serde_json::to_string(self).expect("keys are strings and numbers are finite")
    }
}

/// To a thousandth.
fn millis(duration: std::time::Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn event() -> Event {
        Event {
            position: Position::new(7, 42),
            topic: "orders.eu".to_owned(),
            payload: "42 boxes".into(),
            key: "order-17".to_owned(),
            headers: BTreeMap::new(),
            publish_time: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500)),
            deleted: false,
            previous_sequence: 40,
        }
    }

    #[test]
    fn an_event_is_one_object_with_the_fields_of_the_help() {
        let event = event();
        assert_eq!(
            Record::event(&event, None).to_line(),
            r#"{"type":"event","epoch":7,"sequence":42,"topic":"orders.eu","key":"order-17","payload":"42 boxes","time":"1970-01-01T00:00:01.500000000Z"}"#
        );
    }

    #[test]
    fn bytes_that_are_no_text_come_as_base64_and_headers_only_when_there_are_some() {
        let event = Event {
            payload: vec![0xff, 0x00].into(),
            headers: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            publish_time: None,
            deleted: true,
            ..event()
        };
        assert_eq!(
            Record::event(&event, Some(3)).to_line(),
            r#"{"type":"event","client":3,"epoch":7,"sequence":42,"topic":"orders.eu","key":"order-17","payload_base64":"/wA=","headers":{"a":"b"},"deleted":true}"#
        );
    }

    #[test]
    fn a_gap_cannot_be_taken_for_an_event() {
        let gap = Gap {
            reason: GapReason::EpochChanged,
            after: Some(Position::new(7, 42)),
            through: Position::new(9, 0),
            events: None,
        };
        assert_eq!(
            Record::gap(&gap, None).to_line(),
            r#"{"type":"gap","reason":"epoch_changed","after":{"epoch":7,"sequence":42},"through":{"epoch":9,"sequence":0}}"#
        );
    }

    #[test]
    fn an_unknown_number_is_null_in_the_verdict() {
        let line = Record::verdict(&Verdict::default()).to_line();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["type"], "verdict");
        assert!(value["lost"].is_null());
        assert_eq!(value["clean"], false);
    }
}
