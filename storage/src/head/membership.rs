//! Lists of all label names and of all values of a label, kept until another series or block comes or goes.

use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;

/// How many lists are kept.
const LISTS_MAX: usize = 64;
/// A longer list is not kept.
const STRINGS_MAX: usize = 100_000;

/// What tells the series of some sources from all others: for each generation what
/// [`super::generation::Generation::membership`] says, for each block its sequence and how many deletes are about it.
pub(crate) type Membership = Vec<(u64, u32)>;

/// See the module.
#[derive(Default)]
pub(crate) struct KnownLists {
    last: Mutex<Lists>,
}

#[derive(Default)]
struct Lists {
    of: Membership,
    /// By label; that of the names under no name.
    by_label: HashMap<String, Arc<[String]>>,
}

impl KnownLists {
    /// The values of `label`, or the names if it is empty.
    pub(crate) fn get(&self, membership: &Membership, label: &str) -> Option<Arc<[String]>> {
        let last = self.last.lock();
        if last.of == *membership { last.by_label.get(label).cloned() } else { None }
    }

    /// Keeps a list, and forgets those of other sources.
    pub(crate) fn keep(&self, membership: Membership, label: &str, list: &[String]) {
        if list.len() > STRINGS_MAX {
            return;
        }
        let mut last = self.last.lock();
        if last.of != membership || last.by_label.len() >= LISTS_MAX {
            *last = Lists { of: membership, ..Lists::default() };
        }
        last.by_label.insert(label.to_owned(), list.into());
    }
}
