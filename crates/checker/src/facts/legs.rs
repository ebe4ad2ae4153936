//! A leg is the part of a stream that reads one epoch: its beginning, its filters, and its last position.

use crate::history::{GapReason, History, Position, Said, Start, Step, Stream, WelcomeOutcome};

/// A part of the log: above `after`, up to `through`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stretch {
    pub(crate) after: u64,
    pub(crate) through: u64,
}

impl Stretch {
    pub(crate) fn contains(self, sequence: u64) -> bool {
        self.after < sequence && sequence <= self.through
    }
}

/// A filter, and for which part of the log it holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Follow {
    pub(crate) filter: u32,
    pub(crate) stretch: Stretch,
}

/// How a leg began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// As a new subscription.
    New,
    /// After a position of its own epoch.
    Resumed,
    /// After a position of another epoch.
    OtherEpoch,
}

/// The part of a stream that reads one epoch.
#[derive(Debug)]
pub(crate) struct Leg {
    /// Index of the stream.
    pub(crate) stream: usize,
    pub(crate) epoch: u64,
    pub(crate) begin: Begin,
    /// No event up to here has to be delivered.
    pub(crate) base: u64,
    /// After this every matching event has to be delivered. It is above `base` only if a stream waits for a time.
    pub(crate) expected_after: u64,
    from: usize,
    to: usize,
    pub(crate) follows: Vec<Follow>,
    /// Sequences of the events, sorted.
    pub(crate) delivered: Vec<u64>,
    /// The first event that came.
    pub(crate) first: Option<u64>,
    /// The ranges of the gaps, rising, without overlap.
    pub(crate) announced: Vec<Stretch>,
    /// The last event or end of a gap.
    pub(crate) carried: u64,
    /// Everything up to here was told, as the server says, and the line that says so.
    pub(crate) reached: (u64, u64),
}

impl Leg {
    pub(crate) fn steps<'h>(&self, history: &'h History) -> &'h [Step] {
        &history.streams[self.stream].steps[self.from..self.to]
    }

    /// Whether a gap announced it.
    pub(crate) fn is_announced(&self, sequence: u64) -> bool {
        let above = self.announced.partition_point(|gap| gap.through < sequence);
        self.announced
            .get(above)
            .is_some_and(|gap| gap.contains(sequence))
    }

    pub(crate) fn has(&self, sequence: u64) -> bool {
        self.delivered.binary_search(&sequence).is_ok()
    }

    /// The stretches for which one of the wanted filters holds, joined where they touch.
    pub(crate) fn stretches(&self, wanted: impl Fn(u32) -> bool) -> Vec<Stretch> {
        let follows = self.follows.iter().filter(|follow| wanted(follow.filter));
        joined(follows.map(|follow| follow.stretch).collect())
    }

    fn new(
        index: usize,
        stream: &Stream,
        epoch: u64,
        begin: Begin,
        base: u64,
        from: usize,
    ) -> Self {
        let whole = Stretch {
            after: base,
            through: u64::MAX,
        };
        let follows = stream.filters.iter().map(|&filter| Follow {
            filter,
            stretch: whole,
        });
        Self {
            stream: index,
            epoch,
            begin,
            base,
            expected_after: base,
            from,
            to: stream.steps.len(),
            follows: follows.collect(),
            delivered: Vec::new(),
            first: None,
            announced: Vec::new(),
            carried: base,
            reached: (base, 0),
        }
    }

    fn take(&mut self, step: &Step) {
        match &step.said {
            Said::Event(told) => {
                self.first.get_or_insert(told.sequence);
                self.delivered.push(told.sequence);
                self.carried = self.carried.max(told.sequence);
                self.reach(told.sequence, step.line);
            }
            Said::Gap(gap) => {
                // `after` of a gap between epochs counts in the one that is gone.
                let other = matches!(gap.reason, GapReason::EpochChanged | GapReason::Future);
                self.announced.push(Stretch {
                    after: if other { self.base } else { gap.after },
                    through: gap.through,
                });
                self.carried = self.carried.max(gap.through);
                self.reach(gap.through, step.line);
            }
            Said::Progress { position, .. }
            | Said::GoAway {
                position: Some(position),
            } => {
                if position.epoch == self.epoch {
                    self.reach(position.sequence, step.line);
                }
            }
            // The change holds after the stream's own position: everything up to there was told.
            Said::FilterAdded { filter, after } => {
                self.reach(*after, step.line);
                self.follows.push(Follow {
                    filter: *filter,
                    stretch: Stretch {
                        after: *after,
                        through: u64::MAX,
                    },
                });
            }
            Said::FilterRemoved { filter, after } => {
                self.reach(*after, step.line);
                for follow in &mut self.follows {
                    if follow.filter == *filter && follow.stretch.through == u64::MAX {
                        follow.stretch.through = *after;
                    }
                }
            }
            Said::Welcome { .. } | Said::GoAway { position: None } => {}
        }
    }

    fn reach(&mut self, sequence: u64, line: u64) {
        if sequence > self.reached.0 {
            self.reached = (sequence, line);
        }
    }

    fn finish(mut self, waits_for_time: bool) -> Self {
        self.delivered.sort_unstable();
        self.delivered.dedup();
        self.announced = joined(std::mem::take(&mut self.announced));
        if waits_for_time {
            // Events published before the time are passed over in silence, and the history does not tell the publish
            // times.
            self.expected_after = self.first.map_or(u64::MAX, |first| first - 1);
        }
        self
    }
}

/// All legs of a history, by stream.
pub(super) fn of(history: &History) -> Vec<Leg> {
    let mut legs = Vec::new();
    for (index, stream) in history.streams.iter().enumerate() {
        let first = stream
            .steps
            .iter()
            .enumerate()
            .find_map(|(at, step)| match step.said {
                Said::Welcome {
                    position,
                    outcome,
                    epoch,
                } => Some((at, position, epoch, outcome == WelcomeOutcome::Reset)),
                _ => None,
            });
        let Some((from, welcome, epoch, reset)) = first else {
            continue;
        };
        let (begin, base) = beginning(stream, welcome, epoch, reset);
        let mut leg = Leg::new(index, stream, epoch, begin, base, from);
        let waits = matches!(stream.start, Some(Start::TimeNanos(_))) && begin == Begin::New;
        for (at, step) in stream.steps.iter().enumerate().skip(from) {
            if let Said::Gap(gap) = &step.said
                && let Some(epoch) = gap.through_epoch
                && epoch != leg.epoch
            {
                leg.to = at;
                let next = Leg::new(index, stream, epoch, Begin::OtherEpoch, 0, at);
                legs.push(std::mem::replace(&mut leg, next).finish(waits));
            }
            leg.take(step);
        }
        legs.push(leg.finish(waits));
    }
    legs
}

fn beginning(stream: &Stream, welcome: Position, epoch: u64, reset: bool) -> (Begin, u64) {
    let Some(asked) = stream.resume_after else {
        return (Begin::New, welcome.sequence);
    };
    if asked.epoch != epoch {
        // Of another epoch nothing was received: every event of this one has to be delivered or announced.
        return (Begin::OtherEpoch, 0);
    }
    let future = stream.steps.iter().find_map(|step| match &step.said {
        Said::Gap(gap) => Some((gap.reason == GapReason::Future).then_some(gap.through)),
        Said::Event(_) => Some(None),
        _ => None,
    });
    // Of a position that was never written the Welcome says where the stream stands; the gap may be lost.
    let stands = if reset {
        welcome.sequence.min(asked.sequence)
    } else {
        asked.sequence
    };
    (Begin::Resumed, future.flatten().unwrap_or(stands))
}

fn joined(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.retain(|stretch| stretch.after < stretch.through);
    stretches.sort_unstable();
    let mut joined: Vec<Stretch> = Vec::with_capacity(stretches.len());
    for stretch in stretches {
        match joined.last_mut() {
            Some(last) if stretch.after <= last.through => {
                last.through = last.through.max(stretch.through);
            }
            _ => joined.push(stretch),
        }
    }
    joined
}
