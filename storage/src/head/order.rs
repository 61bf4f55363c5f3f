//! The rank of each series in the order of labels, so that sorting what a query found is sorting integers.

use super::catalog::Catalog;
use super::registry::Registry;
use crate::index::memory::Pair;
use crate::sync::Mutex;
use arc_swap::ArcSwap;
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use std::cmp::Ordering;
use std::sync::Arc;

/// Ranks of the series known when they were last computed; newer series are compared by their labels.
///
/// Labels are compared under the registry's lock, a slice at a time: sorting a million series takes seconds, and whoever
/// creates a series meanwhile waits for one slice, not for all. No caller may hold that lock.
#[derive(Default)]
pub(crate) struct LabelOrder {
    ranks: ArcSwap<Ranks>,
    computing: Mutex<()>,
}

/// What is in place of a rank of a series that has none.
const UNRANKED: u32 = u32::MAX;

#[derive(Default, Clone)]
struct Ranks {
    /// By series number.
    ranks: Vec<u32>,
    /// How many series have one.
    ranked: usize,
}

impl Ranks {
    #[inline]
    fn get(&self, id: u32) -> u32 {
        self.ranks.get(id as usize).copied().unwrap_or(UNRANKED)
    }

    /// Those that have a rank, sorted, and the others.
    fn part(&self, found: &RoaringBitmap) -> (Vec<u32>, Vec<u32>) {
        let (mut ranked, others): (Vec<u32>, Vec<u32>) =
            found.iter().partition(|id| self.get(*id) != UNRANKED);
        ranked.sort_unstable_by_key(|id| self.get(*id));
        (ranked, others)
    }
}

/// Label pairs that are compared in place.
const FIRST_PAIRS: usize = 5;

/// A series to be ranked.
struct Entry {
    first: [u32; FIRST_PAIRS],
    /// Where the ranks of its other pairs are.
    rest: (usize, usize),
    id: u32,
}

/// With fewer unranked series than this, comparing their labels is cheap enough.
const UNRANKED_MAX: usize = 4096;
/// Series compared under one hold of the lock: a few milliseconds.
const SLICE: usize = 4096;

impl LabelOrder {
    /// The series `found`, sorted by labels.
    pub(crate) fn sort(&self, registry: &Registry, found: &RoaringBitmap) -> Vec<u32> {
        let ranks = self.ranks.load_full();
        let (mut ranked, mut new) = ranks.part(found);
        let total_unranked = (registry.series_count() as usize).saturating_sub(ranks.ranked);
        if new.len() > UNRANKED_MAX && total_unranked > ranks.ranked / 16 {
            (ranked, new) = self.compute(registry).part(found);
        }
        let new = sort_by_labels(registry, new);
        insert_sorted(registry, ranked, &new)
    }

    /// Calls `change`, which may take labels away, while no ranks are being computed from them.
    pub(crate) fn while_still(&self, change: impl FnOnce()) {
        let _alone = self.computing.lock();
        change();
    }

    /// The numbers `series` stand for nothing any more.
    pub(crate) fn forget(&self, series: &RoaringBitmap) {
        let _alone = self.computing.lock();
        let mut ranks = Ranks::clone(&self.ranks.load());
        for id in series {
            if let Some(rank) = ranks.ranks.get_mut(id as usize).filter(|rank| **rank != UNRANKED) {
                *rank = UNRANKED;
                ranks.ranked -= 1;
            }
        }
        self.ranks.store(Arc::new(ranks));
    }

    /// Ranks all series of a registry that was just read, so that the first query need not.
    pub(crate) fn prepare(&self, registry: &Registry) {
        if registry.series_count() as usize > UNRANKED_MAX {
            self.compute(registry);
        }
    }

    /// Ranks all series. Every distinct label pair is ranked first, so that comparing two series is comparing integers.
    fn compute(&self, registry: &Registry) -> Arc<Ranks> {
        let _alone = self.computing.lock();
        let ranks = self.ranks.load_full();
        let count = registry.len();
        if ranks.ranked == registry.series_count() as usize {
            return ranks;
        }
        let pairs = registry.catalog().label_pairs();
        let pairs = sort_in_slices(registry, pairs, |catalog, a, b| catalog.compare_pairs(*a, *b));
        let pairs: HashMap<Pair, u32> = pairs.into_iter().zip(1..).collect();
        let (mut entries, mut keys) = (Vec::with_capacity(count as usize), Vec::new());
        for first in (0..count).step_by(SLICE) {
            let catalog = registry.catalog();
            for id in first..count.min(first.saturating_add(SLICE as u32)) {
                if catalog.is_placeholder(id) || catalog.pairs(id).any(|pair| !pairs.contains_key(&pair)) {
                    // Nothing, or its number was given again meanwhile.
                    continue;
                }
                let start = keys.len();
                // Zero is what follows the last pair: a label set comes before those it is the beginning of.
                let mut ranks = catalog.pairs(id).map(|pair| pairs.get(&pair).copied().unwrap_or_default());
                let first = std::array::from_fn(|_| ranks.next().unwrap_or_default());
                keys.extend(ranks);
                entries.push(Entry { first, rest: (start, keys.len()), id });
            }
        }
        let rest = |entry: &Entry| keys.get(entry.rest.0..entry.rest.1).unwrap_or_default();
        entries.sort_unstable_by(|a, b| a.first.cmp(&b.first).then_with(|| rest(a).cmp(rest(b))));
        let mut ranks = vec![UNRANKED; count as usize];
        for (rank, entry) in entries.iter().enumerate() {
            if let Some(slot) = ranks.get_mut(entry.id as usize) {
                *slot = rank as u32;
            }
        }
        let ranks = Arc::new(Ranks { ranks, ranked: entries.len() });
        self.ranks.store(Arc::clone(&ranks));
        ranks
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.ranks.load().ranks.len() * 4
    }
}

/// Sorts slices first, then merges pairs of ever longer runs.
fn sort_in_slices<T: Copy>(
    registry: &Registry,
    mut items: Vec<T>,
    compare: impl Fn(&Catalog, &T, &T) -> Ordering + Copy,
) -> Vec<T> {
    for slice in items.chunks_mut(SLICE) {
        let catalog = registry.catalog();
        slice.sort_unstable_by(|a, b| compare(&catalog, a, b));
    }
    let mut run = SLICE;
    while run < items.len() {
        let mut merged = Vec::with_capacity(items.len());
        for pair in items.chunks(run * 2) {
            let (left, right) = pair.split_at(run.min(pair.len()));
            merge_runs(registry, left, right, compare, &mut merged);
        }
        items = merged;
        run *= 2;
    }
    items
}

fn sort_by_labels(registry: &Registry, ids: Vec<u32>) -> Vec<u32> {
    sort_in_slices(registry, ids, |catalog, a, b| catalog.compare(*a, *b))
}

/// Appends two sorted runs of about equal length to `out`, as one.
fn merge_runs<T: Copy>(
    registry: &Registry,
    mut left: &[T],
    mut right: &[T],
    compare: impl Fn(&Catalog, &T, &T) -> Ordering,
    out: &mut Vec<T>,
) {
    while !left.is_empty() && !right.is_empty() {
        let catalog = registry.catalog();
        for _ in 0..SLICE {
            let (Some((l, l_rest)), Some((r, r_rest))) = (left.split_first(), right.split_first()) else {
                break;
            };
            if compare(&catalog, l, r).is_le() {
                out.push(*l);
                left = l_rest;
            } else {
                out.push(*r);
                right = r_rest;
            }
        }
    }
    out.extend_from_slice(left);
    out.extend_from_slice(right);
}

/// Merges two sorted lists, of which the second is usually far shorter, so that its places are searched for.
fn insert_sorted(registry: &Registry, left: Vec<u32>, right: &[u32]) -> Vec<u32> {
    if left.is_empty() || right.is_empty() {
        return if left.is_empty() { right.to_vec() } else { left };
    }
    let mut out = Vec::with_capacity(left.len() + right.len());
    let mut rest = left.as_slice();
    for slice in right.chunks(SLICE / 16) {
        let catalog = registry.catalog();
        for id in slice {
            let at = rest.partition_point(|other| catalog.compare(*other, *id).is_lt());
            let (before, after) = rest.split_at(at);
            out.extend_from_slice(before);
            out.push(*id);
            rest = after;
        }
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::hash::HashKey;
    use crate::head::registry::Position;
    use crate::model::Labels;
    use crate::options::Limits;

    fn create(registry: &Registry, count: u32) {
        for _ in 0..count {
            let value = (u64::from(registry.len()) * 2_654_435_761 % 1_000_003).to_string();
            let labels = Labels::from_pairs([("__name__", "m"), ("v", value.as_str())]);
            registry.resolve(labels.as_bytes(), &mut Position::default()).unwrap();
        }
    }

    #[test]
    fn ranked_and_new_series_come_out_in_one_order() {
        let registry = Registry::new(HashKey::from_seed([1, 2]), Limits::default());
        let order = LabelOrder::default();
        for more in [14_000, 10, 5000, 100] {
            create(&registry, more);
            let all: RoaringBitmap = (0..registry.len()).filter(|i| i % 3 != 1).collect();
            let sorted = order.sort(&registry, &all);
            assert_eq!(sorted.iter().copied().collect::<RoaringBitmap>(), all);
            assert!(sorted.windows(2).all(|w| registry.labels(w[0]) < registry.labels(w[1])));
        }
        assert!(order.memory_bytes() > 0);
    }

    #[test]
    fn numbers_given_again_are_ranked_again() {
        let registry = Registry::new(HashKey::from_seed([1, 2]), Limits::default());
        let order = LabelOrder::default();
        create(&registry, 10_000);
        order.prepare(&registry);
        for round in 0..6 {
            let gone: RoaringBitmap = (0..registry.len()).filter(|i| i % 6 == round).collect();
            let gone = registry.mark(&gone);
            registry.unlink(&gone, |_| false, |_| ());
            registry.remove(&order, &gone);
            (0..2).for_each(|_| registry.note_checkpoint());
            for i in 0..gone.len() {
                let (round, value) = (round.to_string(), (i * 7919 % 10_007).to_string());
                let labels = Labels::from_pairs([("__name__", "m"), ("round", &round), ("v", &value)]);
                assert!(
                    gone.contains(
                        registry.resolve(labels.as_bytes(), &mut Position::default()).unwrap().number
                    )
                );
            }
            let all: RoaringBitmap = (0..registry.len()).collect();
            let sorted = order.sort(&registry, &all);
            assert_eq!(sorted.len(), 10_000);
            assert!(sorted.windows(2).all(|w| registry.labels(w[0]) < registry.labels(w[1])));
        }
    }
}
