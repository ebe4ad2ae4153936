//! The effect of a response: items for the application, a new position, or the announcement of an end.

use std::time::Duration;

use longlived_api::v1;
use longlived_api::v1::subscribe_response::Frame;
use tokio::time::Instant;

use super::super::ending::End;
use super::super::notice::{GoAwayReason, Notice};
use super::super::stream::{Departure, Live};
use super::streams::{Successor, Which};
use super::{Engine, far_away};
use crate::continuity::{Checked, Violation};
use crate::event::{Event, GapReason};
use crate::position::Position;
use crate::record::Told;
use crate::subscriber::Item;

impl Engine {
    pub(super) fn frame(&mut self, frame: Frame, which: Which) {
        match frame {
            Frame::Event(event) => self.event(event, which),
            Frame::Progress(progress) => {
                self.live(which).told(Told::Progress(&progress));
                self.progress(&progress, which);
            }
            Frame::Gap(gap) => {
                self.live(which).told(Told::Gap(&gap));
                self.gap(&gap, which);
            }
            Frame::GoAway(go_away) => {
                self.live(which).told(Told::GoAway(&go_away));
                self.go_away(&go_away, which);
            }
            Frame::CredentialNotice(notice) => self.credential_notice(&notice, which),
            Frame::SubscriptionChange(change) => self.filter_changed(change),
            // Nothing is asked for on a running stream, and a second Welcome says nothing new.
            Frame::RequestRefused(_) | Frame::Welcome(_) => {}
        }
    }

    pub(super) fn live(&mut self, which: Which) -> &mut Live {
        let streams = self.streams_mut();
        match (which, &mut streams.successor) {
            (Which::Successor, Successor::Open(live)) => live,
            _ => &mut streams.current,
        }
    }

    /// True when the application has this already, by way of the other stream.
    fn known(&self, position: Position) -> bool {
        self.position.is_some_and(|known| known.reaches(position))
    }

    fn event(&mut self, event: v1::Event, which: Which) {
        let live = self.live(which);
        let epoch = live.checker.epoch();
        let checked = live
            .checker
            .event(&event.topic, event.sequence, event.previous_sequence);
        let position = Position::new(epoch, event.sequence);
        // Only an event that came on the other stream is known: one that the same stream repeats is a violation.
        let applied = !matches!(checked, Checked::Drop(_)) && !self.known(position);
        self.live(which).told(Told::Event {
            event: &event,
            applied,
        });
        match checked {
            Checked::Good => {}
            Checked::GoodAfter(violation) | Checked::Drop(violation) => self.violation(violation),
        }
        if !applied {
            return;
        }
        self.position = Some(position);
        let event = Event::from_wire(epoch, event);
        self.queue.push_back((Item::Event(event), Some(position)));
    }

    /// A filter that is granted no more. A stream that asked for it again would be refused as a whole.
    fn filter_changed(&mut self, change: v1::SubscriptionChange) {
        let filters = &mut self.ask.filters;
        let is_asked_for = filters.contains(&change.topic_filter);
        if change.state() == v1::subscription_change::State::Refused && is_asked_for {
            if filters.len() > 1 {
                filters.retain(|filter| *filter != change.topic_filter);
            }
            self.say(Notice::FilterRefused {
                filter: change.topic_filter,
                message: change.message,
            });
        }
    }

    fn violation(&mut self, violation: Violation) {
        tracing::warn!(subscriber = %self.standing.id, "{violation}");
        self.queue.push_back((Item::Violation(violation), None));
    }

    fn progress(&mut self, progress: &v1::Progress, which: Which) {
        if let Some(position) = progress.position.map(Position::from) {
            if let Some(violation) = self.live(which).checker.progress(position) {
                self.violation(violation);
            }
            // A stream of another epoch says nothing about this one.
            let reached =
                if position.epoch == self.live(which).checker.epoch() && !self.known(position) {
                    self.position = Some(position);
                    position
                } else {
                    self.position.unwrap_or(position)
                };
            let notice = if progress.current {
                Notice::Current { position: reached }
            } else {
                Notice::Progress { position: reached }
            };
            self.queue.push_back((Item::Notice(notice), self.position));
        }
        if progress.current && matches!(which, Which::Successor) {
            // It has everything the old stream had: nothing is lost by leaving that now.
            self.current_ended(End::Ok);
        }
    }

    fn gap(&mut self, wire: &v1::Gap, which: Which) {
        let mut gap = self.live(which).checker.gap(wire);
        if gap.reason != GapReason::Future {
            let handing_over = matches!(self.streams_mut().successor, Successor::Open(_));
            if handing_over && self.known(gap.through) {
                return;
            }
            // An event that came on the other stream is not missing.
            if let (Some(after), Some(known)) = (gap.after, self.position)
                && known.reaches(after)
            {
                if known != after {
                    // How many of them came is not known.
                    gap.events = None;
                }
                gap.after = Some(known);
            }
        }
        self.position = self.live(which).checker.position().or(self.position);
        self.queue.push_back((Item::Gap(gap), self.position));
    }

    fn go_away(&mut self, go_away: &v1::GoAway, which: Which) {
        let reason = GoAwayReason::from_wire(go_away.reason);
        let now = Instant::now();
        let duration = |wire: Option<prost_types::Duration>| -> Option<Duration> {
            wire.and_then(|wire| Duration::try_from(wire).ok())
        };
        let mut after = duration(go_away.reconnect_after).unwrap_or_default();
        if go_away.reconnect {
            after = self.backoff.announced(now, after, &mut self.rng);
        }
        let ends = duration(go_away.ends_in);
        let live = self.live(which);
        live.departure = Some(Departure {
            reason,
            reconnect: go_away.reconnect,
            // One that shall not come back is read to its end; nothing is opened before.
            turn: now
                .checked_add(after)
                .filter(|_| go_away.reconnect)
                .unwrap_or_else(far_away),
            ends: ends.and_then(|ends| now.checked_add(ends)),
        });
        if reason == GoAwayReason::CredentialExpired {
            self.refused = live.credential.clone();
        }
        let streams = self.streams_mut();
        if matches!(streams.successor, Successor::Asking(_)) {
            // The next stream is opened for this reason now, if at all.
            streams.successor = Successor::None;
        }
        if matches!(reason, GoAwayReason::Draining | GoAwayReason::StreamAge) {
            // The next stream shall not land on a connection to a server that is leaving, and one that has reached its age
            // shall find another server behind a balancer.
            let lease = self.live(which).lease.clone();
            self.ask.client.shared.pool.retire(&lease);
        }
        if ends.is_some() && go_away.reconnect {
            self.say(Notice::HandingOver { reason, after });
        }
    }
}
