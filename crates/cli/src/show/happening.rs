//! A happening of a fleet's client, as a line for a person.

use longlived_client::fleet::What;
use longlived_client::{Gap, Outcome};
use longlived_console::Tone;

use super::text;

/// The text, and its colour; `None` when a person need not see it. `newcomer`: the client has not had a stream yet.
pub(crate) fn describe(what: &What, newcomer: bool) -> Option<(Tone, String)> {
    let line = match what {
        What::Subscribed => (Tone::Good, "subscribed".to_owned()),
        What::Event(event) => {
            let sequence = event.position.sequence;
            let payload = text::payload(&event.payload);
            (
                Tone::Plain,
                format!("{} #{sequence}  {payload}", event.topic),
            )
        }
        What::Data(data) => (Tone::Plain, text::one_line(data)),
        What::BackingOff {
            reason,
            retry_in,
            had_stream,
        } => {
            let what = match (had_stream, newcomer) {
                (true, _) => "lost its stream",
                (false, false) => "could not come back",
                (false, true) => "has no stream yet",
            };
            let (reason, wait) = (short_reason(reason), text::seconds(*retry_in));
            let tone = if *had_stream { Tone::Bad } else { Tone::Wait };
            (tone, format!("{what} ({reason}), backing off {wait}"))
        }
        What::HandingOver { reason, .. } => {
            (Tone::Wait, format!("moves to a new stream: {reason}"))
        }
        What::Resubscribed { outcome, after } => {
            let after = text::seconds(*after);
            let outcome = match outcome {
                Some(Outcome::Resumed) => ", nothing missed",
                Some(Outcome::Reset) => ", something was missed",
                Some(Outcome::New) | None => "",
            };
            (
                Tone::Good,
                format!("resubscribed, {after} without a stream{outcome}"),
            )
        }
        What::Gap(gap) => (Tone::Wait, format!("gap announced: {}", gap_text(gap))),
        What::Violation(violation) => (Tone::Bad, format!("PROMISE BROKEN: {violation}")),
        What::Current(_) => return None,
        What::Unsubscribed { ok: true } => (Tone::Dim, "unsubscribed, stream ended OK".to_owned()),
        What::Unsubscribed { ok: false } => (
            Tone::Wait,
            "left without an OK: it had no stream, or lost it".to_owned(),
        ),
        What::Failed { reason } => (Tone::Bad, format!("ended for good: {reason}")),
    };
    Some(line)
}

fn gap_text(gap: &Gap) -> String {
    let why = gap.reason;
    let after = gap.after.map_or(0, |after| after.sequence);
    let other_epoch = gap
        .after
        .is_some_and(|after| after.epoch != gap.through.epoch);
    let range = if other_epoch {
        format!("everything after #{after}")
    } else {
        format!("#{} to #{}", after + 1, gap.through.sequence)
    };
    match gap.events {
        Some(1) => format!("{range} (1 event): {why}"),
        Some(events) => format!("{range} ({events} events): {why}"),
        None => format!("{range}: {why}"),
    }
}

/// The reason without details for a debugger.
pub(crate) fn short_reason(reason: &str) -> String {
    let reason = reason
        .strip_prefix("connection to the server lost: ")
        .unwrap_or(reason);
    let reason = match reason.find(" (os error") {
        Some(end) => &reason[..end],
        None => reason,
    };
    let mut letters = reason.chars();
    match letters.next() {
        // "Connection refused" in the middle of a sentence; names such as HTTP stay.
        Some(first) if !letters.as_str().starts_with(|c: char| c.is_uppercase()) => {
            format!("{}{}", first.to_lowercase(), letters.as_str())
        }
        _ => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use longlived_client::{GapReason, Position};

    use super::*;

    fn gap(reason: GapReason, after: Position, through: Position, events: Option<u64>) -> Gap {
        Gap {
            reason,
            after: Some(after),
            through,
            events,
        }
    }

    #[test]
    fn a_lost_stream_and_a_failed_attempt_are_told_apart_and_name_the_wait() {
        let backing_off = |had_stream, newcomer| {
            let reason = "connection to the server lost: Keepalive timed out".to_owned();
            let what = What::BackingOff {
                reason,
                retry_in: Duration::from_millis(412),
                had_stream,
            };
            describe(&what, newcomer)
        };
        assert_eq!(
            backing_off(true, false),
            Some((
                Tone::Bad,
                "lost its stream (keepalive timed out), backing off 412 ms".to_owned()
            ))
        );
        assert_eq!(
            backing_off(false, false),
            Some((
                Tone::Wait,
                "could not come back (keepalive timed out), backing off 412 ms".to_owned()
            ))
        );
        let (_, newcomer) = backing_off(false, true).unwrap();
        assert!(newcomer.starts_with("has no stream yet"), "{newcomer}");
    }

    #[test]
    fn reasons_begin_small_unless_they_begin_with_a_name() {
        assert_eq!(short_reason("HTTP status 502"), "HTTP status 502");
        assert_eq!(
            short_reason("cannot connect: Connection refused (os error 111)"),
            "cannot connect: Connection refused"
        );
        assert_eq!(short_reason(""), "");
    }

    #[test]
    fn a_gap_says_which_events_are_missing_and_why() {
        let trimmed = gap(
            GapReason::Trimmed,
            Position::new(7, 10),
            Position::new(7, 13),
            Some(2),
        );
        assert_eq!(
            gap_text(&trimmed),
            "#11 to #13 (2 events): removed by retention"
        );
        let lost = gap(
            GapReason::EpochChanged,
            Position::new(7, 10),
            Position::new(9, 0),
            None,
        );
        assert_eq!(
            gap_text(&lost),
            "everything after #10: the position is of another epoch, that of an earlier history"
        );
    }
}
