//! The older text format (0.0.4), made of OpenMetrics.
//!
//! Holds: samples are the same in both. The older format knows a counter by the name of its sample, `_total` included,
//! and takes the samples of a type that names anything else for untyped.
//! Does not: know any name or value.

use std::fmt::Write as _;

const HELP: &str = "# HELP ";
const TYPE: &str = "# TYPE ";
/// Lines of a unit and of the end.
const UNKNOWN: [&str; 2] = ["# UNIT ", "# EOF"];

/// The text as the older format has it.
pub(super) fn plain(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        if UNKNOWN.iter().any(|unknown| line.starts_with(unknown)) {
            continue;
        }
        let counter = if line.starts_with(HELP) {
            // The type stands in the line behind it.
            lines.peek().copied().and_then(counter)
        } else {
            counter(line)
        };
        match counter {
            // Both of the words that such a line begins with are as long.
            Some(name) => {
                let (head, rest) = line.split_at(HELP.len() + name.len());
                let _ = writeln!(text, "{head}_total{rest}");
            }
            None => {
                let _ = writeln!(text, "{line}");
            }
        }
    }
    text
}

/// The name of the counter that this line gives its type.
fn counter(line: &str) -> Option<&str> {
    line.strip_prefix(TYPE)?.strip_suffix(" counter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_named_as_their_samples_and_nothing_stands_there_that_the_format_does_not_know()
    {
        let open_metrics = "# HELP a What a counter counts.\n\
                            # TYPE a counter\n\
                            a_total{of=\"# EOF\"} 1\n\
                            # HELP b_bytes Bytes.\n\
                            # TYPE b_bytes gauge\n\
                            # UNIT b_bytes bytes\n\
                            b_bytes 2\n\
                            # EOF\n";
        let wanted = "# HELP a_total What a counter counts.\n\
                      # TYPE a_total counter\n\
                      a_total{of=\"# EOF\"} 1\n\
                      # HELP b_bytes Bytes.\n\
                      # TYPE b_bytes gauge\n\
                      b_bytes 2\n";
        assert_eq!(plain(open_metrics), wanted);
    }
}
