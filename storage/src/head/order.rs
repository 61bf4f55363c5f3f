//! The rank of each series in the order of labels, so that sorting what a query found is sorting integers.

use super::catalog::Catalog;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use std::sync::Arc;

/// Ranks of the series known when they were last computed; newer series are compared by their labels.
#[derive(Default)]
pub(crate) struct LabelOrder {
    ranks: ArcSwap<Vec<u32>>,
    computing: Mutex<()>,
}

/// With fewer unranked series than this, comparing their labels is cheap enough.
const UNRANKED_MAX: usize = 4096;

impl LabelOrder {
    /// The series `found`, sorted by labels.
    pub(crate) fn sort(&self, catalog: &Catalog, found: &RoaringBitmap) -> Vec<u32> {
        let mut ranks = self.ranks.load_full();
        let unranked = found.len() - found.rank(ranks.len() as u32).min(found.len());
        let total_unranked = (catalog.len() as usize).saturating_sub(ranks.len());
        if unranked > UNRANKED_MAX as u64 && total_unranked > ranks.len() / 16 {
            ranks = self.compute(catalog);
        }
        let known = ranks.len() as u32;
        let mut ranked: Vec<u32> = found.iter().take_while(|id| *id < known).collect();
        ranked.sort_unstable_by_key(|id| ranks.get(*id as usize));
        let mut new: Vec<u32> = found.iter().skip(ranked.len()).collect();
        new.sort_unstable_by(|a, b| catalog.compare(*a, *b));
        merge(catalog, ranked, &new)
    }

    /// Ranks all series: those ranked before keep their order, the new ones are sorted in.
    fn compute(&self, catalog: &Catalog) -> Arc<Vec<u32>> {
        let _alone = self.computing.lock();
        let ranks = self.ranks.load_full();
        if ranks.len() == catalog.len() as usize {
            return ranks;
        }
        let mut old = vec![0; ranks.len()];
        for (id, rank) in ranks.iter().enumerate() {
            if let Some(slot) = old.get_mut(*rank as usize) {
                *slot = id as u32;
            }
        }
        let mut new: Vec<u32> = (ranks.len() as u32..catalog.len()).collect();
        new.sort_unstable_by(|a, b| catalog.compare(*a, *b));
        let mut ranks = vec![0; catalog.len() as usize];
        for (rank, id) in merge(catalog, old, &new).into_iter().enumerate() {
            ranks[id as usize] = rank as u32;
        }
        let ranks = Arc::new(ranks);
        self.ranks.store(Arc::clone(&ranks));
        ranks
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.ranks.load().len() * 4
    }
}

/// Merges two lists sorted by labels. The second is usually far shorter, so its places are searched for.
fn merge(catalog: &Catalog, left: Vec<u32>, right: &[u32]) -> Vec<u32> {
    if right.is_empty() {
        return left;
    }
    let mut out = Vec::with_capacity(left.len() + right.len());
    let mut rest = left.as_slice();
    for id in right {
        let (before, after) =
            rest.split_at(rest.partition_point(|other| catalog.compare(*other, *id).is_lt()));
        out.extend_from_slice(before);
        out.push(*id);
        rest = after;
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    #[test]
    fn ranked_and_new_series_come_out_in_one_order() {
        let mut catalog = Catalog::default();
        let order = LabelOrder::default();
        let push = |catalog: &mut Catalog, n: u32| {
            for i in 0..n {
                let value = (u64::from(i + catalog.len()) * 2_654_435_761 % 1_000_003).to_string();
                catalog.push(&Labels::from_pairs([("__name__", "m"), ("v", value.as_str())]));
            }
        };
        for more in [6000, 10, 5000, 100] {
            push(&mut catalog, more);
            let all: RoaringBitmap = (0..catalog.len()).filter(|i| i % 3 != 1).collect();
            let sorted = order.sort(&catalog, &all);
            assert_eq!(sorted.len() as u64, all.len());
            assert!(sorted.windows(2).all(|w| catalog.labels(w[0]) <= catalog.labels(w[1])));
        }
        assert!(order.memory_bytes() > 0);
    }
}
