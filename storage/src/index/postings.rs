//! Which series have a value: postings as a block stores them, and their collection while a block is written.
//!
//! The postings of one label name follow the order of its dictionary:
//!
//! ```text
//! restarts   ceil(count / 16) × u32 LE      where each 16th entry starts, counted from the end of this list
//! entries    count × header:varint [bytes]
//!            header & 3 = 0    one series, number header >> 2
//!            header & 3 = 1    header >> 2 bytes: the first number, then differences less one, all varints
//!            header & 3 = 2    header >> 2 bytes: a roaring bitmap in the portable format
//! ```

use super::dictionary::RESTART_EVERY;
use crate::codec::varint::{Cursor, put_uvarint};
use roaring::RoaringBitmap;

const ONE: u64 = 0;
const DELTAS: u64 = 1;
const ROARING: u64 = 2;
/// Lists of differences up to this size are not worth a bitmap.
const DELTA_BYTES_MAX: usize = 16;

/// The series of one value, collected in ascending order.
#[derive(Debug, Clone, Default)]
pub struct PostingsBuilder {
    first: u32,
    last: u32,
    count: u32,
    /// Differences less one from the second series on.
    deltas: Vec<u8>,
}

impl PostingsBuilder {
    /// Adds a series; its number is larger than that of the last one added.
    pub fn push(&mut self, series: u32) {
        if self.count == 0 {
            self.first = series;
        } else {
            put_uvarint(&mut self.deltas, u64::from(series.wrapping_sub(self.last).wrapping_sub(1)));
        }
        self.last = series;
        self.count += 1;
    }

    fn write(&self, out: &mut Vec<u8>) {
        if self.count == 1 {
            return put_uvarint(out, u64::from(self.first) << 2 | ONE);
        }
        let mut bytes = Vec::new();
        put_uvarint(&mut bytes, u64::from(self.first));
        bytes.extend_from_slice(&self.deltas);
        let mut kind = DELTAS;
        if bytes.len() > DELTA_BYTES_MAX
            && let Some(mut bitmap) = read_deltas(&bytes)
        {
            bitmap.optimize();
            if bitmap.serialized_size() <= bytes.len() * 4 {
                let mut serialized = Vec::with_capacity(bitmap.serialized_size());
                if bitmap.serialize_into(&mut serialized).is_ok() {
                    (kind, bytes) = (ROARING, serialized);
                }
            }
        }
        put_uvarint(out, (bytes.len() as u64) << 2 | kind);
        out.append(&mut bytes);
    }
}

/// Appends the postings of one label name, given in the order of its values.
pub fn write_postings<'a>(lists: impl Iterator<Item = &'a PostingsBuilder>, out: &mut Vec<u8>) {
    let mut restarts = Vec::new();
    let mut entries = Vec::new();
    for (i, list) in lists.enumerate() {
        if i % RESTART_EVERY == 0 {
            restarts.extend_from_slice(&(entries.len() as u32).to_le_bytes());
        }
        list.write(&mut entries);
    }
    out.append(&mut restarts);
    out.append(&mut entries);
}

fn read_deltas(bytes: &[u8]) -> Option<RoaringBitmap> {
    let mut cursor = Cursor::new(bytes);
    let mut last = u32::try_from(cursor.uvarint()?).ok()?;
    let mut bitmap = RoaringBitmap::new();
    bitmap.insert(last);
    while !cursor.is_empty() {
        let delta = u32::try_from(cursor.uvarint()?).ok()?;
        last = last.checked_add(delta)?.checked_add(1)?;
        bitmap.insert(last);
    }
    Some(bitmap)
}

/// The postings of one label name in their stored form. Every method gives `None` if the bytes are not such.
#[derive(Debug, Clone, Copy)]
pub struct Postings<'a> {
    restarts: &'a [[u8; 4]],
    entries: &'a [u8],
    count: u32,
}

/// Whether it is not far from the value `next` to a restart: how the way is gone is a matter of speed alone.
fn is_close(next: u32, restart: usize) -> bool {
    next as usize / RESTART_EVERY >= restart.saturating_sub(1)
}

impl<'a> Postings<'a> {
    /// The postings of `count` values in `bytes`.
    pub fn new(bytes: &'a [u8], count: u32) -> Option<Self> {
        let restarts = (count as usize).div_ceil(RESTART_EVERY);
        let (restarts, entries) = bytes.split_at_checked(restarts.checked_mul(4)?)?;
        Some(Self { restarts: restarts.as_chunks().0, entries, count })
    }

    /// Adds the series of the values `ids` (any order, faster if ascending) to `series`.
    pub fn add(&self, ids: &[u32], series: &mut RoaringBitmap) -> Option<()> {
        let mut walk: Option<(u32, Cursor<'a>)> = None;
        let mut singles = Vec::new();
        for id in ids.iter().copied().filter(|id| *id < self.count) {
            let restart = id as usize / RESTART_EVERY;
            let near = walk.filter(|(next, _)| *next <= id && is_close(*next, restart));
            let (mut next, mut cursor) = match near {
                Some(at) => at,
                None => {
                    let start = u32::from_le_bytes(*self.restarts.get(restart)?) as usize;
                    ((restart * RESTART_EVERY) as u32, Cursor::new(self.entries.get(start..)?))
                }
            };
            while next < id {
                skip_entry(&mut cursor)?;
                next += 1;
            }
            read_entry(&mut cursor, &mut singles, series)?;
            walk = Some((next + 1, cursor));
        }
        // Many values of one series each: sorted first, they go in far faster than one by one.
        singles.sort_unstable();
        singles.dedup();
        *series |= RoaringBitmap::from_sorted_iter(singles).ok()?;
        Some(())
    }

    /// Calls `visit` with the number of each value and each of its series, in order.
    pub fn visit(&self, mut visit: impl FnMut(u32, u32)) -> Option<()> {
        let mut cursor = Cursor::new(self.entries);
        let (mut singles, mut series) = (Vec::new(), RoaringBitmap::new());
        for id in 0..self.count {
            read_entry(&mut cursor, &mut singles, &mut series)?;
            singles.drain(..).chain(&series).for_each(|s| visit(id, s));
            series.clear();
        }
        Some(())
    }
}

fn skip_entry(cursor: &mut Cursor<'_>) -> Option<()> {
    let header = cursor.uvarint()?;
    if header & 3 != ONE {
        cursor.bytes(usize::try_from(header >> 2).ok()?)?;
    }
    Some(())
}

/// Adds the series of an entry: one alone to `singles`, several to `series`.
fn read_entry(cursor: &mut Cursor<'_>, singles: &mut Vec<u32>, series: &mut RoaringBitmap) -> Option<()> {
    let header = cursor.uvarint()?;
    if header & 3 == ONE {
        singles.push(u32::try_from(header >> 2).ok()?);
        return Some(());
    }
    let bytes = cursor.bytes(usize::try_from(header >> 2).ok()?)?;
    let more = match header & 3 {
        DELTAS => read_deltas(bytes)?,
        ROARING => RoaringBitmap::deserialize_from(bytes).ok()?,
        _ => return None,
    };
    if series.is_empty() {
        *series = more;
    } else {
        *series |= more;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Miri is a hundred times slower than a processor.
    const MANY: usize = if cfg!(miri) { 16 } else { 200 };
    use std::collections::BTreeSet;

    #[test]
    fn diagram() {
        let mut lists = vec![PostingsBuilder::default(); 3];
        lists[0].push(7);
        [1, 2, 300].into_iter().for_each(|s| lists[1].push(s));
        (0..1000).for_each(|s| lists[2].push(s));
        let mut bytes = Vec::new();
        write_postings(lists.iter(), &mut bytes);
        assert_eq!(bytes[..9], [0, 0, 0, 0, 7 << 2, 4 << 2 | 1, 1, 0, 0x80 | 0x29]);
        assert!(bytes.len() < 9 + 1 + 2 + 20, "a run is {} bytes", bytes.len());
    }

    proptest! {
        #![proptest_config(crate::tests::cases(200))]

        #[test]
        fn every_list_comes_back(
            lists in proptest::collection::vec(proptest::collection::btree_set(0_u32..100_000, 1..MANY), 1..MANY / 4),
            picks in proptest::collection::vec(0_u32..60, 0..20),
        ) {
            let builders: Vec<PostingsBuilder> = lists.iter().map(|l| {
                let mut b = PostingsBuilder::default();
                l.iter().for_each(|s| b.push(*s));
                b
            }).collect();
            let mut bytes = Vec::new();
            write_postings(builders.iter(), &mut bytes);
            let postings = Postings::new(&bytes, lists.len() as u32).unwrap();
            let mut series = RoaringBitmap::new();
            postings.add(&picks, &mut series).unwrap();
            let expected: BTreeSet<u32> =
                picks.iter().filter_map(|p| lists.get(*p as usize)).flatten().copied().collect();
            prop_assert!(series.iter().eq(expected));
            let mut visited = vec![BTreeSet::new(); lists.len()];
            postings.visit(|id, s| { visited[id as usize].insert(s); }).unwrap();
            prop_assert_eq!(visited, lists);
        }

        #[test]
        fn hostile_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..60), count in 0_u32..40) {
            if let Some(postings) = Postings::new(&bytes, count) {
                let mut series = RoaringBitmap::new();
                let _ = postings.add(&[0, 5, 17, 3], &mut series);
                let _ = postings.visit(|_, _| {});
            }
        }
    }
}
