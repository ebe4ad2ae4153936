//! What the demo prints: numbered steps, and under each what happened, with its time.

use std::io;

use longlived_client::fleet::Verdict;
use tokio::time::Instant;

use super::board::Line;
use crate::show::{self, Output, Tone};

/// Lines are cut to this where the terminal does not say how wide it is.
const WIDTH: usize = 96;
/// Of a long text only so many lines are printed.
const LINES_PRINTED: usize = 60;

pub(super) struct Page {
    output: Output,
    began: Instant,
    clients: u32,
    /// Every so many lines one is printed.
    stride: u32,
    lines: usize,
}

impl Page {
    pub(super) fn new(clients: u32, lines: usize) -> Self {
        Self {
            output: Output::stdout(),
            began: Instant::now(),
            clients,
            stride: lines.div_ceil(LINES_PRINTED).max(1) as u32,
            lines,
        }
    }

    pub(super) fn title(&self, text: &str) -> io::Result<()> {
        show::print_line(self.output.paint(Tone::Strong, text))
    }

    pub(super) fn step(&self, number: u32, text: &str) -> io::Result<()> {
        let heading = self
            .output
            .paint(Tone::Heading, format!("{number}  {text}"));
        show::print_line(format!("\n{heading}"))
    }

    /// A remark under a step.
    pub(super) fn remark(&self, text: &str) -> io::Result<()> {
        show::print_line(self.output.paint(Tone::Dim, format!("   {text}")))
    }

    /// Something that happened, and to whom.
    pub(super) fn event(&self, who: &str, tone: Tone, text: &str) -> io::Result<()> {
        let text = self.output.paint(tone, text);
        show::print_line(format!("{}{who:<10} {text}", self.time()))
    }

    /// A line that went out, and how many have it. Of many lines only some are shown.
    pub(super) fn line(&self, line: &Line) -> io::Result<()> {
        if line.number != 1 && !line.number.is_multiple_of(self.stride) {
            return Ok(());
        }
        self.line_at_any_rate(line)
    }

    pub(super) fn line_at_any_rate(&self, line: &Line) -> io::Result<()> {
        let who = format!("line {}", line.number);
        let count = format!("{:>2} of {}", line.delivered, self.clients);
        let tone = if line.delivered == self.clients {
            Tone::Good
        } else {
            Tone::Wait
        };
        let width = self.output.width().unwrap_or(WIDTH);
        let text = show::clipped(&show::payload(&line.text), width.saturating_sub(31).max(20));
        let count = self.output.paint(tone, count);
        show::print_line(format!("{}{who:<10} {count}  {text}", self.time()))
    }

    fn time(&self) -> String {
        let time = format!("{:7.1}s  ", self.began.elapsed().as_secs_f64());
        self.output.paint(Tone::Dim, time)
    }

    pub(super) fn verdict(&self, verdict: &Verdict) -> io::Result<()> {
        show::print_line("")?;
        show::print_line(show::table(verdict, self.output))
    }

    /// A sentence under the verdict.
    pub(super) fn sentence(&self, tone: Tone, text: &str) -> io::Result<()> {
        show::print_line(self.output.paint(tone, text))
    }

    pub(super) fn total(&self) -> usize {
        self.lines
    }
}
