//! Small pieces of text: payloads of anybody's making, lengths of time.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// The payload for a person: one line, and nothing in it that a terminal would obey.
pub(crate) fn payload(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => one_line(text),
        Err(_) => format!("base64:{}", BASE64_STANDARD.encode(bytes)),
    }
}

/// The text with control characters written out.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// A short time as a person says it: `87 ms`, `2.31 s`, `3 min 20 s`.
pub(crate) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs();
    if time < Duration::from_millis(1) {
        format!("{} µs", time.as_micros())
    } else if seconds < 1 {
        format!("{} ms", time.as_millis())
    } else if seconds < 60 {
        format!("{:.2} s", time.as_secs_f64())
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

/// The time of day and its date, to a millisecond. `None` where no calendar of four digits has it, since
/// formatting such a time would panic.
pub(crate) fn clock(time: SystemTime) -> Option<String> {
    in_calendar(time).then(|| humantime::format_rfc3339_millis(time).to_string())
}

/// The time as exactly as it is known, such as `--from` takes it.
pub(crate) fn rfc3339(time: SystemTime) -> Option<String> {
    in_calendar(time).then(|| humantime::format_rfc3339(time).to_string())
}

fn in_calendar(time: SystemTime) -> bool {
    let year_10000 = Duration::from_secs(253_402_300_800);
    time.duration_since(SystemTime::UNIX_EPOCH)
        .is_ok_and(|since| since < year_10000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_stays_on_its_line_and_cannot_drive_the_terminal() {
        assert_eq!(payload("42 boxes, grün".as_bytes()), "42 boxes, grün");
        assert_eq!(payload(b"a\nb\t\x1b[31m"), "a\\nb\\t\\u{1b}[31m");
        assert_eq!(payload(&[0xff, 0x00]), "base64:/wA=");
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        for (millis, text) in [(87, "87 ms"), (2_310, "2.31 s"), (200_000, "3 min 20 s")] {
            assert_eq!(seconds(Duration::from_millis(millis)), text);
        }
        assert_eq!(seconds(Duration::from_micros(350)), "350 µs");
    }

    #[test]
    fn a_time_beyond_the_calendar_is_left_out() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(clock(at(1)).as_deref(), Some("1970-01-01T00:00:01.000Z"));
        assert_eq!(rfc3339(at(1 << 40)), None);
        assert_eq!(clock(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), None);
    }
}
