//! Operators and how they pair the series of their two sides.

use std::fmt;

/// `+` or `-` in front of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `+`, which changes nothing.
    Plus,
    /// `-`
    Minus,
}

impl fmt::Display for UnaryOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plus => "+",
            Self::Minus => "-",
        })
    }
}

/// An operator between two expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `or`
    Or,
    /// `and`
    And,
    /// `unless`
    Unless,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<=`
    LessOrEqual,
    /// `<`
    Less,
    /// `>=`
    GreaterOrEqual,
    /// `>`
    Greater,
    /// `</`: drops the observations of a histogram above a bound.
    TrimUpper,
    /// `>/`: drops the observations of a histogram below a bound.
    TrimLower,
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `atan2`
    Atan2,
    /// `^`
    Pow,
}

impl BinaryOp {
    /// How tightly the operator binds; a higher number binds tighter.
    pub fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Equal
            | Self::NotEqual
            | Self::LessOrEqual
            | Self::Less
            | Self::GreaterOrEqual
            | Self::Greater
            | Self::TrimUpper
            | Self::TrimLower => 3,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod | Self::Atan2 => 5,
            Self::Pow => 6,
        }
    }

    /// Whether `a op b op c` means `a op (b op c)`.
    pub fn is_right_associative(self) -> bool {
        self == Self::Pow
    }

    /// `and`, `or`, `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// `== != < <= > >=`: these filter, or answer 0 and 1 with `bool`.
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal
                | Self::NotEqual
                | Self::Less
                | Self::LessOrEqual
                | Self::Greater
                | Self::GreaterOrEqual
        )
    }

    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Or => "or",
            Self::And => "and",
            Self::Unless => "unless",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::LessOrEqual => "<=",
            Self::Less => "<",
            Self::GreaterOrEqual => ">=",
            Self::Greater => ">",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Atan2 => "atan2",
            Self::Pow => "^",
        }
    }
}

impl fmt::Display for BinaryOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many series of each side may meet in one result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Cardinality {
    /// One of each; the default of arithmetic and comparison.
    #[default]
    OneToOne,
    /// `group_left`: many on the left.
    ManyToOne,
    /// `group_right`: many on the right.
    OneToMany,
    /// The set operators.
    ManyToMany,
}

impl fmt::Display for Cardinality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneToOne => "one-to-one",
            Self::ManyToOne => "many-to-one",
            Self::OneToMany => "one-to-many",
            Self::ManyToMany => "many-to-many",
        })
    }
}

/// The values that stand in for series missing on a side.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fill {
    /// `fill_left(x)`, or `fill(x)`: the left side's stand-in.
    pub left: Option<f64>,
    /// `fill_right(x)`, or `fill(x)`: the right side's stand-in.
    pub right: Option<f64>,
}

impl Fill {
    /// Whether neither side has a stand-in.
    pub fn is_none(&self) -> bool {
        self.left.is_none() && self.right.is_none()
    }
}

impl PartialEq for Fill {
    /// By bits, so that `fill(NaN)` equals itself.
    fn eq(&self, other: &Self) -> bool {
        let bits = |v: Option<f64>| v.map(f64::to_bits);
        bits(self.left) == bits(other.left) && bits(self.right) == bits(other.right)
    }
}

impl Eq for Fill {}

/// How the series of two vectors are paired. Meaningless (and default) unless both sides are vectors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VectorMatching {
    /// How many series may meet.
    pub card: Cardinality,
    /// `true` for `on(labels)`, `false` for `ignoring(labels)` and for neither.
    pub on: bool,
    /// The labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// The labels of `group_left` or `group_right`, copied from the "one" side.
    pub include: Vec<String>,
    /// Stand-ins for missing series.
    pub fill: Fill,
}
