//! The best candidates of a group so far, the worst of them on top, in a binary heap laid out as Prometheus lays it out: where
//! values are equal, the layout decides which of them has to go.

/// Something with a rank.
pub(super) trait Ranked: Copy {
    /// Whether this has to go before `other`; not an order if there is a `NaN`.
    fn goes_before(&self, other: &Self) -> bool;
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Heap<T>(Vec<T>);

impl<T: Ranked> Heap<T> {
    /// A heap without candidates.
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// How many candidates.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The one to go first.
    pub(super) fn top(&self) -> Option<&T> {
        self.0.first()
    }

    /// Adds one.
    pub(super) fn push(&mut self, candidate: T) {
        let mut at = self.0.len();
        self.0.push(candidate);
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.0[at].goes_before(&self.0[parent]) {
                break;
            }
            self.0.swap(at, parent);
            at = parent;
        }
    }

    /// Puts one in the place of the one to go first.
    pub(super) fn replace_top(&mut self, candidate: T) {
        let Some(top) = self.0.first_mut() else { return };
        *top = candidate;
        let mut at = 0;
        loop {
            let mut child = 2 * at + 1;
            if child >= self.0.len() {
                break;
            }
            if child + 1 < self.0.len() && self.0[child + 1].goes_before(&self.0[child]) {
                child += 1;
            }
            if !self.0[child].goes_before(&self.0[at]) {
                break;
            }
            self.0.swap(at, child);
            at = child;
        }
    }

    /// All candidates, in no order.
    pub(super) fn into_vec(self) -> Vec<T> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Ranked for (u32, char) {
        fn goes_before(&self, other: &Self) -> bool {
            self.0 < other.0
        }
    }

    #[test]
    fn the_least_goes_first_and_the_layout_decides_among_equals() {
        let mut heap = Heap::new();
        for candidate in [(1, 'a'), (1, 'b'), (1, 'c'), (0, 'd')] {
            heap.push(candidate);
        }
        assert_eq!(heap.top(), Some(&(0, 'd')));
        heap.replace_top((2, 'e'));
        assert_eq!((heap.top(), heap.len()), (Some(&(1, 'a')), 4));
        heap.replace_top((2, 'f'));
        let mut left = heap.into_vec();
        left.sort_unstable();
        assert_eq!(left, [(1, 'b'), (1, 'c'), (2, 'e'), (2, 'f')]);
    }
}
