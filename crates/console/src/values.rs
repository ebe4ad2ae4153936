//! The values of the client commands' flags. Each parser names the mistake in a few words; clap puts the flag and the
//! value before them.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// Longer than anybody waits, and far below the overflow of a clock.
const DURATION_MAX: Duration = Duration::from_secs(365 * DAY);
const DAY: u64 = 24 * HOUR;
const HOUR: u64 = 3600;

/// The grain of the timers: a shorter interval would take a core for nothing.
pub const DURATION_MIN: Duration = Duration::from_millis(1);

/// A length of time, which may be none.
pub fn duration(text: &str) -> Result<Duration, String> {
    duration_within(text, Duration::ZERO..=DURATION_MAX)
}

/// A length of time in which something can happen.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    duration_within(text, DURATION_MIN..=DURATION_MAX)
}

/// A length of time within a range.
pub fn duration_within(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).ok();
    duration
        .filter(|duration| range.contains(duration))
        .ok_or_else(|| {
            format!(
                "must be a length of time from {} to {}, such as 250ms, 10s or 1h",
                in_one_unit(*range.start()),
                in_one_unit(*range.end())
            )
        })
}

/// A bound of a range as a person would give it: humantime would make 11 months and some of 365 days.
fn in_one_unit(bound: Duration) -> String {
    match bound.as_secs() {
        days if days > DAY && days.is_multiple_of(DAY) => format!("{}d", days / DAY),
        hours if hours > 0 && hours.is_multiple_of(HOUR) => format!("{}h", hours / HOUR),
        _ => humantime::format_duration(bound).to_string(),
    }
}

/// A whole number within a range.
pub fn number<T>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (start, end) = (range.start(), range.end());
            format!("must be a whole number from {start} to {end}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_whole_and_stays_in_its_range() {
        let parse = number(1_u32..=1_000_000);
        assert_eq!(parse("1000000"), Ok(1_000_000));
        for wrong in [
            "",
            "many",
            "0",
            "-1",
            "1.5",
            "1e3",
            "1000001",
            "99999999999",
        ] {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error, "must be a whole number from 1 to 1000000", "{wrong}");
        }
    }

    #[test]
    fn a_wrong_length_of_time_is_told_the_range_in_one_unit_each() {
        let hour = Duration::from_secs(HOUR);
        for (wrong, range, told) in [
            ("soon", Duration::ZERO..=DURATION_MAX, "from 0s to 365d"),
            ("-5s", DURATION_MIN..=24 * hour, "from 1ms to 24h"),
            ("2d", DURATION_MIN..=24 * hour, "from 1ms to 24h"),
            ("10m", Duration::from_secs(1)..=hour / 12, "from 1s to 5m"),
        ] {
            let error = duration_within(wrong, range).unwrap_err();
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_length_of_time_has_a_unit() {
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert!(duration("5").is_err());
        assert!(positive_duration("0s").is_err());
        assert!(positive_duration("1ns").is_err());
        assert!(positive_duration("1ms").is_ok());
    }
}
