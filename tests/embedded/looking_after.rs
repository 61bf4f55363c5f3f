//! Deletes, snapshots, verification, maintenance, blocks of Prometheus, numbers.

use super::{count, fill, labels, options};
use kymo::{Db, ErrorKind, Health, Maintenance, SimClock, TimeRange, parse_selector, verify_path};
use std::time::Duration;

#[test]
fn what_is_deleted_stays_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(folder.path(), options()).unwrap();
    fill(&db, "m", 4, 0..100);
    let one = [parse_selector("m{i=\"1\"}").unwrap()];
    assert_eq!(db.delete(&[], TimeRange::ALL).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(db.delete(&one, TimeRange::new(0, 50)).unwrap().series, 1);
    assert_eq!(count(&db, "m"), 350);
    db.reclaim().unwrap();
    assert_eq!((count(&db, "m"), db.stats().store.tombstones), (350, 0));
    db.close().unwrap();
    let db = Db::open(folder.path(), options()).unwrap();
    assert_eq!(count(&db, "m"), 350);
    fill(&db, "m", 2, 0..50);
    assert_eq!(count(&db, "m"), 400, "what was deleted may be written again");
}

#[test]
fn a_snapshot_is_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(folder.path().join("data"), options()).unwrap();
    fill(&db, "m", 2, 0..100);
    let snapshot = db.snapshot(folder.path().join("snapshots")).unwrap();
    fill(&db, "m", 2, 100..200);
    let copy = Db::open(&snapshot, options()).unwrap();
    assert_eq!((count(&copy, "m"), count(&db, "m")), (200, 400));
}

#[test]
fn verify_reads_everything_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(folder.path(), options()).unwrap();
    fill(&db, "m", 5, 0..1_000);
    let report = db.verify().unwrap();
    assert!(report.is_whole(), "{:?}", report.findings);
    assert_eq!((report.block_samples, report.series), (5_000, 5));
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name != "verify"), "{names:?}");
    let memory = Db::in_memory().unwrap();
    fill(&memory, "m", 5, 0..1_000);
    assert!(memory.verify().unwrap().is_whole() && memory.verify().unwrap().block_samples == 5_000);

    // A flipped bit in a block is found, while the database is open and when it is closed.
    let block = std::fs::read_dir(folder.path().join("blocks")).unwrap().next().unwrap().unwrap().path();
    let size = block.metadata().unwrap().len();
    flip(&block, size / 2);
    let report = db.verify().unwrap();
    assert!(!report.is_whole() && report.findings[0].file == block, "{:?}", report.findings);
    db.close().unwrap();
    assert!(!verify_path(folder.path()).unwrap().is_whole());
    assert_eq!(verify_path(folder.path().join("no")).unwrap_err().kind(), ErrorKind::NotFound);
}

fn flip(path: &std::path::Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

#[test]
fn by_hand_nothing_happens_by_itself() {
    let clock = SimClock::new(10_000_000_000);
    let options = options().retention(Some(Duration::from_secs(3_600))).clock(clock.clone());
    let db = Db::in_memory_with(options.maintenance(Maintenance::Manual)).unwrap();
    let start = 10_000_000_000;
    fill(&db, "m", 1, (0..60).map(|i| start + i * 1_000));
    db.flush().unwrap();
    assert_eq!(db.stats().store.blocks, 1);
    clock.advance(Duration::from_secs(2 * 3_600));
    fill(&db, "m", 1, [start + 2 * 3_600_000].into_iter());
    assert_eq!(count(&db, "m"), 1, "what is too old is not shown");
    assert_eq!(db.stats().store.blocks, 1, "but it is still there");
    db.maintain().unwrap();
    assert_eq!((db.stats().store.blocks, db.stats().store.blocks_dropped), (0, 1));
    for at in 0..10 {
        fill(&db, "m", 1, [start + 2 * 3_600_000 + 1_000 * (at + 1)].into_iter());
        db.flush().unwrap();
    }
    assert_eq!(db.stats().store.blocks, 10);
    db.maintain().unwrap();
    assert!(db.stats().store.blocks < 10 && count(&db, "m") == 11);
}

#[test]
fn blocks_go_out_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::in_memory().unwrap();
    fill(&db, "m", 10, (0..500).map(|i| i * 30_000));
    let report = db.export_blocks(folder.path(), TimeRange::ALL).unwrap();
    assert_eq!((report.blocks.len(), report.samples()), (3, 5_000));
    assert!(report.blocks.iter().all(|block| block.series == 10));
    let other = Db::in_memory().unwrap();
    let mut seen = Vec::new();
    let imported =
        other.import_blocks_watched(folder.path(), |at| seen.push((at.series, at.series_total))).unwrap();
    assert_eq!((imported.blocks, imported.samples, imported.refused_total), (3, 5_000, 0));
    assert_eq!((seen.first(), seen.last()), (Some(&(0, 30)), Some(&(30, 30))));
    assert_eq!(count(&other, "m"), 5_000);
    let again = other.import_blocks(folder.path()).unwrap();
    assert_eq!((again.samples, again.known), (0, 5_000));
    let nothing = tempfile::tempdir().unwrap();
    assert_eq!(other.import_blocks(nothing.path()).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(other.instant("sum(m)", 60_000).unwrap().single(), Some(600_000.0));
}

#[test]
fn numbers_are_told() {
    let db = Db::in_memory().unwrap();
    fill(&db, "m", 3, 0..10);
    let mut appender = db.appender();
    let series = appender.series(&labels("m", 0)).unwrap();
    appender.append(series, 9, 99.0);
    assert_eq!(appender.commit().unwrap().wait().unwrap().refused_total, 1);
    let stats = db.stats();
    assert_eq!((stats.store.samples_accepted, stats.store.samples_refused), (30, 1));
    assert_eq!((stats.store.series, stats.store.head_samples), (3, 30));
    assert_eq!((stats.waiting_bytes, stats.health), (0, Health::Ok));
}
