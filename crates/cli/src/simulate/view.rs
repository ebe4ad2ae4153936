//! What a simulation shows: each happening, or a summary, for a person or for a program.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use longlived_client::fleet::{Happening, Snapshot, Verdict, What};
use tokio::time::Instant;

use super::Args;
use super::run::Published;
use crate::show::{self, Output, Record, Tone};

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

pub(super) struct View {
    output: Output,
    form: Form,
    prints_all: bool,
    began: Instant,
    delivered: u64,
    looked: Instant,
    /// Who has had a stream, where that is told.
    subscribed: BTreeSet<u32>,
}

impl View {
    pub(super) fn new(args: &Args) -> Self {
        let output = Output::stdout();
        // indicatif shows nothing at all on a terminal that cannot move its cursor.
        let in_place = output.is_terminal() && !ProgressDrawTarget::stdout().is_hidden();
        let form = match (args.json, args.prints_all(), in_place) {
            (true, _, _) => Form::Json,
            (false, true, _) => Form::Lines,
            (false, false, false) => Form::Summary,
            (false, false, true) => Form::Bar(bar(args.duration)),
        };
        let now = Instant::now();
        Self {
            output,
            form,
            prints_all: args.prints_all(),
            began: now,
            delivered: 0,
            looked: now,
            subscribed: BTreeSet::new(),
        }
    }

    /// Says something that is only for a person.
    pub(super) fn say(&self, tone: Tone, text: &str) -> io::Result<()> {
        let time = format!("{:7.1}s", self.began.elapsed().as_secs_f64());
        let line = format!(
            "{}  {}",
            self.output.paint(Tone::Dim, time),
            self.output.paint(tone, text)
        );
        match &self.form {
            Form::Json => Ok(()),
            Form::Lines | Form::Summary => show::print_line(line),
            Form::Bar(bar) => {
                bar.println(line);
                Ok(())
            }
        }
    }

    pub(super) fn happening(&mut self, happening: &Happening) -> io::Result<()> {
        if let Form::Json = self.form {
            return show::print_line(Record::happening(happening).to_line());
        }
        if happening.what == What::Subscribed {
            self.subscribed.insert(happening.client);
        }
        let newcomer = !self.subscribed.contains(&happening.client);
        let Some((tone, text)) = show::describe(&happening.what, newcomer) else {
            return Ok(());
        };
        let who = format!("client {:<3}", happening.client);
        self.say(
            Tone::Plain,
            &format!("{who} {}", self.output.paint(tone, text)),
        )
    }

    /// Shows the numbers where not everything is shown. Called each second.
    pub(super) fn numbers(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let now = Instant::now();
        let seconds = now.duration_since(self.looked).as_secs_f64().max(0.001);
        let per_second = (snapshot.delivered - self.delivered) as f64 / seconds;
        self.looked = now;
        self.delivered = snapshot.delivered;
        if self.prints_all {
            return Ok(());
        }
        match &self.form {
            Form::Json => show::print_line(Record::summary(snapshot, per_second).to_line()),
            Form::Lines => Ok(()),
            Form::Summary => self.say(Tone::Plain, &summary(snapshot, per_second)),
            Form::Bar(bar) => {
                bar.set_message(summary(snapshot, per_second));
                bar.set_position(self.began.elapsed().as_millis() as u64);
                Ok(())
            }
        }
    }

    pub(super) fn no_data(&self, after: Duration, hint: &str) -> io::Result<()> {
        let seconds = after.as_secs();
        if let Form::Json = self.form {
            return show::print_line(Record::NoData { seconds, hint }.to_line());
        }
        self.say(Tone::Wait, &format!("no data for {seconds} s: {hint}"))
    }

    pub(super) fn verdict(
        &self,
        verdict: &Verdict,
        published: Option<&Published>,
    ) -> io::Result<()> {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
        if let Form::Json = self.form {
            return show::print_line(Record::verdict(verdict).to_line());
        }
        let unsubscribed = format!(
            "Unsubscribed: {} of {} streams ended with OK.",
            verdict.unsubscribed_ok, verdict.clients
        );
        let (tone, sentence) = show::cleanliness(verdict);
        show::print_line("")?;
        show::print_line(show::table(verdict, self.output))?;
        show::print_line(unsubscribed)?;
        if let Some(published) = published {
            show::print_line(format!(
                "Published: {} acknowledged, {} not stored, {} unknown because the answer was lost.",
                published.acknowledged, published.not_stored, published.unknown
            ))?;
        }
        for absence in show::absences(verdict) {
            show::print_line(self.output.paint(Tone::Bad, absence))?;
        }
        show::print_line(self.output.paint(tone, sentence))
    }
}

fn summary(snapshot: &Snapshot, per_second: f64) -> String {
    let lag = snapshot.lag.map_or_else(|| "-".to_owned(), show::seconds);
    format!(
        "connected {}/{}  reconnecting {}  delivered {per_second:.0}/s  lag {lag}",
        snapshot.connected, snapshot.clients, snapshot.reconnecting
    )
}

/// Fills up to the end of the simulation; without an end it only turns.
fn bar(duration: Option<Duration>) -> ProgressBar {
    let target = ProgressDrawTarget::stdout();
    let (bar, template) = match duration {
        Some(duration) => (
            ProgressBar::with_draw_target(Some(duration.as_millis() as u64), target),
            "{elapsed:>4} [{bar:12}] {wide_msg}",
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
    }

    #[test]
    fn a_bar_can_be_made_with_and_without_an_end() {
        let _ = bar(Some(Duration::from_secs(5)));
        let _ = bar(None);
    }
}
