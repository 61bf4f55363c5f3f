//! `Labels`: a sorted label set in one allocation, in the bytes remote write sends. Hot path.
//!
//! The bytes of a label set are its *canonical form*: the protobuf encoding of `repeated Label labels = 1` of a
//! Prometheus `TimeSeries`, labels sorted by name, no empty values, minimal lengths. A sender's bytes can so be hashed
//! and looked up where they lie, without taking them apart.
//!
//! ```text
//! 0a | len | 0a | name_len | name bytes | 12 | value_len | value bytes      one label; len and *_len are uvarints
//! 0a 05 0a 01 61 12 00 …
//! ```

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// The label that holds the metric's name.
pub const METRIC_NAME: &str = "__name__";

/// A sorted set of label names and values; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[u8]>);

/// Why bytes are not a label set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    /// The bytes are not the encoding of labels.
    #[error("label bytes are malformed at offset {0}")]
    Malformed(usize),
    /// A name or value is not UTF-8.
    #[error("label name or value is not valid UTF-8: {0:?}")]
    Utf8(String),
    /// A name is empty.
    #[error("empty label name")]
    EmptyName,
    /// A name comes twice.
    #[error("duplicated label {0:?}")]
    Duplicate(String),
}

fn read_uvarint(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let first = *bytes.get(*at)?;
    *at += 1;
    if first < 0x80 {
        return Some(usize::from(first));
    }
    let mut value = u64::from(first & 0x7f);
    let mut shift = 7;
    loop {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return usize::try_from(value).ok();
        }
        shift += 7;
        if shift > 28 {
            return None;
        }
    }
}

fn write_uvarint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn uvarint_len(value: usize) -> usize {
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn slice<'a>(bytes: &'a [u8], at: &mut usize, len: usize) -> Option<&'a [u8]> {
    let end = at.checked_add(len)?;
    let part = bytes.get(*at..end)?;
    *at = end;
    Some(part)
}

/// One encoded label at `at`: name and value. Fields may come in any order and repeat (the last wins), as protobuf allows.
fn read_label<'a>(bytes: &'a [u8], at: &mut usize) -> Option<(&'a [u8], &'a [u8])> {
    if *bytes.get(*at)? != 0x0a {
        return None;
    }
    *at += 1;
    let len = read_uvarint(bytes, at)?;
    let message = slice(bytes, at, len)?;
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    let mut inner = 0;
    while inner < message.len() {
        let tag = *message.get(inner)?;
        inner += 1;
        let field_len = read_uvarint(message, &mut inner)?;
        let field = slice(message, &mut inner, field_len)?;
        match tag {
            0x0a => name = field,
            0x12 => value = field,
            _ => return None,
        }
    }
    Some((name, value))
}

fn write_label(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let inner = 2 + uvarint_len(name.len()) + name.len() + uvarint_len(value.len()) + value.len();
    if inner < 0x80 {
        // Nearly all labels: every length is one byte, and there is room for all of it before the first.
        out.reserve(inner + 2);
        out.extend_from_slice(&[0x0a, inner as u8, 0x0a, name.len() as u8]);
        out.extend_from_slice(name);
        out.extend_from_slice(&[0x12, value.len() as u8]);
        out.extend_from_slice(value);
        return;
    }
    out.push(0x0a);
    write_uvarint(out, inner);
    out.push(0x0a);
    write_uvarint(out, name.len());
    out.extend_from_slice(name);
    out.push(0x12);
    write_uvarint(out, value.len());
    out.extend_from_slice(value);
}

impl Labels {
    /// The empty set.
    pub fn empty() -> Self {
        Self(Arc::from(&[][..]))
    }

    /// A set from pairs in any order; pairs with an empty value are left out, of equal names the last stays.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = LabelsBuilder::new();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// A set from pairs that are sorted by name, each name once; pairs with an empty value are left out.
    pub fn from_sorted_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut out = Vec::with_capacity(256);
        for (name, value) in pairs {
            if !value.as_ref().is_empty() {
                write_label(&mut out, name.as_ref().as_bytes(), value.as_ref().as_bytes());
            }
        }
        Self(Arc::from(out))
    }

    /// Takes bytes that are known to be canonical: what [`Labels::as_bytes`] gave, or what a store checked when it wrote them.
    pub fn from_canonical(bytes: &[u8]) -> Self {
        Self(Arc::from(bytes))
    }

    /// Appends one label to `out` in the canonical form. The caller keeps the order and leaves empty values out.
    #[inline]
    pub fn encode_pair(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        write_label(out, name, value);
    }

    /// Checks and canonicalises the encoding of `repeated Label labels = 1` from outside: labels are sorted, empty values left out.
    ///
    /// # Errors
    /// Malformed bytes, text that is not UTF-8, an empty name, a name that comes twice.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, LabelsError> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let start = at;
            let (name, value) = read_label(bytes, &mut at).ok_or(LabelsError::Malformed(start))?;
            let text = |b: &'_ [u8]| {
                std::str::from_utf8(b)
                    .map(str::len)
                    .map_err(|_| LabelsError::Utf8(String::from_utf8_lossy(b).into_owned()))
            };
            text(name)?;
            text(value)?;
            let name = std::str::from_utf8(name).unwrap_or_default();
            let value = std::str::from_utf8(value).unwrap_or_default();
            if name.is_empty() {
                return Err(LabelsError::EmptyName);
            }
            pairs.push((name, value));
        }
        pairs.sort_by(|a, b| a.0.cmp(b.0));
        if let Some(pair) = pairs.windows(2).find(|w| w[0].0 == w[1].0) {
            return Err(LabelsError::Duplicate(pair[0].0.to_owned()));
        }
        let mut out = Vec::with_capacity(bytes.len());
        for (name, value) in pairs {
            if !value.is_empty() {
                write_label(&mut out, name.as_bytes(), value.as_bytes());
            }
        }
        Ok(Self(Arc::from(out)))
    }

    /// The canonical form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of labels (walks the set).
    pub fn len(&self) -> usize {
        self.iter_bytes().count()
    }

    /// Names and values as bytes, sorted by name.
    pub fn iter_bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        let bytes: &[u8] = &self.0;
        let mut at = 0;
        std::iter::from_fn(move || if at < bytes.len() { read_label(bytes, &mut at) } else { None })
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.iter_bytes().map(|(n, v)| {
            (std::str::from_utf8(n).unwrap_or_default(), std::str::from_utf8(v).unwrap_or_default())
        })
    }

    /// The value of `name`, if it is there.
    pub fn get(&self, name: &str) -> Option<&str> {
        let wanted = name.as_bytes();
        for (n, v) in self.iter_bytes() {
            match n.cmp(wanted) {
                Ordering::Less => {}
                Ordering::Equal => return std::str::from_utf8(v).ok(),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// The value of `name`, or the empty string: PromQL does not tell a missing label from an empty one.
    pub fn value(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// The metric's name, or the empty string.
    pub fn metric_name(&self) -> &str {
        self.value(METRIC_NAME)
    }

    /// A builder that starts from this set.
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder { pairs: self.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect() }
    }

    /// The set without the labels for which `drop` is true. Returns a cheap clone when nothing is dropped.
    #[must_use]
    pub fn without(&self, mut drop: impl FnMut(&str) -> bool) -> Self {
        self.filter(|name| !drop(name))
    }

    /// The set of only the labels for which `keep` is true. Returns a cheap clone when all are kept.
    #[must_use]
    pub fn filter(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        let mut out = Vec::with_capacity(self.0.len());
        for (name, value) in self.iter_bytes() {
            if keep(std::str::from_utf8(name).unwrap_or_default()) {
                write_label(&mut out, name, value);
            }
        }
        if out.len() == self.0.len() { self.clone() } else { Self(Arc::from(out)) }
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl Ord for Labels {
    /// Prometheus' order: pairs compared one by one, name before value; a prefix comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter_bytes().cmp(other.iter_bytes())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Whether `name` can stand in braces without quotes (`[a-zA-Z_][a-zA-Z0-9_]*`).
fn is_plain_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl fmt::Display for Labels {
    /// `{__name__="up", job="node"}`: as Prometheus prints a label set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            if is_plain_label_name(name) {
                write!(f, "{name}={value:?}")?;
            } else {
                write!(f, "{name:?}={value:?}")?;
            }
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Collects labels in any order and builds a [`Labels`].
#[derive(Debug, Clone, Default)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// An empty builder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `name` to `value`; an empty value removes the label.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.remove(name);
        if !value.is_empty() {
            self.pairs.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Removes `name`.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.pairs.retain(|(n, _)| n != name);
        self
    }

    /// The value of `name` so far, or the empty string.
    pub fn value(&self, name: &str) -> &str {
        self.pairs.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// The finished set.
    pub fn build(&self) -> Labels {
        let mut sorted: Vec<&(String, String)> = self.pairs.iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        let mut out = Vec::new();
        for (name, value) in sorted {
            write_label(&mut out, name.as_bytes(), value.as_bytes());
        }
        Labels(Arc::from(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_bytes_are_the_wire_bytes() {
        let labels = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", "")]);
        assert_eq!(labels.as_bytes(), b"\x0a\x06\x0a\x01a\x12\x011\x0a\x06\x0a\x01b\x12\x012");
        assert_eq!(Labels::from_wire(labels.as_bytes()), Ok(labels.clone()));
        let unsorted = b"\x0a\x06\x0a\x01b\x12\x012\x0a\x06\x12\x011\x0a\x01a";
        assert_eq!(Labels::from_wire(unsorted), Ok(labels));
    }

    #[test]
    fn refusals_say_why() {
        let cases: [(&[u8], LabelsError); 5] = [
            (b"\x0a\x06\x0a\x01a", LabelsError::Malformed(0)),
            (b"\x0b", LabelsError::Malformed(0)),
            (b"\x0a\x05\x0a\x00\x12\x011", LabelsError::EmptyName),
            (b"\x0a\x06\x0a\x01a\x12\x01\xff", LabelsError::Utf8("\u{fffd}".into())),
            (b"\x0a\x06\x0a\x01a\x12\x011\x0a\x06\x0a\x01a\x12\x012", LabelsError::Duplicate("a".into())),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Labels::from_wire(bytes), Err(expected), "{bytes:?}");
        }
    }

    #[test]
    fn order_is_by_pairs_not_by_encoded_length() {
        let long = Labels::from_pairs([("a", "aaaaaaaaaaaaa")]);
        let short = Labels::from_pairs([("a", "b")]);
        let more = Labels::from_pairs([("a", "b"), ("c", "d")]);
        assert!(long < short && short < more && Labels::empty() < long);
    }

    #[test]
    fn display_quotes_what_needs_it() {
        let labels = Labels::from_pairs([("__name__", "up"), ("my.label", "a\"b")]);
        assert_eq!(labels.to_string(), r#"{__name__="up", "my.label"="a\"b"}"#);
    }
}
