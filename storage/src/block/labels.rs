//! The labels of a block: names, dictionaries, postings, the labels of a series, columns of value numbers.

use super::format::{SERIES_PER_PAGE, Section};
use super::label_cache::{LastValue, NameEntry, parse_names};
use super::reader::Block;
use crate::error::{Error, ErrorKind, Result};
use crate::index::dictionary::Dictionary;
use crate::index::postings::Postings;
use crate::index::{self, LabelIndex};
use crate::model::{Labels, Matcher};
use roaring::RoaringBitmap;
use std::sync::Arc;

/// In a column of value numbers: the series does not have the label.
pub const NO_VALUE: u32 = u32::MAX;
/// How many columns of value numbers are kept.
const CACHED_COLUMNS: usize = 8;

impl Block {
    fn names(&self) -> Result<&[NameEntry]> {
        if let Some(names) = self.label_cache.names.get() {
            return Ok(names);
        }
        let bytes = self.section(Section::Names)?;
        let names = parse_names(bytes).ok_or_else(|| self.corrupt(Section::Names, "not a list of names"))?;
        Ok(self.label_cache.names.get_or_init(|| names))
    }

    fn find_name(&self, name: &str) -> Result<Option<u32>> {
        let found = self.names()?.binary_search_by(|entry| entry.name.as_str().cmp(name));
        Ok(found.ok().map(|id| id as u32))
    }

    fn name(&self, id: u32) -> Result<&NameEntry> {
        self.names()?.get(id as usize).ok_or_else(|| self.corrupt(Section::Names, format!("no name {id}")))
    }

    fn dictionary(&self, entry: &NameEntry) -> Result<Dictionary<'_>> {
        let bytes = self.section(Section::Dict)?;
        let part = bytes.get(entry.dict.0..).and_then(|b| b.get(..entry.dict.1));
        part.and_then(|p| Dictionary::new(p, entry.values)).ok_or_else(|| self.broken_dictionary(entry))
    }

    fn broken_dictionary(&self, entry: &NameEntry) -> Error {
        self.corrupt(Section::Dict, format!("the values of label {:?} are damaged", entry.name))
    }

    fn postings_of(&self, entry: &NameEntry) -> Result<Postings<'_>> {
        let bytes = self.section(Section::Postings)?;
        let part = bytes.get(entry.postings.0..).and_then(|b| b.get(..entry.postings.1));
        part.and_then(|p| Postings::new(p, entry.values)).ok_or_else(|| self.broken_postings(entry))
    }

    fn broken_postings(&self, entry: &NameEntry) -> Error {
        self.corrupt(Section::Postings, format!("the postings of label {:?} are damaged", entry.name))
    }

    /// The numbers of the series that satisfy all matchers.
    ///
    /// # Errors
    /// The index is damaged. The same holds for every method about labels.
    pub fn postings(&self, matchers: &[Matcher]) -> Result<RoaringBitmap> {
        index::select(self, matchers)
    }

    /// As [`Block::postings`], for one who may not want the answer any more ([`index::select_while`]).
    ///
    /// # Errors
    /// As [`Block::postings`]; `Cancelled` if `go_on` said no.
    pub fn postings_while(&self, matchers: &[Matcher], go_on: &dyn Fn() -> bool) -> Result<RoaringBitmap> {
        index::select_while(self, matchers, go_on)
    }

    /// All label names, sorted.
    ///
    /// # Errors
    /// As [`Block::postings`].
    pub fn label_names(&self) -> Result<Vec<String>> {
        Ok(self.names()?.iter().map(|n| n.name.clone()).collect())
    }

    /// All values of label `name`, sorted; the place of a value in the list is its number.
    ///
    /// # Errors
    /// As [`Block::postings`].
    pub fn label_values(&self, name: &str) -> Result<Vec<String>> {
        let mut values = Vec::new();
        self.visit_values(name, "", &mut |_, value| values.push(value.to_owned()))?;
        Ok(values)
    }

    /// The labels of series number `series`. Fastest in ascending order.
    ///
    /// # Errors
    /// As [`Block::postings`]; or there is no such series.
    pub fn series_labels(&self, series: u32) -> Result<Labels> {
        if series >= self.series_count() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{}: no series {series}", self.path.display()),
            ));
        }
        let page = self.series_page(series / SERIES_PER_PAGE)?;
        let numbers = page.labels((series % SERIES_PER_PAGE) as usize);
        let names = self.names()?;
        // Who finds the remembered values in use by another thread goes without.
        let mut remembered = self.label_cache.last.try_lock();
        let mut own = Vec::new();
        let last: &mut Vec<LastValue> = remembered.as_deref_mut().unwrap_or(&mut own);
        last.resize_with(names.len(), LastValue::default);
        for (name, value) in numbers {
            let (Some(entry), Some(slot)) = (names.get(*name as usize), last.get_mut(*name as usize)) else {
                return Err(self.corrupt(Section::Names, format!("no name {name}")));
            };
            if slot.id != Some(*value) {
                // Until the value is there, the slot holds none.
                slot.id = None;
                if self.dictionary(entry)?.value(*value, &mut slot.text) != Some(true) {
                    return Err(self.broken_dictionary(entry));
                }
                slot.id = Some(*value);
            }
        }
        Ok(Labels::from_sorted_pairs(numbers.iter().filter_map(|(name, _)| {
            let at = *name as usize;
            Some((names.get(at)?.name.as_str(), last.get(at)?.text.as_str()))
        })))
    }

    /// The value of label `name` with number `id`, if there is one.
    ///
    /// # Errors
    /// As [`Block::postings`].
    pub fn label_value(&self, name: &str, id: u32) -> Result<Option<String>> {
        let Some(number) = self.find_name(name)? else { return Ok(None) };
        let entry = self.name(number)?;
        let mut value = String::new();
        let found = self.dictionary(entry)?.value(id, &mut value);
        let found = found.ok_or_else(|| self.broken_dictionary(entry))?;
        Ok(found.then_some(value))
    }

    /// For each series the number of its value of label `name`, or [`NO_VALUE`].
    ///
    /// # Errors
    /// As [`Block::postings`].
    pub fn label_value_ids(&self, name: &str) -> Result<Arc<Vec<u32>>> {
        let number = self.find_name(name)?.unwrap_or(NO_VALUE);
        if let Some((_, column)) = self.label_cache.columns.lock().iter().find(|c| c.0 == number) {
            return Ok(Arc::clone(column));
        }
        let mut column = vec![NO_VALUE; self.series_count() as usize];
        if number != NO_VALUE {
            let entry = self.name(number)?;
            let set = |id, series: u32| {
                if let Some(slot) = column.get_mut(series as usize) {
                    *slot = id;
                }
            };
            self.postings_of(entry)?.visit(set).ok_or_else(|| self.broken_postings(entry))?;
        }
        let column = Arc::new(column);
        let mut cached = self.label_cache.columns.lock();
        if cached.len() >= CACHED_COLUMNS {
            cached.pop_front();
        }
        cached.push_back((number, Arc::clone(&column)));
        Ok(column)
    }
}

impl LabelIndex for Block {
    fn all_series(&self) -> Result<RoaringBitmap> {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.series_count());
        Ok(all)
    }

    fn visit_names(&self, visit: &mut dyn FnMut(&str)) -> Result<()> {
        self.names()?.iter().for_each(|entry| visit(&entry.name));
        Ok(())
    }

    fn value_id(&self, name: &str, value: &str) -> Result<Option<u32>> {
        let Some(number) = self.find_name(name)? else { return Ok(None) };
        let entry = self.name(number)?;
        self.dictionary(entry)?.find(value).ok_or_else(|| self.broken_dictionary(entry))
    }

    fn visit_values(&self, name: &str, prefix: &str, visit: &mut dyn FnMut(u32, &str)) -> Result<()> {
        let Some(number) = self.find_name(name)? else { return Ok(()) };
        let entry = self.name(number)?;
        self.dictionary(entry)?.visit(prefix, visit).ok_or_else(|| self.broken_dictionary(entry))
    }

    fn add_postings(&self, name: &str, ids: &[u32], series: &mut RoaringBitmap) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let Some(number) = self.find_name(name)? else { return Ok(()) };
        let entry = self.name(number)?;
        self.postings_of(entry)?.add(ids, series).ok_or_else(|| self.broken_postings(entry))
    }

    fn visit_values_of(
        &self,
        name: &str,
        series: &RoaringBitmap,
        visit: &mut dyn FnMut(u32, &str),
    ) -> Result<()> {
        let Some(number) = self.find_name(name)? else { return Ok(()) };
        let entry = self.name(number)?;
        let column = self.label_value_ids(name)?;
        let mut ids: Vec<u32> = series
            .iter()
            .filter_map(|s| column.get(s as usize))
            .copied()
            .filter(|id| *id != NO_VALUE)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let dictionary = self.dictionary(entry)?;
        let mut text = String::new();
        for id in ids {
            if dictionary.value(id, &mut text) != Some(true) {
                return Err(self.broken_dictionary(entry));
            }
            visit(id, &text);
        }
        Ok(())
    }
}
