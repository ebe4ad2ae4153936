//! How a class of history is given to `longlived serve`: `FILTER=bytes:256MiB,events:1000000,age:1h`.

use longlived_server::{HistoryClass, Limits};
use longlived_topic::TopicFilter;

use crate::values;

/// Each limit at most once. Events and bytes that are not given have their defaults, and a class without an age keeps
/// events of any age.
pub(crate) fn class(text: &str) -> Result<HistoryClass, String> {
    let (filter, given) = text
        .split_once('=')
        .ok_or("must be FILTER=LIMITS, such as 'orders.>=bytes:256MiB,events:1000000,age:1h'")?;
    let filter = TopicFilter::parse(filter)
        .map_err(|error| format!("the filter `{filter}` is wrong: it {error}"))?;
    let mut limits = Limits {
        age: None,
        ..Limits::DEFAULT
    };
    let mut names: Vec<&str> = Vec::new();
    for limit in given.split(',') {
        let (name, value) = limit.split_once(':').unwrap_or((limit, ""));
        if names.contains(&name) {
            return Err(format!("`{limit}` is a second limit of its kind"));
        }
        names.push(name);
        set(&mut limits, name, value).map_err(|wrong| format!("`{limit}` is wrong: {wrong}"))?;
    }
    Ok(HistoryClass { filter, limits })
}

fn set(limits: &mut Limits, name: &str, value: &str) -> Result<(), String> {
    match name {
        "events" => limits.events = values::number(1..=u64::MAX)(value)?,
        "bytes" => limits.bytes = values::bytes(1..=u64::MAX)(value)?,
        "age" => limits.age = Some(values::positive_duration(value)?),
        _ => return Err("a limit is events:N, bytes:BYTES or age:TIME".to_owned()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_class_is_read_with_every_limit() {
        let class = class("orders.>=bytes:256MiB,events:10,age:1h").unwrap();
        assert_eq!(class.filter.as_str(), "orders.>");
        let limits = Limits {
            events: 10,
            bytes: 256 << 20,
            age: Some(Duration::from_secs(3600)),
        };
        assert_eq!(class.limits, limits);
    }

    #[test]
    fn a_limit_that_is_not_given_has_its_default_and_any_age_does() {
        let class = class("a=events:10").unwrap();
        let limits = Limits {
            events: 10,
            age: None,
            ..Limits::DEFAULT
        };
        assert_eq!(class.limits, limits);
    }

    #[test]
    fn the_part_that_is_wrong_is_named_with_its_range() {
        let events = "must be a whole number from 1 to 18446744073709551615";
        let bytes = "must be a number of bytes from 1 to 18446744073709551615; units are KiB, MiB";
        let age = "must be a length of time from 1ms to 365d";
        let kinds = "a limit is events:N, bytes:BYTES or age:TIME";
        for (limit, range) in [
            ("events:-1", events),
            ("events:0", events),
            ("events:many", events),
            ("events", events),
            ("bytes:1XB", bytes),
            ("bytes:0", bytes),
            ("bytes:0MiB", bytes),
            ("bytes:20000PiB", bytes),
            ("age:soon", age),
            ("age:0s", age),
            ("age:366d", age),
            ("age:1000000000h", age),
            ("size:1", kinds),
            ("", kinds),
        ] {
            for given in [
                format!("a={limit}"),
                format!("a={limit},events:7"),
                format!("a=bytes:7,{limit}"),
            ] {
                // A second one of its kind is reported as that, even with another mistake.
                if given.matches("events").count() > 1 || given.matches("bytes").count() > 1 {
                    continue;
                }
                let error = class(&given).unwrap_err();
                assert!(
                    error.starts_with(&format!("`{limit}` is wrong: {range}")),
                    "{error}"
                );
            }
        }
        assert!(class("a=age:365d").is_ok());
    }

    #[test]
    fn a_filter_that_is_wrong_and_a_second_limit_of_a_kind_are_named() {
        assert!(class("orders").unwrap_err().contains("FILTER=LIMITS"));
        let error = class("a..b=events:1").unwrap_err();
        assert!(
            error.starts_with("the filter `a..b` is wrong: it "),
            "{error}"
        );
        let error = class("a=events:1,bytes:1,events:2").unwrap_err();
        assert_eq!(error, "`events:2` is a second limit of its kind");
    }
}
