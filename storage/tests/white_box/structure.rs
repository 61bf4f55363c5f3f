//! Whole pieces of a store that are gone, cut, blank, foreign, exchanged, old, or written to the wrong place.

use super::{
    Answers, HOUR, MemoryFs, NOW, answers, bytes_of, end_of_log, files, filled, filled_watched, image, judge,
    open, panics, percent, put, sampled, write,
};
use kymo_storage::env::Fs;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

const SECTOR: usize = 512;

fn is_block(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "block")
}

/// Where parts of a block begin and end, by its footer; of any other file a few places.
fn borders(path: &Path, bytes: &[u8]) -> Vec<usize> {
    let mut at = vec![0, 1, bytes.len() / 2, bytes.len().saturating_sub(1), bytes.len().saturating_sub(512)];
    if is_block(path) && bytes.len() > 100 {
        let end = bytes.len() - 16;
        let length = u32::from_le_bytes(bytes[end + 4..end + 8].try_into().unwrap()) as usize;
        for entry in bytes[end - length..end - 60].chunks_exact(24) {
            let field = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().unwrap()) as usize;
            at.extend([field(8), field(8) + field(16)]);
        }
        at.push(end - length);
    }
    let near = |at: usize| [at.saturating_sub(1), at, at + 1];
    let mut all: Vec<usize> = at.into_iter().flat_map(near).filter(|at| *at < bytes.len()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What is wrong, the store it is wrong in, and whether a crash would have left it like that.
type Case = (String, MemoryFs, bool);

fn without_zeros(bytes: &[u8]) -> &[u8] {
    bytes.get(..bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)).unwrap_or_default()
}

fn cases(fs: &MemoryFs) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let all: Vec<PathBuf> = files(fs).into_iter().filter(|path| !path.ends_with("LOCK")).collect();
    let newest = end_of_log(fs).0;
    for path in &all {
        let bytes = bytes_of(fs, path);
        let mut with = |what: String, changed: &[u8]| {
            let damaged = image(fs);
            put(&damaged, path, changed);
            let is_torn = *path == newest && bytes.starts_with(without_zeros(changed));
            cases.push((format!("{}: {what}", path.display()), damaged, is_torn));
        };
        for at in borders(path, &bytes) {
            with(format!("cut at {at}"), &bytes[..at]);
        }
        for blank in [1, SECTOR, bytes.len() / 2, bytes.len()] {
            let mut changed = bytes.clone();
            let from = bytes.len().saturating_sub(blank);
            changed[from..].fill(0);
            with(format!("blank from {from} on"), &changed);
        }
        with("foreign".to_owned(), b"\x89PNG\r\n\x1a\n and nothing of ours");
        with("longer than it was".to_owned(), &[&*bytes, b"more"].concat());
        let damaged = image(fs);
        damaged.remove(path).unwrap();
        cases.push((format!("{}: missing", path.display()), damaged, *path == newest));
        let damaged = image(fs);
        damaged.remove(path).unwrap();
        damaged.create_dir_all(path).unwrap();
        cases.push((format!("{}: a folder", path.display()), damaged, false));
        let twins = all
            .iter()
            .filter(|p| *p > path && p.parent() == path.parent() && p.extension() == path.extension());
        for twin in twins {
            let damaged = image(fs);
            put(&damaged, path, &bytes_of(fs, twin));
            put(&damaged, twin, &bytes);
            cases.push((format!("{} and {} exchanged", path.display(), twin.display()), damaged, false));
        }
    }
    cases
}

#[test]
fn structural_damage_is_stepped_around() {
    let before = panics().load(Ordering::SeqCst);
    let (fs, expected) = filled(40, 20);
    let all = cases(&fs);
    let mut tried = 0;
    for number in sampled(all.len()) {
        let (what, damaged, is_torn) = &all[number];
        let verdict =
            judge(damaged, &expected).unwrap_or_else(|e| panic!("{what}: the start is refused: {e}"));
        assert!(!verdict.is_silent() || (*is_torn && verdict.invented == 0), "{what}: {verdict:?}");
        tried += 1;
    }
    let panics = panics().load(Ordering::SeqCst) - before;
    println!("damage cases={tried} silent=0 panics={panics} refused=0");
    assert_eq!(panics, 0);
}

/// A store, and every manifest it ever had.
fn with_history() -> (MemoryFs, Answers, Vec<Vec<u8>>) {
    let fs = MemoryFs::new();
    let store = open(&fs);
    let path = Path::new("/data/MANIFEST");
    let mut manifests = Vec::new();
    for round in 0..5 {
        for step in 0..4 {
            write(&store, 10, NOW - HOUR + (round * 4 + step) * 1000).unwrap();
        }
        store.flush().unwrap();
        manifests.push(bytes_of(&fs, path));
        if round == 3 {
            store.compact_all().unwrap();
            manifests.push(bytes_of(&fs, path));
        }
    }
    write(&store, 10, NOW).unwrap();
    let (expected, _) = answers(&store);
    store.close().unwrap();
    drop(store);
    fs.settle();
    (fs, expected, manifests)
}

/// Lost, torn, or older than the blocks: it is made again from what the blocks say of themselves.
#[test]
fn a_manifest_can_be_done_without() {
    let (fs, expected, manifests) = with_history();
    let path = Path::new("/data/MANIFEST");
    let whole = bytes_of(&fs, path);
    let mut versions: Vec<(String, Option<Vec<u8>>)> = vec![("lost".to_owned(), None)];
    versions.extend(sampled(whole.len()).map(|at| (format!("cut at {at}"), Some(whole[..at].to_vec()))));
    versions.extend((SECTOR..whole.len()).step_by(SECTOR).map(|at| {
        let mut torn = whole.clone();
        torn[at..].fill(0);
        (format!("torn at {at}"), Some(torn))
    }));
    let older = manifests.into_iter().filter(|m| *m != whole).enumerate();
    versions.extend(older.map(|(number, bytes)| (format!("the older copy {number}"), Some(bytes))));
    for (what, bytes) in &versions {
        let damaged = image(&fs);
        match bytes {
            Some(bytes) => put(&damaged, path, bytes),
            None => damaged.remove(path).unwrap(),
        }
        let store = open(&damaged);
        let (found, warned) = answers(&store);
        assert!(found == expected && !warned, "{what}: {} series of {}", found.len(), expected.len());
    }
    println!("manifest cases={} equal=all", versions.len());
}

/// What was where files are now: earlier versions of each, and of a segment of the log that was used before its earlier life.
#[derive(Default)]
struct Past {
    last: BTreeMap<PathBuf, Vec<u8>>,
    versions: BTreeMap<PathBuf, Vec<Vec<u8>>>,
}

impl Past {
    fn watch(&mut self, fs: &MemoryFs) {
        let now: BTreeMap<PathBuf, Vec<u8>> =
            files(fs).into_iter().map(|path| (path.clone(), bytes_of(fs, &path))).collect();
        let is_segment = |path: &Path| path.parent() == Some(Path::new("/data/wal"));
        // A segment that is used again has a new name: where one came and another went, it is the other's file.
        let mut gone = self.last.iter().filter(|(path, _)| is_segment(path) && !now.contains_key(*path));
        for (path, bytes) in &now {
            let before = match self.last.get(path) {
                None if is_segment(path) => gone.next().map(|(_, bytes)| bytes),
                same_name => same_name,
            };
            if let Some(before) = before.filter(|before| *before != bytes) {
                self.versions.entry(path.clone()).or_default().push(before.clone());
            }
        }
        self.last = now;
    }
}

/// Why a sector holds what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong<'p> {
    /// Lost: the disk had never been written there.
    Blank,
    /// Lost: the earlier version of this number.
    Old(usize),
    /// Misdirected: the sector of another file of the kind.
    Of(&'p Path),
}

impl Wrong<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::Blank => "blank",
            Self::Old(_) => "old",
            Self::Of(_) => "foreign",
        }
    }
}

/// How many cases of a kind were tried, and of how many something was said.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    tried: usize,
    told: usize,
}

/// All sectors of all files with all that may be wrong with them.
fn wrong_sectors<'p>(fs: &MemoryFs, all: &'p [PathBuf], past: &Past) -> Vec<(&'p Path, usize, Wrong<'p>)> {
    let mut changes = Vec::new();
    for path in all {
        let len = bytes_of(fs, path).len();
        let is_twin =
            |p: &&PathBuf| *p != path && p.parent() == path.parent() && p.extension() == path.extension();
        let twin = all.iter().rfind(is_twin);
        let versions = past.versions.get(path).map_or(0, Vec::len);
        for at in (0..len).step_by(SECTOR) {
            let wrong = [Wrong::Blank].into_iter().chain(twin.map(|twin| Wrong::Of(twin)));
            changes
                .extend(wrong.chain((0..versions).map(Wrong::Old)).map(|wrong| (path.as_path(), at, wrong)));
        }
    }
    changes
}

/// Sectors that hold what belongs elsewhere, or what was there before.
#[test]
fn misdirected_and_lost_writes_are_seen() {
    let mut past = Past::default();
    let (fs, expected) = filled_watched(60, 30, |fs| past.watch(fs));
    past.watch(&fs);
    let all: Vec<PathBuf> = files(&fs).into_iter().filter(|path| !path.ends_with("LOCK")).collect();
    let changes = wrong_sectors(&fs, &all, &past);
    let newest = end_of_log(&fs);
    let (mut counts, mut harmless) = (BTreeMap::<&str, Count>::new(), 0);
    let mut old = BTreeMap::<String, usize>::new();
    for number in sampled(changes.len()) {
        let (path, at, wrong) = changes[number];
        let mut bytes = bytes_of(&fs, path);
        let before = bytes.clone();
        let end = (at + SECTOR).min(bytes.len());
        // Of a file that is shorter the rest of its last sector is blank.
        let fill = |other: &[u8], beyond: u8| {
            let there = other.get(at..end.min(other.len())).unwrap_or_default();
            (0..end - at).map(|i| there.get(i).copied().unwrap_or(beyond)).collect()
        };
        let sector: Vec<u8> = match wrong {
            Wrong::Blank => vec![0; end - at],
            Wrong::Old(number) => fill(&past.versions[path][number], 0),
            Wrong::Of(twin) => fill(&bytes_of(&fs, twin), 0xaa),
        };
        bytes[at..end].copy_from_slice(&sector);
        if bytes == before {
            continue;
        }
        let damaged = image(&fs);
        put(&damaged, path, &bytes);
        let verdict = judge(&damaged, &expected)
            .unwrap_or_else(|e| panic!("sector {at} of {}: the start is refused: {e}", path.display()));
        let is_torn = *path == newest.0 && end >= newest.1 && verdict.invented == 0;
        let place = (path.display(), at, wrong);
        assert!(!verdict.is_silent() || is_torn, "{place:?}: {verdict:?}; the log ends in {newest:?}");
        let count = counts.entry(wrong.name()).or_default();
        count.tried += 1;
        count.told += usize::from(verdict.told);
        harmless += usize::from(!verdict.told && verdict.missing + verdict.revived == 0);
        if let Wrong::Old(_) = wrong {
            let folder = path.parent().and_then(Path::file_name).filter(|folder| *folder != "data");
            let kind = folder.or(path.file_name()).unwrap_or_default();
            *old.entry(kind.to_string_lossy().into_owned()).or_default() += 1;
        }
    }
    let sum = |of: fn(&Count) -> usize| counts.values().map(of).sum::<usize>();
    let (tried, told) = (sum(|count| count.tried), sum(|count| count.told));
    let kinds: Vec<String> =
        counts.iter().map(|(name, c)| format!("{name}={}/{}", c.told, c.tried)).collect();
    // What nobody is told of changed no answer: a manifest that is made again from the blocks, a checkpoint before the live one, what is
    // behind the end of the log. Or it is a request at the end of the log, which nobody can tell from one that was under way.
    println!(
        "misdirect cases={tried} told={told} harmless={harmless} end_of_log={} silent=0 (told/tried {}) old_of={old:?}",
        tried - told - harmless,
        kinds.join(" ")
    );
    assert!(
        percent() < 100 || ["wal", "MANIFEST", "TOMBSTONES"].iter().all(|kind| old.contains_key(*kind)),
        "{old:?}"
    );
}
