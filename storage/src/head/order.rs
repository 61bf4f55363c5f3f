//! The rank of each series in the order of labels, so that sorting what a query found is sorting integers.

use super::registry::Registry;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use std::sync::Arc;

/// Ranks of the series known when they were last computed; newer series are compared by their labels.
///
/// Labels are compared under the registry's lock, a slice at a time: sorting a million series takes seconds, and whoever
/// creates a series meanwhile waits for one slice, not for all. No caller may hold that lock.
#[derive(Default)]
pub(crate) struct LabelOrder {
    ranks: ArcSwap<Vec<u32>>,
    computing: Mutex<()>,
}

/// With fewer unranked series than this, comparing their labels is cheap enough.
const UNRANKED_MAX: usize = 4096;
/// Series compared under one hold of the lock: a few milliseconds.
const SLICE: usize = 4096;

impl LabelOrder {
    /// The series `found`, sorted by labels.
    pub(crate) fn sort(&self, registry: &Registry, found: &RoaringBitmap) -> Vec<u32> {
        let mut ranks = self.ranks.load_full();
        let unranked = found.len() - found.rank(ranks.len() as u32).min(found.len());
        let total_unranked = (registry.len() as usize).saturating_sub(ranks.len());
        if unranked > UNRANKED_MAX as u64 && total_unranked > ranks.len() / 16 {
            ranks = self.compute(registry);
        }
        let known = ranks.len() as u32;
        let mut ranked: Vec<u32> = found.iter().take_while(|id| *id < known).collect();
        ranked.sort_unstable_by_key(|id| ranks.get(*id as usize));
        let new = sort_by_labels(registry, found.iter().skip(ranked.len()).collect());
        insert_sorted(registry, ranked, &new)
    }

    /// Ranks all series: those ranked before keep their order, the new ones are sorted in.
    fn compute(&self, registry: &Registry) -> Arc<Vec<u32>> {
        let _alone = self.computing.lock();
        let ranks = self.ranks.load_full();
        let count = registry.len();
        if ranks.len() == count as usize {
            return ranks;
        }
        let mut old = vec![0; ranks.len()];
        for (id, rank) in ranks.iter().enumerate() {
            if let Some(slot) = old.get_mut(*rank as usize) {
                *slot = id as u32;
            }
        }
        let new = sort_by_labels(registry, (ranks.len() as u32..count).collect());
        let mut ranks = vec![0; count as usize];
        for (rank, id) in insert_sorted(registry, old, &new).into_iter().enumerate() {
            if let Some(slot) = ranks.get_mut(id as usize) {
                *slot = rank as u32;
            }
        }
        let ranks = Arc::new(ranks);
        self.ranks.store(Arc::clone(&ranks));
        ranks
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.ranks.load().len() * 4
    }
}

/// Sorts by labels: slices first, then pairs of ever longer runs.
fn sort_by_labels(registry: &Registry, mut ids: Vec<u32>) -> Vec<u32> {
    for slice in ids.chunks_mut(SLICE) {
        let catalog = registry.catalog();
        slice.sort_unstable_by(|a, b| catalog.compare(*a, *b));
    }
    let mut run = SLICE;
    while run < ids.len() {
        let mut merged = Vec::with_capacity(ids.len());
        for pair in ids.chunks(run * 2) {
            let (left, right) = pair.split_at(run.min(pair.len()));
            merge_runs(registry, left, right, &mut merged);
        }
        ids = merged;
        run *= 2;
    }
    ids
}

/// Appends two sorted runs of about equal length to `out`, as one.
fn merge_runs(registry: &Registry, mut left: &[u32], mut right: &[u32], out: &mut Vec<u32>) {
    while !left.is_empty() && !right.is_empty() {
        let catalog = registry.catalog();
        for _ in 0..SLICE {
            let (Some((l, l_rest)), Some((r, r_rest))) = (left.split_first(), right.split_first()) else {
                break;
            };
            if catalog.compare(*l, *r).is_le() {
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
}
