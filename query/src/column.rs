//! One series over all steps: dense values and a bitmap of the steps that have one. Hot path.

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

/// One series over all steps. Floats only for now; native histograms will ride in a sparse list beside the values, so that a
/// query of floats never pays for them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Column {
    /// One value a step; meaningless where the step has none.
    pub(crate) values: Vec<f64>,
    /// Which steps have a value.
    pub(crate) present: Bitmap,
}

impl Column {
    /// A column without values.
    pub(crate) fn new(steps: usize) -> Self {
        Self { values: vec![0.0; steps], present: Bitmap::new(steps) }
    }

    /// Removes all values and changes the number of steps.
    pub(crate) fn reset(&mut self, steps: usize) {
        self.values.resize(steps, 0.0);
        self.present.reset(steps);
    }

    /// How many steps.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// Gives `step` a value.
    #[inline]
    pub(crate) fn set(&mut self, step: usize, value: f64) {
        self.values[step] = value;
        self.present.set(step);
    }

    /// The value of `step`.
    #[inline]
    pub(crate) fn get(&self, step: usize) -> Option<f64> {
        self.present.get(step).then(|| self.values[step])
    }

    /// The steps that have a value, and the values.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.present.ones().map(|step| (step, self.values[step]))
    }

    /// Changes each value.
    #[inline]
    pub(crate) fn map(&mut self, change: impl Fn(f64) -> f64) {
        for value in &mut self.values {
            *value = change(*value);
        }
    }

    /// The bytes a column of so many steps takes.
    pub(crate) fn bytes(steps: usize) -> u64 {
        (steps as u64).saturating_mul(8).saturating_add(steps as u64 / 8).saturating_add(64)
    }

    /// Takes over the values of `other`, which has none where this column has.
    pub(crate) fn absorb(&mut self, other: &Self) {
        for (step, value) in other.iter() {
            self.set(step, value);
        }
    }
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
    fn full_and_empty() {
        let mut map = Bitmap::new(70);
        assert!(map.is_empty() && !map.is_full());
        map.fill();
        assert!(map.is_full() && map.count() == 70);
        map.clear(69);
        assert!(!map.is_full() && !map.get(69) && map.get(68));
    }
}
