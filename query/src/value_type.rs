//! The four kinds of value an expression can have.

use std::fmt;

/// The type of an expression. `Display` is the name users see in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One number per step.
    Scalar,
    /// At most one sample per series and step.
    Vector,
    /// A window of samples per series and step.
    Matrix,
    /// A text; only a literal can be one.
    String,
}

impl ValueType {
    /// The name in API answers (`resultType`).
    pub fn api_name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
            Self::String => "string",
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::String => "string",
        })
    }
}
