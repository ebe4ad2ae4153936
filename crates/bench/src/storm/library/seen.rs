//! The counts of the client library's subscribers, each and all together.

use std::time::Duration;

use longlived_client::{Lost, Outcome};

use crate::load::control::{Connected, Finished, Published, Return, Returned, Times};
use crate::retries::{Ceiling, LastBack, Retries};

/// The counts of one subscriber.
#[derive(Debug, Clone, Copy, Default)]
struct One {
    received: u32,
    /// Streams it has had.
    streams: u32,
    /// It has one.
    connected: bool,
    /// When it was current again; 0 = it is not.
    back_ns: u64,
    /// Waits, and so tries, since the kill.
    tries: u32,
    /// The last of them.
    waited_ms: u32,
}

/// The counts of all subscribers.
#[derive(Debug)]
pub(super) struct Seen {
    each: Vec<One>,
    pub(super) welcomed: u64,
    last_welcome_ns: u64,
    pub(super) failed: u64,
    pub(super) delivered: u64,
    pub(super) last_event_ns: u64,
    pub(super) gaps: u64,
    pub(super) violations: u64,
    pub(super) returning: Option<Return>,
    pub(super) back: u64,
    resumed: u64,
    resets: u64,
    refused_dials: u64,
    lost_again: u64,
    retries: Retries,
    attempts: Vec<u64>,
    trouble: Option<String>,
}

impl Seen {
    pub(super) fn new(subscribers: usize) -> Self {
        Self {
            each: vec![One::default(); subscribers],
            welcomed: 0,
            last_welcome_ns: 0,
            failed: 0,
            delivered: 0,
            last_event_ns: 0,
            gaps: 0,
            violations: 0,
            returning: None,
            back: 0,
            resumed: 0,
            resets: 0,
            refused_dials: 0,
            lost_again: 0,
            retries: Retries::default(),
            attempts: Vec::new(),
            trouble: None,
        }
    }

    pub(super) fn note(&mut self, trouble: String) {
        self.trouble.get_or_insert(trouble);
    }

    pub(super) fn event(&mut self, index: usize, now_ns: u64) {
        self.each[index].received += 1;
        self.delivered += 1;
        self.last_event_ns = now_ns;
    }

    pub(super) fn welcome(&mut self, index: usize, outcome: Outcome, now_ns: u64) {
        let one = &mut self.each[index];
        one.connected = true;
        one.streams += 1;
        if one.streams == 1 {
            self.welcomed += 1;
            self.last_welcome_ns = now_ns;
        }
        match outcome {
            // It begins with the next message: it misses none.
            Outcome::New => self.current(index, now_ns),
            Outcome::Resumed => self.resumed += 1,
            Outcome::Reset => self.resets += 1,
        }
    }

    pub(super) fn current(&mut self, index: usize, now_ns: u64) {
        let one = &mut self.each[index];
        if self.returning.is_some() && one.back_ns == 0 {
            one.back_ns = now_ns;
            self.back += 1;
        }
    }

    /// A stream, or the attempt to open one, came to an end.
    pub(super) fn lost(
        &mut self,
        index: usize,
        reason: &Lost,
        now_ns: u64,
        wait: Duration,
        ceiling: &mut Ceiling,
    ) {
        let one = &mut self.each[index];
        let had_stream = std::mem::take(&mut one.connected);
        if one.back_ns > 0 {
            one.back_ns = 0;
            self.back -= 1;
        }
        if self.returning.is_none() {
            self.note(format!("before the kill: {reason}"));
            return;
        }
        // The kill ends the first stream of each; a later end is another loss.
        if (had_stream && one.streams > 1) || (!had_stream && !matches!(reason, Lost::Connect(_))) {
            self.lost_again += 1;
            self.note(reason.to_string());
        }
        let one = &mut self.each[index];
        one.tries += 1;
        one.waited_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        match reason {
            // The server may have named the wait.
            Lost::GoAway(_) | Lost::Status(_) => {
                self.retries.named += 1;
                ceiling.waits(now_ns, wait);
            }
            Lost::Connect(_) => {
                self.refused_dials += 1;
                self.retries.drawn(wait, ceiling.next(now_ns, wait));
            }
            _ => self.retries.drawn(wait, ceiling.next(now_ns, wait)),
        }
    }

    /// An attempt has an outcome, so long after its wait was over.
    pub(super) fn attempted(&mut self, due_ns: Option<u64>, now_ns: u64) {
        if let Some(due_ns) = due_ns {
            self.attempts.push(now_ns.saturating_sub(due_ns));
        }
    }

    pub(super) fn connected(&self) -> Connected {
        Connected {
            welcomed: self.welcomed,
            refused: self.failed,
            last_welcome_ns: self.last_welcome_ns,
            sessions_resumed: 0,
            trouble: self.trouble.clone(),
        }
    }

    pub(super) fn returned(&self) -> Returned {
        let from_ns = self.returning.map_or(0, |asked| asked.from_ns);
        let back = self.each.iter().map(|one| one.back_ns);
        let since = |then_ns: u64| then_ns.saturating_sub(from_ns);
        let times = Times::of(back.filter(|back_ns| *back_ns > 0).map(since));
        let mut retries = self.retries.clone();
        retries.attempts = Times::of(self.attempts.iter().copied()).counts;
        let last = self.each.iter().max_by_key(|one| one.back_ns);
        retries.last = last.map(|one| LastBack {
            back_ns: since(one.back_ns),
            tries: one.tries,
            waited_ms: one.waited_ms,
        });
        retries.tries_max = self.each.iter().map(|one| one.tries).max().unwrap_or(0);
        Returned {
            back: self.back,
            times,
            resumed: self.resumed,
            resets: self.resets,
            refused_dials: self.refused_dials,
            lost_again: self.lost_again,
            trouble: self.trouble.clone(),
            retries: Some(retries),
        }
    }

    pub(super) fn finished(&self, published: &Published) -> Finished {
        let mut finished = Finished {
            delivered: self.delivered,
            gaps: self.gaps,
            ended: self.failed,
            trouble: self.trouble.clone(),
            ..Finished::default()
        };
        for one in &self.each {
            let received = u64::from(one.received);
            finished.lost += published.acknowledged.saturating_sub(received);
            finished.repeated += received.saturating_sub(published.sent);
        }
        // Where the client has caught the server out, something is missing or came twice.
        finished.lost += self.violations;
        finished
    }
}
