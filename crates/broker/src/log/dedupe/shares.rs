//! The part of each principal in the window of message ids.

use std::collections::{BTreeSet, VecDeque};

use rustc_hash::FxHashMap;

use crate::message::{MessageKey, Principal};

/// The ids of each principal, oldest first. A principal without ids has no share.
#[derive(Default)]
pub(super) struct Shares {
    // Numbers are given once, so that the order of shares of one size is that in which they came.
    next: u64,
    of: FxHashMap<Option<Principal>, u64>,
    by_number: FxHashMap<u64, Share>,
    by_size: BTreeSet<(usize, u64)>,
}

struct Share {
    owner: Option<Principal>,
    ids: VecDeque<MessageKey>,
}

impl Shares {
    /// Adds an id, the newest of its principal; the number of the share. `None` is nobody known.
    pub(super) fn push(&mut self, principal: Option<&Principal>, id: MessageKey) -> u64 {
        let owner = principal.cloned();
        let number = *self.of.entry(owner.clone()).or_insert_with(|| {
            self.next += 1;
            let ids = VecDeque::new();
            self.by_number.insert(self.next, Share { owner, ids });
            self.next
        });
        if let Some(share) = self.by_number.get_mut(&number) {
            self.by_size.remove(&(share.ids.len(), number));
            share.ids.push_back(id);
            self.by_size.insert((share.ids.len(), number));
        }
        number
    }

    /// Removes an id of a share: mostly its oldest.
    pub(super) fn remove(&mut self, number: u64, id: MessageKey) {
        let Some(share) = self.by_number.get_mut(&number) else {
            return;
        };
        self.by_size.remove(&(share.ids.len(), number));
        if share.ids.front() == Some(&id) {
            share.ids.pop_front();
        } else {
            share.ids.retain(|other| *other != id);
        }
        if !share.ids.is_empty() {
            self.by_size.insert((share.ids.len(), number));
        } else if let Some(share) = self.by_number.remove(&number) {
            self.of.remove(&share.owner);
        }
    }

    /// The oldest id of the principal that has most.
    pub(super) fn oldest_of_largest(&self) -> Option<MessageKey> {
        let (_, number) = self.by_size.last()?;
        self.by_number.get(number)?.ids.front().copied()
    }
}
