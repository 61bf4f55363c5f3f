//! Way for others: a thread that works for long offers its core to whoever waits, more often than the kernel would.
//!
//! The kernel looks at who else wants a core at its ticks (4 ms at 250 a second), and not always when a thread wakes: one that has
//! just worked is behind in its share. On a machine whose cores are all busy with long queries, each step of a short one (a
//! connection, a thread of its query, the log) could wait for a tick. So long ones yield, which costs nothing where nobody waits.

use crate::clock::{Instant, now};
use std::cell::Cell;
use std::time::Duration;

/// The least time between two offers.
const OFFER_EVERY: Duration = Duration::from_micros(200);
/// The longest time between two, whatever others took.
const OFFER_AT_LEAST_EVERY: Duration = Duration::from_millis(1);

thread_local! {
    /// When this thread offers its core again.
    static NEXT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Offers the core of this thread, if it is time to.
///
/// Who yields gives up the rest of its share of that moment. To one who works for long as well that would be most of the core, so
/// the next offer comes after as long as others took, within bounds: behind one who worked for long a short one may come.
pub(super) fn make(at: Instant) {
    if NEXT.get().is_some_and(|next| at < next) {
        return;
    }
    std::thread::yield_now();
    let after = now();
    let others = after.saturating_duration_since(at);
    NEXT.set(after.checked_add(others.clamp(OFFER_EVERY, OFFER_AT_LEAST_EVERY)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_are_not_made_all_the_time() {
        let start = now();
        make(start);
        let next = NEXT.get().unwrap();
        assert!(next.duration_since(start) >= OFFER_EVERY);
        make(next - Duration::from_nanos(1));
        assert_eq!(NEXT.get(), Some(next), "it was not time");
        // The kernel may have taken its time: then the next offer is far.
        let mut at = now();
        while at < next {
            at = now();
        }
        make(at);
        assert!(NEXT.get().unwrap() > next);
    }
}
