//! What an open block keeps of its labels: the list of names, the values and columns decoded last.

use crate::codec::varint::Cursor;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

/// What a block remembers about its labels.
#[derive(Debug, Default)]
pub(super) struct LabelCache {
    /// Read at the first use.
    pub(super) names: OnceLock<Vec<NameEntry>>,
    /// For each name the value decoded last: series next to each other share most of theirs.
    pub(super) last: Mutex<Vec<LastValue>>,
    /// The columns of value numbers used last, by the number of the name.
    pub(super) columns: Mutex<VecDeque<(u32, Arc<Vec<u32>>)>>,
}

/// A value and its number.
#[derive(Debug, Default)]
pub(super) struct LastValue {
    pub(super) id: Option<u32>,
    pub(super) text: String,
}

/// A label name and where its values are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NameEntry {
    pub(super) name: String,
    pub(super) values: u32,
    pub(super) dict: (usize, usize),
    pub(super) postings: (usize, usize),
}

/// The section NAMES; nothing if it is damaged.
pub(super) fn parse_names(bytes: &[u8]) -> Option<Vec<NameEntry>> {
    let mut reader = Cursor::new(bytes);
    let count = reader.uvarint()?;
    let (mut dict_end, mut postings_end) = (0_usize, 0_usize);
    let mut names: Vec<NameEntry> = Vec::new();
    for _ in 0..count {
        // Each name takes at least a byte, so the loop ends with the section.
        let length = usize::try_from(reader.uvarint()?).ok()?;
        let name = std::str::from_utf8(reader.bytes(length)?).ok()?.to_owned();
        let values = u32::try_from(reader.uvarint()?).ok()?;
        let dict = (dict_end, usize::try_from(reader.uvarint()?).ok()?);
        let postings = (postings_end, usize::try_from(reader.uvarint()?).ok()?);
        dict_end = dict.0.checked_add(dict.1)?;
        postings_end = postings.0.checked_add(postings.1)?;
        if names.last().is_some_and(|before| before.name >= name) {
            return None;
        }
        names.push(NameEntry { name, values, dict, postings });
    }
    reader.is_empty().then_some(names)
}
