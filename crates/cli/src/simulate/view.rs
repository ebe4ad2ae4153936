//! The output of a simulation: each happening, or a summary, for a person or for a program.

use std::collections::BTreeSet;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use longlived_client::fleet::{Happening, Snapshot, Verdict, What};
use longlived_console::sink::{self, Failing, OutputError, Sink};
use tokio::time::Instant;

use super::Args;
use super::drawing::Drawing;
use super::run::Published;
use crate::show::{self, Output, Record, Tone};

/// The columns of a bar and of the numbers in words.
const SUMMARY_COLUMNS: usize = 90;

/// How it is shown.
enum Form {
    /// One object a line.
    Json,
    /// One line for each happening.
    Lines,
    /// One line for the numbers, each second.
    Summary,
    /// The numbers in place, beside a bar that fills up.
    Bar(ProgressBar),
}

/// Bytes that wait for a slow reader. Further lines are left out.
const BYTES_MAX: usize = 256 << 10;

/// Prints happenings and never waits for their reader; only the verdict waits.
pub(super) struct View {
    out: &'static Sink,
    output: Output,
    form: Form,
    prints_all: bool,
    began: Instant,
    delivered: u64,
    looked: Instant,
    /// The clients that have had a stream, where that is told.
    subscribed: BTreeSet<u32>,
}

impl View {
    pub(super) fn new(args: &Args) -> Self {
        let output = Output::stdout();
        // indicatif shows nothing at all on a terminal that cannot move its cursor.
        let in_place = output.is_terminal() && !ProgressDrawTarget::stdout().is_hidden();
        let out = sink::stdout(
            BYTES_MAX,
            Failing::GoesOn,
            match (args.json, in_place) {
                (true, _) => |lines| Record::LeftOut { lines }.to_line() + "\n",
                (false, false) => |lines| {
                    format!(
                        "{lines} lines are left out here: they were not taken as fast as they came\n"
                    )
                },
                // A further line would stand in the way of the next frame.
                (false, true) => |_| String::new(),
            },
        );
        let form = match (args.json, args.prints_all(), in_place) {
            (true, _, _) => Form::Json,
            (false, true, _) => Form::Lines,
            (false, false, false) => Form::Summary,
            (false, false, true) => {
                let drawing = Drawing::new(out, output);
                Form::Bar(bar(args.duration, drawing, is_narrow(output)))
            }
        };
        let now = Instant::now();
        Self {
            out,
            output,
            form,
            prints_all: args.prints_all(),
            began: now,
            delivered: 0,
            looked: now,
            subscribed: BTreeSet::new(),
        }
    }

    /// Where it is told.
    pub(super) fn out(&self) -> &'static Sink {
        self.out
    }

    fn print(&self, line: impl AsRef<str>) {
        self.out.offer(format!("{}\n", line.as_ref()).as_bytes());
    }

    /// Says something that is only for a person.
    pub(super) fn say(&self, tone: Tone, text: &str) {
        self.say_of("", tone, text);
    }

    /// The same of one client.
    fn say_of(&self, who: &str, tone: Tone, text: &str) {
        let time = format!("{:7.1}s  ", self.began.elapsed().as_secs_f64());
        let lead = [(Tone::Dim, time.as_str()), (Tone::Plain, who)];
        let line = self.output.after(&lead, tone, text);
        match &self.form {
            Form::Json => {}
            Form::Lines | Form::Summary => self.print(line),
            Form::Bar(bar) => bar.println(line),
        }
    }

    pub(super) fn happening(&mut self, happening: &Happening) {
        if let Form::Json = self.form {
            return self.print(Record::happening(happening).to_line());
        }
        if happening.what == What::Subscribed {
            self.subscribed.insert(happening.client);
        }
        let newcomer = !self.subscribed.contains(&happening.client);
        let Some((tone, text)) = show::describe(&happening.what, newcomer) else {
            return;
        };
        let who = format!("client {:<3} ", happening.client);
        self.say_of(&who, tone, &text);
    }

    /// Shows the numbers where not everything is shown. Called each second.
    pub(super) fn numbers(&mut self, snapshot: &Snapshot) {
        let now = Instant::now();
        let seconds = now.duration_since(self.looked).as_secs_f64().max(0.001);
        let per_second = (snapshot.delivered - self.delivered) as f64 / seconds;
        self.looked = now;
        self.delivered = snapshot.delivered;
        if self.prints_all {
            return;
        }
        match &self.form {
            Form::Json => self.print(Record::summary(snapshot, per_second).to_line()),
            Form::Lines => {}
            Form::Summary => self.say(Tone::Plain, &summary(snapshot, per_second)),
            Form::Bar(bar) => {
                bar.set_message(if is_narrow(self.output) {
                    short_summary(snapshot, per_second)
                } else {
                    summary(snapshot, per_second)
                });
                bar.set_position(self.began.elapsed().as_millis() as u64);
            }
        }
    }

    pub(super) fn no_data(&self, after: Duration, hint: &str) {
        let seconds = after.as_secs();
        if let Form::Json = self.form {
            return self.print(Record::NoData { seconds, hint }.to_line());
        }
        self.say(Tone::Wait, &format!("no data for {seconds} s: {hint}"));
    }

    /// Tells the verdict, and returns when it is written.
    pub(super) async fn verdict(
        &self,
        verdict: &Verdict,
        published: Option<&Published>,
    ) -> Result<(), OutputError> {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
        let text = match &self.form {
            Form::Json => Record::verdict(verdict).to_line(),
            _ => self.in_words(verdict, published),
        };
        self.out.put(format!("{text}\n").as_bytes()).await?;
        self.out.settled().await
    }

    fn in_words(&self, verdict: &Verdict, published: Option<&Published>) -> String {
        let mut lines = vec![
            String::new(),
            show::table(verdict, self.output),
            self.output.sentence(
                Tone::Plain,
                &format!(
                    "Unsubscribed: {} of {} streams ended with OK.",
                    verdict.unsubscribed_ok, verdict.clients
                ),
            ),
        ];
        if let Some(published) = published {
            let published = format!(
                "Published: {} acknowledged, {} not stored, {} unknown because the answer was lost.",
                published.acknowledged, published.not_stored, published.unknown
            );
            lines.push(self.output.sentence(Tone::Plain, &published));
        }
        for absence in show::absences(verdict) {
            lines.push(self.output.sentence(Tone::Bad, &absence));
        }
        let (tone, sentence) = show::cleanliness(verdict);
        lines.push(self.output.sentence(tone, &sentence));
        lines.join("\n")
    }
}

fn summary(snapshot: &Snapshot, per_second: f64) -> String {
    let lag = snapshot.lag.map_or_else(|| "-".to_owned(), show::seconds);
    format!(
        "connected {}/{}  reconnecting {}  delivered {per_second:.0}/s  lag {lag}",
        snapshot.connected, snapshot.clients, snapshot.reconnecting
    )
}

/// The same in fewer than 40 columns.
fn short_summary(snapshot: &Snapshot, per_second: f64) -> String {
    let lag = snapshot.lag.map_or_else(|| "-".to_owned(), show::seconds);
    format!(
        "{}/{}  {per_second:.0}/s  lag {lag}",
        snapshot.connected, snapshot.clients
    )
}

/// Whether a terminal has no room for the numbers in words beside a bar.
fn is_narrow(output: Output) -> bool {
    output.width().is_some_and(|width| width < SUMMARY_COLUMNS)
}

/// Fills up to the end of the simulation; without an end it only turns.
fn bar(duration: Option<Duration>, drawing: Drawing, is_narrow: bool) -> ProgressBar {
    let target = ProgressDrawTarget::term_like(Box::new(drawing));
    let (bar, template) = match duration {
        Some(duration) => (
            ProgressBar::with_draw_target(Some(duration.as_millis() as u64), target),
            if is_narrow {
                "{elapsed:>4} {percent:>3}% {wide_msg}"
            } else {
                "{elapsed:>4} [{bar:12}] {wide_msg}"
            },
        ),
        None => (
            ProgressBar::with_draw_target(None, target),
            "{elapsed:>4} {spinner} {wide_msg}",
        ),
    };
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    bar.set_style(style.progress_chars("=> "));
    bar.set_message("connecting");
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_all_four_numbers() {
        let snapshot = Snapshot {
            clients: 100,
            connected: 97,
            reconnecting: 3,
            delivered: 1_234,
            lag: Some(Duration::from_micros(1_800)),
            ..Snapshot::default()
        };
        assert_eq!(
            summary(&snapshot, 96.6),
            "connected 97/100  reconnecting 3  delivered 97/s  lag 1 ms"
        );
        assert_eq!(short_summary(&snapshot, 96.6), "97/100  97/s  lag 1 ms");
    }

    #[test]
    fn a_bar_can_be_made_with_and_without_an_end() {
        let drawing = || Drawing::new(sink::stderr(), Output::stdout());
        for is_narrow in [false, true] {
            let _ = bar(Some(Duration::from_secs(5)), drawing(), is_narrow);
            let _ = bar(None, drawing(), is_narrow);
        }
    }
}
