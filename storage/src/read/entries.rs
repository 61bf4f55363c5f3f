//! The series that a select found, in few bytes each: whoever takes a long answer slowly holds them all the while.

use crate::head::registry::Registry;
use crate::model::{Labels, Timestamp};
use roaring::RoaringBitmap;

/// A series in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// The place of the block in the view.
    pub(crate) block: u32,
    /// The number of the series there.
    pub(crate) series: u32,
}

/// What a series is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    /// Its number in the registry.
    Registered(u32),
    /// It is in blocks only.
    Labels(Labels),
}

/// One series of a set and where its samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    /// Its number, if it has one.
    pub(crate) id: Option<u32>,
    /// Those without a number have labels here.
    labels: Option<&'a Labels>,
    /// By ascending sequence of the blocks.
    pub(crate) parts: &'a [Part],
    /// Older samples are not kept.
    pub(crate) oldest: Timestamp,
}

impl Entry<'_> {
    pub(crate) fn labels(&self, registry: &Registry) -> Labels {
        match (self.id, self.labels) {
            (Some(id), _) => registry.labels(id),
            (None, labels) => labels.cloned().unwrap_or_else(Labels::empty),
        }
    }

    fn name(&self) -> Name {
        match (self.id, self.labels) {
            (Some(id), _) => Name::Registered(id),
            (None, labels) => Name::Labels(labels.cloned().unwrap_or_else(Labels::empty)),
        }
    }
}

/// Most often all series have numbers.
#[derive(Debug)]
enum Names {
    Registered(Vec<u32>),
    Any(Vec<Name>),
}

/// See the module. Columns that say nothing are empty.
#[derive(Debug)]
pub(crate) struct Entries {
    names: Names,
    /// Where the parts of each series end; empty if none has any.
    ends: Vec<usize>,
    parts: Vec<Part>,
    /// Empty if everything is kept of all.
    oldest: Vec<Timestamp>,
}

impl Entries {
    /// None yet; so many will come.
    pub(crate) fn with_capacity(series: usize) -> Self {
        let names = Names::Registered(Vec::with_capacity(series));
        Self { names, ends: Vec::new(), parts: Vec::new(), oldest: Vec::new() }
    }

    /// Series with these numbers and nothing in blocks.
    pub(crate) fn registered(ids: Vec<u32>) -> Self {
        Self { names: Names::Registered(ids), ends: Vec::new(), parts: Vec::new(), oldest: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.names {
            Names::Registered(ids) => ids.len(),
            Names::Any(names) => names.len(),
        }
    }

    /// The numbers, if all have one.
    pub(crate) fn ids(&self) -> Option<&[u32]> {
        match &self.names {
            Names::Registered(ids) => Some(ids),
            Names::Any(_) => None,
        }
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<Entry<'_>> {
        let (id, labels) = match &self.names {
            Names::Registered(ids) => (Some(*ids.get(index)?), None),
            Names::Any(names) => match names.get(index)? {
                Name::Registered(id) => (Some(*id), None),
                Name::Labels(labels) => (None, Some(labels)),
            },
        };
        let parts = self.ends.get(index).and_then(|end| self.parts.get(self.begin_of(index)..*end));
        let oldest = self.oldest.get(index).copied().unwrap_or(Timestamp::MIN);
        Some(Entry { id, labels, parts: parts.unwrap_or_default(), oldest })
    }

    /// Where the parts of a series begin.
    #[inline]
    fn begin_of(&self, index: usize) -> usize {
        index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0)
    }

    /// Appends a series of which everything is kept.
    pub(crate) fn push(&mut self, name: Name, parts: &[Part]) {
        let before = self.len();
        match (&mut self.names, name) {
            (Names::Registered(ids), Name::Registered(id)) => ids.push(id),
            (Names::Registered(ids), name) => {
                let mut names = Vec::with_capacity(ids.capacity());
                names.extend(ids.iter().map(|id| Name::Registered(*id)));
                names.push(name);
                self.names = Names::Any(names);
            }
            (Names::Any(names), name) => names.push(name),
        }
        if !parts.is_empty() || !self.ends.is_empty() {
            self.ends.resize(before, 0);
            self.parts.extend_from_slice(parts);
            self.ends.push(self.parts.len());
        }
    }

    /// The last series takes in what it has under another number, `id`: in some blocks, and in memory if that is one of `head`.
    pub(crate) fn join_last(&mut self, id: u32, parts: &[Part], head: &RoaringBitmap) {
        let Some(last) = self.len().checked_sub(1) else { return };
        if head.contains(id) {
            match &mut self.names {
                Names::Registered(ids) => ids[last] = id,
                Names::Any(names) => names[last] = Name::Registered(id),
            }
        }
        if parts.is_empty() {
            return;
        }
        self.ends.resize(last + 1, 0);
        let begin = self.begin_of(last);
        self.parts.extend_from_slice(parts);
        self.parts[begin..].sort_unstable_by_key(|part| part.block);
        self.ends[last] = self.parts.len();
    }

    /// Those of which something is kept from `oldest_kept` on within a time that ends with `last`, with that.
    pub(crate) fn kept(
        &self,
        registry: &Registry,
        last: Timestamp,
        oldest_kept: impl Fn(&Labels) -> Timestamp,
    ) -> Self {
        let mut kept = Self::with_capacity(self.len());
        for entry in (0..self.len()).filter_map(|index| self.get(index)) {
            let oldest = oldest_kept(&entry.labels(registry));
            if oldest <= last {
                kept.push(entry.name(), entry.parts);
                kept.oldest.push(oldest);
            }
        }
        kept
    }

    /// Bytes of memory, beside the labels of those without numbers.
    pub(crate) fn bytes(&self) -> usize {
        let names = match &self.names {
            Names::Registered(ids) => ids.capacity() * size_of::<u32>(),
            Names::Any(names) => names.capacity() * size_of::<Name>(),
        };
        names
            + self.ends.capacity() * size_of::<usize>()
            + self.parts.capacity() * size_of::<Part>()
            + self.oldest.capacity() * size_of::<Timestamp>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(block: u32, series: u32) -> Part {
        Part { block, series }
    }

    fn parts(entries: &Entries) -> Vec<Vec<(u32, u32)>> {
        let one = |index| entries.get(index).unwrap().parts.iter().map(|p| (p.block, p.series)).collect();
        (0..entries.len()).map(one).collect()
    }

    #[test]
    fn each_series_has_its_own_parts() {
        let mut entries = Entries::with_capacity(4);
        entries.push(Name::Registered(7), &[]);
        entries.push(Name::Registered(3), &[]);
        assert_eq!((entries.ids(), parts(&entries)), (Some(&[7, 3][..]), vec![vec![], vec![]]));
        entries.push(Name::Registered(5), &[part(0, 1), part(2, 4)]);
        entries.push(Name::Registered(9), &[]);
        let labels = Labels::from_pairs([("a", "b")]);
        entries.push(Name::Labels(labels.clone()), &[part(1, 1)]);
        assert_eq!(parts(&entries), [vec![], vec![], vec![(0, 1), (2, 4)], vec![], vec![(1, 1)]]);
        assert_eq!((entries.ids(), entries.get(5)), (None, None));
        assert_eq!(entries.get(3).unwrap().id, Some(9));
        assert_eq!((entries.get(4).unwrap().id, entries.get(4).unwrap().labels), (None, Some(&labels)));
    }

    #[test]
    fn the_last_takes_in_what_it_has_under_another_number() {
        let mut entries = Entries::with_capacity(2);
        entries.push(Name::Registered(1), &[]);
        entries.push(Name::Registered(2), &[]);
        entries.join_last(4, &[part(3, 3)], &RoaringBitmap::new());
        entries.join_last(5, &[part(1, 9)], &RoaringBitmap::from_iter([5]));
        entries.join_last(6, &[], &RoaringBitmap::new());
        assert_eq!((entries.ids(), parts(&entries)), (Some(&[1, 5][..]), vec![vec![], vec![(1, 9), (3, 3)]]));
        entries.push(Name::Registered(8), &[part(0, 0)]);
        assert_eq!(parts(&entries), [vec![], vec![(1, 9), (3, 3)], vec![(0, 0)]]);
    }
}
