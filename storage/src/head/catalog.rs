//! The labels of every series in 13 to 18 bytes each, and the index over them.
//!
//! A series is a record `varint shape, varint value symbol…`; a shape is the sorted list of its label names, and a
//! fleet has about a hundred of those. What the labels of a removed series used alone, strings and all, is used again.

mod stored;

pub(crate) use stored::Numbers;

use super::paged::{Arena, Paged, put_varint, take_varint};
use super::symbols::{Symbol, Symbols};
use crate::api::{LabelColumn, Room};
use crate::error::Result;
use crate::index::LabelIndex;
use crate::index::memory::{MemoryIndex, Pair};
use crate::model::Labels;
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use std::cmp::Ordering;
use std::sync::Arc;

/// The address of a series that has no labels: its registration was lost, or it is long dead.
const NO_RECORD: u32 = u32::MAX;

/// Labels by series number, and series by label.
#[derive(Default)]
pub(crate) struct Catalog {
    symbols: Symbols,
    shapes: Vec<Shape>,
    shape_ids: HashMap<Box<[Symbol]>, u32>,
    /// Numbers of shapes that no series has.
    free_shapes: Vec<u32>,
    records: Arena,
    addresses: Paged<u32>,
    index: MemoryIndex,
}

/// The label names of some series, sorted.
#[derive(Default)]
struct Shape {
    names: Box<[Symbol]>,
    /// How many series have it.
    series: u32,
    is_free: bool,
}

/// The memory the catalog holds, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CatalogMemory {
    pub(crate) symbols: usize,
    pub(crate) records: usize,
    pub(crate) index: usize,
}

impl Catalog {
    /// How many series there are.
    pub(crate) fn len(&self) -> u32 {
        self.addresses.len() as u32
    }

    /// How many distinct strings there are.
    pub(crate) fn symbol_count(&self) -> usize {
        self.symbols.len()
    }

    #[cfg(test)]
    /// Appends a series; the number it gets is [`Catalog::len`] before. Nothing when an arena is full.
    pub(crate) fn push(&mut self, labels: &Labels) -> Option<u32> {
        let id = self.len();
        self.put(id, labels).then_some(id)
    }

    /// Gives the labels to a number that has none, or is the next. Answers false, and changes nothing a reader sees, when an
    /// arena is full.
    pub(crate) fn put(&mut self, id: u32, labels: &Labels) -> bool {
        self.try_put(id, labels).is_some()
    }

    fn try_put(&mut self, id: u32, labels: &Labels) -> Option<()> {
        let mut names = Vec::with_capacity(16);
        let mut values = Vec::with_capacity(16);
        for (name, value) in labels.iter_bytes() {
            names.push(self.symbols.intern(name)?);
            values.push(self.symbols.intern(value)?);
        }
        let shape = self.shape_of(names)?;
        self.put_record(id, shape, &values)
    }

    fn put_record(&mut self, id: u32, shape: u32, values: &[Symbol]) -> Option<()> {
        let mut record = Vec::with_capacity(24);
        put_varint(&mut record, u64::from(shape));
        for value in values {
            put_varint(&mut record, u64::from(*value));
        }
        let address = self.records.push(&record)?;
        match self.addresses.get_mut(id as usize) {
            Some(place) => *place = address,
            None => self.addresses.push(address),
        }
        let shape = self.shapes.get_mut(shape as usize)?;
        shape.series += 1;
        let pairs = shape.names.iter().copied().zip(values.iter().copied());
        let symbols = &mut self.symbols;
        self.index.insert(id, pairs, |pair| symbols.hold(pair.1));
        Some(())
    }

    /// Takes the labels of `series` away: their numbers are without labels then, and what only they used is free.
    pub(crate) fn remove(&mut self, series: &[u32]) {
        let (mut unused, mut shapes) = (Vec::new(), Vec::new());
        for id in series {
            let pairs: Vec<Pair> = self.pairs(*id).collect();
            let Some(place) = self.addresses.get_mut(*id as usize).filter(|a| **a != NO_RECORD) else {
                continue;
            };
            let address = std::mem::replace(place, NO_RECORD);
            let len = self.record_at(address).len();
            let shape = take_varint(&mut self.records.tail(address)).unwrap_or_default() as usize;
            self.records.remove(address, len);
            self.index.remove(*id, pairs.into_iter(), &mut unused);
            if let Some(found) = self.shapes.get_mut(shape) {
                found.series = found.series.saturating_sub(1);
                shapes.extend((found.series == 0).then_some(shape));
            }
        }
        if self.records.is_sparse() {
            self.rewrite_records();
        }
        self.index.remove_pairs(&mut unused);
        unused.iter().for_each(|pair| self.symbols.release(pair.1));
        for number in shapes {
            // A shape may have come to use again and gone again meanwhile.
            if let Some(shape) = self.shapes.get_mut(number).filter(|s| s.series == 0 && !s.is_free) {
                shape.is_free = true;
                let names = std::mem::take(&mut shape.names);
                self.shape_ids.remove(&names);
                names.iter().for_each(|name| self.symbols.release(*name));
                self.free_shapes.push(number as u32);
            }
        }
        self.symbols.close_holes();
    }

    /// Appends a number without labels.
    pub(crate) fn push_placeholder(&mut self) {
        self.addresses.push(NO_RECORD);
    }

    /// Whether `id` was appended by [`Catalog::push_placeholder`].
    pub(crate) fn is_placeholder(&self, id: u32) -> bool {
        self.addresses.get(id as usize).is_some_and(|address| *address == NO_RECORD)
    }

    /// The bytes of the record at `address`.
    fn record_at(&self, address: u32) -> &[u8] {
        let record = self.records.tail(address);
        let mut rest = record;
        let shape = take_varint(&mut rest).and_then(|shape| self.shapes.get(shape as usize));
        for _ in 0..shape.map_or(0, |shape| shape.names.len()) {
            take_varint(&mut rest);
        }
        record.get(..record.len() - rest.len()).unwrap_or_default()
    }

    /// Puts the records into an arena without holes.
    fn rewrite_records(&mut self) {
        let mut records = Arena::default();
        for id in 0..self.len() {
            let Some(address) = self.addresses.get(id as usize).copied().filter(|a| *a != NO_RECORD) else {
                continue;
            };
            let moved = records.push(self.record_at(address));
            if let Some(place) = self.addresses.get_mut(id as usize) {
                // An arena with holes held more.
                *place = moved.unwrap_or(NO_RECORD);
            }
        }
        self.records = records;
    }

    fn shape_of(&mut self, names: Vec<Symbol>) -> Option<u32> {
        if let Some(shape) = self.shape_ids.get(names.as_slice()) {
            return Some(*shape);
        }
        let next = u32::try_from(self.shapes.len()).ok()?;
        names.iter().for_each(|name| self.symbols.hold(*name));
        let names = names.into_boxed_slice();
        let number = self.free_shapes.pop().unwrap_or(next);
        let shape = Shape { names: names.clone(), series: 0, is_free: false };
        match self.shapes.get_mut(number as usize) {
            Some(place) => *place = shape,
            None => self.shapes.push(shape),
        }
        self.shape_ids.insert(names, number);
        Some(number)
    }

    /// The symbols of the label pairs of `id`, sorted by the text of the name.
    #[inline]
    pub(crate) fn pairs(&self, id: u32) -> impl Iterator<Item = (Symbol, Symbol)> + '_ {
        let address = self.addresses.get(id as usize).copied().filter(|a| *a != NO_RECORD);
        let mut record = address.map_or(&[][..], |a| self.records.tail(a));
        let shape = take_varint(&mut record).and_then(|shape| self.shapes.get(shape as usize));
        let names = shape.map_or(&[][..], |shape| &shape.names);
        names.iter().map_while(move |name| Some((*name, take_varint(&mut record)? as Symbol)))
    }

    /// Appends the canonical bytes of the labels of `id` to `out`.
    pub(crate) fn encode_labels(&self, id: u32, out: &mut Vec<u8>) {
        for (name, value) in self.pairs(id) {
            Labels::encode_pair(out, self.symbols.get(name), self.symbols.get(value));
        }
    }

    /// The labels of `id`; empty for a number without labels.
    pub(crate) fn labels(&self, id: u32) -> Labels {
        let mut bytes = Vec::with_capacity(256);
        self.encode_labels(id, &mut bytes);
        Labels::from_canonical(&bytes)
    }

    /// The symbol of the value that series `id` has for the name `name`.
    pub(crate) fn value_symbol(&self, id: u32, name: Symbol) -> Option<Symbol> {
        self.pairs(id).find(|pair| pair.0 == name).map(|pair| pair.1)
    }

    /// Every label pair of any series, in no order.
    pub(crate) fn label_pairs(&self) -> Vec<Pair> {
        self.index.pairs().collect()
    }

    /// The order of two label pairs by the texts of name and value.
    pub(crate) fn compare_pairs(&self, a: Pair, b: Pair) -> Ordering {
        let by_name =
            if a.0 == b.0 { Ordering::Equal } else { self.symbols.get(a.0).cmp(self.symbols.get(b.0)) };
        by_name.then_with(|| self.symbols.get(a.1).cmp(self.symbols.get(b.1)))
    }

    /// The order of two series by their labels, as [`Labels`] are ordered.
    pub(crate) fn compare(&self, a: u32, b: u32) -> Ordering {
        let (mut left, mut right) = (self.pairs(a), self.pairs(b));
        loop {
            match (left.next(), right.next()) {
                (None, None) => return Ordering::Equal,
                (None, Some(_)) => return Ordering::Less,
                (Some(_), None) => return Ordering::Greater,
                (Some(l), Some(r)) if l == r => {}
                (Some(l), Some(r)) => return self.compare_pairs(l, r),
            }
        }
    }

    /// The order of a series and a label set.
    pub(crate) fn compare_labels(&self, id: u32, labels: &Labels) -> Ordering {
        self.pairs(id).map(|(n, v)| (self.symbols.get(n), self.symbols.get(v))).cmp(labels.iter_bytes())
    }

    /// The label names of `series`, sorted.
    ///
    /// # Errors
    /// As `room`.
    pub(crate) fn names_of(&self, series: &RoaringBitmap, room: &mut Room<'_>) -> Result<Vec<String>> {
        let mut shapes = vec![false; self.shapes.len()];
        for id in series {
            let address = self.addresses.get(id as usize).copied().filter(|a| *a != NO_RECORD);
            let shape = address.and_then(|a| take_varint(&mut self.records.tail(a)));
            if let Some(seen) = shape.and_then(|shape| shapes.get_mut(shape as usize)) {
                *seen = true;
            }
        }
        let used = self.shapes.iter().zip(shapes).filter(|s| s.1).flat_map(|s| s.0.names.iter());
        let names: std::collections::BTreeSet<&str> = used.map(|name| self.symbols.text(*name)).collect();
        room.take(names.len(), names.iter().map(|name| name.len()).sum())?;
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    /// The values of label `name` in `series`, sorted.
    ///
    /// # Errors
    /// As `room`.
    pub(crate) fn values_of(
        &self,
        name: &str,
        series: &RoaringBitmap,
        room: &mut Room<'_>,
    ) -> Result<Vec<String>> {
        let Some(name) = self.symbols.find(name.as_bytes()) else { return Ok(Vec::new()) };
        let values = self.index.values(name).iter().filter(|v| self.index.intersects((name, **v), series));
        let mut values: Vec<&str> = values.map(|v| self.symbols.text(*v)).collect();
        room.take(values.len(), values.iter().map(|value| value.len()).sum())?;
        values.sort_unstable();
        Ok(values.into_iter().map(str::to_owned).collect())
    }

    /// The column of label `name` over `series`.
    pub(crate) fn label_column(&self, name: &str, series: impl Iterator<Item = u32>) -> LabelColumn {
        let mut column = LabelColumn::default();
        let name = self.symbols.find(name.as_bytes());
        let mut ids: HashMap<Option<Symbol>, u32> = HashMap::new();
        for id in series {
            let value = name.and_then(|name| self.value_symbol(id, name));
            let next = column.values.len() as u32;
            let id = *ids.entry(value).or_insert_with(|| {
                column.values.push(Arc::from(value.map_or("", |v| self.symbols.text(v))));
                next
            });
            column.ids.push(id);
        }
        column
    }

    /// Turns dense stretches of the postings into runs.
    pub(crate) fn optimize(&mut self) {
        self.index.optimize();
    }

    pub(crate) fn memory(&self) -> CatalogMemory {
        CatalogMemory {
            symbols: self.symbols.memory_bytes(),
            records: self.records.memory_bytes() + self.addresses.memory_bytes(),
            index: self.index.memory_bytes(),
        }
    }
}

impl LabelIndex for Catalog {
    fn all_series(&self) -> Result<RoaringBitmap> {
        Ok(self.index.all().clone())
    }

    fn visit_names(&self, visit: &mut dyn FnMut(&str)) -> Result<()> {
        let mut names: Vec<&str> = self.index.names().map(|name| self.symbols.text(name)).collect();
        names.sort_unstable();
        names.into_iter().for_each(visit);
        Ok(())
    }

    fn value_id(&self, name: &str, value: &str) -> Result<Option<u32>> {
        let Some(name) = self.symbols.find(name.as_bytes()) else { return Ok(None) };
        let value = self.symbols.find(value.as_bytes());
        Ok(value.filter(|value| self.index.contains((name, *value))))
    }

    fn visit_values(&self, name: &str, prefix: &str, visit: &mut dyn FnMut(u32, &str)) -> Result<()> {
        let Some(name) = self.symbols.find(name.as_bytes()) else { return Ok(()) };
        for value in self.index.values(name) {
            let text = self.symbols.text(*value);
            if text.starts_with(prefix) {
                visit(*value, text);
            }
        }
        Ok(())
    }

    fn add_postings(&self, name: &str, ids: &[u32], series: &mut RoaringBitmap) -> Result<()> {
        if let Some(name) = self.symbols.find(name.as_bytes()) {
            for value in ids {
                self.index.add_postings((name, *value), series);
            }
        }
        Ok(())
    }

    fn value_intersects(&self, name: &str, id: u32, series: &RoaringBitmap) -> Result<bool> {
        let name = self.symbols.find(name.as_bytes());
        Ok(name.is_some_and(|name| self.index.intersects((name, id), series)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{label_names, select};
    use crate::model::Matcher;

    #[test]
    fn labels_come_back_and_compare_as_labels_do() {
        let sets = [
            Labels::from_pairs([("__name__", "up"), ("job", "b")]),
            Labels::from_pairs([("__name__", "up"), ("job", "a")]),
            Labels::from_pairs([("__name__", "up")]),
            Labels::from_pairs([("__name__", "up"), ("instance", "z"), ("job", "a")]),
            Labels::from_pairs([("__name__", "down"), ("zone", "1")]),
        ];
        let mut catalog = Catalog::default();
        for (i, labels) in sets.iter().enumerate() {
            assert_eq!(catalog.push(labels), Some(i as u32));
        }
        for (i, a) in sets.iter().enumerate() {
            assert_eq!(catalog.labels(i as u32), *a);
            for (j, b) in sets.iter().enumerate() {
                assert_eq!(catalog.compare(i as u32, j as u32), a.cmp(b), "{a} {b}");
                assert_eq!(catalog.compare_labels(i as u32, b), a.cmp(b));
            }
        }
        let found = select(&catalog, &[Matcher::equal("job", "a")]).unwrap();
        assert_eq!(found.iter().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(
            label_names(&catalog, &[], &RoaringBitmap::new(), &mut Room::new(&mut |_| Ok(()))).unwrap(),
            ["__name__", "instance", "job", "zone"]
        );
    }

    #[test]
    fn a_placeholder_has_no_labels_and_is_not_found() {
        let mut catalog = Catalog::default();
        catalog.push_placeholder();
        assert_eq!(catalog.push(&Labels::from_pairs([("a", "b")])), Some(1));
        assert!(catalog.labels(0).is_empty() && catalog.is_placeholder(0) && !catalog.is_placeholder(1));
        assert_eq!(select(&catalog, &[]).unwrap().iter().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn removed_series_leave_nothing_behind() {
        let labels = |round: u32, i: u32| {
            let own = format!("label_{}", round * 10 + i % 3);
            let (pod, zone) = (format!("pod-{round:03}-{i:05}"), format!("z{}", i % 20));
            Labels::from_pairs([("__name__", "m"), (&own, "x"), ("pod", &pod), ("zone", &zone)])
        };
        let mut catalog = Catalog::default();
        let kept = Labels::from_pairs([("__name__", "kept"), ("zone", "z3")]);
        catalog.push(&kept).unwrap();
        let mut held = None;
        for round in 0..12 {
            for i in 1..5000 {
                assert!(catalog.put(i, &labels(round, i)));
            }
            assert_eq!((catalog.len(), catalog.symbol_count()), (5000, 7 + 3 + 19 + 4999));
            for i in (1..5000).step_by(499) {
                assert_eq!(catalog.labels(i), labels(round, i));
            }
            let found = select(&catalog, &[Matcher::equal("zone", "z3")]).unwrap();
            assert_eq!(found.len(), 251);
            let memory = catalog.memory();
            let all = memory.symbols + memory.records + memory.index;
            if round > 0 {
                assert!(all <= *held.get_or_insert(all) * 2, "{all} bytes in round {round}");
            }
            for part in (1..5000).collect::<Vec<_>>().chunks(700) {
                catalog.remove(part);
            }
            assert_eq!(select(&catalog, &[]).unwrap().iter().collect::<Vec<_>>(), [0]);
            assert_eq!(catalog.symbol_count(), 4);
            assert_eq!((catalog.labels(0), catalog.labels(7)), (kept.clone(), Labels::empty()));
            let names =
                label_names(&catalog, &[], &RoaringBitmap::new(), &mut Room::new(&mut |_| Ok(()))).unwrap();
            assert_eq!(names, ["__name__", "zone"]);
        }
    }
}
