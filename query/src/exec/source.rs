//! What streams through a query: series that can be asked for one by one, from several threads at once.

use super::context::Context;
use crate::budget::{Budget, Reservation};
use crate::column::{Column, histogram_size};
use crate::failure::QueryError;
use crate::math::kahan::KahanSum;
use crate::math::rate::{Resets, Stretches};
use crate::math::window::{WindowPlan, WindowSteps};
use kymo_storage::api::{LabelColumn, Samples};
use kymo_storage::model::{FloatHistogram, Labels, ResetHint, Timestamp, is_stale};
use std::collections::HashMap;
use std::sync::Arc;

/// The series of an instant vector over all steps. Labels are known before any sample is read.
pub(crate) trait Source: Send + Sync {
    /// How many series.
    fn len(&self) -> usize;

    /// The labels of series `index`.
    fn labels(&self, index: usize) -> Labels;

    /// Whether the name of series `index` goes away at the end of the query (only if that is put off).
    fn drops_name(&self, _index: usize) -> bool {
        false
    }

    /// For each series its value of label `name`.
    fn label_column(&self, name: &str) -> LabelColumn {
        LabelColumn::from_values((0..self.len()).map(|i| self.labels(i).value(name).to_owned()))
    }

    /// Whether it is known that no two series have the same labels.
    fn is_distinct(&self) -> bool;

    /// Whether it is known that no two series differ only in the labels that name a metric.
    fn has_one_name(&self) -> bool {
        false
    }

    /// Whether the values lie in memory, so that asking for them costs nothing.
    fn is_ready(&self) -> bool {
        false
    }

    /// Whether computing a series may tell the user something or fail: such series are computed even where nothing is made of
    /// them, because Prometheus, which computes everything, would say it.
    fn may_tell(&self) -> bool {
        !self.is_ready()
    }

    /// Computes series `index` over all steps; what was in `out` is replaced.
    ///
    /// # Errors
    /// The store, a limit, or an expression that cannot be evaluated on these samples.
    fn fill(&self, index: usize, worker: &mut Worker<'_>, out: &mut Column) -> Result<(), QueryError>;
}

/// What one thread keeps from series to series.
pub(crate) struct Worker<'c> {
    /// The query.
    pub(crate) context: &'c Context,
    leaves: Vec<Option<Box<Leaf>>>,
    spare: Vec<Column>,
    unchecked: usize,
}

/// After so much work the budget is asked whether to go on.
const WORK_A_CHECK: usize = 1 << 14;
/// A series is at least so much work.
const WORK_A_SERIES: usize = 256;

impl<'c> Worker<'c> {
    /// A thread's state before its first series.
    pub(crate) fn new(context: &'c Context) -> Self {
        Self { context, leaves: Vec::new(), spare: Vec::new(), unchecked: 0 }
    }

    /// Notes that a series of `samples` was computed, and now and then asks the budget.
    ///
    /// # Errors
    /// As [`Budget::check`].
    #[inline]
    pub(crate) fn worked(&mut self, samples: usize) -> Result<(), QueryError> {
        self.unchecked += samples + WORK_A_SERIES;
        if self.unchecked < WORK_A_CHECK {
            return Ok(());
        }
        self.unchecked = 0;
        self.context.budget.check()
    }

    /// The state of leaf `id`; to be given back by [`Worker::put_leaf`].
    pub(crate) fn take_leaf(&mut self, id: usize) -> Box<Leaf> {
        self.leaves.get_mut(id).and_then(Option::take).unwrap_or_default()
    }

    /// Keeps the state of leaf `id` for its next series.
    pub(crate) fn put_leaf(&mut self, id: usize, leaf: Box<Leaf>) {
        if self.leaves.len() <= id {
            self.leaves.resize_with(id + 1, || None);
        }
        self.leaves[id] = Some(leaf);
    }

    /// A column to compute in; to be given back by [`Worker::put_column`].
    pub(crate) fn take_column(&mut self) -> Column {
        self.spare.pop().unwrap_or_default()
    }

    /// Keeps a column for the next use.
    pub(crate) fn put_column(&mut self, column: Column) {
        self.spare.push(column);
    }
}

/// What a leaf keeps from series to series: buffers, and the windows of the last timestamps.
#[derive(Default)]
pub(crate) struct Leaf {
    /// Samples as read.
    pub(crate) raw: Samples,
    /// Samples without staleness markers, if there were any.
    pub(crate) clean: Samples,
    /// Where `clean` has left some out, of which version of the timestamps.
    cleaned: (u64, Vec<u32>),
    stale: Vec<u32>,
    /// The windows over the samples, for the timestamps met last.
    pub(crate) plans: Plans,
    /// The histograms of the samples, without staleness markers unless those are asked for.
    pub(crate) histograms: LeafHistograms,
    /// Scratch of kernels.
    pub(crate) scratch: Scratch,
    /// Memory of the buffers, reserved.
    pub(crate) reserved: Option<Reservation>,
    /// How many samples are reserved.
    pub(crate) reserved_samples: usize,
}

/// The windows over different timestamps: neighbouring series are of different scrapes, and the scrapes come back.
#[derive(Default)]
pub(crate) struct Plans {
    known: HashMap<u64, usize>,
    plans: Vec<Plan>,
    next: usize,
}

/// The windows over some timestamps, and what else follows from those.
#[derive(Default)]
pub(crate) struct Plan {
    version: u64,
    /// The windows.
    pub(crate) windows: WindowPlan,
    /// Of rates.
    pub(crate) stretches: Stretches,
}

/// How many plans a leaf keeps.
const PLANS_MAX: usize = 512;
/// The plans of a leaf take at most so many bytes.
const PLANS_BYTES_MAX: usize = 1 << 18;
/// What a step takes in a plan, in bytes.
const PLAN_STEP_BYTES: usize = 32;

impl Plans {
    /// The plan for `timestamps`, which are at `version`, and by how many bytes the plans have grown.
    pub(crate) fn of(
        &mut self,
        version: u64,
        timestamps: &[Timestamp],
        steps: &WindowSteps,
    ) -> (&mut Plan, usize) {
        if let Some(at) = self.known.get(&version) {
            return (&mut self.plans[*at], 0);
        }
        let bytes = steps.count.saturating_mul(PLAN_STEP_BYTES);
        let mut grown = 0;
        let has_room =
            self.plans.len() < PLANS_MAX && (self.plans.len() + 1).saturating_mul(bytes) <= PLANS_BYTES_MAX;
        if self.plans.is_empty() || has_room {
            self.next = self.plans.len();
            self.plans.push(Plan::default());
            grown = bytes;
        } else {
            self.next = (self.next + 1) % self.plans.len();
            self.known.remove(&self.plans[self.next].version);
        }
        self.known.insert(version, self.next);
        let plan = &mut self.plans[self.next];
        plan.version = version;
        plan.windows.compute(timestamps, steps);
        plan.stretches.clear();
        (plan, grown)
    }
}

impl Leaf {
    /// Puts the samples without staleness markers into `clean`; `false` if there is no marker. Series that go together have
    /// their markers at the same places: then the timestamps of `clean` stand.
    pub(crate) fn without_stale(&mut self) -> bool {
        let Self { raw, clean, cleaned, stale, .. } = self;
        // A marker is a NaN, of which there is hardly ever another, and for which many values are looked through at a time.
        let has_nan = |values: &[f64]| values.iter().fold(false, |any, v| any | v.is_nan());
        let has_marker = |values: &[f64]| has_nan(values) && values.iter().any(|v| is_stale(*v));
        if !raw.values.chunks(64).any(has_marker) {
            return false;
        }
        stale.clear();
        for (at, values) in (0u32..).step_by(64).zip(raw.values.chunks(64)).filter(|c| has_marker(c.1)) {
            stale.extend((at..).zip(values).filter(|v| is_stale(*v.1)).map(|v| v.0));
        }
        let same = cleaned.0 == raw.timestamps_version && cleaned.1 == *stale;
        if !same || !raw.start_timestamps.is_empty() || !clean.start_timestamps.is_empty() {
            clean.clear();
            keep_others(&raw.timestamps, stale, &mut clean.timestamps);
            if !raw.start_timestamps.is_empty() {
                keep_others(&raw.start_timestamps, stale, &mut clean.start_timestamps);
            }
            cleaned.0 = raw.timestamps_version;
            cleaned.1.clone_from(stale);
        }
        clean.values.clear();
        keep_others(&raw.values, stale, &mut clean.values);
        true
    }
}

/// Appends `items` without those at the places `without`, which are ascending.
fn keep_others<T: Copy>(items: &[T], without: &[u32], out: &mut Vec<T>) {
    let mut from = 0;
    for at in without {
        out.extend_from_slice(&items[from..*at as usize]);
        from = *at as usize + 1;
    }
    out.extend_from_slice(&items[from..]);
}

/// The native histograms of a series; empty for most.
#[derive(Default)]
pub(crate) struct LeafHistograms {
    /// Milliseconds, increasing.
    pub(crate) timestamps: Vec<Timestamp>,
    /// As many histograms.
    pub(crate) histograms: Vec<Arc<FloatHistogram>>,
    /// Since when each counts, 0 if that is not known.
    pub(crate) starts: Vec<Timestamp>,
    /// The windows over them.
    pub(crate) plan: WindowPlan,
    memory: Option<Reservation>,
}

impl LeafHistograms {
    /// Takes over the histograms of `samples`, with staleness markers if those are to be kept, and without buckets if only count
    /// and sum are asked for.
    ///
    /// # Errors
    /// Too little memory.
    pub(crate) fn take(
        &mut self,
        samples: &mut Samples,
        (keep_stale, totals): (bool, bool),
        budget: &Arc<Budget>,
    ) -> Result<(), QueryError> {
        self.timestamps.clear();
        self.histograms.clear();
        self.starts.clear();
        self.memory = None;
        if samples.histograms.is_empty() {
            return Ok(());
        }
        let mut memory = budget.reserve(0, 0)?;
        let mut before: Option<Arc<FloatHistogram>> = None;
        for mut sample in samples.histograms.drain(..) {
            if totals && !sample.histogram.is_stale() {
                let whole = std::mem::take(&mut sample.histogram);
                sample.histogram = Arc::new(totals_of(&whole, before.as_deref()));
                before = Some(whole);
            }
            if keep_stale || !sample.histogram.is_stale() {
                memory.hold(histogram_size(&sample.histogram))?;
                self.timestamps.push(sample.timestamp);
                self.histograms.push(sample.histogram);
                self.starts.push(sample.start_timestamp);
            }
        }
        self.memory = Some(memory);
        Ok(())
    }
}

/// Count and sum of a histogram. Where counting began anew cannot be found out from these, so the hint says it.
fn totals_of(histogram: &FloatHistogram, before: Option<&FloatHistogram>) -> FloatHistogram {
    let hint = match (histogram.hint, before) {
        (ResetHint::Unknown, Some(before)) if histogram.has_fallen_from(before) => ResetHint::Reset,
        (ResetHint::Unknown, Some(_)) => ResetHint::NotReset,
        (hint, _) => hint,
    };
    let FloatHistogram { schema, count, sum, .. } = *histogram;
    FloatHistogram { hint, schema, count, sum, ..FloatHistogram::default() }
}

/// Scratch of kernels.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) resets: Resets,
    pub(crate) counts: Vec<u32>,
    pub(crate) numbers: Vec<f64>,
    pub(crate) sums: Vec<KahanSum>,
}
