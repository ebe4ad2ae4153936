//! What each principal uses, by its name.
//!
//! Holds: what is kept is bounded by the callers that are live or known, however often names change.

use std::sync::{Arc, Weak};

use longlived_identity::Quotas;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::contract::Usage;

/// The fewest that are looked through for those that are not used any more.
const LOOK_MIN: usize = 1_024;

#[derive(Default)]
pub(super) struct Usages(Mutex<Known>);

#[derive(Default)]
struct Known {
    of: FxHashMap<Arc<str>, Weak<Usage>>,
    // How many there may be before those that nobody uses are removed.
    look_at: usize,
}

impl Usages {
    /// What the callers of this name use, against the quotas of these rules.
    pub(super) fn of(&self, principal: &Arc<str>, quotas: Quotas, rules: u64) -> Arc<Usage> {
        let mut known = self.0.lock();
        if let Some(usage) = known.of.get(principal).and_then(Weak::upgrade) {
            usage.set_quotas(quotas, rules);
            return usage;
        }
        if known.of.len() >= known.look_at {
            known.of.retain(|_, usage| usage.strong_count() > 0);
            known.look_at = LOOK_MIN.max(2 * known.of.len());
        }
        let usage = Usage::new(quotas, rules);
        known.of.insert(principal.clone(), Arc::downgrade(&usage));
        usage
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().of.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_that_nobody_uses_any_more_are_not_kept() {
        let usages = Usages::default();
        let name = |number: usize| -> Arc<str> { format!("acme/{number}").into() };
        let kept: Vec<_> = (0..100)
            .map(|number| usages.of(&name(number), Quotas::DEFAULT, 1))
            .collect();
        for number in 100..50_000 {
            usages.of(&name(number), Quotas::DEFAULT, 1);
            assert!(usages.len() <= LOOK_MIN + 1, "{}", usages.len());
        }
        let again = usages.of(&name(7), Quotas::DEFAULT, 1);
        assert!(
            Arc::ptr_eq(&again, &kept[7]),
            "one for all callers of a name"
        );
    }
}
