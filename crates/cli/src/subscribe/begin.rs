//! Where a subscription begins: the value of `--from`.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use longlived_client::{ParsePositionError, Position, SubscriberBuilder};
use prost_types::Timestamp;

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Begin {
    /// With everything that is kept.
    Earliest,
    /// With the first event published at or after this time.
    Time(SystemTime),
    /// With the events that were published this long before the command was started.
    Age(Duration),
    /// After this place.
    After(Position),
}

impl FromStr for Begin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "earliest" {
            return Ok(Self::Earliest);
        }
        if text.contains('/') {
            let position = text.parse().map(Self::After);
            return position.map_err(|error: ParsePositionError| error.to_string());
        }
        // A length of time never holds one of these; a date does.
        if text.contains([':', '-']) {
            return text
                .parse::<Timestamp>()
                .ok()
                .filter(|_| text.contains(['T', 't', ' ']))
                .and_then(|time| SystemTime::try_from(time).ok())
                .map(Self::Time)
                .ok_or_else(|| "a time is RFC 3339, such as 2026-01-31T08:00:00Z".to_owned());
        }
        humantime::parse_duration(text).map(Self::Age).map_err(|_| {
            "expected earliest, a time such as 2026-01-31T08:00:00Z, an age such as 10m, or \
             EPOCH/SEQUENCE"
                .to_owned()
        })
    }
}

impl Begin {
    pub(super) fn apply(self, builder: SubscriberBuilder, now: SystemTime) -> SubscriberBuilder {
        match self {
            Self::Earliest => builder.earliest(),
            Self::Time(time) => builder.since(time),
            // Older than the calendar is older than anything kept.
            Self::Age(age) => match now.checked_sub(age) {
                Some(time) if time > SystemTime::UNIX_EPOCH => builder.since(time),
                Some(_) | None => builder.earliest(),
            },
            Self::After(position) => builder.resume_after(position),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Begin {
        text.parse().unwrap()
    }

    #[test]
    fn each_of_the_four_forms_is_understood() {
        assert_eq!(parsed("earliest"), Begin::Earliest);
        assert_eq!(parsed("10m"), Begin::Age(Duration::from_secs(600)));
        assert_eq!(parsed("1h 30m"), Begin::Age(Duration::from_secs(5_400)));
        assert_eq!(
            parsed("8198552921648689/42"),
            Begin::After(Position::new(8_198_552_921_648_689, 42))
        );
        let at = |seconds| Begin::Time(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(parsed("1970-01-02T00:00:00Z"), at(86_400));
        assert_eq!(parsed("1970-01-02T02:00:00+02:00"), at(86_400));
        assert_eq!(
            parsed("1970-01-01T00:00:01.5Z"),
            Begin::Time(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500))
        );
    }

    #[test]
    fn anything_else_is_refused_in_one_line() {
        for wrong in [
            "",
            "latest",
            "10",
            "-10m",
            "7/",
            "/7",
            "0/7",
            "9007199254740992/7",
            "2026-01-31",
            "2026-13-31T08:00:00Z",
            "08:00",
            "yesterday",
        ] {
            let reason = wrong.parse::<Begin>().expect_err(wrong);
            assert!(!reason.contains('\n'), "{reason}");
        }
    }
}
