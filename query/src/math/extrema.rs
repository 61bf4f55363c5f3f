//! Minimum and maximum of each window, by value or by time, with a monotonic queue where windows overlap. Hot path.

use super::window::Windows;
use crate::column::Column;

/// What is sought, and what is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extremum {
    /// The greatest instead of the smallest.
    pub(crate) max: bool,
    /// Its time in seconds instead of its value (of several equal ones the last).
    pub(crate) time: bool,
}

/// When all windows together hold more than so many times the samples there are, the queue pays.
const OVERLAP: usize = 4;

/// `min_over_time`, `max_over_time`, `ts_of_min_over_time`, `ts_of_max_over_time`. `queue` is scratch.
pub(crate) fn over_time(windows: &Windows<'_>, what: Extremum, queue: &mut Vec<u32>, out: &mut Column) {
    let work: usize = windows.bounds.iter().map(|(a, b)| (b - a) as usize).sum();
    if what.time || work <= OVERLAP * windows.values.len() || windows.values.iter().any(|v| v.is_nan()) {
        for (step, first, end) in windows.of_at_least(1) {
            let at = scan(windows.values, first, end, what);
            let value = if what.time { windows.timestamps[at] as f64 / 1000.0 } else { windows.values[at] };
            out.set(step, value);
        }
    } else {
        by_queue(windows, what.max, queue, out);
    }
}

/// The index of the extremum in `[first, end)`, which is not empty. `NaN` counts only if there is nothing else.
fn scan(values: &[f64], first: usize, end: usize, what: Extremum) -> usize {
    let mut best = first;
    for at in first..end {
        let (now, known) = (values[at], values[best]);
        let better = match (what.max, what.time) {
            (true, false) => now > known,
            (true, true) => now >= known,
            (false, false) => now < known,
            (false, true) => now <= known,
        };
        if better || known.is_nan() {
            best = at;
        }
    }
    best
}

/// The queue holds the indices of the samples that can still become the extremum of a later window, best first.
fn by_queue(windows: &Windows<'_>, max: bool, queue: &mut Vec<u32>, out: &mut Column) {
    queue.clear();
    let mut head = 0;
    let mut next = 0;
    for (step, first, end) in windows.of_at_least(1) {
        while next < end {
            let value = windows.values[next];
            while queue.len() > head {
                let worst = windows.values[queue[queue.len() - 1] as usize];
                if (max && worst <= value) || (!max && worst >= value) {
                    queue.pop();
                } else {
                    break;
                }
            }
            queue.push(next as u32);
            next += 1;
        }
        while (queue[head] as usize) < first {
            head += 1;
        }
        out.set(step, windows.values[queue[head] as usize]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::{WindowPlan, WindowSteps};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_queue_finds_what_a_scan_finds(
            values in prop::collection::vec(-20i8..20, 1..300), range in 1i64..200, step in 1i64..30, max in any::<bool>(),
        ) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let timestamps: Vec<i64> = (0..values.len() as i64).collect();
            let steps = WindowSteps { first: -5, step, count: 40, range };
            let mut plan = WindowPlan::default();
            plan.compute(&timestamps, &steps);
            let windows = Windows { timestamps: &timestamps, values: &values, bounds: plan.bounds(), steps, budget: None };
            let (mut queued, mut scanned) = (Column::new(40), Column::new(40));
            by_queue(&windows, max, &mut Vec::new(), &mut queued);
            for (step, first, end) in windows.of_at_least(1) {
                scanned.set(step, values[scan(&values, first, end, Extremum { max, time: false })]);
            }
            prop_assert_eq!(queued.iter().collect::<Vec<_>>(), scanned.iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn nan_counts_only_alone_and_the_last_time_wins() {
        let values = [f64::NAN, 2.0, 1.0, 2.0, f64::NAN];
        assert_eq!(scan(&values, 0, 5, Extremum { max: true, time: false }), 1);
        assert_eq!(scan(&values, 0, 5, Extremum { max: true, time: true }), 3);
        assert_eq!(scan(&values, 0, 5, Extremum { max: false, time: true }), 2);
        assert!(values[scan(&values, 0, 1, Extremum { max: true, time: false })].is_nan());
    }
}
