//! The inverted label index: what a holder of series must answer so that matchers become sets of series.
//!
//! A [`LabelIndex`] numbers its series (`u32`, any order) and the values of each label name (`u32`, any order, stable as
//! long as the borrow lasts). The selection logic in [`select`](mod@select) is written once over this trait; the head's
//! in-memory index and the index of a block both implement it.

pub mod dictionary;
pub(crate) mod memory;
pub mod postings;
pub mod select;

pub use select::{label_names, label_values, select, select_while};

use crate::error::Result;
use roaring::RoaringBitmap;

/// A holder of labelled series that can be searched.
pub trait LabelIndex {
    /// The numbers of all series.
    ///
    /// # Errors
    /// Damaged or unreadable index bytes; an index in memory never fails. The same holds for every method.
    fn all_series(&self) -> Result<RoaringBitmap>;

    /// Calls `visit` with each label name, sorted.
    ///
    /// # Errors
    /// As [`LabelIndex::all_series`].
    fn visit_names(&self, visit: &mut dyn FnMut(&str)) -> Result<()>;

    /// The id of `value` among the values of label `name`, if any series has it.
    ///
    /// # Errors
    /// As [`LabelIndex::all_series`].
    fn value_id(&self, name: &str, value: &str) -> Result<Option<u32>>;

    /// Calls `visit` with the id and text of each value of label `name` that starts with `prefix`. An index whose values
    /// are sorted visits in that order; others may visit in any order and may ignore `prefix`.
    ///
    /// # Errors
    /// As [`LabelIndex::all_series`].
    fn visit_values(&self, name: &str, prefix: &str, visit: &mut dyn FnMut(u32, &str)) -> Result<()>;

    /// Adds to `series` the numbers of all series whose label `name` has one of the values `ids`.
    ///
    /// # Errors
    /// As [`LabelIndex::all_series`].
    fn add_postings(&self, name: &str, ids: &[u32], series: &mut RoaringBitmap) -> Result<()>;

    /// Whether any of `series` has value `id` for label `name`.
    ///
    /// # Errors
    /// As [`LabelIndex::all_series`].
    fn value_intersects(&self, name: &str, id: u32, series: &RoaringBitmap) -> Result<bool> {
        let mut postings = RoaringBitmap::new();
        self.add_postings(name, &[id], &mut postings)?;
        Ok(!postings.is_disjoint(series))
    }

    /// Calls `visit` with id and text of each value of label `name` that any of `series` has, in any order.
    ///
    /// # Errors
    /// As [`LabelIndex::all_series`].
    fn visit_values_of(
        &self,
        name: &str,
        series: &RoaringBitmap,
        visit: &mut dyn FnMut(u32, &str),
    ) -> Result<()> {
        let mut values = Vec::new();
        self.visit_values(name, "", &mut |id, value| values.push((id, value.to_owned())))?;
        for (id, value) in values {
            if self.value_intersects(name, id, series)? {
                visit(id, &value);
            }
        }
        Ok(())
    }
}
