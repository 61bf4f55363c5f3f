//! The timestamps a read leaves in a buffer, and which pieces of which sources they are: the next series of the same scrape has the
//! same pieces, and its timestamps then need not be written again. Hot path.

use crate::api::fresh_version;
use crate::model::Timestamp;
use hashbrown::HashMap;

/// How many buffers a thread remembers: one a selector of a query.
const BUFFERS: usize = 8;
/// How many different layouts a thread remembers, and of how many pieces each.
const LAYOUTS_MAX: usize = 1024;
const PIECES_MAX: usize = 64;

/// Timestamps of a source: never the same for different timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Piece {
    /// The source and the column in it.
    pub(super) key: (u64, u64),
    /// From which entry of the column to which.
    pub(super) span: (u32, u32),
}

/// What a buffer holds.
#[derive(Debug, Default)]
struct Known {
    /// The version the buffer had when it was left.
    version: u64,
    length: usize,
    last_use: u64,
    pieces: Vec<Piece>,
    /// Where each piece ends in the buffer.
    ends: Vec<usize>,
}

/// The buffers a thread filled last.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    known: Vec<Known>,
    /// The version of each layout, so that it comes back with the next series of the same scrape.
    versions: HashMap<Vec<Piece>, u64>,
    uses: u64,
}

/// A buffer being filled.
pub(super) struct Layout<'a> {
    known: &'a mut Known,
    versions: &'a mut HashMap<Vec<Piece>, u64>,
    times: &'a mut Vec<Timestamp>,
    version: &'a mut u64,
    /// How many pieces are as before.
    same: usize,
    /// Up to which entry the next piece is as before, if it has begun: chunks end anywhere in a column.
    inside: Option<u32>,
    /// Whether pieces since then are not.
    changed: bool,
}

impl Layouts {
    /// Begins to fill `times`, a buffer at `version`.
    pub(super) fn begin<'a>(&'a mut self, times: &'a mut Vec<Timestamp>, version: &'a mut u64) -> Layout<'a> {
        self.uses += 1;
        let is_it = |k: &Known| k.version == *version && k.length == times.len();
        let at = self.known.iter().position(is_it);
        let at = at.unwrap_or_else(|| {
            if self.known.len() < BUFFERS {
                self.known.push(Known::default());
                self.known.len() - 1
            } else {
                let oldest = self.known.iter().enumerate().min_by_key(|(_, k)| k.last_use);
                let at = oldest.map_or(0, |(at, _)| at);
                if let Some(slot) = self.known.get_mut(at) {
                    slot.pieces.clear();
                }
                at
            }
        });
        let known = &mut self.known[at];
        known.last_use = self.uses;
        if known.pieces.is_empty() {
            *version = fresh_version();
            times.clear();
            known.ends.clear();
        }
        let changed = known.pieces.is_empty();
        Layout { known, versions: &mut self.versions, times, version, same: 0, inside: None, changed }
    }
}

impl Layout<'_> {
    /// Adds a piece; `false` if it does not begin after the end of the piece before.
    #[inline]
    pub(super) fn add(&mut self, piece: Piece, mut times: impl Iterator<Item = Timestamp>) -> bool {
        if !self.changed {
            if let Some(known) = self.known.pieces.get(self.same)
                && known.key == piece.key
                && piece.span.0 == self.inside.unwrap_or(known.span.0)
                && piece.span.1 <= known.span.1
            {
                let is_end = piece.span.1 == known.span.1;
                self.same += usize::from(is_end);
                self.inside = if is_end { None } else { Some(piece.span.1) };
                return true;
            }
            self.forget_rest();
        }
        let Some(first) = times.next() else { return true };
        if self.times.last().is_some_and(|last| *last >= first) {
            return false;
        }
        self.times.push(first);
        self.times.extend(times);
        match (self.known.pieces.last_mut(), self.known.ends.last_mut()) {
            (Some(last), Some(end)) if last.key == piece.key && last.span.1 == piece.span.0 => {
                last.span.1 = piece.span.1;
                *end = self.times.len();
            }
            _ => {
                self.known.pieces.push(piece);
                self.known.ends.push(self.times.len());
            }
        }
        true
    }

    /// From here on the timestamps are others than before.
    fn forget_rest(&mut self) {
        self.changed = true;
        *self.version = fresh_version();
        let mut end =
            self.same.checked_sub(1).and_then(|last| self.known.ends.get(last)).copied().unwrap_or(0);
        let mut kept = self.same;
        if let (Some(upto), Some(piece)) = (self.inside.take(), self.known.pieces.get_mut(self.same)) {
            end += (upto - piece.span.0) as usize;
            piece.span.1 = upto;
            if let Some(slot) = self.known.ends.get_mut(kept) {
                *slot = end;
            }
            kept += 1;
        }
        self.known.pieces.truncate(kept);
        self.known.ends.truncate(kept);
        self.times.truncate(end);
    }

    /// All pieces are there.
    pub(super) fn finish(mut self) {
        if !self.changed && self.same < self.known.pieces.len() {
            self.forget_rest();
        }
        if self.changed {
            self.recall_version();
        }
        self.known.version = *self.version;
        self.known.length = self.times.len();
    }

    /// Gives the timestamps the version they had when they were met before.
    fn recall_version(&mut self) {
        if self.known.pieces.len() > PIECES_MAX {
            return;
        }
        if let Some(version) = self.versions.get(&self.known.pieces) {
            *self.version = *version;
            return;
        }
        if self.versions.len() >= LAYOUTS_MAX {
            self.versions.clear();
        }
        self.versions.insert(self.known.pieces.clone(), *self.version);
    }

    /// The buffer will be filled in another way.
    pub(super) fn abandon(self) {
        self.known.pieces.clear();
        self.known.ends.clear();
        self.times.clear();
        *self.version = fresh_version();
        self.known.version = u64::MAX;
        self.known.length = usize::MAX;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Samples;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_version_stands_only_while_the_timestamps_do(
            reads in prop::collection::vec((0usize..3, prop::collection::vec((0u64..2, 0u32..6, 1u32..3), 0..5)), 1..40),
        ) {
            let mut layouts = Layouts::default();
            let mut met = HashMap::new();
            let mut buffers: Vec<Samples> = (0..3).map(|_| Samples::new()).collect();
            for (buffer, pieces) in reads {
                let out = &mut buffers[buffer];
                let (before, version) = (out.timestamps.clone(), out.timestamps_version);
                let mut expected: Vec<i64> = Vec::new();
                let mut simple = true;
                let mut layout = layouts.begin(&mut out.timestamps, &mut out.timestamps_version);
                for (source, start, length) in pieces {
                    // The columns of sources follow each other, and stretches of one may be neighbours.
                    let times: Vec<i64> = (start..start + length).map(|i| i64::from(i) + source as i64 * 9).collect();
                    simple = expected.last().is_none_or(|last| *last < times[0]);
                    let piece = Piece { key: (source, 0), span: (start, start + length) };
                    prop_assert_eq!(layout.add(piece, times.iter().copied()), simple);
                    if !simple { break; }
                    expected.extend(times);
                }
                if simple {
                    layout.finish();
                    prop_assert_eq!(&out.timestamps, &expected);
                    prop_assert!(out.timestamps_version != version || before == expected);
                    let same = met.entry(out.timestamps_version).or_insert_with(|| expected.clone());
                    prop_assert_eq!(&*same, &expected);
                } else {
                    layout.abandon();
                    prop_assert!(out.timestamps_version != version);
                }
            }
        }
    }
}
