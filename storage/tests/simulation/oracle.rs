//! What a store may answer: for each series and time the samples that are possible, mostly exactly one.
//!
//! Nothing here knows the rules by which a store accepts samples: it goes by what the store said. What was acknowledged is
//! there and nothing else; what was sent and never answered, or failed, may be there after the next start, and then stays
//! as it was found.

use std::collections::BTreeMap;

/// A sample as it is compared: the bits of a float, or the bytes of a histogram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Float(u64),
    Histogram(Vec<u8>),
}

/// A sample of a series at a time.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) series: usize,
    pub(crate) time: i64,
    pub(crate) value: Value,
}

/// What all series answer, by number and time.
pub(crate) type Answer = BTreeMap<usize, BTreeMap<i64, Value>>;

/// Something that changes what may be answered.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A batch was acknowledged; these are stored, and of those nobody said.
    Stored { stored: Vec<Item>, unsaid: Vec<Item> },
    /// A batch failed: nothing of it is visible, but it may be after the next start, unless another one succeeds before.
    Failed(Vec<Item>),
    /// What lies in this range of these series is deleted; before `kept` it may have been hidden for its age, and nobody
    /// deleted it.
    Deleted { series: Vec<usize>, range: (i64, i64), kept: i64 },
    /// The same, and nobody said whether it was done.
    Undecided { series: Vec<usize>, range: (i64, i64) },
}

/// See the module. Nothing at a time is `None`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Oracle {
    cells: BTreeMap<usize, BTreeMap<i64, Vec<Option<Value>>>>,
    /// What was ever stored, or may have been. An answer that says that something is missing may hold what the missing part replaced or deleted.
    former: BTreeMap<(usize, i64), Vec<Value>>,
    /// What may come up at the next start.
    limbo: Vec<Event>,
}

fn also<T: PartialEq>(list: &mut Vec<T>, value: T) {
    if !list.contains(&value) {
        list.push(value);
    }
}

impl Oracle {
    fn cell(&mut self, series: usize, time: i64) -> &mut Vec<Option<Value>> {
        self.cells.entry(series).or_default().entry(time).or_insert_with(|| vec![None])
    }

    /// Whether there may be something other than `value` at its place.
    pub(crate) fn may_differ(&self, item: &Item) -> bool {
        let cell = self.cells.get(&item.series).and_then(|cells| cells.get(&item.time));
        cell.is_some_and(|cell| cell.iter().flatten().any(|value| *value != item.value))
    }

    /// Times of samples that may be there, of any series.
    pub(crate) fn places(&self) -> Vec<(usize, i64)> {
        let present = |cell: &Vec<Option<Value>>| cell.iter().any(Option::is_some);
        let of = |(series, cells): (&usize, &BTreeMap<i64, Vec<Option<Value>>>)| {
            cells.iter().filter(|c| present(c.1)).map(|c| (*series, *c.0)).collect::<Vec<_>>()
        };
        self.cells.iter().flat_map(of).collect()
    }

    /// Something happened.
    pub(crate) fn apply(&mut self, event: Event) {
        match event {
            Event::Stored { stored, unsaid } => {
                // The log was in order before it took this batch: what failed is not in it.
                self.limbo.retain(|event| !matches!(event, Event::Failed(_)));
                for Item { series, time, value } in stored {
                    also(self.former.entry((series, time)).or_default(), value.clone());
                    *self.cell(series, time) = vec![Some(value)];
                }
                for Item { series, time, value } in unsaid {
                    also(self.former.entry((series, time)).or_default(), value.clone());
                    also(self.cell(series, time), Some(value));
                }
            }
            Event::Deleted { series, range, kept } => {
                let delete = |time, cell: &mut Vec<_>| {
                    if time >= kept {
                        *cell = vec![None];
                    } else {
                        also(cell, None);
                    }
                };
                self.each_in(&series, range, delete);
            }
            later => self.limbo.push(later),
        }
    }

    fn each_in(
        &mut self,
        series: &[usize],
        range: (i64, i64),
        change: impl Fn(i64, &mut Vec<Option<Value>>),
    ) {
        for series in series {
            let cells = self.cells.get_mut(series).into_iter().flat_map(|c| c.range_mut(range.0..=range.1));
            cells.for_each(|(time, cell)| change(*time, cell));
        }
    }

    /// Nobody knows whether this happened.
    pub(crate) fn perhaps(&mut self, event: Event) {
        self.limbo.push(match event {
            Event::Stored { mut stored, unsaid } => {
                stored.extend(unsaid);
                Event::Failed(stored)
            }
            Event::Deleted { series, range, .. } => Event::Undecided { series, range },
            other => other,
        });
    }

    /// The store is opened: what was in doubt may show.
    pub(crate) fn reopened(&mut self) {
        for event in std::mem::take(&mut self.limbo) {
            match event {
                Event::Failed(items) | Event::Stored { stored: items, .. } => {
                    for Item { series, time, value } in items {
                        also(self.former.entry((series, time)).or_default(), value.clone());
                        also(self.cell(series, time), Some(value));
                    }
                }
                Event::Deleted { series, range, .. } | Event::Undecided { series, range } => {
                    self.each_in(&series, range, |_, cell| also(cell, None));
                }
            }
        }
    }

    /// Compares an answer with what is possible, and takes what it says from then on. Before `kept` samples may be missing;
    /// before `gone` they must be. `is_partial`: the answer says itself that something may be missing.
    pub(crate) fn compare(
        &mut self,
        answer: &Answer,
        kept: i64,
        gone: i64,
        is_partial: bool,
    ) -> Result<(), String> {
        for (series, samples) in answer {
            for (time, value) in samples {
                let former = self.former.get(&(*series, *time)).is_some_and(|all| all.contains(value));
                let cell = self.cell(*series, *time);
                let is_possible = cell.iter().flatten().any(|possible| possible == value);
                if !(is_possible || is_partial && former) {
                    return Err(format!(
                        "series {series} at {time}: {value:?} was found, possible is {cell:?}"
                    ));
                }
                if *time < gone {
                    return Err(format!(
                        "series {series} at {time}: still there, all before {gone} is too old"
                    ));
                }
            }
        }
        for (series, cells) in &mut self.cells {
            let found = answer.get(series);
            for (time, cell) in cells {
                let value = found.and_then(|samples| samples.get(time)).cloned();
                if value.is_none() && !cell.contains(&None) && *time >= kept && !is_partial {
                    return Err(format!(
                        "series {series} at {time}: nothing was found, possible is {cell:?}"
                    ));
                }
                if is_partial {
                    continue;
                }
                // What is hidden for its age may be on disk and show again if the clock goes back.
                if value.is_some() || *time >= kept {
                    *cell = vec![value];
                }
            }
        }
        Ok(())
    }
}
