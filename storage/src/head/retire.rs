//! How series that stopped leave memory, and how their numbers come to be given again.
//!
//! ```text
//! known  ──mark──▶  idle  ──unlink──▶  unknown  ──remove──▶  without labels  ──two checkpoints──▶  free
//!            ◀──wake──
//! ```
//! * *mark*: the series has no samples in memory and its newest is old. Nothing changes for readers; whoever is about to
//!   write to it wakes it.
//! * *unlink*: nobody who resolved it before it was marked is left, and still no samples came. From now on its labels are those
//!   of no series; written again, they get another number.
//! * *remove*: nobody who read when it was known is left. Its labels, their index and strings nobody else uses are gone.
//! * The number is free when neither of the two checkpoints that are kept knows it: should one of them or a part of the log be
//!   damaged, samples of the next series of that number must not be taken for samples of this one.
//!
//! Who reads or writes holds a [`Pin`]; steps change the pin that is given out, and the next step waits until the pins given
//! before are dropped.

use super::hash::LabelsHash;
use super::order::LabelOrder;
use super::registry::{Registry, shard_of};
use super::retired::Pin;
use crate::model::SeriesRef;
use roaring::RoaringBitmap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Series that are removed under one hold of the catalog's lock: a few milliseconds.
const SLICE: usize = 2048;
/// Checkpoints that are kept.
const CHECKPOINTS: u8 = 2;

impl Registry {
    /// What whoever begins to read or write now is to hold.
    pub(crate) fn pin(&self) -> Pin {
        Arc::clone(&self.pin.lock())
    }

    /// From now on others get another pin. Answers the one before.
    pub(crate) fn turn_pin(&self) -> Pin {
        let next = Arc::new(self.era.load(Ordering::Acquire));
        std::mem::replace(&mut *self.pin.lock(), next)
    }

    /// Whether series became unknown since `pin` was given: labels may have one number there and another now.
    pub(crate) fn changed_since(&self, pin: &Pin) -> bool {
        **pin != self.era.load(Ordering::Acquire)
    }

    /// Marks `series` as idle; answers those that are now.
    pub(crate) fn mark(&self, series: &RoaringBitmap) -> RoaringBitmap {
        let mut retired = self.retired.lock();
        for id in series {
            if let Some(hash) = self.hashes.get(id).filter(|h| *h != LabelsHash::NONE) {
                self.hashes.set(id, hash.idle());
                retired.marked.insert(id);
            }
        }
        &retired.marked & series
    }

    /// Somebody is about to write to series `id`, whose hash is `hash`. Answers false if it is not known any more.
    #[inline]
    pub(super) fn wake(&self, id: u32, hash: LabelsHash) -> bool {
        (hash != LabelsHash::NONE && self.hashes.get(id) == Some(hash)) || self.wake_idle(id, hash)
    }

    #[cold]
    fn wake_idle(&self, id: u32, hash: LabelsHash) -> bool {
        let mut retired = self.retired.lock();
        let Some(found) = self.hashes.get(id).filter(|h| *h != LabelsHash::NONE && h.plain() == hash) else {
            return false;
        };
        if found != hash {
            self.hashes.set(id, hash);
            retired.marked.remove(id);
        }
        true
    }

    #[cold]
    pub(super) fn wake_ref(&self, series: SeriesRef) -> u32 {
        let hash = self.hash_of(series.number).filter(|hash| hash.tag() == series.tag);
        match hash {
            Some(hash) if self.wake(series.number, hash) => series.number,
            _ => u32::MAX,
        }
    }

    /// Makes those of `series` unknown that are idle and not `kept`; the others are awake again. `forget` is called with those
    /// while nobody can note a number of them. Only for the commit thread, which knows what was written.
    pub(crate) fn unlink(
        &self,
        series: &RoaringBitmap,
        kept: impl Fn(u32) -> bool,
        forget: impl FnOnce(&RoaringBitmap),
    ) -> RoaringBitmap {
        let _known = self.identities.write();
        let mut retired = self.retired.lock();
        let mut unknown = RoaringBitmap::new();
        for id in series {
            let hash = self.hash_of(id).filter(|_| retired.marked.remove(id));
            let Some(hash) = hash else { continue };
            if kept(id) {
                self.hashes.set(id, hash);
                continue;
            }
            if let Some(shard) = self.shards.get(shard_of(hash))
                && let Ok(entry) = shard.write().find_entry(hash.low, |other| *other == id)
            {
                entry.remove();
            }
            self.hashes.set(id, LabelsHash::NONE);
            unknown.insert(id);
        }
        if !unknown.is_empty() {
            self.era.fetch_add(1, Ordering::Release);
            forget(&unknown);
        }
        unknown
    }

    /// Takes the labels of `series`, which are unknown, out of memory.
    pub(crate) fn remove(&self, order: &LabelOrder, series: &RoaringBitmap) {
        let all: Vec<u32> = series.iter().collect();
        for slice in all.chunks(SLICE) {
            order.while_still(|| self.catalog.write().remove(slice));
        }
        order.forget(series);
        for shard in &self.aliases {
            shard.write().retain(|_, id| !series.contains(*id));
        }
        self.unnamed.fetch_add(all.len() as u32, Ordering::Relaxed);
        self.retired.lock().waiting.push_back((CHECKPOINTS, series.clone()));
        self.measure_soon();
    }

    /// The numbers that have no labels at the start will be given again in due time.
    pub(crate) fn reclaim_unnamed(&self) -> RoaringBitmap {
        let unnamed: RoaringBitmap = (0..self.len()).filter(|id| self.is_unnamed(*id)).collect();
        if !unnamed.is_empty() {
            self.retired.lock().waiting.push_back((CHECKPOINTS, unnamed.clone()));
        }
        unnamed
    }

    /// A checkpoint has been written from this registry and is in force.
    pub(crate) fn note_checkpoint(&self) {
        let mut retired = self.retired.lock();
        retired.waiting.iter_mut().for_each(|(left, _)| *left -= 1);
        while retired.waiting.front().is_some_and(|(left, _)| *left == 0)
            && let Some((_, numbers)) = retired.waiting.pop_front()
        {
            retired.free |= numbers;
        }
    }

    /// Adds to `out` the numbers given again since the last call, which the log does not know yet.
    pub(crate) fn take_given(&self, out: &mut Vec<u32>) {
        out.append(&mut self.retired.lock().given);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::hash::HashKey;
    use crate::head::registry::Position;
    use crate::model::Labels;
    use crate::options::Limits;

    fn labels(i: u32) -> Labels {
        Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
    }

    fn resolve(registry: &Registry, i: u32) -> SeriesRef {
        registry.resolve(labels(i).as_bytes(), &mut Position::default()).unwrap()
    }

    #[test]
    fn a_series_goes_step_by_step_and_comes_back_under_another_number() {
        let registry = Registry::new(HashKey::from_seed([1, 2]), Limits::default());
        let order = LabelOrder::default();
        let refs: Vec<SeriesRef> = (0..100).map(|i| resolve(&registry, i)).collect();
        let mut unsorted = Vec::new();
        Labels::encode_pair(&mut unsorted, b"i", b"7");
        Labels::encode_pair(&mut unsorted, b"__name__", b"m");
        let alias = |registry: &Registry| registry.resolve(&unsorted, &mut Position::default()).unwrap();
        assert_eq!(alias(&registry), refs[7]);

        let series: RoaringBitmap = (5..50).collect();
        assert_eq!(registry.mark(&series), series);
        // Readers find them as before; writers wake them, whichever way they come.
        assert_eq!(registry.find(&labels(6)), Some(6));
        assert_eq!(resolve(&registry, 6), refs[6]);
        assert_eq!(alias(&registry), refs[7]);
        assert_eq!(registry.number_of(refs[8]), 8);
        assert_eq!(registry.number_of(refs[60]), 60);
        let pin = registry.pin();
        let mut forgotten = RoaringBitmap::new();
        let unknown = registry.unlink(&series, |id| id == 9, |ids| forgotten = ids.clone());
        assert_eq!(unknown, (10..50).chain([5]).collect());
        assert_eq!(forgotten, unknown);
        assert!(
            registry.changed_since(&pin)
                && !registry.changed_since(&{
                    registry.turn_pin();
                    registry.pin()
                })
        );
        assert_eq!((registry.find(&labels(10)), registry.labels(10)), (None, labels(10)));
        assert_eq!(registry.number_of(refs[10]), u32::MAX);
        for i in [6, 7, 8, 9, 60] {
            assert_eq!((registry.number_of(refs[i as usize]), resolve(&registry, i)), (i, refs[i as usize]));
        }
        let again = resolve(&registry, 10);
        assert_eq!((again.number, registry.find(&labels(10))), (100, Some(100)));

        registry.remove(&order, &unknown);
        assert_eq!((registry.labels(11), registry.series_count()), (Labels::empty(), 60));
        assert_eq!(resolve(&registry, 200).number, 101, "not yet free");
        registry.note_checkpoint();
        assert_eq!(resolve(&registry, 201).number, 102, "the checkpoint before may know it");
        registry.note_checkpoint();
        let mut given = Vec::new();
        registry.take_given(&mut given);
        assert!(given.is_empty());
        assert_eq!(resolve(&registry, 202).number, 5);
        assert_eq!(resolve(&registry, 203).number, 10);
        registry.take_given(&mut given);
        assert_eq!((given, registry.labels(5)), (vec![5, 10], labels(202)));
        assert_eq!(registry.number_of(refs[5]), u32::MAX, "an old reference is to no other series");
        assert_eq!((registry.len(), registry.series_count()), (103, 64));
    }

    #[test]
    fn an_alias_is_not_taken_for_the_next_series_of_a_number() {
        let registry = Registry::new(HashKey::from_seed([1, 2]), Limits::default());
        let mut unsorted = Vec::new();
        Labels::encode_pair(&mut unsorted, b"i", b"0");
        Labels::encode_pair(&mut unsorted, b"__name__", b"m");
        let resolve_alias = || registry.resolve(&unsorted, &mut Position::default()).unwrap();
        let before = resolve_alias();
        let series = registry.mark(&[0].into_iter().collect());
        registry.unlink(&series, |_| false, |_| ());
        assert_eq!(resolve_alias().number, 1, "unknown labels");
        registry.remove(&LabelOrder::default(), &series);
        registry.note_checkpoint();
        registry.note_checkpoint();
        assert_eq!(resolve(&registry, 5).number, before.number);
        assert_eq!(resolve_alias().number, 1);
    }
}
