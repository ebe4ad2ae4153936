//! The values of the client commands' flags. Each parser names the mistake in a few words; clap puts the flag and the
//! value before them.

use std::ops::RangeInclusive;
use std::time::SystemTime;

use longlived_authorize::Action;
pub(crate) use longlived_console::values::{
    DURATION_MIN, duration, duration_within, number, positive_duration,
};
use longlived_identity::NewToken;
use longlived_topic::{TopicFilter, TopicName};

/// A number of bytes within a range, with or without a unit.
pub(crate) fn bytes<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let bytes = parse_bytes(text).filter(|bytes| range.contains(bytes));
        let bytes = bytes.and_then(|bytes| T::try_from(bytes).ok());
        bytes.ok_or_else(|| {
            let (start, end) = (range.start(), range.end());
            format!(
                "must be a number of bytes from {start} to {end}; units are KiB, MiB, GiB, TiB, PiB and kB, MB, GB, \
                 TB, PB"
            )
        })
    }
}

/// Reads `1024`, `64KiB`, `256MiB`, `2GiB` (and `kB`, `MB`, `GB` as powers of ten).
fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "PiB" => 1 << 50,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "PB" => 1_000_000_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

/// The first of some that stands among them twice.
pub(crate) fn repeated<T: PartialEq>(given: &[T]) -> Option<&T> {
    let mut given = given.iter().enumerate();
    let all = given.clone();
    given.find_map(|(at, one)| {
        all.clone()
            .take(at)
            .any(|(_, before)| before == one)
            .then_some(one)
    })
}

/// Filters that one request may have.
const FILTERS_MAX: usize = 64;

/// A count that clap's own parser would call an unexpected argument.
pub(crate) fn few_filters(filters: &[String]) -> Result<(), clap::Error> {
    let count = filters.len();
    if count <= FILTERS_MAX {
        return Ok(());
    }
    let text =
        format!("{count} filters are given, and at most {FILTERS_MAX} can be followed at once");
    Err(clap::Error::raw(
        clap::error::ErrorKind::TooManyValues,
        text,
    ))
}

/// A filter.
pub(crate) fn parsed_filter(text: &str) -> Result<TopicFilter, String> {
    TopicFilter::parse(text).map_err(|error| format!("it {error}"))
}

/// The name of a static token.
pub(crate) fn token_name(text: &str) -> Result<String, String> {
    NewToken::check_name(text).map(|()| text.to_owned())
}

/// A word of the auth file.
pub(crate) fn action(text: &str) -> Result<Action, String> {
    let found = Action::ALL.into_iter().find(|it| it.as_str() == text);
    found.ok_or_else(|| "must be publish, subscribe or admin".to_owned())
}

/// A moment that is still to come, as a date or as a time from now.
pub(crate) fn future(text: &str) -> Result<SystemTime, String> {
    let now = SystemTime::now();
    let from_now = humantime::parse_duration(text).ok();
    let from_now = from_now.and_then(|from_now| now.checked_add(from_now));
    let when = humantime::parse_rfc3339(text).ok().or(from_now);
    // The last one that can be written.
    let last = humantime::parse_rfc3339("9999-12-31T23:59:59Z").ok();
    match when {
        Some(when) if when <= now => Err("lies in the past".to_owned()),
        Some(when) if Some(when) <= last => Ok(when),
        _ => Err(
            "must be a date with a time, such as 2027-01-01T00:00:00Z, or a time from now, such as 90days"
                .to_owned(),
        ),
    }
}

/// A filter as text: the client sends it as it is.
pub(crate) fn topic_filter(text: &str) -> Result<String, String> {
    parsed_filter(text).map(|_| text.to_owned())
}

/// The name of a topic that may be published to.
pub(crate) fn topic(text: &str) -> Result<String, String> {
    let topic = TopicName::parse(text).map_err(|error| format!("it {error}"))?;
    if topic.is_sys() {
        return Err("topics that begin with $sys are the server's own".to_owned());
    }
    Ok(text.to_owned())
}

pub(crate) fn subscriber_id(text: &str) -> Result<String, String> {
    match longlived_server::subscriber_id(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_filters_are_checked_before_anything_is_sent() {
        assert!(topic_filter("orders.*.new").is_ok());
        assert!(topic_filter("orders.>").is_ok());
        for wrong in ["", "a..b", "a.>.b", "a b", "ä"] {
            assert!(topic_filter(wrong).is_err(), "{wrong}");
            assert!(topic(wrong).is_err(), "{wrong}");
        }
        assert!(topic("orders.eu").is_ok());
        assert!(topic("orders.*").is_err());
        assert!(topic("$sys.load").is_err());
    }

    #[test]
    fn a_moment_to_come_is_a_date_or_a_time_from_now() {
        let now = SystemTime::now();
        assert!(future("1h").unwrap() > now);
        let date = humantime::parse_rfc3339("9999-12-31T23:59:59Z").unwrap();
        assert_eq!(future("9999-12-31T23:59:59Z"), Ok(date));
        for past in ["0s", "1999-01-01T00:00:00Z"] {
            assert_eq!(future(past), Err("lies in the past".to_owned()), "{past}");
        }
        for wrong in [
            "",
            "soon",
            "2999-01-01",
            "2999-01-01T00:00:00",
            "99999years",
            "-1h",
        ] {
            assert!(future(wrong).unwrap_err().starts_with("must be"), "{wrong}");
        }
    }

    #[test]
    fn an_id_has_the_characters_of_the_contract() {
        assert!(subscriber_id("billing:1.a_b-C").is_ok());
        for wrong in ["", "a b", "a/b", "ä", "x".repeat(129).as_str()] {
            assert!(subscriber_id(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_may_have_a_unit_and_stay_in_their_range() {
        let parse = bytes::<u64>(1024..=1 << 30);
        assert_eq!(parse("4096"), Ok(4096));
        assert_eq!(parse("64KiB"), Ok(64 << 10));
        assert_eq!(parse("1MB"), Ok(1_000_000));
        let large = bytes::<u64>(0..=1 << 50);
        assert_eq!(large("1TiB"), Ok(1 << 40));
        assert_eq!(large("1PiB"), Ok(1 << 50));
        assert_eq!(large("1TB"), Ok(1_000_000_000_000));
        assert_eq!(large("1PB"), Ok(1_000_000_000_000_000));
        assert!(large("20000PiB").is_err(), "more than 64 bits hold");
        for wrong in ["", "much", "-1", "1.5MiB", "1XB", "1023", "2GiB"] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains("MiB"), "{wrong}: {error}");
        }
    }
}
