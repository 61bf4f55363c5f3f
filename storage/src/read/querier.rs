//! `StoreQuerier`: a consistent view of all sources over one time range.

use super::series_set::{Entry, StoreSeriesSet};
use crate::api::{Names, Querier, SeriesSet};
use crate::error::Result;
use crate::head::catalog::Catalog;
use crate::head::order::LabelOrder;
use crate::head::registry::Registry;
use crate::head::view::View;
use crate::index;
use crate::model::{Matcher, TimeRange};
use roaring::RoaringBitmap;
use std::sync::Arc;

/// See the module.
pub(crate) struct StoreQuerier {
    pub(crate) registry: Arc<Registry>,
    pub(crate) order: Arc<LabelOrder>,
    pub(crate) view: Arc<View>,
    /// What the caller asked for, within the retention.
    pub(crate) range: TimeRange,
}

impl StoreQuerier {
    /// The part of `range` that this view covers.
    fn clamp(&self, range: TimeRange) -> TimeRange {
        TimeRange {
            min_time: range.min_time.max(self.range.min_time),
            max_time: range.max_time.min(self.range.max_time),
        }
    }

    /// Whether series `id` of the registry may have samples in `range` in memory.
    fn is_in_head(&self, id: u32, range: TimeRange) -> bool {
        self.view.active.has_samples(id, range)
            || self.view.frozen.iter().any(|f| f.generation.has_samples(id, range))
    }

    /// The series of the registry that match and have samples in memory.
    fn head_series(
        &self,
        catalog: &Catalog,
        range: TimeRange,
        matchers: &[Matcher],
    ) -> Result<RoaringBitmap> {
        let found = index::select(catalog, matchers)?;
        Ok(found.iter().filter(|id| self.is_in_head(*id, range)).collect())
    }

    /// The series of the registry with samples in memory that match one of the sets.
    fn head_series_of_sets(&self, catalog: &Catalog, sets: &[Vec<Matcher>]) -> Result<RoaringBitmap> {
        let mut series = RoaringBitmap::new();
        if sets.is_empty() {
            return self.head_series(catalog, self.range, &[]);
        }
        for matchers in sets {
            series |= self.head_series(catalog, self.range, matchers)?;
        }
        Ok(series)
    }
}

impl Querier for StoreQuerier {
    fn select(&self, range: TimeRange, matchers: &[Matcher]) -> Result<Box<dyn SeriesSet>> {
        let range = self.clamp(range);
        let catalog = self.registry.catalog();
        let head = self.head_series(&catalog, range, matchers)?;
        let entries = self.order.sort(&catalog, &head).into_iter().map(Entry::of_head).collect();
        drop(catalog);
        Ok(Box::new(StoreSeriesSet::new(
            Arc::clone(&self.registry),
            Arc::clone(&self.view),
            self.range,
            entries,
        )))
    }

    fn label_names(&self, matcher_sets: &[Vec<Matcher>]) -> Result<Names> {
        let catalog = self.registry.catalog();
        let series = self.head_series_of_sets(&catalog, matcher_sets)?;
        Ok(Names { names: catalog.names_of(&series), warnings: Vec::new() })
    }

    fn label_values(&self, name: &str, matcher_sets: &[Vec<Matcher>]) -> Result<Names> {
        let catalog = self.registry.catalog();
        let series = self.head_series_of_sets(&catalog, matcher_sets)?;
        Ok(Names { names: catalog.values_of(name, &series), warnings: Vec::new() })
    }
}
