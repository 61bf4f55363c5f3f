//! The values of one label name, sorted and front-coded, as a block stores them.
//!
//! ```text
//! restarts   ceil(count / 16) × u32 LE      where each 16th entry starts, counted from the end of this list
//! entries    count × { shared:varint rest_length:varint rest }     bytes shared with the entry before, then the others
//! ```
//! `shared` is 0 at each restart. The number of values is kept by who keeps the dictionary.

use crate::codec::varint::{Cursor, put_uvarint};

/// After how many entries a value stands in full.
pub const RESTART_EVERY: usize = 16;

/// Appends the dictionary of `values`, which are sorted and distinct.
pub fn write_dictionary<'a>(values: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    let mut restarts = Vec::new();
    let mut entries = Vec::new();
    let mut last: &str = "";
    for (i, value) in values.enumerate() {
        if i % RESTART_EVERY == 0 {
            restarts.extend_from_slice(&(entries.len() as u32).to_le_bytes());
            last = "";
        }
        let shared = last.bytes().zip(value.bytes()).take_while(|(a, b)| a == b).count();
        let rest = value.as_bytes().get(shared..).unwrap_or_default();
        put_uvarint(&mut entries, shared as u64);
        put_uvarint(&mut entries, rest.len() as u64);
        entries.extend_from_slice(rest);
        last = value;
    }
    out.append(&mut restarts);
    out.append(&mut entries);
}

/// A dictionary in its stored form. Every method gives `None` if the bytes are not a dictionary.
#[derive(Debug, Clone, Copy)]
pub struct Dictionary<'a> {
    restarts: &'a [[u8; 4]],
    entries: &'a [u8],
    count: u32,
}

impl<'a> Dictionary<'a> {
    /// The dictionary of `count` values in `bytes`.
    pub fn new(bytes: &'a [u8], count: u32) -> Option<Self> {
        let restarts = (count as usize).div_ceil(RESTART_EVERY);
        let (restarts, entries) = bytes.split_at_checked(restarts.checked_mul(4)?)?;
        Some(Self { restarts: restarts.as_chunks().0, entries, count })
    }

    /// Calls `visit` with id and bytes of each value from the restart `from` on, until it answers false.
    fn walk(&self, from: usize, mut visit: impl FnMut(u32, &[u8]) -> Option<bool>) -> Option<()> {
        let Some(start) = self.restarts.get(from) else { return Some(()) };
        let start = u32::from_le_bytes(*start) as usize;
        let mut cursor = Cursor::new(self.entries.get(start..)?);
        let mut value = Vec::with_capacity(64);
        for id in (from * RESTART_EVERY) as u32..self.count {
            let shared = usize::try_from(cursor.uvarint()?).ok()?;
            let length = usize::try_from(cursor.uvarint()?).ok()?;
            if shared > value.len() {
                return None;
            }
            value.truncate(shared);
            value.extend_from_slice(cursor.bytes(length)?);
            if !visit(id, &value)? {
                break;
            }
        }
        Some(())
    }

    /// The value a restart stands for.
    fn restart_value(&self, restart: usize) -> Option<&'a [u8]> {
        let start = u32::from_le_bytes(*self.restarts.get(restart)?) as usize;
        let mut cursor = Cursor::new(self.entries.get(start..)?);
        if cursor.uvarint()? != 0 {
            return None;
        }
        let length = usize::try_from(cursor.uvarint()?).ok()?;
        cursor.bytes(length)
    }

    /// The last restart whose value is not after `value` (the first restart if all are).
    fn restart_before(&self, value: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.restarts.len());
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.restart_value(middle)? <= value { low = middle } else { high = middle }
        }
        Some(low)
    }

    /// Replaces what is in `out` by the value with number `id`; `Some(false)` if there is none.
    pub fn value(&self, id: u32, out: &mut String) -> Option<bool> {
        out.clear();
        if id >= self.count {
            return Some(false);
        }
        self.walk(id as usize / RESTART_EVERY, |at, value| {
            if at == id {
                out.push_str(std::str::from_utf8(value).ok()?);
            }
            Some(at < id)
        })?;
        Some(true)
    }

    /// The number of `value`, in `Some(None)` if it is not there.
    pub fn find(&self, value: &str) -> Option<Option<u32>> {
        let wanted = value.as_bytes();
        let mut found = None;
        self.walk(self.restart_before(wanted)?, |id, at| {
            if at == wanted {
                found = Some(id);
            }
            Some(at < wanted)
        })?;
        Some(found)
    }

    /// Calls `visit` with number and text of each value that starts with `prefix`, in order.
    pub fn visit(&self, prefix: &str, mut visit: impl FnMut(u32, &str)) -> Option<()> {
        let prefix = prefix.as_bytes();
        self.walk(self.restart_before(prefix)?, |id, value| {
            let matches = value.starts_with(prefix);
            if matches {
                visit(id, std::str::from_utf8(value).ok()?);
            }
            Some(matches || value < prefix)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn diagram() {
        let mut bytes = Vec::new();
        write_dictionary(["pod-1", "pod-22"].into_iter(), &mut bytes);
        assert_eq!(bytes, b"\0\0\0\0\x00\x05pod-1\x04\x0222");
    }

    proptest! {
        #![proptest_config(crate::tests::cases(300))]

        #[test]
        fn every_value_is_found(values in proptest::collection::btree_set("[a-cé]{1,6}", 0..120), other in "[a-cé]{0,5}") {
            let sorted: Vec<&str> = values.iter().map(String::as_str).collect();
            let mut bytes = Vec::new();
            write_dictionary(sorted.iter().copied(), &mut bytes);
            let dictionary = Dictionary::new(&bytes, sorted.len() as u32).unwrap();
            let mut text = String::new();
            for (id, value) in sorted.iter().enumerate() {
                prop_assert_eq!(dictionary.find(value), Some(Some(id as u32)));
                prop_assert_eq!(dictionary.value(id as u32, &mut text), Some(true));
                prop_assert_eq!(&text, value);
            }
            prop_assert_eq!(dictionary.find(&other).unwrap().is_some(), values.contains(&other));
            prop_assert_eq!(dictionary.value(sorted.len() as u32, &mut text), Some(false));
            let mut visited = BTreeSet::new();
            dictionary.visit(&other, |_, v| { visited.insert(v.to_owned()); }).unwrap();
            let expected: BTreeSet<String> = values.iter().filter(|v| v.starts_with(&other)).cloned().collect();
            prop_assert_eq!(visited, expected);
        }

        #[test]
        fn hostile_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..60), count in 0_u32..40) {
            if let Some(dictionary) = Dictionary::new(&bytes, count) {
                let _ = dictionary.find("a");
                let _ = dictionary.value(count / 2, &mut String::new());
                let _ = dictionary.visit("", |_, _| {});
            }
        }
    }
}
