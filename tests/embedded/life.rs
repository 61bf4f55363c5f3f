//! Opening, locking, closing, dropping, reading beside a writer.

use super::{count, fill, options};
use kymo::{Db, Durability, ErrorKind, Options};
use std::time::Duration;

#[test]
fn a_handle_may_go_anywhere() {
    fn sound<T: Clone + Send + Sync + 'static>() {}
    fn sendable<T: Send + 'static>() {}
    fn error<T: std::error::Error + Send + Sync + 'static>() {}
    sound::<Db>();
    sendable::<kymo::Appender>();
    sendable::<kymo::Ack>();
    sendable::<kymo::SeriesReader>();
    sendable::<kymo::Selection>();
    error::<kymo::Error>();
}

#[test]
fn a_folder_has_one_writer_and_the_error_says_who() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(folder.path(), options()).unwrap();
    let error = Db::open(folder.path(), options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = error.to_string();
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    assert!(text.contains(&folder.path().display().to_string()), "{text}");
    db.close().unwrap();
    Db::open(folder.path(), options()).unwrap();
}

#[test]
fn closing_ends_writes_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    for durability in [Durability::Sync, Durability::Interval(Duration::from_secs(1)), Durability::Os] {
        let db = Db::open(folder.path(), options().durability(durability)).unwrap();
        let (before, clone) = (count(&db, "m"), db.clone());
        let from = before as i64;
        fill(&db, "m", 1, from..from + 100);
        let mut late = clone.appender();
        let series = late.series(&super::labels("m", 0)).unwrap();
        late.append(series, 1_000_000, 1.0);
        db.close().unwrap();
        db.close().unwrap();
        assert_eq!(late.commit().unwrap().wait().unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(clone.flush().unwrap_err().kind(), ErrorKind::Unavailable);
        let db = Db::open(folder.path(), options()).unwrap();
        assert_eq!(count(&db, "m"), before + 100);
    }
}

#[test]
fn dropping_the_last_handle_gives_the_folder_up() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(folder.path(), options()).unwrap();
    fill(&db, "m", 3, 0..10);
    let appender = db.appender();
    drop(db);
    assert!(Db::open(folder.path(), options()).is_err(), "the appender holds it open");
    drop(appender);
    assert_eq!(count(&Db::open(folder.path(), options()).unwrap(), "m"), 30);
}

#[test]
fn a_reader_beside_a_writer_sees_what_was_committed_and_more_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("nothing");
    let error = Db::open_read_only(&missing, options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(!missing.exists());

    let lazy = options().durability(Durability::Os);
    let writer = Db::open(folder.path(), lazy).unwrap();
    fill(&writer, "m", 2, 0..50);
    let reader = Db::open_read_only(folder.path(), options()).unwrap();
    assert!(reader.is_read_only() && !writer.is_read_only());
    assert_eq!(count(&reader, "m"), 100);
    writer.flush().unwrap();
    fill(&writer, "m", 2, 50..60);
    assert_eq!(count(&reader, "m"), 100);
    reader.refresh().unwrap();
    assert_eq!(count(&reader, "m"), 120);
    assert_eq!(reader.instant("count(m)", 59).unwrap().single(), Some(2.0));

    let mut appender = reader.appender();
    assert_eq!(appender.series(&super::labels("m", 0)).unwrap_err().kind(), ErrorKind::Invalid);
    appender.metadata("m", kymo::Metadata::default());
    assert_eq!(appender.commit().unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(reader.delete(&[vec![]], kymo::TimeRange::ALL).unwrap_err().kind(), ErrorKind::Invalid);
    for refused in [reader.flush(), reader.sync(), reader.maintain(), reader.verify().map(drop)] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    }
    writer.close().unwrap();
    reader.refresh().unwrap();
    assert_eq!(count(&reader, "m"), 120);
}

#[test]
fn databases_in_memory_are_apart() {
    let (a, b) = (Db::in_memory().unwrap(), Db::in_memory().unwrap());
    fill(&a, "m", 1, 0..10);
    assert_eq!((count(&a, "m"), count(&b, "m")), (10, 0));
    a.flush().unwrap();
    assert_eq!(count(&a, "m"), 10, "blocks in memory");
    assert_eq!(a.snapshot("/nowhere").unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(Db::in_memory_with(Options::new().memory_bytes(1)).unwrap_err().kind(), ErrorKind::Invalid);
}
