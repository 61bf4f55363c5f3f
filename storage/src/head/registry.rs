//! The registry: labels to series numbers and back. Hot path.
//!
//! Numbers are dense and given in order of first arrival. Senders keep their order, so the next series is nearly always
//! `previous + 1`, and that guess costs one comparison of published hashes and no lock. The number of a series that
//! stopped is given again, long after nothing refers to it any more: see `head/retire.rs`.

use super::catalog::Catalog;
use super::hash::{HashKey, HashPages, LabelsHash};
use super::membership::KnownLists;
use super::refusal::Refusal;
use super::retired::{Pin, Retired};
use crate::error::ErrorKind;
use crate::model::{Labels, METRIC_NAME, SeriesRef};
use crate::options::Limits;
use crate::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use hashbrown::{HashMap, HashTable};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

const SHARDS: usize = 64;
/// Memory is measured again after so many new series.
const MEASURED_EVERY: u32 = 4096;
/// What a series not measured yet is believed to take: more than most do.
const SERIES_BYTES_BELIEVED: usize = 512;

/// The labels of all series known, shared by all who write and read.
pub(crate) struct Registry {
    key: HashKey,
    limits: Limits,
    pub(super) hashes: HashPages,
    /// Series by the hash of their canonical labels.
    pub(super) shards: Vec<RwLock<HashTable<u32>>>,
    /// Series by the hash of bytes that were not canonical when a sender sent them.
    pub(super) aliases: Vec<RwLock<HashMap<LabelsHash, u32>>>,
    pub(super) catalog: RwLock<Catalog>,
    /// Numbers without labels.
    pub(super) unnamed: AtomicU32,
    /// How often a number was given.
    created: AtomicU32,
    /// The memory of labels when it was measured last, and how many numbers had been given by then.
    measured: AtomicUsize,
    measured_at: AtomicU32,
    /// Series on their way out, and numbers to be given again. Locked after `creation` and `catalog`.
    pub(super) retired: Mutex<Retired>,
    /// What new batches and views of the store hold.
    pub(super) pin: Mutex<Pin>,
    /// How often series became unknown.
    pub(super) era: AtomicU64,
    /// Held for reading while a block remembers the number of a series, for writing while numbers become unknown.
    pub(super) identities: RwLock<()>,
    /// Names and values that were listed.
    pub(crate) lists: KnownLists,
    /// Held while a series is created; `catalog` is then locked for writing only for the moment of the change.
    creation: Mutex<()>,
}

/// Where a sender is in the sequence of series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position(u32);

impl Default for Position {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Registry {
    pub(crate) fn new(key: HashKey, limits: Limits) -> Self {
        Self {
            key,
            limits,
            hashes: HashPages::new(),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            aliases: (0..SHARDS).map(|_| RwLock::default()).collect(),
            catalog: RwLock::default(),
            unnamed: AtomicU32::new(0),
            created: AtomicU32::new(0),
            retired: Mutex::default(),
            pin: Mutex::default(),
            era: AtomicU64::new(0),
            identities: RwLock::new(()),
            measured: AtomicUsize::new(0),
            measured_at: AtomicU32::new(0),
            lists: KnownLists::default(),
            creation: Mutex::new(()),
        }
    }

    /// A registry from what a checkpoint holds: the hash of each series of `catalog`. Nothing if they are not as many.
    pub(crate) fn from_parts(
        key: HashKey,
        limits: Limits,
        mut catalog: Catalog,
        hashes: impl Iterator<Item = LabelsHash>,
    ) -> Option<Self> {
        let registry = Self::new(key, limits);
        let mut unknown = Vec::new();
        for (id, hash) in hashes.enumerate() {
            let id = u32::try_from(id).ok()?;
            if catalog.is_placeholder(id) || hash == LabelsHash::NONE {
                registry.hashes.push(LabelsHash::NONE)?;
                registry.unnamed.fetch_add(1, Ordering::Relaxed);
                unknown.push(id);
            } else {
                registry.publish(hash.plain())?;
            }
        }
        // Labels without a hash are those of a series that was unknown and had not been removed: they may be known under
        // another number. Or the number was given just when the checkpoint was written: then the log says so.
        catalog.remove(&unknown);
        let is_whole = registry.len() == catalog.len();
        *registry.catalog.write() = catalog;
        is_whole.then_some(registry)
    }

    /// Gives numbers without labels until `count` are given, so that numbers an earlier log used stand for nothing else.
    pub(crate) fn reserve_numbers(&self, count: u32) {
        let mut catalog = self.catalog.write();
        while self.len() < count {
            catalog.push_placeholder();
            self.unnamed.fetch_add(1, Ordering::Relaxed);
            if self.hashes.push(LabelsHash::NONE).is_none() {
                return;
            }
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn key(&self) -> &HashKey {
        &self.key
    }

    /// One more than the highest number ever given.
    pub(crate) fn len(&self) -> u32 {
        self.hashes.len()
    }

    /// How many series there are.
    pub(crate) fn series_count(&self) -> u32 {
        self.len().saturating_sub(self.unnamed.load(Ordering::Relaxed))
    }

    /// Whether there are as many series as may be.
    pub(crate) fn is_at_limit(&self) -> bool {
        self.series_count() >= self.limits.series
    }

    /// The labels of all series, for reading. Creating series waits while this is held.
    pub(crate) fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read()
    }

    pub(crate) fn catalog_mut(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.catalog.write()
    }

    /// The series of the labels `bytes` encode (protobuf, as remote write sends them), created if need be.
    ///
    /// # Errors
    /// The labels are malformed or exceed a limit.
    #[inline]
    pub(crate) fn resolve(
        &self,
        bytes: &[u8],
        position: &mut Position,
    ) -> std::result::Result<SeriesRef, Refusal> {
        let hash = self.key.hash(bytes);
        let next = position.0.wrapping_add(1);
        if self.hashes.get(next) == Some(hash) {
            position.0 = next;
            return Ok(SeriesRef { number: next, tag: hash.tag() });
        }
        let id = self.find_or_create(bytes, hash)?;
        position.0 = id;
        Ok(SeriesRef { number: id, tag: self.hash_of(id).map_or(0, LabelsHash::tag) })
    }

    /// The number of a series that this registry gave, now or for an earlier batch; `u32::MAX`, which no series has, if it is
    /// not known any more.
    #[inline]
    pub(crate) fn number_of(&self, series: SeriesRef) -> u32 {
        if self.hashes.tag(series.number) == series.tag { series.number } else { self.wake_ref(series) }
    }

    #[inline(never)]
    fn find_or_create(&self, bytes: &[u8], hash: LabelsHash) -> std::result::Result<u32, Refusal> {
        if let Some(id) = self.find_awake(hash) {
            return Ok(id);
        }
        let alias = self.aliases.get(shard_of(hash)).and_then(|shard| shard.read().get(&hash).copied());
        if let Some(id) = alias.filter(|id| self.hashes.get(*id).is_some_and(|h| self.wake(*id, h.plain()))) {
            return Ok(id);
        }
        let labels = Labels::from_wire(bytes)
            .map_err(|e| Refusal::of_series(ErrorKind::Invalid, Labels::empty(), e.to_string()))?;
        if labels.as_bytes() == bytes {
            return self.create(&labels, hash);
        }
        let canonical = self.key.hash(labels.as_bytes());
        let id = match self.find_awake(canonical) {
            Some(id) => id,
            None => self.create(&labels, canonical)?,
        };
        self.remember_alias(hash, id);
        Ok(id)
    }

    /// The series with this hash, idle or not.
    fn find_hash(&self, hash: LabelsHash) -> Option<u32> {
        let shard = self.shards.get(shard_of(hash))?.read();
        shard.find(hash.low, |id| self.hashes.get(*id).map(LabelsHash::plain) == Some(hash)).copied()
    }

    /// The series with this hash, for one who is about to write to it.
    fn find_awake(&self, hash: LabelsHash) -> Option<u32> {
        self.find_hash(hash).filter(|id| self.wake(*id, hash))
    }

    /// Senders that do not sort get a second entry per series. One that sends every order there is gains nothing:
    /// a shard with more aliases than there are series starts again.
    fn remember_alias(&self, hash: LabelsHash, id: u32) {
        if let Some(shard) = self.aliases.get(shard_of(hash)) {
            let mut shard = shard.write();
            if shard.len() > 1024 + 2 * self.len() as usize / SHARDS {
                shard.clear();
            }
            shard.insert(hash, id);
        }
    }

    #[cold]
    fn create(&self, labels: &Labels, hash: LabelsHash) -> std::result::Result<u32, Refusal> {
        let refuse = |kind, reason| Err(Refusal::of_series(kind, labels.clone(), reason));
        if let Err((kind, reason)) = check_labels(labels, &self.limits) {
            return refuse(kind, reason);
        }
        let _creating = self.creation.lock();
        if let Some(id) = self.find_awake(hash) {
            return match self.catalog.read().compare_labels(id, labels) {
                std::cmp::Ordering::Equal => Ok(id),
                _ => refuse(ErrorKind::Internal, "another series has the same 128-bit hash".to_owned()),
            };
        }
        if self.is_at_limit() {
            let reason = format!("the store already has {} series, the limit", self.limits.series);
            return refuse(ErrorKind::LimitExceeded, reason);
        }
        if let Some(bytes) = self.is_full() {
            let limit = self.limits.registry_bytes;
            let reason = format!(
                "the labels of {} series take {bytes} bytes of memory, the limit is {limit} (half of the memory budget)",
                self.series_count()
            );
            return refuse(ErrorKind::LimitExceeded, reason);
        }
        let again = self.retired.lock().take_number();
        let id = again.unwrap_or_else(|| self.len());
        if !self.catalog.write().put(id, labels) {
            if let Some(id) = again {
                self.retired.lock().give_back(id);
            }
            let reason = "label names and values take more than 4 GiB".to_owned();
            return refuse(ErrorKind::LimitExceeded, reason);
        }
        let published = match again {
            Some(id) => self.publish_again(id, hash),
            None => self.publish(hash),
        };
        match published {
            Some(id) => Ok(id),
            None => refuse(ErrorKind::LimitExceeded, "all series numbers are given".to_owned()),
        }
    }

    /// What labels take, if that is all they may: then no series is created. Whoever holds the lock of the catalog must not
    /// ask.
    pub(crate) fn is_full(&self) -> Option<usize> {
        if self.limits.registry_bytes == usize::MAX {
            return None;
        }
        let bytes = self.believed_bytes();
        (bytes >= self.limits.registry_bytes).then_some(bytes)
    }

    /// What labels take, measured now and then. Whoever holds the lock of the catalog must not ask.
    pub(crate) fn believed_bytes(&self) -> usize {
        let created = self.created.load(Ordering::Relaxed);
        let new = created.saturating_sub(self.measured_at.load(Ordering::Relaxed));
        if new < MEASURED_EVERY {
            let believed = new as usize * SERIES_BYTES_BELIEVED;
            return self.measured.load(Ordering::Relaxed).saturating_add(believed);
        }
        let bytes = self.memory_bytes();
        self.measured.store(bytes, Ordering::Relaxed);
        self.measured_at.store(created, Ordering::Relaxed);
        bytes
    }

    /// Has the memory of labels measured at the next occasion.
    pub(super) fn measure_soon(&self) {
        let created = self.created.load(Ordering::Relaxed);
        self.measured_at.store(created.saturating_sub(MEASURED_EVERY), Ordering::Relaxed);
    }

    /// Makes the series last pushed to the catalog visible to those who resolve. The caller holds the creation lock or
    /// is alone.
    fn publish(&self, hash: LabelsHash) -> Option<u32> {
        let id = self.hashes.push(hash)?;
        self.insert_hash(id, hash)?;
        Some(id)
    }

    /// As [`Registry::publish`], for a number that was given before.
    fn publish_again(&self, id: u32, hash: LabelsHash) -> Option<u32> {
        // The commit thread must know of it before any batch names it.
        self.retired.lock().note_given(id);
        self.hashes.set(id, hash);
        self.insert_hash(id, hash)?;
        self.unnamed.fetch_sub(1, Ordering::Relaxed);
        Some(id)
    }

    fn insert_hash(&self, id: u32, hash: LabelsHash) -> Option<()> {
        let mut shard = self.shards.get(shard_of(hash))?.write();
        let hashes = &self.hashes;
        shard.insert_unique(hash.low, id, |id| hashes.get(*id).map_or(0, |h| h.low));
        self.created.fetch_add(1, Ordering::Relaxed);
        Some(())
    }

    /// Puts the series `labels` at the number `id`, as a log or checkpoint says; numbers left out in between stay
    /// without labels. Only for a registry that nobody else uses yet. Answers the number that stands for `labels` now: another
    /// one if the series was known before under that, stopped, came back, and the process ended before a checkpoint said so. Nothing
    /// if the number is that of another series.
    pub(crate) fn restore(&self, id: u32, labels: &Labels, hash: Option<LabelsHash>) -> Option<u32> {
        let hash = hash.unwrap_or_else(|| self.key.hash(labels.as_bytes()));
        if let Some(known) = self.find_hash(hash) {
            let is_same = self.catalog.read().compare_labels(known, labels).is_eq();
            return is_same.then_some(known);
        }
        if id >= self.len() {
            self.reserve_numbers(id);
            let is_next = self.len() == id && self.catalog.write().put(id, labels);
            return if is_next { self.publish(hash) } else { None };
        }
        if !self.is_unnamed(id) || !self.catalog.write().put(id, labels) {
            return None;
        }
        self.hashes.set(id, hash);
        self.insert_hash(id, hash)?;
        self.unnamed.fetch_sub(1, Ordering::Relaxed);
        Some(id)
    }

    /// The number of the series with `labels`, if it has one.
    pub(crate) fn find(&self, labels: &Labels) -> Option<u32> {
        self.find_hash(self.key.hash(labels.as_bytes()))
    }

    /// As [`Registry::find`]; what the caller notes of it meanwhile by `keep` is taken back when the number becomes unknown.
    pub(crate) fn find_and_keep(&self, labels: &Labels, keep: impl FnOnce(u32)) -> Option<u32> {
        let _known = self.identities.read();
        let found = self.find(labels);
        found.inspect(|id| keep(*id))
    }

    /// Whether every number given has labels.
    pub(crate) fn is_whole(&self) -> bool {
        self.unnamed.load(Ordering::Relaxed) == 0
    }

    /// Whether `id` is not a series, or one whose labels are lost.
    pub(crate) fn is_unnamed(&self, id: u32) -> bool {
        self.hashes.get(id).is_none_or(|hash| hash == LabelsHash::NONE)
    }

    /// The hash of series `id`.
    pub(crate) fn hash_of(&self, id: u32) -> Option<LabelsHash> {
        self.hashes.get(id).map(LabelsHash::plain)
    }

    /// The labels of `id`.
    pub(crate) fn labels(&self, id: u32) -> Labels {
        self.catalog.read().labels(id)
    }

    /// Bytes of memory held.
    pub(crate) fn memory_bytes(&self) -> usize {
        let catalog = self.catalog.read().memory();
        let tables: usize = self.shards.iter().map(|s| s.read().capacity() * 6).sum();
        let aliases: usize = self.aliases.iter().map(|s| s.read().capacity() * 28).sum();
        catalog.symbols
            + catalog.records
            + catalog.index
            + self.hashes.memory_bytes()
            + tables
            + aliases
            + self.retired.lock().memory_bytes()
    }
}

pub(super) fn shard_of(hash: LabelsHash) -> usize {
    (hash.high >> 32) as usize % SHARDS
}

/// Whether a new series may have these labels.
fn check_labels(labels: &Labels, limits: &Limits) -> std::result::Result<(), (ErrorKind, String)> {
    let mut count = 0;
    for (name, value) in labels.iter() {
        count += 1;
        if name.len() > limits.label_name_bytes {
            let reason =
                format!("a label name has {} bytes, the limit is {}", name.len(), limits.label_name_bytes);
            return Err((ErrorKind::LimitExceeded, reason));
        }
        if value.len() > limits.label_value_bytes {
            let reason = format!(
                "the value of label {name:?} has {} bytes, the limit is {}",
                value.len(),
                limits.label_value_bytes
            );
            return Err((ErrorKind::LimitExceeded, reason));
        }
    }
    if count > limits.labels_per_series {
        let reason = format!("{count} labels, the limit is {}", limits.labels_per_series);
        return Err((ErrorKind::LimitExceeded, reason));
    }
    if labels.metric_name().is_empty() {
        return Err((ErrorKind::Invalid, format!("label {METRIC_NAME:?} is missing")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        Registry::new(HashKey::from_seed([1, 2]), Limits { series: 5000, ..Limits::default() })
    }

    fn number(registry: &Registry, bytes: &[u8], position: &mut Position) -> u32 {
        registry.resolve(bytes, position).unwrap().number
    }

    fn labels(i: u32) -> Labels {
        Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
    }

    #[test]
    fn series_are_numbered_by_arrival_and_found_again() {
        let registry = registry();
        for _ in 0..2 {
            let mut position = Position::default();
            for i in 0..1000 {
                assert_eq!(number(&registry, labels(i).as_bytes(), &mut position), i);
            }
        }
        let mut position = Position::default();
        assert_eq!(number(&registry, labels(700).as_bytes(), &mut position), 700);
        assert_eq!(registry.labels(700), labels(700));
    }

    #[test]
    fn unsorted_labels_are_the_same_series() {
        let registry = registry();
        let mut position = Position::default();
        let mut unsorted = Vec::new();
        Labels::encode_pair(&mut unsorted, b"z", b"1");
        Labels::encode_pair(&mut unsorted, b"__name__", b"m");
        let sorted = Labels::from_pairs([("__name__", "m"), ("z", "1")]);
        for _ in 0..3 {
            assert_eq!(number(&registry, &unsorted, &mut position), 0);
            assert_eq!(number(&registry, sorted.as_bytes(), &mut position), 0);
        }
        assert_eq!(registry.len(), 1);
    }

    #[test]
    fn refusals_name_the_limit() {
        let registry = registry();
        let many: Vec<(String, &str)> = (0..70).map(|i| (format!("l{i}"), "x")).collect();
        let long = "v".repeat(5000);
        let cases = [
            (Labels::from_pairs([("job", "x")]), ErrorKind::Invalid, "__name__"),
            (Labels::from_pairs(many), ErrorKind::LimitExceeded, "70 labels"),
            (Labels::from_pairs([("__name__", long.as_str())]), ErrorKind::LimitExceeded, "5000 bytes"),
            (
                Labels::from_pairs([("__name__", "m"), (&"n".repeat(300), "v")]),
                ErrorKind::LimitExceeded,
                "300 bytes",
            ),
        ];
        for (labels, kind, word) in cases {
            let refusal = registry.resolve(labels.as_bytes(), &mut Position::default()).unwrap_err();
            assert_eq!(refusal.kind, kind);
            assert!(refusal.reason.contains(word), "{}", refusal.reason);
        }
        assert_eq!(
            registry.resolve(b"\x0a\xff", &mut Position::default()).unwrap_err().kind,
            ErrorKind::Invalid
        );
        for i in 0..5000 {
            registry.resolve(labels(i).as_bytes(), &mut Position::default()).unwrap();
        }
        let refusal = registry.resolve(labels(5000).as_bytes(), &mut Position::default()).unwrap_err();
        assert_eq!(refusal.kind, ErrorKind::LimitExceeded);
    }

    #[test]
    fn threads_that_create_the_same_series_agree() {
        let registry = registry();
        let resolve_all = || -> Vec<u32> {
            let mut position = Position::default();
            (0..2000).map(|i| registry.resolve(labels(i).as_bytes(), &mut position).unwrap().number).collect()
        };
        let all: Vec<Vec<u32>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(resolve_all)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(all.windows(2).all(|w| w[0] == w[1]));
        assert_eq!(registry.len(), 2000);
        for (i, id) in all[0].iter().enumerate() {
            assert_eq!(registry.labels(*id), labels(i as u32));
        }
    }

    #[test]
    fn restored_numbers_leave_gaps_without_labels() {
        let registry = registry();
        for _ in 0..2 {
            assert_eq!(registry.restore(3, &labels(3), None), Some(3));
            assert_eq!(registry.restore(3, &labels(4), None), None);
        }
        assert_eq!(registry.restore(4, &labels(3), None), Some(3), "a series has one number");
        assert_eq!(number(&registry, labels(3).as_bytes(), &mut Position::default()), 3);
        assert_eq!(number(&registry, labels(9).as_bytes(), &mut Position::default()), 4);
        assert!(registry.labels(1).is_empty());
        assert_eq!(registry.restore(1, &labels(1), None), Some(1));
        assert_eq!((registry.labels(1), registry.len(), registry.series_count()), (labels(1), 5, 3));
        assert_eq!(number(&registry, labels(1).as_bytes(), &mut Position::default()), 1);
    }
}
