//! The answers that a load process owes.
//!
//! Holds: each answer is given when its condition holds, or when its time is up.
//! Does not: count; the caller decides on the condition.

use super::control::Published;
use crate::clock::monotonic_ns;

#[derive(Debug, Default)]
pub(crate) struct Owed {
    connected_by_ns: Option<u64>,
    /// The published messages, and the time by which they must be here.
    arrived: Option<(Published, u64)>,
    finished: Option<Finish>,
}

#[derive(Debug)]
struct Finish {
    published: Published,
    quiet_ns: u64,
    deadline_ns: u64,
    asked_ns: u64,
}

impl Owed {
    /// `Connected` was asked for.
    pub(crate) fn owe_connected(&mut self, deadline_ns: u64) {
        self.connected_by_ns = Some(deadline_ns);
    }

    /// `Arrived` was asked for.
    pub(crate) fn owe_arrived(&mut self, published: Published, deadline_ns: u64) {
        self.arrived = Some((published, deadline_ns));
    }

    /// `Finished` was asked for, the last word.
    pub(crate) fn owe_finished(&mut self, published: Published, quiet_ns: u64, deadline_ns: u64) {
        self.finished = Some(Finish {
            published,
            quiet_ns,
            deadline_ns,
            asked_ns: monotonic_ns(),
        });
    }

    /// Whether `Connected` is to be said now, which is so once.
    pub(crate) fn connected_is_due(
        &mut self,
        now_ns: u64,
        all_decided: impl FnOnce() -> bool,
    ) -> bool {
        let is_due = |deadline: &mut u64| now_ns >= *deadline || all_decided();
        self.connected_by_ns.take_if(is_due).is_some()
    }

    /// Whether `Arrived` is to be said now, which is so once.
    pub(crate) fn arrived_is_due(
        &mut self,
        now_ns: u64,
        is_complete: impl FnOnce(&Published) -> bool,
    ) -> bool {
        let is_due = |(published, deadline): &mut (Published, u64)| {
            now_ns >= *deadline || is_complete(published)
        };
        self.arrived.take_if(is_due).is_some()
    }

    /// The published messages, if `Finished` is to be sent now: all of them are here, or nothing comes any more.
    pub(crate) fn finished_is_due(
        &self,
        now_ns: u64,
        last_event_ns: u64,
        is_complete: impl FnOnce(&Published) -> bool,
    ) -> Option<&Published> {
        let finish = self.finished.as_ref()?;
        let quiet_ns = now_ns.saturating_sub(last_event_ns.max(finish.asked_ns));
        let is_over = now_ns >= finish.deadline_ns || quiet_ns >= finish.quiet_ns;
        (is_over || is_complete(&finish.published)).then_some(&finish.published)
    }
}
