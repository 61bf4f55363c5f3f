//! The writing side of NAMES, DICT and POSTINGS: labels are numbered as they come, and renumbered in order at the end.

use crate::codec::varint::put_uvarint;
use crate::index::dictionary::write_dictionary;
use crate::index::postings::{PostingsBuilder, write_postings};
use crate::model::Labels;
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// Strings numbered in order of arrival.
#[derive(Debug, Default)]
struct Numbered {
    strings: Vec<Box<str>>,
    by_hash: HashTable<u32>,
}

impl Numbered {
    fn number(&mut self, string: &str) -> u32 {
        let strings = &mut self.strings;
        let text = |id: &u32| strings.get(*id as usize).map_or("", |s| s);
        let hash = xxh3_64(string.as_bytes());
        if let Some(id) = self.by_hash.find(hash, |id| text(id) == string) {
            return *id;
        }
        let id = strings.len() as u32;
        self.by_hash.insert_unique(hash, id, |id| xxh3_64(text(id).as_bytes()));
        strings.push(Box::from(string));
        id
    }

    /// The numbers in the order of their strings.
    fn sorted(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.strings.len() as u32).collect();
        order.sort_by_key(|id| self.text(*id));
        order
    }

    fn text(&self, id: u32) -> &str {
        self.strings.get(id as usize).map_or("", |s| s)
    }
}

/// Collects the labels of the series of a block.
#[derive(Debug, Default)]
pub(super) struct LabelCollector {
    names: Numbered,
    /// For each name, in order of arrival.
    columns: Vec<Column>,
}

#[derive(Debug, Default)]
struct Column {
    values: Numbered,
    postings: Vec<PostingsBuilder>,
}

/// The finished sections, and the final number of each name and of each value of each name (by number of arrival).
#[derive(Debug, Default)]
pub(super) struct LabelSections {
    pub(super) names: Vec<u8>,
    pub(super) dict: Vec<u8>,
    pub(super) postings: Vec<u8>,
    name_ranks: Vec<u32>,
    value_ranks: Vec<Vec<u32>>,
}

impl LabelCollector {
    /// Notes that series number `series` has `labels`, and appends their numbers of arrival to `numbers`.
    pub(super) fn add(&mut self, series: u32, labels: &Labels, numbers: &mut Vec<(u32, u32)>) {
        for (name, value) in labels.iter() {
            let name = self.names.number(name);
            if self.columns.len() <= name as usize {
                self.columns.push(Column::default());
            }
            let Some(column) = self.columns.get_mut(name as usize) else { continue };
            let value = column.values.number(value);
            if column.postings.len() <= value as usize {
                column.postings.push(PostingsBuilder::default());
            }
            if let Some(list) = column.postings.get_mut(value as usize) {
                list.push(series);
            }
            numbers.push((name, value));
        }
    }

    /// Sorts and writes the sections.
    pub(super) fn finish(self) -> LabelSections {
        let mut out = LabelSections::default();
        let order = self.names.sorted();
        out.name_ranks = ranks(&order);
        out.value_ranks = vec![Vec::new(); order.len()];
        put_uvarint(&mut out.names, order.len() as u64);
        for name in order {
            let Some(column) = self.columns.get(name as usize) else { continue };
            let values = column.values.sorted();
            let (dict_start, postings_start) = (out.dict.len(), out.postings.len());
            write_dictionary(values.iter().map(|v| column.values.text(*v)), &mut out.dict);
            write_postings(values.iter().filter_map(|v| column.postings.get(*v as usize)), &mut out.postings);
            let text = self.names.text(name);
            put_uvarint(&mut out.names, text.len() as u64);
            out.names.extend_from_slice(text.as_bytes());
            put_uvarint(&mut out.names, values.len() as u64);
            put_uvarint(&mut out.names, (out.dict.len() - dict_start) as u64);
            put_uvarint(&mut out.names, (out.postings.len() - postings_start) as u64);
            if let Some(slot) = out.value_ranks.get_mut(name as usize) {
                *slot = ranks(&values);
            }
        }
        out
    }
}

/// From the things in order to the place of each thing.
fn ranks(order: &[u32]) -> Vec<u32> {
    let mut ranks = vec![0; order.len()];
    for (rank, id) in order.iter().enumerate() {
        if let Some(slot) = ranks.get_mut(*id as usize) {
            *slot = rank as u32;
        }
    }
    ranks
}

impl LabelSections {
    /// The final numbers of a label; `None` if the collector has not given out these numbers.
    pub(super) fn rank(&self, name: u32, value: u32) -> Option<(u32, u32)> {
        let rank = *self.name_ranks.get(name as usize)?;
        Some((rank, *self.value_ranks.get(name as usize)?.get(value as usize)?))
    }
}
