//! The lines that the demo publishes, and the time of each.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use longlived_client::Message;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_stream::Stream;

/// Written for this demo: forty lines, and something happens in the middle.
const KEEPER: &str = include_str!("../../assets/keeper.txt");

/// More lines than this are no demo but a load.
const LINES_MAX: usize = 10_000;
/// All lines together take about so long ...
const WHOLE: Duration = Duration::from_secs(9);
/// ... unless they are few, and nothing but them is waited for.
const PACE_MAX: Duration = Duration::from_millis(400);
/// Timers are not finer than a millisecond; a faster pace sends several lines at once.
const TICK_MIN: Duration = Duration::from_millis(20);

/// Lines to publish.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) name: String,
    pub(super) lines: Vec<Bytes>,
    /// Lines of the file that are left out at its end.
    pub(super) left_out: usize,
    /// The longest time between two lines.
    pace_max: Duration,
}

impl Text {
    pub(super) fn built_in() -> Self {
        Self::of("a story of forty lines".to_owned(), KEEPER.as_bytes())
    }

    /// A flag's value: a mistake in the file is a mistake of the flag.
    pub(super) fn read(path: &str) -> Result<Self, String> {
        let content = std::fs::read(path).map_err(|error| error.to_string())?;
        let text = Self::of(path.to_owned(), &content);
        if text.lines.is_empty() {
            return Err("it has no lines".to_owned());
        }
        Ok(text)
    }

    fn of(name: String, content: &[u8]) -> Self {
        let mut lines: Vec<Bytes> = content
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii_end)
            .filter(|line| !line.is_empty())
            .map(Bytes::copy_from_slice)
            .collect();
        let left_out = lines.len().saturating_sub(LINES_MAX);
        lines.truncate(LINES_MAX);
        Self {
            name,
            lines,
            left_out,
            pace_max: PACE_MAX,
        }
    }

    /// Few lines take as long as many: something that takes its time happens meanwhile.
    pub(super) fn unhurried(self) -> Self {
        Self {
            pace_max: WHOLE,
            ..self
        }
    }

    fn pace(&self) -> Duration {
        (WHOLE / self.lines.len().max(1) as u32).min(self.pace_max)
    }

    /// The messages, each at its time. The key is the number of the line, from 1.
    pub(super) fn messages(
        &self,
        topic: &'static str,
        run: u64,
    ) -> impl Stream<Item = Message> + Send + use<> {
        let tick = self.pace().max(TICK_MIN);
        let lines_per_tick =
            (tick.as_nanos() / self.pace().as_nanos().max(1)).clamp(1, LINES_MAX as u128);
        let mut ticks = interval(tick);
        // After the outage it goes on at its pace.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let pace = Pace {
            ticks,
            lines_per_tick: lines_per_tick as usize,
            lines: self.lines.clone(),
            next: 0,
        };
        stream::unfold(pace, move |mut pace| async move {
            let (number, line) = pace.next().await?;
            // With an id of its own a line can be sent again when its answer was lost.
            let message = Message::new(topic, line)
                .key(number.to_string())
                .message_id(format!("demo-{run:016x}-{number}"));
            Some((message, pace))
        })
    }
}

struct Pace {
    ticks: Interval,
    lines_per_tick: usize,
    lines: Vec<Bytes>,
    next: usize,
}

impl Pace {
    async fn next(&mut self) -> Option<(usize, Bytes)> {
        let line = self.lines.get(self.next)?.clone();
        if self.next.is_multiple_of(self.lines_per_tick) {
            self.ticks.tick().await;
        }
        self.next += 1;
        Some((self.next, line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_text_has_forty_lines_that_fit_a_terminal() {
        let text = Text::built_in();
        assert_eq!(text.lines.len(), 40);
        assert!(text.lines.iter().all(|line| line.len() < 72));
    }

    #[test]
    fn empty_lines_and_ends_of_lines_are_left_out() {
        let text = Text::of("t".to_owned(), b"one\r\n\n  two  \n\n");
        assert_eq!(text.lines, [&b"one"[..], b"  two"]);
    }

    #[test]
    fn a_file_of_any_size_takes_about_the_same_time() {
        let of = |lines: usize| Text::of(String::new(), "x\n".repeat(lines).as_bytes());
        assert_eq!(of(3).pace(), PACE_MAX);
        assert_eq!(of(3).unhurried().pace() * 3, WHOLE);
        assert_eq!(of(40).pace() * 40, WHOLE);
        let huge = of(10_500);
        assert_eq!((huge.lines.len(), huge.left_out), (LINES_MAX, 500));
        assert!(huge.pace() * LINES_MAX as u32 <= WHOLE);
    }

    #[test]
    fn a_file_that_cannot_be_published_is_a_wrong_flag() {
        assert!(Text::read("/nonexistent/text").is_err());
        assert_eq!(
            Text::read("/dev/null").unwrap_err(),
            "it has no lines".to_owned()
        );
    }
}
