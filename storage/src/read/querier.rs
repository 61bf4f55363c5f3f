//! `StoreQuerier`: a consistent view of all sources over one time range.

use super::entries::{Entries, Name, Part};
use super::keep::KeepRules;
use super::series_set::StoreSeriesSet;
use super::warnings::{Missing, Warnings};
use crate::api::{Names, Querier, Room, SeriesSet};
use crate::error::Result;
use crate::head::catalog::Catalog;
use crate::head::generation::Generation;
use crate::head::membership::Membership;
use crate::head::order::LabelOrder;
use crate::head::registry::Registry;
use crate::head::view::{Identity, LiveBlock, View};
use crate::index;
use crate::model::{Labels, Matcher, TimeRange};
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// See the module.
pub(crate) struct StoreQuerier {
    pub(crate) registry: Arc<Registry>,
    pub(crate) order: Arc<LabelOrder>,
    pub(crate) view: Arc<View>,
    pub(crate) missing: Arc<[Missing]>,
    /// The oldest time that is kept of each series.
    pub(crate) keep: KeepRules,
    /// What the caller asked for, within the retention.
    pub(crate) range: TimeRange,
}

impl StoreQuerier {
    /// Whether series `id` of the registry may have samples in `range` in memory.
    fn is_in_head(&self, id: u32, range: TimeRange) -> bool {
        self.view.active.has_samples(id, range)
            || self.view.frozen.iter().any(|f| f.generation.has_samples(id, range))
    }

    /// Whether any series may have samples in `range` in memory.
    fn is_head_in(&self, range: TimeRange) -> bool {
        let frozen = self.view.frozen.iter().map(|frozen| &frozen.generation);
        let mut times = frozen.chain([&self.view.active]).filter_map(|generation| generation.times());
        times.any(|(min, max)| TimeRange::closed(min, max).overlaps(&range))
    }

    /// The blocks with samples in `range`, and their places in the view.
    pub(super) fn blocks_in(&self, range: TimeRange) -> impl Iterator<Item = (usize, &LiveBlock)> {
        let blocks = self.view.blocks.iter().enumerate();
        blocks.map(|(at, live)| (at, live.as_ref())).filter(move |(_, live)| {
            let meta = live.block.meta();
            TimeRange::closed(meta.min_time, meta.max_time).overlaps(&range)
        })
    }

    /// The series of the registry that match and have samples in memory.
    fn head_series(
        &self,
        catalog: &Catalog,
        range: TimeRange,
        matchers: &[Matcher],
        go_on: &dyn Fn() -> bool,
    ) -> Result<RoaringBitmap> {
        if !self.is_head_in(range) {
            return Ok(RoaringBitmap::new());
        }
        let found = index::select_while(catalog, matchers, go_on)?;
        Ok(found.iter().filter(|id| self.is_in_head(*id, range)).collect())
    }

    /// The generations with samples in the time asked for.
    fn generations(&self) -> impl Iterator<Item = &Generation> {
        let frozen = self.view.frozen.iter().map(|frozen| &frozen.generation);
        frozen.chain([&self.view.active]).filter(|generation| {
            let times = generation.times();
            times.is_some_and(|(min, max)| TimeRange::closed(min, max).overlaps(&self.range))
        })
    }

    /// What tells the sources of the time asked for from others.
    fn membership(&self) -> Membership {
        let blocks = self.blocks_in(self.range).map(|(_, live)| live.membership());
        self.generations().map(Generation::membership).chain(blocks).collect()
    }

    /// All series in these generations, in whichever part of their time: as with blocks, names are not looked for in samples.
    fn members(&self) -> RoaringBitmap {
        let mut series = RoaringBitmap::new();
        for generation in self.generations() {
            series.extend(generation.series());
        }
        series
    }

    /// The series of the registry with samples in memory that match one of the sets.
    fn head_series_of_sets(&self, catalog: &Catalog, sets: &[Vec<Matcher>]) -> Result<RoaringBitmap> {
        let mut series = RoaringBitmap::new();
        for matchers in sets {
            series |= self.head_series(catalog, self.range, matchers, &|| true)?;
        }
        Ok(series)
    }

    /// Applies the retention of single series: those that are kept for too short a time for `range` are left out.
    fn keep_in_time(&self, entries: Entries, range: TimeRange) -> Entries {
        if self.keep.rules.is_empty() {
            return entries;
        }
        entries.kept(&self.registry, range.last(), |labels| self.keep.oldest_kept(labels))
    }

    /// The values of `label`, or all names if it is empty, in series that match one of the sets.
    fn list(&self, label: &str, matcher_sets: &[Vec<Matcher>], room: &mut Room<'_>) -> Result<Names> {
        let catalog = self.registry.catalog();
        let series = if matcher_sets.is_empty() {
            self.members()
        } else {
            self.head_series_of_sets(&catalog, matcher_sets)?
        };
        let from_head = if label.is_empty() {
            catalog.names_of(&series, room)
        } else {
            catalog.values_of(label, &series, room)
        };
        drop(catalog);
        let found = self.collect_names(from_head?, room, |live, room| {
            let gone = live.deletions()?.gone();
            if label.is_empty() {
                index::label_names(live.block.as_ref(), matcher_sets, gone, room)
            } else {
                index::label_values(live.block.as_ref(), label, matcher_sets, gone, room)
            }
        })?;
        if matcher_sets.is_empty() && found.warnings.is_empty() {
            self.registry.lists.keep(self.membership(), label, &found.names);
        }
        Ok(found)
    }

    /// Strings from the head and from each block, united; a damaged block is stepped around with a warning.
    fn collect_names(
        &self,
        from_head: Vec<String>,
        room: &mut Room<'_>,
        from_block: impl Fn(&LiveBlock, &mut Room<'_>) -> Result<Vec<String>>,
    ) -> Result<Names> {
        let warnings = Warnings::of_missing(&self.missing, self.range);
        let mut names = from_head;
        for (_, live) in self.blocks_in(self.range) {
            let found = warnings.confine(from_block(live, room))?.unwrap_or_default();
            if !found.is_empty() {
                // Two sorted runs one after the other, which this kind of sort merges.
                names.extend(found);
                names.sort();
                names.dedup();
            }
            room.hold_only(&names);
        }
        Ok(Names { names, warnings: warnings.list() })
    }
}

/// What a select has found in memory.
struct Head<'a> {
    series: &'a RoaringBitmap,
    /// Whether labels may have one number in the view and another now.
    has_changed: bool,
}

/// What a select has found so far: registered series by number, others by their labels.
#[derive(Default)]
struct Found {
    /// The last link of each; thousands of series have one part each.
    registered: HashMap<u32, u32>,
    links: Vec<Link>,
    others: BTreeMap<Labels, Vec<Part>>,
}

/// A part of a series with a number, and the link before.
struct Link {
    part: Part,
    before: u32,
}

/// There is no link before.
const NO_LINK: u32 = u32::MAX;

impl Found {
    fn add(&mut self, identity: Identity, part: Part) {
        match identity {
            Identity::Registered(id) => self.add_registered(id, part),
            Identity::Unregistered(labels) => self.others.entry(labels).or_default().push(part),
        }
    }

    fn add_registered(&mut self, id: u32, part: Part) {
        let last = self.registered.entry(id).or_insert(NO_LINK);
        let before = std::mem::replace(last, self.links.len() as u32);
        self.links.push(Link { part, before });
    }

    /// Replaces `parts` with those of series `id`, by ascending sequence of the blocks.
    fn collect_parts(&self, id: u32, parts: &mut Vec<Part>) {
        parts.clear();
        let mut next = self.registered.get(&id).copied().unwrap_or(NO_LINK);
        while let Some(link) = self.links.get(next as usize) {
            parts.push(link.part);
            next = link.before;
        }
        parts.reverse();
        // Only those that were joined later may not be in order.
        parts.sort_by_key(|part| part.block);
    }

    /// A series of several blocks may have been created between two of them: then it has a number now.
    fn join_registered(&mut self, registry: &Registry) {
        for (labels, parts) in std::mem::take(&mut self.others) {
            match registry.find(&labels) {
                Some(id) => parts.into_iter().for_each(|part| self.add_registered(id, part)),
                None => drop(self.others.insert(labels, parts)),
            }
        }
    }

    /// All series by their labels.
    fn into_entries(mut self, order: &LabelOrder, registry: &Registry, sources: &Head<'_>) -> Entries {
        self.join_registered(registry);
        let mut ids = sources.series.clone();
        ids.extend(self.registered.keys().copied());
        let mut others = std::mem::take(&mut self.others).into_iter().peekable();
        let mut own = Vec::new();
        let mut entries = Entries::with_capacity(ids.len() as usize + others.len());
        let sorted = order.sort(registry, &ids);
        let catalog = registry.catalog();
        let mut before = None;
        for id in sorted {
            while let Some((labels, parts)) =
                others.next_if(|other| catalog.compare_labels(id, &other.0).is_gt())
            {
                entries.push(Name::Labels(labels), &parts);
            }
            self.collect_parts(id, &mut own);
            // A series may have lost its number, or got another, while its blocks were asked.
            while let Some((_, parts)) = others.next_if(|other| catalog.compare_labels(id, &other.0).is_eq())
            {
                own.extend(parts);
                own.sort_unstable_by_key(|part| part.block);
            }
            let is_same = |before| sources.has_changed && catalog.compare(before, id).is_eq();
            if before.is_some_and(is_same) {
                entries.join_last(id, &own, sources.series);
            } else {
                entries.push(Name::Registered(id), &own);
            }
            before = Some(id);
        }
        others.for_each(|(labels, parts)| entries.push(Name::Labels(labels), &parts));
        entries
    }
}

impl Querier for StoreQuerier {
    fn select(&self, range: TimeRange, matchers: &[Matcher]) -> Result<Box<dyn SeriesSet>> {
        self.select_while(range, matchers, &|| true)
    }

    fn select_while(
        &self,
        range: TimeRange,
        matchers: &[Matcher],
        go_on: &dyn Fn() -> bool,
    ) -> Result<Box<dyn SeriesSet>> {
        let range = range.within(self.range);
        let warnings = Warnings::of_missing(&self.missing, range);
        let mut found = Found::default();
        for (at, live) in self.blocks_in(range) {
            let mut add_all = || -> Result<()> {
                let series = live.block.postings_while(matchers, go_on)? - live.deletions()?.gone();
                found.links.reserve(series.len() as usize);
                found.registered.reserve((series.len() as usize).saturating_sub(found.registered.len()));
                for series in series {
                    let part = Part { block: at as u32, series };
                    match live.identify(series, &self.registry) {
                        Ok(identity) => found.add(identity, part),
                        Err(error) => drop(warnings.confine::<()>(Err(error))?),
                    }
                }
                Ok(())
            };
            warnings.confine(add_all())?;
        }
        let catalog = self.registry.catalog();
        let head = self.head_series(&catalog, range, matchers, go_on)?;
        drop(catalog);
        let entries = if found.registered.is_empty() && found.others.is_empty() {
            Entries::registered(self.order.sort(&self.registry, &head))
        } else {
            let has_changed = self.view.pin.as_ref().is_some_and(|pin| self.registry.changed_since(pin));
            found.into_entries(&self.order, &self.registry, &Head { series: &head, has_changed })
        };
        let entries = self.keep_in_time(entries, range);
        let (registry, view) = (Arc::clone(&self.registry), Arc::clone(&self.view));
        Ok(Box::new(StoreSeriesSet::new(registry, view, self.range, entries, warnings)))
    }

    fn label_names(&self, matcher_sets: &[Vec<Matcher>], room: &mut Room<'_>) -> Result<Names> {
        self.list("", matcher_sets, room)
    }

    fn label_values(&self, name: &str, matcher_sets: &[Vec<Matcher>], room: &mut Room<'_>) -> Result<Names> {
        // No series has a label without a name.
        if name.is_empty() { Ok(Names::default()) } else { self.list(name, matcher_sets, room) }
    }

    fn known_list(&self, label: Option<&str>, room: &mut Room<'_>) -> Result<Option<Names>> {
        let known = self.registry.lists.get(&self.membership(), label.unwrap_or_default());
        let Some(known) = known else { return Ok(None) };
        room.take_list(&known)?;
        let warnings = Warnings::of_missing(&self.missing, self.range).list();
        Ok(Some(Names { names: known.to_vec(), warnings }))
    }
}
