//! Exemplars of the store: from memory and blocks, by labels, then by time.

use super::querier::StoreQuerier;
use super::warnings::Warnings;
use crate::api::{ExemplarSeries, Exemplars};
use crate::error::{Error, ErrorKind, Result};
use crate::head::view::LiveBlock;
use crate::index;
use crate::model::{Exemplar, Labels, Matcher};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;

/// The most exemplars of one answer.
const EXEMPLARS_MAX: usize = 500_000;

#[derive(Default)]
struct Found {
    series: BTreeMap<Labels, Vec<Exemplar>>,
    count: usize,
}

impl Found {
    fn add(&mut self, labels: Labels, exemplars: impl IntoIterator<Item = Exemplar>) -> Result<()> {
        let of_series = self.series.entry(labels).or_default();
        let before = of_series.len();
        of_series.extend(exemplars);
        self.count += of_series.len() - before;
        if self.count <= EXEMPLARS_MAX {
            return Ok(());
        }
        let text = format!("more than {EXEMPLARS_MAX} exemplars match, the limit; ask for a shorter time");
        Err(Error::new(ErrorKind::LimitExceeded, text))
    }
}

impl StoreQuerier {
    /// The exemplars in the range of this querier of all series that match one of `matcher_sets` (all series if there is
    /// none).
    ///
    /// # Errors
    /// `LimitExceeded`: there are too many; or the disk refusing.
    pub(crate) fn exemplars(&self, matcher_sets: &[Vec<Matcher>]) -> Result<Exemplars> {
        let warnings = Warnings::of_missing(&self.missing, self.range);
        let mut found = Found::default();
        let all = [Vec::new()];
        let sets = if matcher_sets.is_empty() { &all[..] } else { matcher_sets };
        for (_, live) in self.blocks_in(self.range).filter(|(_, live)| live.block.has_exemplars()) {
            let read = self.exemplars_of_block(live, sets);
            for (labels, exemplar) in warnings.confine(read)?.unwrap_or_default() {
                found.add(labels, [exemplar])?;
            }
        }
        self.exemplars_of_head(sets, &mut found)?;
        let of_series = |(labels, mut exemplars): (Labels, Vec<Exemplar>)| {
            exemplars.sort_by(Exemplar::order);
            exemplars.dedup();
            let oldest = self.keep.oldest_kept(&labels);
            exemplars.retain(|exemplar| exemplar.timestamp >= oldest);
            ExemplarSeries { labels, exemplars }
        };
        let series = found.series.into_iter().map(of_series).collect();
        Ok(Exemplars { series, warnings: warnings.list() })
    }

    fn exemplars_of_block(&self, live: &LiveBlock, sets: &[Vec<Matcher>]) -> Result<Vec<(Labels, Exemplar)>> {
        let mut wanted = RoaringBitmap::new();
        for matchers in sets {
            wanted |= live.block.postings(matchers)?;
        }
        let mut numbered = Vec::new();
        let deletions = live.deletions()?;
        live.block.read_exemplars(&wanted, self.range, &mut |series, exemplar| {
            if !deletions.hides(series, exemplar.timestamp) && numbered.len() <= EXEMPLARS_MAX {
                numbered.push((series, exemplar));
            }
        })?;
        let mut out = Vec::with_capacity(numbered.len());
        let mut last: Option<(u32, Labels)> = None;
        for (series, exemplar) in numbered {
            let labels = match &last {
                Some((number, labels)) if *number == series => labels.clone(),
                _ => live.block.series_labels(series)?,
            };
            last = Some((series, labels.clone()));
            out.push((labels, exemplar));
        }
        Ok(out)
    }

    fn exemplars_of_head(&self, sets: &[Vec<Matcher>], found: &mut Found) -> Result<()> {
        let frozen = self.view.frozen.iter().map(|frozen| &frozen.generation);
        for generation in frozen.chain([&self.view.active]) {
            let with_exemplars: RoaringBitmap = generation.series_with_exemplars().collect();
            if with_exemplars.is_empty() {
                continue;
            }
            let mut wanted = RoaringBitmap::new();
            let catalog = self.registry.catalog();
            for matchers in sets {
                wanted |= index::select(&*catalog, matchers)? & &with_exemplars;
            }
            let mut of_generation = Vec::new();
            for id in wanted {
                let exemplars: Vec<Exemplar> = generation.exemplars_of(id, self.range).cloned().collect();
                if !exemplars.is_empty() {
                    of_generation.push((catalog.labels(id), exemplars));
                }
            }
            drop(catalog);
            for (labels, exemplars) in of_generation {
                found.add(labels, exemplars)?;
            }
        }
        Ok(())
    }
}
