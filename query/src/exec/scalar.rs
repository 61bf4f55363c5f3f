//! Scalars: one number a step.

/// One number a step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    /// The same at each.
    Same(f64),
    /// One for each.
    Each(Vec<f64>),
}

impl Scalar {
    /// The number at `step`; `NaN` if there is none.
    #[inline]
    pub(crate) fn at(&self, step: usize) -> f64 {
        match self {
            Self::Same(value) => *value,
            Self::Each(values) => values.get(step).copied().unwrap_or(f64::NAN),
        }
    }

    /// The same scalar with each number changed.
    pub(crate) fn map(self, change: impl Fn(f64) -> f64) -> Self {
        match self {
            Self::Same(value) => Self::Same(change(value)),
            Self::Each(mut values) => {
                values.iter_mut().for_each(|v| *v = change(*v));
                Self::Each(values)
            }
        }
    }

    /// Two scalars made one.
    pub(crate) fn zip(&self, other: &Self, steps: usize, join: impl Fn(f64, f64) -> f64) -> Self {
        match (self, other) {
            (Self::Same(a), Self::Same(b)) => Self::Same(join(*a, *b)),
            _ => Self::Each((0..steps).map(|i| join(self.at(i), other.at(i))).collect()),
        }
    }

    /// The distinct numbers over `steps` steps, in the order of their first step.
    pub(crate) fn each_once(&self, steps: usize) -> Vec<f64> {
        match self {
            Self::Same(value) => vec![*value],
            Self::Each(values) => {
                let mut seen = std::collections::HashSet::new();
                values.iter().take(steps).copied().filter(|v| seen.insert(v.to_bits())).collect()
            }
        }
    }
}
