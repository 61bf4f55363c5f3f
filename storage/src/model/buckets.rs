//! Counts at integer positions, held as runs of neighbours: one side of a native histogram.
//!
//! A [`Buckets`] can only be built from runs that fit its counts, so whoever holds one need not check it again.

use super::HistogramError;

/// The most buckets on one side of a histogram. The whole range of floats at the highest resolution has half a million, but
/// a client that fills more than this is broken or hostile.
pub const BUCKETS_MAX: usize = 65_536;

/// Bucket positions lie strictly within plus and minus this, so that the difference of any two fits an `i32`.
pub const POSITION_MAX: i32 = 1 << 30;

/// A run of neighbouring buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// Of the first run: the position of its first bucket. Of the others: how many positions lie between the end of the run
    /// before and this one.
    pub offset: i32,
    /// How many buckets.
    pub length: u32,
}

/// What a bucket may hold.
pub trait BucketCount: Copy + Default {
    /// Whether the bucket may be left out.
    fn is_zero(&self) -> bool;

    /// The observations of both; whole numbers stop at their largest value.
    #[must_use]
    fn plus(self, other: Self) -> Self;
}

impl BucketCount for f64 {
    fn is_zero(&self) -> bool {
        *self == 0.0
    }

    fn plus(self, other: Self) -> Self {
        self + other
    }
}

impl BucketCount for u64 {
    fn is_zero(&self) -> bool {
        *self == 0
    }

    fn plus(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}

/// Counts at increasing positions. Empty buckets may be listed; [`Buckets::compact`] leaves them out.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets<N> {
    spans: Vec<Span>,
    counts: Vec<N>,
}

impl<N> Default for Buckets<N> {
    fn default() -> Self {
        Self { spans: Vec::new(), counts: Vec::new() }
    }
}

impl<N: Copy> Buckets<N> {
    /// Runs of buckets and all their counts in order.
    ///
    /// # Errors
    /// The runs do not have as many buckets as there are counts, a run goes back, or there are more than [`BUCKETS_MAX`]
    /// buckets or any outside [`POSITION_MAX`].
    pub fn new(spans: Vec<Span>, counts: Vec<N>) -> Result<Self, HistogramError> {
        if counts.len() > BUCKETS_MAX || spans.len() > BUCKETS_MAX {
            return Err(HistogramError::TooManyBuckets { met: counts.len().max(spans.len()) });
        }
        let mut needed = 0_u64;
        let mut position = 0_i64;
        for (index, span) in spans.iter().enumerate() {
            if index > 0 && span.offset < 0 {
                return Err(HistogramError::NegativeOffset { span: index + 1, offset: span.offset });
            }
            needed = needed.saturating_add(u64::from(span.length));
            let start = position.saturating_add(i64::from(span.offset));
            position = start.saturating_add(i64::from(span.length));
            let allowed = -i64::from(POSITION_MAX) < start && position < i64::from(POSITION_MAX);
            if !allowed {
                return Err(HistogramError::PositionOutOfRange { span: index + 1 });
            }
        }
        if needed != counts.len() as u64 {
            return Err(HistogramError::SpansMismatch { needed, met: counts.len() });
        }
        Ok(Self { spans, counts })
    }

    /// One run of buckets from position `offset` on.
    ///
    /// # Errors
    /// As [`Buckets::new`].
    pub fn run(offset: i32, counts: Vec<N>) -> Result<Self, HistogramError> {
        let length = u32::try_from(counts.len()).unwrap_or(u32::MAX);
        let spans = if length == 0 { Vec::new() } else { vec![Span { offset, length }] };
        Self::new(spans, counts)
    }

    /// The runs.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The counts of all runs in order.
    pub fn counts(&self) -> &[N] {
        &self.counts
    }

    /// The counts, to change them in place.
    pub fn counts_mut(&mut self) -> &mut [N] {
        &mut self.counts
    }

    /// How many buckets are listed.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether no bucket is listed.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Positions and counts in the order of positions, from either end.
    pub fn iter(&self) -> BucketsIter<'_, N> {
        let end = self.spans.iter().map(|s| i64::from(s.offset) + i64::from(s.length)).sum();
        BucketsIter {
            spans: self.spans.iter(),
            counts: self.counts.iter(),
            front: 0..0,
            front_end: 0,
            back: 0..0,
            back_end: end,
        }
    }

    /// The same buckets with other counts.
    pub fn map<M>(&self, change: impl FnMut(N) -> M) -> Buckets<M> {
        Buckets { spans: self.spans.clone(), counts: self.counts.iter().copied().map(change).collect() }
    }

    /// The buckets of both; `combine` gets what each has at a position (at least one has something).
    pub fn merge<M: Copy, O: Copy>(
        &self,
        other: &Buckets<M>,
        mut combine: impl FnMut(Option<N>, Option<M>) -> O,
    ) -> Buckets<O> {
        if self.spans == other.spans {
            let counts = self.counts.iter().zip(&other.counts).map(|(a, b)| combine(Some(*a), Some(*b)));
            return Buckets { spans: self.spans.clone(), counts: counts.collect() };
        }
        let mut out = BucketsBuilder::with_capacity(self.len().max(other.len()));
        let (mut left, mut right) = (self.iter().peekable(), other.iter().peekable());
        loop {
            let position = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) => a.0.min(b.0),
                (Some(a), None) => a.0,
                (None, Some(b)) => b.0,
                (None, None) => return out.finish(),
            };
            let a = left.next_if(|a| a.0 == position).map(|a| a.1);
            let b = right.next_if(|b| b.0 == position).map(|b| b.1);
            out.push(position, combine(a, b));
        }
    }
}

impl<N: BucketCount> Buckets<N> {
    /// The buckets of a histogram whose schema is lower by `by`: `2^by` neighbours become one.
    pub fn reduced(&self, by: u32) -> Self {
        if by == 0 {
            return self.clone();
        }
        let mut out = BucketsBuilder::with_capacity(self.len());
        for (position, count) in self.iter() {
            // Bucket 1 of every resolution ends at the base's first power, so positions count from 1.
            let target = ((position - 1) >> by.min(31)) + 1;
            out.push_or_add(target, count);
        }
        out.finish()
    }

    /// Leaves out empty buckets and joins runs without a gap: the shortest form, equal for equal populations.
    pub fn compact(&mut self) {
        let tidy = self.counts.iter().all(|c| !c.is_zero())
            && self.spans.iter().enumerate().all(|(i, s)| s.length > 0 && (i == 0 || s.offset > 0));
        if !tidy {
            *self = self.iter().filter(|(_, count)| !count.is_zero()).collect();
        }
    }

    /// The buckets from the `count`-th on.
    #[must_use]
    pub fn without_first(self, count: usize) -> Self {
        if count == 0 { self } else { self.iter().skip(count).collect() }
    }
}

impl<N: BucketCount> FromIterator<(i32, N)> for Buckets<N> {
    /// Positions must increase; what stands at or before the end of the last is added to the last.
    fn from_iter<I: IntoIterator<Item = (i32, N)>>(buckets: I) -> Self {
        let mut out = BucketsBuilder::with_capacity(0);
        buckets.into_iter().for_each(|(position, count)| out.push_or_add(position, count));
        out.finish()
    }
}

impl<'a, N: Copy> IntoIterator for &'a Buckets<N> {
    type Item = (i32, N);
    type IntoIter = BucketsIter<'a, N>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Builds runs from buckets in the order of their positions.
#[derive(Debug)]
struct BucketsBuilder<N> {
    buckets: Buckets<N>,
    end: i32,
}

impl<N> BucketsBuilder<N> {
    fn with_capacity(capacity: usize) -> Self {
        Self { buckets: Buckets { spans: Vec::new(), counts: Vec::with_capacity(capacity) }, end: 0 }
    }

    fn push(&mut self, position: i32, count: N) {
        // Positions lie within POSITION_MAX and increase, so neither difference nor sum overflows.
        match self.buckets.spans.last_mut() {
            Some(span) if position == self.end => span.length += 1,
            _ => self.buckets.spans.push(Span { offset: position.wrapping_sub(self.end), length: 1 }),
        }
        self.buckets.counts.push(count);
        self.end = position.wrapping_add(1);
    }

    fn push_or_add(&mut self, position: i32, count: N)
    where
        N: BucketCount,
    {
        match self.buckets.counts.last_mut() {
            Some(last) if position < self.end => *last = last.plus(count),
            _ => self.push(position, count),
        }
    }

    fn finish(self) -> Buckets<N> {
        self.buckets
    }
}

/// Iterates over positions and counts, from either end.
#[derive(Debug, Clone)]
pub struct BucketsIter<'a, N> {
    spans: std::slice::Iter<'a, Span>,
    counts: std::slice::Iter<'a, N>,
    /// What is left of the run taken last from the front, and where that run ends.
    front: std::ops::Range<i64>,
    front_end: i64,
    /// What is left of the run taken last from the back, and where the run before it ends.
    back: std::ops::Range<i64>,
    back_end: i64,
}

impl<N: Copy> Iterator for BucketsIter<'_, N> {
    type Item = (i32, N);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(position) = self.front.next() {
                return self.counts.next().map(|count| (position as i32, *count));
            }
            let Some(span) = self.spans.next() else {
                let position = self.back.next()?;
                return self.counts.next().map(|count| (position as i32, *count));
            };
            let start = self.front_end + i64::from(span.offset);
            self.front_end = start + i64::from(span.length);
            self.front = start..self.front_end;
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.counts.size_hint()
    }
}

impl<N: Copy> DoubleEndedIterator for BucketsIter<'_, N> {
    fn next_back(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(position) = self.back.next_back() {
                return self.counts.next_back().map(|count| (position as i32, *count));
            }
            let Some(span) = self.spans.next_back() else {
                let position = self.front.next_back()?;
                return self.counts.next_back().map(|count| (position as i32, *count));
            };
            let start = self.back_end - i64::from(span.length);
            self.back = start..self.back_end;
            self.back_end = start - i64::from(span.offset);
        }
    }
}

impl<N: Copy> ExactSizeIterator for BucketsIter<'_, N> {}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(offset: i32, length: u32) -> Span {
        Span { offset, length }
    }

    pub(crate) fn any_buckets() -> impl Strategy<Value = Buckets<u64>> {
        let span = (0_i32..6, 0_usize..6);
        (-40_i32..40, proptest::collection::vec(span, 0..6), any::<u64>()).prop_map(|(first, spans, seed)| {
            let total = spans.iter().map(|s| s.1).sum::<usize>();
            let spans = spans.iter().enumerate().map(|(i, (offset, length))| Span {
                offset: if i == 0 { first } else { *offset },
                length: *length as u32,
            });
            let counts = (0..total as u64).map(|i| (seed.rotate_left(i as u32) ^ i) % 5).collect();
            Buckets::new(spans.collect(), counts).unwrap()
        })
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        type Refusal = fn(&HistogramError) -> bool;
        let cases: [(&str, Vec<Span>, usize, Refusal); 6] = [
            ("too few", vec![span(0, 3)], 2, |e| {
                matches!(e, HistogramError::SpansMismatch { needed: 3, met: 2 })
            }),
            ("too many", vec![span(0, 1)], 2, |e| matches!(e, HistogramError::SpansMismatch { .. })),
            ("back", vec![span(5, 1), span(-1, 1)], 2, |e| {
                matches!(e, HistogramError::NegativeOffset { span: 2, offset: -1 })
            }),
            ("far", vec![span(i32::MAX, 1)], 1, |e| {
                matches!(e, HistogramError::PositionOutOfRange { span: 1 })
            }),
            ("low", vec![span(i32::MIN, 1)], 1, |e| {
                matches!(e, HistogramError::PositionOutOfRange { span: 1 })
            }),
            ("long", vec![span(0, u32::MAX); 3], 1, |e| {
                matches!(e, HistogramError::PositionOutOfRange { .. })
            }),
        ];
        for (name, spans, counts, expected) in cases {
            let error = Buckets::new(spans, vec![1_u64; counts]).unwrap_err();
            assert!(expected(&error), "{name}: {error:?}");
        }
        let many = Buckets::new(vec![span(0, 0); BUCKETS_MAX + 1], Vec::<u64>::new());
        assert!(matches!(many, Err(HistogramError::TooManyBuckets { .. })));
    }

    #[test]
    fn compaction_leaves_the_shortest_form() {
        let spans = vec![span(-2, 2), span(0, 1), span(3, 0), span(2, 4), span(1, 1)];
        let mut buckets = Buckets::new(spans, vec![0.0, 1.0, 2.0, 0.0, 3.0, 0.0, 4.0, 0.0]).unwrap();
        buckets.compact();
        assert_eq!(buckets.spans(), [span(-1, 2), span(6, 1), span(1, 1)]);
        assert_eq!(buckets.counts(), [1.0, 2.0, 3.0, 4.0]);
    }

    proptest! {
        #![proptest_config(crate::tests::cases(1_000))]

        #[test]
        fn both_ends_see_the_same(buckets in any_buckets(), split in 0_usize..30) {
            let forward: Vec<_> = buckets.iter().collect();
            let mut backward: Vec<_> = buckets.iter().rev().collect();
            backward.reverse();
            prop_assert_eq!(&forward, &backward);
            prop_assert!(forward.windows(2).all(|w| w[0].0 < w[1].0));
            let mut both = buckets.iter();
            let mut start: Vec<_> = both.by_ref().take(split).collect();
            let mut end: Vec<_> = both.rev().collect();
            end.reverse();
            start.append(&mut end);
            prop_assert_eq!(&forward, &start);
            let mut ends = buckets.iter();
            let mut seen = Vec::new();
            while let Some(bucket) = if seen.len() % 3 == 0 { ends.next_back() } else { ends.next() } {
                seen.push(bucket);
            }
            seen.sort_unstable();
            prop_assert_eq!(forward, seen);
        }

        #[test]
        fn totals_survive_compaction_and_reduction(buckets in any_buckets(), by in 0_u32..40) {
            let total: u64 = buckets.counts().iter().sum();
            let mut compact = buckets.clone();
            compact.compact();
            prop_assert!(compact.counts().iter().all(|c| *c > 0));
            prop_assert_eq!(
                compact.iter().collect::<Vec<_>>(),
                buckets.iter().filter(|b| b.1 > 0).collect::<Vec<_>>()
            );
            let reduced = buckets.reduced(by);
            prop_assert_eq!(reduced.counts().iter().sum::<u64>(), total);
            let (spans, counts) = (reduced.spans().to_vec(), reduced.counts().to_vec());
            prop_assert_eq!(&Buckets::new(spans, counts).unwrap(), &reduced);
            // Two small steps are one large one.
            prop_assert_eq!(buckets.reduced(by / 2).reduced(by - by / 2), reduced);
        }

        #[test]
        fn merging_adds_position_by_position(a in any_buckets(), b in any_buckets()) {
            let sum = |a: &Buckets<u64>, b: &Buckets<u64>| a.merge(b, |a, b| a.unwrap_or(0) + b.unwrap_or(0));
            let merged = sum(&a, &b);
            prop_assert_eq!(merged.iter().collect::<Vec<_>>(), sum(&b, &a).iter().collect::<Vec<_>>());
            let mut expected = std::collections::BTreeMap::new();
            a.iter().chain(&b).for_each(|(p, c)| *expected.entry(p).or_insert(0) += c);
            prop_assert_eq!(merged.iter().collect::<Vec<_>>(), expected.into_iter().collect::<Vec<_>>());
        }
    }
}
