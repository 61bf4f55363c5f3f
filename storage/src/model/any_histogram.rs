//! A native histogram as a client sent it: counted in whole numbers or in floats.

use super::{FloatHistogram, HistogramError, IntHistogram, ResetHint};

/// A histogram of either kind.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyHistogram {
    /// Counted in whole numbers.
    Int(IntHistogram),
    /// Counted in floats.
    Float(FloatHistogram),
}

impl From<IntHistogram> for AnyHistogram {
    fn from(histogram: IntHistogram) -> Self {
        Self::Int(histogram)
    }
}

impl From<FloatHistogram> for AnyHistogram {
    fn from(histogram: FloatHistogram) -> Self {
        Self::Float(histogram)
    }
}

impl AnyHistogram {
    /// Whether it continues the histogram before it.
    pub fn hint(&self) -> ResetHint {
        match self {
            Self::Int(h) => h.hint,
            Self::Float(h) => h.hint,
        }
    }

    /// Sets [`AnyHistogram::hint`].
    pub fn set_hint(&mut self, hint: ResetHint) {
        match self {
            Self::Int(h) => h.hint = hint,
            Self::Float(h) => h.hint = hint,
        }
    }

    /// Whether the sample says that its series ended.
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Int(h) => h.is_stale(),
            Self::Float(h) => h.is_stale(),
        }
    }

    /// The same histogram with floats for counts.
    pub fn to_float(&self) -> FloatHistogram {
        match self {
            Self::Int(h) => h.to_float(),
            Self::Float(h) => h.clone(),
        }
    }

    /// How many buckets and bounds it lists.
    pub fn buckets(&self) -> usize {
        match self {
            Self::Int(h) => h.positive.len() + h.negative.len() + h.custom_bounds.len(),
            Self::Float(h) => h.positive.len() + h.negative.len() + h.custom_bounds.len(),
        }
    }

    /// Makes a histogram from outside ours: see [`super::Histogram::normalize`], then checks it.
    ///
    /// # Errors
    /// As `validate` of its kind.
    pub fn accept(&mut self) -> Result<(), HistogramError> {
        match self {
            Self::Int(h) => {
                h.normalize();
                h.validate()
            }
            Self::Float(h) => {
                h.normalize();
                h.validate()
            }
        }
    }

    /// Whether both are the same but for the hint, bit for bit: a repeated sample rather than a conflicting one.
    pub fn is_same_data(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.is_same_data(b),
            (Self::Float(a), Self::Float(b)) => a.is_same_data(b),
            (Self::Int(_), Self::Float(_)) | (Self::Float(_), Self::Int(_)) => false,
        }
    }
}
