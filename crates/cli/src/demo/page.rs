//! The output of the demo: numbered steps, and under each its happenings, with their times.

use longlived_client::fleet::Verdict;
use longlived_console::sink::{self, Failing, OutputError, Sink};
use tokio::time::Instant;

use super::board::Line;
use crate::show::{self, Output, Tone};

/// Lines are cut to this where the terminal does not say how wide it is.
const WIDTH: usize = 96;
/// Columns before the text of a line; the text has at least [`TEXT_MIN`].
const BEFORE_TEXT: usize = 31;
const TEXT_MIN: usize = 20;
/// How many lines of a long text are printed.
const LINES_PRINTED: usize = 60;
/// Bytes that wait for a reader that does not read, while the demo goes on: more than its whole output.
const PAGE_BYTES_MAX: usize = 1 << 20;

pub(super) struct Page {
    out: &'static Sink,
    output: Output,
    began: Instant,
    clients: u32,
    /// One line in this many is printed.
    stride: u32,
    lines: usize,
    /// Steps that have begun.
    steps: u32,
}

impl Page {
    pub(super) fn new(clients: u32, lines: usize) -> Self {
        Self {
            out: sink::stdout(PAGE_BYTES_MAX, Failing::Ends, |lines| {
                format!("({lines} lines are left out)\n")
            }),
            output: Output::stdout(),
            began: Instant::now(),
            clients,
            stride: lines.div_ceil(LINES_PRINTED).max(1) as u32,
            lines,
            steps: 0,
        }
    }

    /// Does not wait: the clients go on meanwhile.
    fn print(&self, text: impl AsRef<str>) -> Result<(), OutputError> {
        self.out.offer(format!("{}\n", text.as_ref()).as_bytes());
        self.out.failure()
    }

    /// Returns when all of it is written.
    pub(super) async fn written(&self) -> Result<(), OutputError> {
        self.out.settled().await
    }

    pub(super) fn title(&self, text: &str) -> Result<(), OutputError> {
        self.print(self.output.sentence(Tone::Strong, text))
    }

    /// The heading of the next step.
    pub(super) fn step(&mut self, text: &str) -> Result<(), OutputError> {
        self.steps += 1;
        let number = format!("{}  ", self.steps);
        let heading = self
            .output
            .after(&[(Tone::Heading, &number)], Tone::Heading, text);
        self.print(format!("\n{heading}"))
    }

    /// A remark under a step.
    pub(super) fn remark(&self, text: &str) -> Result<(), OutputError> {
        self.print(self.output.after(&[(Tone::Dim, "   ")], Tone::Dim, text))
    }

    /// A happening, with the name of its client or process.
    pub(super) fn event(&self, who: &str, tone: Tone, text: &str) -> Result<(), OutputError> {
        let (time, who) = (self.time(), format!("{who:<10} "));
        let lead = [(Tone::Dim, time.as_str()), (Tone::Plain, &who)];
        self.print(self.output.after(&lead, tone, text))
    }

    /// A line that went out, and how many have it. Of many lines only some are shown.
    pub(super) fn line(&self, line: &Line) -> Result<(), OutputError> {
        if line.number != 1 && !line.number.is_multiple_of(self.stride) {
            return Ok(());
        }
        self.line_at_any_rate(line)
    }

    pub(super) fn line_at_any_rate(&self, line: &Line) -> Result<(), OutputError> {
        let who = format!("line {}", line.number);
        let count = format!("{:>2} of {}", line.delivered, self.clients);
        let tone = if line.delivered == self.clients {
            Tone::Good
        } else {
            Tone::Wait
        };
        let width = self.output.width().unwrap_or(WIDTH);
        let text = show::payload(&line.text);
        let text = match width.saturating_sub(BEFORE_TEXT) {
            // Below it there is more room.
            0..TEXT_MIN => format!("\n    {}", show::clipped(&text, width.saturating_sub(4))),
            room => format!("  {}", show::clipped(&text, room)),
        };
        let (time, count) = (
            self.output.paint(Tone::Dim, self.time()),
            self.output.paint(tone, count),
        );
        self.print(format!("{time}{who:<10} {count}{text}"))
    }

    fn time(&self) -> String {
        format!("{:7.1}s  ", self.began.elapsed().as_secs_f64())
    }

    pub(super) fn verdict(&self, verdict: &Verdict) -> Result<(), OutputError> {
        self.print("")?;
        self.print(show::table(verdict, self.output))
    }

    /// A sentence under the verdict.
    pub(super) fn sentence(&self, tone: Tone, text: &str) -> Result<(), OutputError> {
        self.print(self.output.sentence(tone, text))
    }

    pub(super) fn total(&self) -> usize {
        self.lines
    }
}
