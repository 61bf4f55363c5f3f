//! Where a piece of syntax stands in the query text.

use std::fmt;

/// A range of bytes in the query text: `[start, end)`.
///
/// Queries are far shorter than 4 GiB (the parser refuses texts over its limit), so positions fit 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// First byte after.
    pub end: u32,
}

impl Span {
    /// The bytes from `start` to before `end`; positions past 4 GiB saturate.
    pub fn new(start: usize, end: usize) -> Self {
        let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: narrow(start), end: narrow(end) }
    }

    /// The smallest span holding both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// The empty span just behind this one.
    #[must_use]
    pub fn after(self) -> Self {
        Self { start: self.end, end: self.end }
    }

    /// The text inside, empty if the span does not fit `text`.
    pub fn of(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Line and column of the first byte, both counted from one; the column counts bytes. `None` if `text` is shorter.
    pub fn line_column(self, text: &str) -> Option<(u32, u32)> {
        let before = text.as_bytes().get(..self.start as usize)?;
        let mut line = 1u32;
        let mut line_start = 0;
        for (at, byte) in before.iter().enumerate() {
            if *byte == b'\n' {
                line = line.saturating_add(1);
                line_start = at + 1;
            }
        }
        let column = u32::try_from(before.len() - line_start).unwrap_or(u32::MAX);
        Some((line, column.saturating_add(1)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one() {
        let text = "ab\ncd";
        assert_eq!(Span::new(0, 1).line_column(text), Some((1, 1)));
        assert_eq!(Span::new(2, 3).line_column(text), Some((1, 3)));
        assert_eq!(Span::new(3, 4).line_column(text), Some((2, 1)));
        assert_eq!(Span::new(5, 5).line_column(text), Some((2, 3)));
        assert_eq!(Span::new(6, 6).line_column(text), None);
    }
}
