//! The labels of every series in 13 to 18 bytes each, and the index over them.
//!
//! A series is a record `varint shape, varint value symbol…`; a shape is the sorted list of its label names, and a
//! fleet has about a hundred of those.

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
    shapes: Vec<Box<[Symbol]>>,
    shape_ids: HashMap<Box<[Symbol]>, u32>,
    records: Arena,
    addresses: Paged<u32>,
    index: MemoryIndex,
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

    /// Appends a series; the number it gets is [`Catalog::len`] before. Nothing when an arena is full.
    pub(crate) fn push(&mut self, labels: &Labels) -> Option<u32> {
        let id = self.len();
        let mut names = Vec::with_capacity(16);
        let mut values = Vec::with_capacity(16);
        for (name, value) in labels.iter_bytes() {
            names.push(self.symbols.intern(name)?);
            values.push(self.symbols.intern(value)?);
        }
        let shape = self.shape_of(names)?;
        let mut record = Vec::with_capacity(24);
        put_varint(&mut record, u64::from(shape));
        for value in &values {
            put_varint(&mut record, u64::from(*value));
        }
        let address = self.records.push(&record)?;
        self.addresses.push(address);
        let names = self.shapes.get(shape as usize)?;
        self.index.insert(id, names.iter().copied().zip(values));
        Some(id)
    }

    pub(crate) fn shape_count(&self) -> usize {
        self.shapes.len()
    }

    /// Writes all strings, as [`Catalog::decode_symbols`] reads them.
    pub(crate) fn encode_symbols(&self, out: &mut Vec<u8>) {
        for symbol in 0..self.symbols.len() as u32 {
            let text = self.symbols.get(symbol);
            put_varint(out, text.len() as u64);
            out.extend_from_slice(text);
        }
    }

    /// Writes all shapes, as [`Catalog::decode_shapes`] reads them.
    pub(crate) fn encode_shapes(&self, out: &mut Vec<u8>) {
        for shape in &self.shapes {
            put_varint(out, shape.len() as u64);
            shape.iter().for_each(|name| put_varint(out, u64::from(*name)));
        }
    }

    /// Writes the records of the first `series` series, as [`Catalog::decode_records`] reads them.
    pub(crate) fn encode_records(&self, series: u32, out: &mut Vec<u8>) {
        for id in 0..series {
            let address = self.addresses.get(id as usize).copied().filter(|a| *a != NO_RECORD);
            let Some(mut record) = address.map(|a| self.records.tail(a)) else {
                out.push(0);
                continue;
            };
            let shape = take_varint(&mut record).unwrap_or_default();
            put_varint(out, shape + 1);
            for (_, value) in self.pairs(id) {
                put_varint(out, u64::from(value));
            }
        }
    }

    /// Reads `count` strings into an empty catalog.
    pub(crate) fn decode_symbols(&mut self, mut bytes: &[u8], count: u32) -> Option<()> {
        for symbol in 0..count {
            let len = usize::try_from(take_varint(&mut bytes)?).ok()?;
            let (text, rest) = bytes.split_at_checked(len)?;
            bytes = rest;
            std::str::from_utf8(text).ok()?;
            if self.symbols.intern(text)? != symbol {
                return None;
            }
        }
        Some(())
    }

    /// Reads `count` shapes.
    pub(crate) fn decode_shapes(&mut self, mut bytes: &[u8], count: u32) -> Option<()> {
        for shape in 0..count {
            let len = take_varint(&mut bytes)?;
            let mut names = Vec::new();
            for _ in 0..len {
                let name = u32::try_from(take_varint(&mut bytes)?).ok()?;
                names.push(name);
                if name as usize >= self.symbols.len() {
                    return None;
                }
            }
            if self.shape_of(names)? != shape {
                return None;
            }
        }
        Some(())
    }

    /// Reads `count` series and indexes them.
    pub(crate) fn decode_records(&mut self, mut bytes: &[u8], count: u32) -> Option<()> {
        let mut record = Vec::with_capacity(64);
        let mut values = Vec::with_capacity(64);
        for id in 0..count {
            let Some(shape) = take_varint(&mut bytes)?.checked_sub(1) else {
                self.push_placeholder();
                continue;
            };
            let names = self.shapes.get(usize::try_from(shape).ok()?)?;
            values.clear();
            record.clear();
            put_varint(&mut record, shape);
            for _ in 0..names.len() {
                let value = u32::try_from(take_varint(&mut bytes)?).ok()?;
                if value as usize >= self.symbols.len() {
                    return None;
                }
                put_varint(&mut record, u64::from(value));
                values.push(value);
            }
            self.addresses.push(self.records.push(&record)?);
            self.index.insert(id, names.iter().copied().zip(values.iter().copied()));
        }
        Some(())
    }

    /// Appends a number without labels.
    pub(crate) fn push_placeholder(&mut self) {
        self.addresses.push(NO_RECORD);
    }

    /// Whether `id` was appended by [`Catalog::push_placeholder`].
    pub(crate) fn is_placeholder(&self, id: u32) -> bool {
        self.addresses.get(id as usize).is_some_and(|address| *address == NO_RECORD)
    }

    fn shape_of(&mut self, names: Vec<Symbol>) -> Option<u32> {
        if let Some(shape) = self.shape_ids.get(names.as_slice()) {
            return Some(*shape);
        }
        let shape = u32::try_from(self.shapes.len()).ok()?;
        let names = names.into_boxed_slice();
        self.shapes.push(names.clone());
        self.shape_ids.insert(names, shape);
        Some(shape)
    }

    /// The symbols of the label pairs of `id`, sorted by the text of the name.
    #[inline]
    pub(crate) fn pairs(&self, id: u32) -> impl Iterator<Item = (Symbol, Symbol)> + '_ {
        let address = self.addresses.get(id as usize).copied().filter(|a| *a != NO_RECORD);
        let mut record = address.map_or(&[][..], |a| self.records.tail(a));
        let shape = take_varint(&mut record).and_then(|shape| self.shapes.get(shape as usize));
        let names = shape.map_or(&[][..], |names| names);
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
        let used = self.shapes.iter().zip(shapes).filter(|s| s.1).flat_map(|s| s.0.iter());
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
}
