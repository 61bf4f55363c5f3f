//! The identity of a label set in 128 bits, keyed by the directory, and the published pages that hold it. Hot path.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Two independent hashes of a label set's bytes, of 64 and 63 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LabelsHash {
    pub(crate) low: u64,
    /// The lowest bit is the mark of an idle series, see [`LabelsHash::idle`].
    pub(crate) high: u64,
}

const IDLE: u64 = 1;

impl LabelsHash {
    /// What stands for no series.
    pub(crate) const NONE: Self = Self { low: 0, high: 0 };

    /// The same hash with the mark that its series is idle: equal to no hash of labels, so that whoever looks for the series
    /// notices.
    pub(crate) fn idle(self) -> Self {
        Self { low: self.low, high: self.high | IDLE }
    }

    /// The same hash without that mark.
    pub(crate) fn plain(self) -> Self {
        Self { low: self.low, high: self.high & !IDLE }
    }

    /// What tells series of one number apart.
    #[inline]
    pub(crate) fn tag(self) -> u32 {
        self.high as u32
    }
}

const SECRET_BYTES: usize = 192;

/// The keys of a directory: random secrets, so that nobody outside can construct two label sets of one hash.
#[derive(Clone)]
pub(crate) struct HashKey {
    seed: [u64; 2],
    secrets: Box<[[u8; SECRET_BYTES]; 2]>,
}

impl HashKey {
    /// The keys that belong to a stored seed.
    pub(crate) fn from_seed(seed: [u64; 2]) -> Self {
        Self { seed, secrets: Box::new([secret_from(seed[0]), secret_from(seed[1])]) }
    }

    pub(crate) fn seed(&self) -> [u64; 2] {
        self.seed
    }

    #[inline]
    pub(crate) fn hash(&self, bytes: &[u8]) -> LabelsHash {
        LabelsHash {
            low: xxhash_rust::xxh3::xxh3_64_with_secret(bytes, &self.secrets[0]),
            high: xxhash_rust::xxh3::xxh3_64_with_secret(bytes, &self.secrets[1]) & !IDLE,
        }
    }
}

/// A secret from 64 bits: the splitmix64 sequence.
fn secret_from(mut state: u64) -> [u8; SECRET_BYTES] {
    let mut secret = [0; SECRET_BYTES];
    for chunk in secret.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    secret
}

const PAGE_LEN: usize = 4096;
const FAN_OUT: usize = 1024;

struct Page {
    words: Box<[AtomicU64]>,
}

type Chapter = Box<[OnceLock<Page>]>;

/// The hash of each series by number: written under the creation lock, read by anyone without a lock.
///
/// The writer stores an entry (relaxed) and then raises `published` (release); a reader that sees the raised number
/// (acquire) sees the entry. An entry is changed later only to mark its series as idle, to remove it, and to give its
/// number to another. Its two halves change one after the other: a mixture of two states is no hash of any labels, but
/// for a chance of one in 2^63.
pub(crate) struct HashPages {
    chapters: Box<[OnceLock<Chapter>]>,
    published: AtomicU32,
}

impl HashPages {
    pub(crate) fn new() -> Self {
        let chapters = (0..FAN_OUT).map(|_| OnceLock::new()).collect();
        Self { chapters, published: AtomicU32::new(0) }
    }

    /// How many series there are.
    pub(crate) fn len(&self) -> u32 {
        self.published.load(Ordering::Acquire)
    }

    /// The hash of series `id`, if there is such a series.
    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<LabelsHash> {
        if id >= self.published.load(Ordering::Acquire) {
            return None;
        }
        let (page, slot) = (id as usize / PAGE_LEN, id as usize % PAGE_LEN);
        let words = &self.chapters.get(page / FAN_OUT)?.get()?.get(page % FAN_OUT)?.get()?.words;
        Some(LabelsHash {
            low: words.get(2 * slot)?.load(Ordering::Relaxed),
            high: words.get(2 * slot + 1)?.load(Ordering::Relaxed),
        })
    }

    /// The tag of series `id`, see [`LabelsHash::tag`]; 0 if there is no such series.
    #[inline]
    pub(crate) fn tag(&self, id: u32) -> u32 {
        self.get(id).map_or(0, LabelsHash::tag)
    }

    /// Replaces the hash of a number given before; the caller holds the creation lock.
    pub(crate) fn set(&self, id: u32, hash: LabelsHash) {
        let (page, slot) = (id as usize / PAGE_LEN, id as usize % PAGE_LEN);
        let chapter = self.chapters.get(page / FAN_OUT).and_then(OnceLock::get);
        let Some(page) = chapter.and_then(|c| c.get(page % FAN_OUT)).and_then(OnceLock::get) else { return };
        if let [low, high] = page.words.get(2 * slot..2 * slot + 2).unwrap_or_default() {
            low.store(hash.low, Ordering::Relaxed);
            high.store(hash.high, Ordering::Release);
        }
    }

    /// Appends one hash; the caller holds the creation lock. Answers the number it got, or nothing when 2^32 are given.
    pub(crate) fn push(&self, hash: LabelsHash) -> Option<u32> {
        let id = self.published.load(Ordering::Relaxed);
        let next = id.checked_add(1)?;
        let (page, slot) = (id as usize / PAGE_LEN, id as usize % PAGE_LEN);
        let chapter = self.chapters.get(page / FAN_OUT)?;
        let chapter = chapter.get_or_init(|| (0..FAN_OUT).map(|_| OnceLock::new()).collect());
        let page = chapter.get(page % FAN_OUT)?;
        let page =
            page.get_or_init(|| Page { words: (0..2 * PAGE_LEN).map(|_| AtomicU64::new(0)).collect() });
        page.words.get(2 * slot)?.store(hash.low, Ordering::Relaxed);
        page.words.get(2 * slot + 1)?.store(hash.high, Ordering::Relaxed);
        self.published.store(next, Ordering::Release);
        Some(id)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        (self.len() as usize).div_ceil(PAGE_LEN) * PAGE_LEN * 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_hash_and_halves_differ() {
        let (a, b) = (HashKey::from_seed([1, 2]), HashKey::from_seed([1, 2]));
        assert_eq!(a.hash(b"labels"), b.hash(b"labels"));
        assert_ne!(a.hash(b"labels"), HashKey::from_seed([1, 3]).hash(b"labels"));
        assert_ne!(a.hash(b"labels").low, a.hash(b"labels").high);
    }

    #[test]
    fn pushed_hashes_are_read_back_across_pages() {
        let pages = HashPages::new();
        let key = HashKey::from_seed([7, 8]);
        for i in 0..10_000u32 {
            assert_eq!(pages.get(i), None);
            assert_eq!(pages.push(key.hash(&i.to_le_bytes())), Some(i));
        }
        assert_eq!(pages.get(9_999), Some(key.hash(&9_999u32.to_le_bytes())));
        assert_eq!(pages.len(), 10_000);
    }
}
