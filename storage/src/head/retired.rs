//! Numbers of series on their way out and back, and the pins that keep them what they are. The way is in `retire`.

use roaring::RoaringBitmap;
use std::collections::VecDeque;
use std::sync::Arc;

/// What a batch or a view of the store holds as long as numbers of series in it must stand for what they did. Says how often
/// series had become unknown when it was made.
pub(crate) type Pin = Arc<u64>;

/// Series on their way out, and numbers on their way back.
#[derive(Default)]
pub(crate) struct Retired {
    /// Series that are idle.
    pub(super) marked: RoaringBitmap,
    /// Numbers without labels, and how many checkpoints are still to be written before they are free.
    pub(super) waiting: VecDeque<(u8, RoaringBitmap)>,
    pub(super) free: RoaringBitmap,
    /// Numbers given again since the commit thread asked last.
    pub(super) given: Vec<u32>,
}

impl Retired {
    /// The lowest free number: the series of a new target get numbers in a row.
    pub(super) fn take_number(&mut self) -> Option<u32> {
        let number = self.free.min()?;
        self.free.remove(number);
        Some(number)
    }

    pub(super) fn give_back(&mut self, number: u32) {
        self.free.insert(number);
    }

    pub(super) fn note_given(&mut self, number: u32) {
        self.given.push(number);
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let sets = self.waiting.iter().map(|(_, numbers)| numbers.serialized_size());
        self.marked.serialized_size() + self.free.serialized_size() + sets.sum::<usize>()
    }
}
