//! The values of the client commands' flags. Each parser names the mistake in a few words; clap puts the flag and the
//! value before them.

use std::ops::RangeInclusive;

pub(crate) use longlived_console::values::{
    DURATION_MIN, duration, duration_within, number, positive_duration,
};
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

/// A filter as text: the client sends it as it is.
pub(crate) fn topic_filter(text: &str) -> Result<String, String> {
    match TopicFilter::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("it {error}")),
    }
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
