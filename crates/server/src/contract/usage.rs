//! What a principal uses of a node, against its quotas.
//!
//! Holds: all calls of a principal share one [`Usage`], whatever credentials they bring; it is forgotten with the last of them. What
//! is taken is given back when its guard is dropped.
//! Does not: hold where nobody is checked: then all callers would be one principal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use longlived_identity::Quotas;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::rate::{BURST, Rate};

/// A quota is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the quota {quota} of this caller, {limit}{unit}, is used up")]
pub(crate) struct QuotaExhausted {
    /// As the auth file calls it.
    pub(crate) quota: &'static str,
    /// Its value.
    pub(crate) limit: u64,
    unit: &'static str,
    /// When there is room again, as far as is known.
    pub(crate) wait: Option<Duration>,
}

impl QuotaExhausted {
    /// A quota of things that are given back at any time.
    fn of(quota: &'static str, limit: u64) -> Self {
        Self {
            quota,
            limit,
            unit: "",
            wait: None,
        }
    }
}

/// What a principal uses.
#[derive(Debug)]
pub(crate) struct Usage {
    quotas: Mutex<Held>,
    // Subscriber ids with a live stream, and what they have beyond one that is about to be replaced.
    streams: AtomicU64,
    filters: AtomicU64,
    messages: Rate,
    bytes: Rate,
    // In units of `IN_FLIGHT_UNIT` bytes.
    in_flight: Arc<Semaphore>,
}

/// The quotas that hold.
#[derive(Debug)]
struct Held {
    quotas: Quotas,
    // The number of the rules that they are of.
    rules: u64,
    // Room in flight that is to go when it is given back, since the quota has become smaller.
    owed: usize,
}

/// Bytes in flight are counted in units of this many: a semaphore counts to 2^29 with 32 bits.
const IN_FLIGHT_UNIT: u64 = 1 << 10;

fn units(bytes: u64) -> u64 {
    bytes.div_ceil(IN_FLIGHT_UNIT)
}

fn room(quotas: &Quotas) -> usize {
    let room = usize::try_from(units(quotas.in_flight_bytes)).unwrap_or(usize::MAX);
    room.min(Semaphore::MAX_PERMITS)
}

impl Usage {
    pub(crate) fn new(quotas: Quotas, rules: u64) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            streams: AtomicU64::new(0),
            filters: AtomicU64::new(0),
            messages: Rate::new(now),
            bytes: Rate::new(now),
            in_flight: Arc::new(Semaphore::new(room(&quotas))),
            quotas: Mutex::new(Held {
                quotas,
                rules,
                owed: 0,
            }),
        })
    }

    /// Rules that are no older have other quotas. What is in use stays in use.
    pub(crate) fn set_quotas(&self, quotas: Quotas, rules: u64) {
        let mut held = self.quotas.lock();
        if rules <= held.rules {
            return;
        }
        held.rules = rules;
        let before = std::mem::replace(&mut held.quotas, quotas);
        let (before, now) = (room(&before), room(&quotas));
        if now > before {
            let more = now - before;
            let kept = more.min(held.owed);
            held.owed -= kept;
            self.in_flight.add_permits(more - kept);
        } else {
            held.owed += before - now;
        }
        held.owed -= self.in_flight.forget_permits(held.owed);
    }

    /// Room that came back meanwhile goes first.
    fn pay(&self) -> Quotas {
        let mut held = self.quotas.lock();
        if held.owed > 0 {
            held.owed -= self.in_flight.forget_permits(held.owed);
        }
        held.quotas
    }

    fn quotas(&self) -> Quotas {
        self.quotas.lock().quotas
    }

    /// Whether there is room for another stream.
    pub(crate) fn check_stream(&self) -> Result<(), QuotaExhausted> {
        let limit = self.quotas().streams;
        if self.streams.load(Ordering::Acquire) < limit {
            return Ok(());
        }
        Err(QuotaExhausted::of("streams", limit))
    }

    /// Counts a stream.
    pub(crate) fn add_stream(&self) -> Result<(), QuotaExhausted> {
        let limit = self.quotas().streams;
        let counted = count(&self.streams, 1, limit);
        counted.map_err(|()| QuotaExhausted::of("streams", limit))
    }

    /// Whether there is room for this many more filters.
    pub(crate) fn check_filters(&self, more: u64) -> Result<(), QuotaExhausted> {
        let limit = self.quotas().filters;
        if self.filters.load(Ordering::Acquire) + more <= limit {
            return Ok(());
        }
        Err(QuotaExhausted::of("filters", limit))
    }

    pub(crate) fn remove_stream(&self) {
        self.streams.fetch_sub(1, Ordering::AcqRel);
    }

    /// Counts filters of a stream.
    pub(crate) fn add_filters(&self, more: u64) -> Result<(), QuotaExhausted> {
        let limit = self.quotas().filters;
        let counted = count(&self.filters, more, limit);
        counted.map_err(|()| QuotaExhausted::of("filters", limit))
    }

    /// The same of a stream that takes the place of another, as many as end with that one.
    pub(crate) fn add_filters_of_successor(&self, more: u64) {
        self.filters.fetch_add(more, Ordering::AcqRel);
    }

    pub(crate) fn remove_filters(&self, fewer: u64) {
        self.filters.fetch_sub(fewer, Ordering::AcqRel);
    }

    /// How long the next message has to wait for the rates; zero when it has not.
    pub(crate) fn publish_wait(&self, now: Instant) -> Duration {
        let quotas = self.quotas();
        let messages = self.messages.wait(quotas.publish_messages, now);
        messages.max(self.bytes.wait(quotas.publish_bytes, now))
    }

    /// Whether a message may be published now, before it is read.
    pub(crate) fn check_publish(&self, now: Instant) -> Result<(), QuotaExhausted> {
        self.rates(|rate, a_second| rate.wait(a_second, now))
    }

    /// Whether any message may ever be published.
    pub(crate) fn check_rates(&self) -> Result<(), QuotaExhausted> {
        self.rates(|_, a_second| if a_second == 0 { BURST } else { Duration::ZERO })
    }

    /// The first rate that has to wait.
    fn rates(&self, wait: impl Fn(&Rate, u64) -> Duration) -> Result<(), QuotaExhausted> {
        let quotas = self.quotas();
        let (messages, bytes) = (quotas.publish_messages, quotas.publish_bytes);
        let rates = [
            (
                "publish_messages",
                &self.messages,
                messages,
                " messages a second",
            ),
            ("publish_bytes", &self.bytes, bytes, " bytes a second"),
        ];
        for (quota, rate, limit, unit) in rates {
            let wait = wait(rate, limit);
            if !wait.is_zero() {
                return Err(QuotaExhausted {
                    quota,
                    limit,
                    unit,
                    wait: Some(wait),
                });
            }
        }
        Ok(())
    }

    /// Counts a message, if it may be published now: others may have come while it was read.
    pub(crate) fn publish(&self, bytes: u64, now: Instant) -> Result<(), QuotaExhausted> {
        self.check_publish(now)?;
        self.count_published(1, bytes, now);
        Ok(())
    }

    /// Counts published messages. What is too much is waited for by those that follow.
    pub(crate) fn count_published(&self, messages: u64, bytes: u64, now: Instant) {
        let quotas = self.quotas();
        self.messages.take(messages, quotas.publish_messages, now);
        self.bytes.take(bytes, quotas.publish_bytes, now);
    }

    /// Room for messages on their way into the log, if there is any now.
    pub(crate) fn try_in_flight(&self, bytes: u64) -> Result<InFlight, QuotaExhausted> {
        let limit = self.pay().in_flight_bytes;
        let units = in_flight_units(bytes, limit);
        let room = self.in_flight.clone().try_acquire_many_owned(units);
        room.map(Arc::new).map_err(|_| QuotaExhausted {
            quota: "in_flight_bytes",
            limit,
            unit: " bytes",
            wait: None,
        })
    }

    /// The same, when there is.
    pub(crate) async fn in_flight(self: Arc<Self>, bytes: u64) -> InFlight {
        let limit = self.pay().in_flight_bytes;
        let units = in_flight_units(bytes, limit);
        let room = self.in_flight.clone().acquire_many_owned(units).await;
        Arc::new(room.expect("it is never closed"))
    }
}

/// Messages that are larger than the quota go alone.
fn in_flight_units(bytes: u64, limit: u64) -> u32 {
    u32::try_from(units(bytes.min(limit))).unwrap_or(u32::MAX)
}

/// Room for messages on their way into the log, which keeps it until it has stored or refused them.
pub(crate) type InFlight = Arc<OwnedSemaphorePermit>;

fn count(counted: &AtomicU64, more: u64, limit: u64) -> Result<(), ()> {
    let fits = |before: u64| Some(before + more).filter(|&sum| sum <= limit);
    let updated = counted.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits);
    updated.map(drop).map_err(|_| ())
}

#[cfg(test)]
mod tests;
