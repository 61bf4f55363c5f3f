//! Quantiles and fractions of classic histograms: cumulative counts by upper bound.

/// One bucket at one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket {
    /// The upper bound, inside.
    pub(crate) bound: f64,
    /// Observations up to the bound.
    pub(crate) count: f64,
}

/// What was changed so that counts grow with bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Repaired {
    /// Bound of the lowest bucket changed.
    pub(crate) lowest: f64,
    /// Bound of the highest bucket changed.
    pub(crate) highest: f64,
    /// The largest change.
    pub(crate) diff: f64,
}

/// Differences this small, relative to the sum of both counts, come from floating point and are corrected silently.
const TOLERANCE: f64 = 1e-12;

/// Sorts, adds up buckets of the same bound, and says whether the last bound is infinite.
fn normalise(buckets: &mut Vec<Bucket>) -> bool {
    buckets.sort_by(|a, b| a.bound.partial_cmp(&b.bound).unwrap_or(std::cmp::Ordering::Equal));
    buckets.dedup_by(|later, kept| {
        let same = later.bound == kept.bound;
        if same {
            kept.count += later.count;
        }
        same
    });
    buckets.last().is_some_and(|b| b.bound == f64::INFINITY)
}

fn nearly_equal(a: f64, b: f64) -> bool {
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let sum = a.abs() + b.abs();
    let diff = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < TOLERANCE * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < TOLERANCE
}

/// Makes the counts grow with the bounds.
fn make_monotonic(buckets: &mut [Bucket]) -> Option<Repaired> {
    let mut repaired: Option<Repaired> = None;
    let mut before = buckets.first()?.count;
    for bucket in buckets.iter_mut().skip(1) {
        if bucket.count == before {
            continue;
        }
        if nearly_equal(before, bucket.count) {
            bucket.count = before;
        } else if bucket.count < before {
            let diff = before - bucket.count;
            let known =
                repaired.get_or_insert(Repaired { lowest: bucket.bound, highest: bucket.bound, diff });
            known.highest = bucket.bound;
            known.diff = known.diff.max(diff);
            bucket.count = before;
        } else {
            before = bucket.count;
        }
    }
    repaired
}

/// The `q`-quantile, interpolated linearly within its bucket; and what had to be repaired. Reorders `buckets`.
pub(crate) fn quantile(q: f64, buckets: &mut Vec<Bucket>) -> (f64, Option<Repaired>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if !normalise(buckets) {
        return (f64::NAN, None);
    }
    let repaired = make_monotonic(buckets);
    let observations = buckets.last().map_or(0.0, |b| b.count);
    if buckets.len() < 2 || observations == 0.0 {
        return (f64::NAN, repaired);
    }
    let last = buckets.len() - 1;
    let mut rank = q * observations;
    // With NaN counts no bucket reaches the rank.
    let at = buckets[..last].iter().position(|b| b.count >= rank).unwrap_or(last);
    if at == last {
        return (buckets[last - 1].bound, repaired);
    }
    if at == 0 && buckets[0].bound <= 0.0 {
        return (buckets[0].bound, repaired);
    }
    let mut start = 0.0;
    let end = buckets[at].bound;
    let mut count = buckets[at].count;
    if at > 0 {
        start = buckets[at - 1].bound;
        count -= buckets[at - 1].count;
        rank -= buckets[at - 1].count;
    }
    (start + (end - start) * (rank / count), repaired)
}

/// The share of observations between `lower` and `upper`, interpolated linearly within buckets. Reorders `buckets`.
pub(crate) fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if !normalise(buckets) {
        return f64::NAN;
    }
    let all = buckets.last().map_or(0.0, |b| b.count);
    if all == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank_of(upper, buckets, all) - rank_of(lower, buckets, all)) / all
}

/// How many observations lie up to `value`.
fn rank_of(value: f64, buckets: &[Bucket], all: f64) -> f64 {
    let mut below = 0.0;
    // With only positive bounds the first bucket starts at zero.
    let mut start = if buckets.first().is_some_and(|b| b.bound <= 0.0) { f64::NEG_INFINITY } else { 0.0 };
    for bucket in buckets {
        if start >= value {
            return clamp_rank(below, all);
        }
        if bucket.bound > value {
            let rank = if start == f64::NEG_INFINITY {
                bucket.count
            } else {
                below + (bucket.count - below) * (value - start) / (bucket.bound - start)
            };
            return clamp_rank(rank, all);
        }
        below = bucket.count;
        start = bucket.bound;
    }
    all
}

fn clamp_rank(rank: f64, all: f64) -> f64 {
    if rank > all { all } else { rank }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs.iter().map(|(bound, count)| Bucket { bound: *bound, count: *count }).collect()
    }

    const INF: f64 = f64::INFINITY;

    #[test]
    fn quantiles_interpolate() {
        let h = buckets(&[(INF, 12.0), (0.2, 6.0), (0.1, 2.0), (0.5, 10.0)]);
        let q = |q: f64| quantile(q, &mut h.clone()).0;
        assert!((q(0.5) - 0.2).abs() < 1e-12);
        assert!((q(0.25) - 0.125).abs() < 1e-12);
        assert_eq!(q(1.0), 0.5);
        assert_eq!(q(0.0), 0.0);
        assert_eq!(q(-1.0), -INF);
        assert_eq!(q(2.0), INF);
        assert!(quantile(0.5, &mut buckets(&[(1.0, 3.0)])).0.is_nan());
        assert!(quantile(0.5, &mut buckets(&[(INF, 3.0)])).0.is_nan());
        assert!(quantile(0.5, &mut buckets(&[(1.0, 0.0), (INF, 0.0)])).0.is_nan());
        assert_eq!(quantile(0.1, &mut buckets(&[(-1.0, 3.0), (INF, 3.0)])).0, -1.0);
    }

    #[test]
    fn falling_counts_are_repaired() {
        let mut h = buckets(&[(1.0, 5.0), (2.0, 4.0), (3.0, 3.0), (INF, 10.0)]);
        let (_, repaired) = quantile(0.5, &mut h);
        assert_eq!(repaired, Some(Repaired { lowest: 2.0, highest: 3.0, diff: 2.0 }));
        let mut h = buckets(&[(1.0, 5.0), (2.0, 5.0 - 1e-13), (INF, 10.0)]);
        assert_eq!(quantile(0.5, &mut h).1, None);
    }

    #[test]
    fn fractions_interpolate() {
        let h = buckets(&[(1.0, 2.0), (2.0, 6.0), (INF, 8.0)]);
        let f = |a, b| fraction(a, b, &mut h.clone());
        assert_eq!(f(0.0, 1.0), 0.25);
        assert_eq!(f(1.0, 1.5), 0.25);
        assert_eq!(f(-INF, INF), 1.0);
        assert_eq!(f(2.0, 100.0), 0.0);
        assert_eq!(f(3.0, 1.0), 0.0);
        assert!(f(f64::NAN, 1.0).is_nan());
    }
}
