//! The inverted index of the head: for each label pair the series that have it, small sets inline, large ones on roaring.

use hashbrown::HashMap;
use roaring::RoaringBitmap;

/// The numbers of a label's name and value among the symbols.
pub(crate) type Pair = (u32, u32);

const FEW_MAX: usize = 15;

/// A set of series numbers. Most label pairs of a unique value have one series; sixteen bytes for those.
enum Posting {
    One(u32),
    Few(Box<Few>),
    Many(Box<RoaringBitmap>),
}

struct Few {
    len: u8,
    series: [u32; FEW_MAX],
}

impl Few {
    fn as_slice(&self) -> &[u32] {
        &self.series[..usize::from(self.len)]
    }
}

impl Posting {
    fn insert(&mut self, id: u32) {
        match self {
            Self::One(first) => {
                let mut few = Few { len: 2, series: [0; FEW_MAX] };
                (few.series[0], few.series[1]) = (*first, id);
                *self = Self::Few(Box::new(few));
            }
            Self::Few(few) if usize::from(few.len) < FEW_MAX => {
                few.series[usize::from(few.len)] = id;
                few.len += 1;
            }
            Self::Few(few) => {
                let mut many: RoaringBitmap = few.as_slice().iter().copied().collect();
                many.insert(id);
                *self = Self::Many(Box::new(many));
            }
            Self::Many(many) => {
                many.insert(id);
            }
        }
    }

    /// Answers whether nothing is left.
    fn remove(&mut self, id: u32) -> bool {
        match self {
            Self::One(only) => *only == id,
            Self::Few(few) => {
                let len = usize::from(few.len);
                let Some(at) = few.as_slice().iter().position(|other| *other == id) else { return false };
                few.series.copy_within(at + 1..len, at);
                few.len -= 1;
                if few.len == 1 {
                    *self = Self::One(few.series[0]);
                }
                false
            }
            Self::Many(many) => {
                many.remove(id);
                // Not at once below the bound: one that comes and goes would change the form each time.
                if many.len() <= FEW_MAX as u64 / 2 {
                    let mut few = Few { len: 0, series: [0; FEW_MAX] };
                    for id in many.iter() {
                        few.series[usize::from(few.len)] = id;
                        few.len += 1;
                    }
                    *self = Self::Few(Box::new(few));
                }
                false
            }
        }
    }

    fn add_to(&self, out: &mut RoaringBitmap) {
        match self {
            Self::One(id) => {
                out.insert(*id);
            }
            Self::Few(few) => out.extend(few.as_slice().iter().copied()),
            Self::Many(many) => *out |= many.as_ref(),
        }
    }

    fn intersects(&self, series: &RoaringBitmap) -> bool {
        match self {
            Self::One(id) => series.contains(*id),
            Self::Few(few) => few.as_slice().iter().any(|id| series.contains(*id)),
            Self::Many(many) => !many.is_disjoint(series),
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Few(_) => size_of::<Few>(),
            Self::Many(many) => size_of::<RoaringBitmap>() + many.serialized_size(),
        }
    }
}

/// Which series have which label pair, and which values each name has.
#[derive(Default)]
pub(crate) struct MemoryIndex {
    postings: HashMap<Pair, Posting>,
    /// For each name, its values in order of arrival.
    values: HashMap<u32, Vec<u32>>,
    all: RoaringBitmap,
}

impl MemoryIndex {
    /// Adds a series with its label pairs; calls `first` with those no other series has.
    pub(crate) fn insert(&mut self, id: u32, pairs: impl Iterator<Item = Pair>, mut first: impl FnMut(Pair)) {
        self.all.insert(id);
        for pair in pairs {
            match self.postings.entry(pair) {
                hashbrown::hash_map::Entry::Occupied(mut entry) => entry.get_mut().insert(id),
                hashbrown::hash_map::Entry::Vacant(entry) => {
                    entry.insert(Posting::One(id));
                    self.values.entry(pair.0).or_default().push(pair.1);
                    first(pair);
                }
            }
        }
    }

    /// Takes a series with its label pairs away; adds those that no other series has to `unused`, which are to be given to
    /// [`MemoryIndex::remove_pairs`] before anything is inserted.
    pub(crate) fn remove(&mut self, id: u32, pairs: impl Iterator<Item = Pair>, unused: &mut Vec<Pair>) {
        self.all.remove(id);
        for pair in pairs {
            if self.postings.get_mut(&pair).is_some_and(|posting| posting.remove(id)) {
                self.postings.remove(&pair);
                unused.push(pair);
            }
        }
    }

    /// Takes the values of `pairs`, which no series has any more, off the lists. Sorts them.
    pub(crate) fn remove_pairs(&mut self, pairs: &mut [Pair]) {
        pairs.sort_unstable();
        for of_name in pairs.chunk_by(|a, b| a.0 == b.0) {
            let Some((name, _)) = of_name.first() else { continue };
            let Some(values) = self.values.get_mut(name) else { continue };
            values.retain(|value| of_name.binary_search(&(*name, *value)).is_err());
            if values.is_empty() {
                self.values.remove(name);
            }
        }
    }

    /// All series.
    pub(crate) fn all(&self) -> &RoaringBitmap {
        &self.all
    }

    /// All label pairs, in no order.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = Pair> {
        self.postings.keys().copied()
    }

    /// The numbers of all label names, in no order.
    pub(crate) fn names(&self) -> impl Iterator<Item = u32> {
        self.values.keys().copied()
    }

    /// The numbers of the values of `name`, in order of arrival.
    pub(crate) fn values(&self, name: u32) -> &[u32] {
        self.values.get(&name).map_or(&[], Vec::as_slice)
    }

    /// Whether any series has `pair`.
    pub(crate) fn contains(&self, pair: Pair) -> bool {
        self.postings.contains_key(&pair)
    }

    /// Adds the series that have `pair` to `out`.
    pub(crate) fn add_postings(&self, pair: Pair, out: &mut RoaringBitmap) {
        if let Some(posting) = self.postings.get(&pair) {
            posting.add_to(out);
        }
    }

    /// Whether any of `series` has `pair`.
    pub(crate) fn intersects(&self, pair: Pair, series: &RoaringBitmap) -> bool {
        self.postings.get(&pair).is_some_and(|posting| posting.intersects(series))
    }

    /// Turns dense stretches into runs: the series of one target are numbered one after another.
    pub(crate) fn optimize(&mut self) {
        self.all.optimize();
        for posting in self.postings.values_mut() {
            if let Posting::Many(many) = posting {
                many.optimize();
            }
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let slots = self.postings.capacity() * (size_of::<(Pair, Posting)>() + 1);
        let values: usize = self.values.values().map(|v| v.capacity() * 4 + 40).sum();
        slots + values + self.postings.values().map(Posting::memory_bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postings_grow_from_one_to_many() {
        let mut index = MemoryIndex::default();
        for id in 0..100 {
            index.insert(id, [(0, 1), (2, id % 20), (3, 1000 + id)].into_iter(), |_| ());
            let mut found = RoaringBitmap::new();
            index.add_postings((0, 1), &mut found);
            assert_eq!(found, (0..=id).collect::<RoaringBitmap>());
        }
        index.optimize();
        let mut found = RoaringBitmap::new();
        index.add_postings((2, 7), &mut found);
        index.add_postings((3, 1099), &mut found);
        assert_eq!(found.iter().collect::<Vec<_>>(), [7, 27, 47, 67, 87, 99]);
        assert!(index.intersects((2, 7), &found) && !index.intersects((2, 6), &found));
        assert!(index.contains((3, 1000)) && !index.contains((3, 1)));
        assert_eq!((index.values(2).len(), index.names().count(), index.all().len()), (20, 3, 100));
    }
    #[test]
    fn postings_shrink_to_nothing() {
        let mut index = MemoryIndex::default();
        let pairs = |id: u32| [(0, 1), (2, id % 20), (3, 1000 + id)].into_iter();
        let mut firsts = 0;
        // Miri is a hundred times slower than a processor.
        for round in 0..if cfg!(miri) { 1 } else { 3 } {
            (0..100).for_each(|id| index.insert(id, pairs(id), |_| firsts += 1));
            assert_eq!(firsts, 121 * (round + 1));
            for id in 0..100 {
                let mut unused = Vec::new();
                index.remove(id, pairs(id), &mut unused);
                let mut expected = vec![(3, 1000 + id)];
                expected.extend((id >= 80).then_some((2, id % 20)));
                expected.extend((id == 99).then_some((0, 1)));
                unused.sort_unstable();
                expected.sort_unstable();
                assert_eq!(unused, expected);
                index.remove_pairs(&mut unused);
                let mut found = RoaringBitmap::new();
                index.add_postings((0, 1), &mut found);
                assert_eq!((found, index.all().len()), ((id + 1..100).collect(), u64::from(99 - id)));
                assert_eq!(index.values(3).len(), 99 - id as usize);
            }
            assert_eq!((index.names().count(), index.pairs().count()), (0, 0));
        }
    }
}
