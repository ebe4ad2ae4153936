//! The counts of this process's subscribers.
//!
//! Holds: a latency is only taken from an event received inside the window, and the window's count and its
//! latencies end at the same instant.

use hdrhistogram::Histogram;

use super::control::{Connected, Finished, Plan, Published};
use super::message::{Kind, Outcome, outcome, sent_at};
use crate::args::Topics;
use crate::http2::reader::StreamEnd;

/// Beyond it latencies are counted as this; nobody reads a chart in minutes.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// The counts of one subscriber.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Subscriber {
    received: u32,
    welcomed: bool,
    ended: bool,
    /// When it held the Welcome of a stream that followed a lost one; 0 = it does not.
    pub(super) back_ns: u64,
}

/// The counts of subscribers that come back.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Returning {
    pub(super) back: u64,
    pub(super) resumed: u64,
    pub(super) resets: u64,
}

#[derive(Debug)]
pub(super) struct Tally {
    subscribers: u64,
    pub(super) welcomed: u64,
    pub(super) refused: u64,
    last_welcome_ns: u64,
    ended: u64,
    trouble: Option<String>,
    delivered: u64,
    pub(super) last_event_ns: u64,
    gaps: u64,
    window: (u64, u64),
    delivered_in_window: u64,
    latencies: Histogram<u64>,
    sample_every: u32,
    until_sample: u32,
    /// From the moment on from which streams may be lost and others take their place.
    pub(super) returning: Option<Returning>,
}

impl Tally {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            subscribers: u64::from(plan.connections) * u64::from(plan.streams),
            welcomed: 0,
            refused: 0,
            last_welcome_ns: 0,
            ended: 0,
            trouble: None,
            delivered: 0,
            last_event_ns: 0,
            gaps: 0,
            window: (0, 0),
            delivered_in_window: 0,
            latencies: Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3)
                .expect("one nanosecond to a minute with three digits is a valid histogram"),
            sample_every: plan.sample_every.max(1),
            until_sample: 1,
            returning: None,
        }
    }

    pub(super) fn open_window(&mut self, start_ns: u64, end_ns: u64) {
        self.window = (start_ns, end_ns);
        self.delivered_in_window = 0;
        self.latencies.reset();
    }

    pub(super) fn message(&mut self, subscriber: &mut Subscriber, head: &[u8], now_ns: u64) {
        match Kind::of(head) {
            Kind::Event => self.event(subscriber, now_ns, || sent_at(head)),
            Kind::Welcome => {
                if let Some(returning) = &mut self.returning
                    && !subscriber.welcomed
                {
                    subscriber.back_ns = now_ns;
                    returning.welcomed(head);
                }
                self.welcome(subscriber, now_ns);
            }
            Kind::Gap => self.gaps += 1,
            Kind::Other => {}
        }
    }

    /// It is in its place. A second Welcome on one stream would be the server's mistake; it does not count twice.
    pub(super) fn welcome(&mut self, subscriber: &mut Subscriber, now_ns: u64) {
        if !subscriber.welcomed {
            subscriber.welcomed = true;
            self.welcomed += 1;
            self.last_welcome_ns = now_ns;
        }
    }

    /// One delivery; `sent_at` is asked only where its latency is taken.
    pub(super) fn event(
        &mut self,
        subscriber: &mut Subscriber,
        now_ns: u64,
        sent_at: impl FnOnce() -> Option<u64>,
    ) {
        subscriber.received = subscriber.received.saturating_add(1);
        self.delivered += 1;
        self.last_event_ns = now_ns;
        let (start, end) = self.window;
        if !(start..end).contains(&now_ns) {
            return;
        }
        self.delivered_in_window += 1;
        self.until_sample -= 1;
        if self.until_sample > 0 {
            return;
        }
        // Where the stamp lies across two reads the next event is taken instead.
        self.until_sample = 1;
        if let Some(sent_ns) = sent_at() {
            self.latencies
                .saturating_record(now_ns.saturating_sub(sent_ns).max(1));
            self.until_sample = self.sample_every;
        }
    }

    pub(super) fn stream_ended(
        &mut self,
        subscriber: &mut Subscriber,
        why: impl FnOnce() -> String,
    ) {
        if subscriber.ended {
            return;
        }
        subscriber.ended = true;
        if subscriber.welcomed {
            self.ended += 1;
        } else {
            self.refused += 1;
        }
        self.note(why);
    }

    /// A connection is gone and will be made again: the subscriber waits for another Welcome.
    pub(super) fn stream_lost(&mut self, subscriber: &mut Subscriber) {
        if subscriber.welcomed {
            self.welcomed -= 1;
        }
        if let Some(returning) = &mut self.returning
            && subscriber.back_ns > 0
        {
            returning.back -= 1;
        }
        *subscriber = Subscriber {
            received: subscriber.received,
            ..Subscriber::default()
        };
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(super) fn trouble(&self) -> Option<&String> {
        self.trouble.as_ref()
    }

    /// Keeps the first of all troubles: later ones are mostly its consequence.
    pub(super) fn note(&mut self, trouble: impl FnOnce() -> String) {
        if self.trouble.is_none() {
            self.trouble = Some(trouble());
        }
    }

    pub(super) fn all_decided(&self) -> bool {
        self.welcomed + self.refused >= self.subscribers
    }

    pub(super) fn connected(&self) -> Connected {
        Connected {
            welcomed: self.welcomed,
            refused: self.refused,
            last_welcome_ns: self.last_welcome_ns,
            sessions_resumed: 0,
            trouble: self.trouble.clone(),
        }
    }

    /// True when as many events are here as were acknowledged for these subscribers.
    pub(super) fn is_complete(&self, plan: &Plan, published: &Published) -> bool {
        self.delivered >= due_to_all(plan, published.acknowledged)
    }

    pub(super) fn finished<'a>(
        &self,
        plan: &Plan,
        published: &Published,
        subscribers: impl Iterator<Item = &'a Subscriber>,
    ) -> Finished {
        let mut lost = 0;
        let mut repeated = 0;
        for (number, subscriber) in (plan.subscriber_first..).zip(subscribers) {
            let received = u64::from(subscriber.received);
            lost += due_to(plan, number, published.acknowledged).saturating_sub(received);
            repeated += received.saturating_sub(due_to(plan, number, published.sent));
        }
        Finished {
            delivered_in_window: self.delivered_in_window,
            delivered: self.delivered,
            lost,
            repeated,
            gaps: self.gaps,
            ended: self.ended,
            trouble: self.trouble.clone(),
            latencies: self
                .latencies
                .iter_recorded()
                .map(|value| (value.value_iterated_to(), value.count_at_value()))
                .collect(),
        }
    }
}

impl Returning {
    fn welcomed(&mut self, head: &[u8]) {
        self.back += 1;
        match outcome(head) {
            Some(Outcome::Resumed) => self.resumed += 1,
            Some(Outcome::Reset) => self.resets += 1,
            Some(Outcome::New | Outcome::Unspecified) | None => {}
        }
    }
}

/// Events that subscriber `number` should receive of `messages` published ones.
fn due_to(plan: &Plan, number: u64, messages: u64) -> u64 {
    match plan.topics {
        Topics::One => messages,
        Topics::Inbox => {
            messages / plan.subscribers_total
                + u64::from(number < messages % plan.subscribers_total)
        }
    }
}

fn due_to_all(plan: &Plan, messages: u64) -> u64 {
    let subscribers = u64::from(plan.connections) * u64::from(plan.streams);
    match plan.topics {
        Topics::One => messages * subscribers,
        Topics::Inbox => {
            let one_more = messages % plan.subscribers_total;
            let with_one_more = one_more
                .saturating_sub(plan.subscriber_first)
                .min(subscribers);
            messages / plan.subscribers_total * subscribers + with_one_more
        }
    }
}

/// How a stream ended, in words.
pub(crate) fn describe(end: StreamEnd) -> String {
    match end {
        StreamEnd::Finished {
            grpc_status: Some(status),
        } => format!("the server ended a stream with gRPC status {status}"),
        StreamEnd::Finished { grpc_status: None } => "the server ended a stream".to_owned(),
        StreamEnd::Reset { code } => format!(
            "the server reset a stream with HTTP/2 code {code} ({})",
            code_name(code)
        ),
    }
}

pub(super) fn code_name(code: u32) -> &'static str {
    match code {
        0 => "NO_ERROR",
        1 => "PROTOCOL_ERROR",
        2 => "INTERNAL_ERROR",
        3 => "FLOW_CONTROL_ERROR",
        7 => "REFUSED_STREAM",
        8 => "CANCEL",
        9 => "COMPRESSION_ERROR",
        11 => "ENHANCE_YOUR_CALM",
        _ => "see RFC 9113, section 7",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::PayloadKind;
    use crate::load::control::Protocol;
    use longlived_console::CompressionFlag;

    fn plan(topics: Topics, subscriber_first: u64) -> Plan {
        Plan {
            server: ([127, 0, 0, 1], 1).into(),
            connections: 2,
            streams: 3,
            local_addresses: None,
            subscriber_first,
            subscribers_total: 15,
            topics,
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 1 << 24,
            sample_every: 1,
            protocol: Protocol::Grpc,
            compression: CompressionFlag::None,
            payload_kind: PayloadKind::Dots,
            tls: None,
            tokens: None,
        }
    }

    #[test]
    fn the_expected_events_of_all_are_the_sum_of_those_of_each() {
        for topics in [Topics::One, Topics::Inbox] {
            for first in [0, 6, 9] {
                let plan = plan(topics, first);
                for messages in 0..50 {
                    let each: u64 = (first..first + 6)
                        .map(|number| due_to(&plan, number, messages))
                        .sum();
                    assert_eq!(
                        due_to_all(&plan, messages),
                        each,
                        "{messages} messages from {first}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_missing_event_is_lost_and_one_too_many_repeated() {
        let plan = plan(Topics::One, 0);
        let tally = Tally::new(&plan);
        let published = Published {
            sent: 10,
            acknowledged: 9,
            trouble: None,
        };
        let subscribers = [7, 8, 9, 10, 11, 9].map(|received| Subscriber {
            received,
            ..Subscriber::default()
        });
        let finished = tally.finished(&plan, &published, subscribers.iter());
        assert_eq!((finished.lost, finished.repeated), (3, 1));
    }
}
