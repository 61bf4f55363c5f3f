//! Custom buckets whose bounds differ: the bounds they share, and the counts between those.

use super::{BucketCount, Buckets};

/// The bounds that are in both, which increase.
pub fn intersect_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut b = b.iter().peekable();
    let in_both = a.iter().filter(|bound| {
        while b.next_if(|other| *other < *bound).is_some() {}
        b.next_if(|other| other == bound).is_some()
    });
    in_both.copied().collect()
}

/// The counts of `buckets` with `bounds` between the bounds `target`, all of which are in `bounds`: one more than there are
/// target bounds, for the last reaches to infinity. `add` gets the target and what to add to it.
pub fn onto_bounds<N: BucketCount>(
    buckets: &Buckets<N>,
    bounds: &[f64],
    target: &[f64],
    mut add: impl FnMut(usize, N),
) {
    let mut at = 0;
    for (position, count) in buckets {
        let bound = usize::try_from(position).ok().and_then(|p| bounds.get(p));
        at = match bound {
            Some(bound) => at + target.get(at..).unwrap_or_default().partition_point(|t| t < bound),
            None => target.len(),
        };
        add(at, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_bounds_and_the_counts_between_them() {
        type Case<'a> = (&'a [f64], &'a [f64], &'a [f64], &'a [u64]);
        let cases: [Case<'_>; 5] = [
            (&[1.0, 2.0, 5.0], &[1.0, 5.0], &[1.0, 5.0], &[1, 5, 4]),
            (&[1.0, 2.0, 5.0], &[0.5, 2.0, 7.0], &[2.0], &[3, 7]),
            (&[1.0, 2.0, 5.0], &[3.0], &[], &[10]),
            (&[1.0, 2.0, 5.0], &[], &[], &[10]),
            (&[1.0, 2.0, 5.0], &[1.0, 2.0, 5.0], &[1.0, 2.0, 5.0], &[1, 2, 3, 4]),
        ];
        let buckets = Buckets::run(0, vec![1_u64, 2, 3, 4]).unwrap();
        for (a, b, shared, counts) in cases {
            let target = intersect_bounds(a, b);
            assert_eq!(target, shared);
            assert_eq!(intersect_bounds(b, a), shared);
            let mut between = vec![0; target.len() + 1];
            onto_bounds(&buckets, a, &target, |at, count| between[at] += count);
            assert_eq!(between, counts);
        }
    }
}
