//! One series over all steps: dense values and a bitmap of the steps that have one. Hot path.

use kymo_storage::model::{Buckets, FloatHistogram};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// One bit a step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bitmap {
    words: Vec<u64>,
    len: usize,
}

impl Bitmap {
    /// All bits clear.
    pub(crate) fn new(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len }
    }

    /// Clears all bits and changes the length.
    pub(crate) fn reset(&mut self, len: usize) {
        self.words.clear();
        self.words.resize(len.div_ceil(64), 0);
        self.len = len;
    }

    /// Sets all bits.
    pub(crate) fn fill(&mut self) {
        self.words.fill(u64::MAX);
        let tail = self.len % 64;
        if tail != 0
            && let Some(last) = self.words.last_mut()
        {
            *last = (1 << tail) - 1;
        }
    }

    /// Sets bit `index`.
    #[inline]
    pub(crate) fn set(&mut self, index: usize) {
        self.words[index / 64] |= 1 << (index % 64);
    }

    /// Sets the bits of `range`.
    pub(crate) fn set_range(&mut self, range: Range<usize>) {
        if range.start == 0 && range.end == self.len {
            return self.fill();
        }
        for (at, word) in (0..).step_by(64).zip(&mut self.words) {
            let from = range.start.clamp(at, at + 64) - at;
            let upto = range.end.clamp(at, at + 64) - at;
            if from < upto {
                *word |= u64::MAX >> (64 - (upto - from)) << from;
            }
        }
    }

    /// Clears bit `index`.
    #[inline]
    pub(crate) fn clear(&mut self, index: usize) {
        self.words[index / 64] &= !(1 << (index % 64));
    }

    /// Whether bit `index` is set.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> bool {
        self.words[index / 64] & (1 << (index % 64)) != 0
    }

    /// How many bits are set.
    pub(crate) fn count(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Whether no bit is set.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|w| *w == 0)
    }

    /// Whether all bits are set.
    pub(crate) fn is_full(&self) -> bool {
        self.count() == self.len
    }

    /// Whether some bit is set in both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).any(|(a, b)| a & b != 0)
    }

    /// Keeps the bits that are set in both.
    pub(crate) fn and(&mut self, other: &Self) {
        for (a, b) in self.words.iter_mut().zip(&other.words) {
            *a &= b;
        }
    }

    /// Adds the bits of `other`.
    pub(crate) fn or(&mut self, other: &Self) {
        for (a, b) in self.words.iter_mut().zip(&other.words) {
            *a |= b;
        }
    }

    /// Removes the bits of `other`.
    pub(crate) fn and_not(&mut self, other: &Self) {
        for (a, b) in self.words.iter_mut().zip(&other.words) {
            *a &= !b;
        }
    }

    /// The indices of the bits that are set, ascending.
    #[inline]
    pub(crate) fn ones(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                if rest == 0 {
                    return None;
                }
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                Some(at * 64 + bit)
            })
        })
    }
}

/// A native histogram at a step.
pub(crate) type HistogramCell = (usize, Arc<FloatHistogram>);

/// One series over all steps: floats in dense values, native histograms in a sparse list beside them, so that a query of
/// floats never pays for those. At no step there are both.
#[derive(Debug, Clone, Default)]
pub(crate) struct Column {
    /// One value a step; meaningless where the step has no float.
    pub(crate) values: Vec<f64>,
    /// Which steps have a float.
    pub(crate) present: Bitmap,
    /// The histograms, by step.
    pub(crate) histograms: Vec<HistogramCell>,
}

impl Column {
    /// A column without values.
    pub(crate) fn new(steps: usize) -> Self {
        Self { values: vec![0.0; steps], present: Bitmap::new(steps), histograms: Vec::new() }
    }

    /// Removes all values and changes the number of steps.
    pub(crate) fn reset(&mut self, steps: usize) {
        self.values.resize(steps, 0.0);
        self.present.reset(steps);
        self.histograms.clear();
    }

    /// How many steps.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether no step has a float or a histogram.
    pub(crate) fn is_empty(&self) -> bool {
        self.present.is_empty() && self.histograms.is_empty()
    }

    /// Gives `step` a float.
    #[inline]
    pub(crate) fn set(&mut self, step: usize, value: f64) {
        self.values[step] = value;
        self.present.set(step);
    }

    /// The float of `step`.
    #[inline]
    pub(crate) fn get(&self, step: usize) -> Option<f64> {
        self.present.get(step).then(|| self.values[step])
    }

    /// The steps that have a float, and the floats.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.present.ones().map(|step| (step, self.values[step]))
    }

    /// Changes each float.
    #[inline]
    pub(crate) fn map(&mut self, change: impl Fn(f64) -> f64) {
        for value in &mut self.values {
            *value = change(*value);
        }
    }

    /// The histogram of `step`.
    pub(crate) fn histogram(&self, step: usize) -> Option<&Arc<FloatHistogram>> {
        if self.histograms.is_empty() {
            return None;
        }
        let at = self.histograms.binary_search_by_key(&step, |cell| cell.0).ok()?;
        self.histograms.get(at).map(|cell| &cell.1)
    }

    /// Gives `step`, which is after all that have one, a histogram.
    pub(crate) fn push_histogram(&mut self, step: usize, histogram: Arc<FloatHistogram>) {
        debug_assert!(self.histograms.last().is_none_or(|last| last.0 < step));
        self.histograms.push((step, histogram));
    }

    /// The steps that have a float or a histogram.
    pub(crate) fn steps(&self) -> Cow<'_, Bitmap> {
        if self.histograms.is_empty() {
            return Cow::Borrowed(&self.present);
        }
        let mut steps = self.present.clone();
        self.add_steps(&mut steps);
        Cow::Owned(steps)
    }

    /// Adds the steps that have a float or a histogram to `steps`.
    pub(crate) fn add_steps(&self, steps: &mut Bitmap) {
        steps.or(&self.present);
        for (step, _) in &self.histograms {
            steps.set(*step);
        }
    }

    /// Keeps what lies at `steps`.
    pub(crate) fn keep(&mut self, steps: &Bitmap) {
        self.present.and(steps);
        self.histograms.retain(|cell| steps.get(cell.0));
    }

    /// Removes what lies at `steps`.
    pub(crate) fn remove(&mut self, steps: &Bitmap) {
        self.present.and_not(steps);
        self.histograms.retain(|cell| !steps.get(cell.0));
    }

    /// The bytes a column of so many steps takes, without histograms.
    pub(crate) fn bytes(steps: usize) -> u64 {
        (steps as u64).saturating_mul(8).saturating_add(steps as u64 / 8).saturating_add(64)
    }

    /// The samples that the histograms count as, and their bytes.
    pub(crate) fn histogram_size(&self) -> (u64, u64) {
        self.histograms.iter().fold((0, 0), |(samples, bytes), (_, histogram)| {
            let (s, b) = histogram_size(histogram);
            (samples + s, bytes + b)
        })
    }

    /// The samples that the whole column counts as, and its bytes.
    pub(crate) fn size(&self) -> (u64, u64) {
        let (samples, bytes) = self.histogram_size();
        (samples + self.len() as u64, bytes.saturating_add(Self::bytes(self.len())))
    }

    /// Takes over what `other` has, which has nothing where this column has.
    pub(crate) fn absorb(&mut self, other: &Self) {
        for (step, value) in other.iter() {
            self.set(step, value);
        }
        if !other.histograms.is_empty() {
            self.histograms.extend(other.histograms.iter().cloned());
            self.histograms.sort_by_key(|cell| cell.0);
        }
    }
}

/// The samples that a histogram counts as, and its bytes.
pub(crate) fn histogram_size(histogram: &FloatHistogram) -> (u64, u64) {
    // What a histogram takes without its buckets, and a timestamp.
    const FRAME_BYTES: u64 = 168;
    const TIME_BYTES: u64 = 8;
    let side = |buckets: &Buckets<f64>| (buckets.spans().len() + buckets.counts().len()) as u64 * 8;
    let bounds = histogram.custom_bounds.len() as u64 * 8;
    let bytes = FRAME_BYTES + side(&histogram.positive) + side(&histogram.negative) + bounds;
    ((bytes + TIME_BYTES) / 16, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bitmap_is_a_set(bits in prop::collection::btree_set(0usize..150, 0..60), others in prop::collection::btree_set(0usize..150, 0..60)) {
            let build = |set: &std::collections::BTreeSet<usize>| {
                let mut map = Bitmap::new(150);
                set.iter().for_each(|i| map.set(*i));
                map
            };
            let (a, b) = (build(&bits), build(&others));
            prop_assert_eq!(a.ones().collect::<Vec<_>>(), bits.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(a.count(), bits.len());
            prop_assert_eq!(a.overlaps(&b), bits.intersection(&others).next().is_some());
            for (op, expected) in [
                (Bitmap::and as fn(&mut Bitmap, &Bitmap), bits.intersection(&others).copied().collect::<Vec<_>>()),
                (Bitmap::or, bits.union(&others).copied().collect()),
                (Bitmap::and_not, bits.difference(&others).copied().collect()),
            ] {
                let mut c = a.clone();
                op(&mut c, &b);
                prop_assert_eq!(c.ones().collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn ranges_are_set() {
        for (start, end) in
            [(0, 150), (0, 0), (0, 64), (3, 3), (3, 64), (63, 65), (64, 128), (70, 149), (149, 150)]
        {
            let (mut map, mut expected) = (Bitmap::new(150), Bitmap::new(150));
            map.set_range(start..end);
            (start..end).for_each(|i| expected.set(i));
            assert_eq!(map, expected, "{start}..{end}");
        }
    }

    #[test]
    fn full_and_empty() {
        let mut map = Bitmap::new(70);
        assert!(map.is_empty() && !map.is_full());
        map.fill();
        assert!(map.is_full() && map.count() == 70);
        map.clear(69);
        assert!(!map.is_full() && !map.get(69) && map.get(68));
    }

    #[test]
    fn histograms_stand_beside_floats() {
        let histogram = || Arc::new(FloatHistogram { count: 3.0, ..FloatHistogram::default() });
        let mut column = Column::new(5);
        column.set(0, 1.0);
        column.push_histogram(1, histogram());
        column.push_histogram(3, histogram());
        assert_eq!((column.get(1), column.histogram(0)), (None, None));
        assert_eq!(column.histogram(3).map(|h| h.count), Some(3.0));
        assert_eq!(column.steps().ones().collect::<Vec<_>>(), [0, 1, 3]);
        assert_eq!(column.histogram_size(), (22, 336));
        let mut other = Column::new(5);
        other.push_histogram(2, histogram());
        column.absorb(&other);
        assert_eq!(column.steps().ones().collect::<Vec<_>>(), [0, 1, 2, 3]);
        column.remove(&other.steps());
        column.keep(&Bitmap::new(5));
        assert!(column.is_empty());
    }
}
