//! The memory of a database, and of series that come and go.

use super::{count, fill, labels, options};
use kymo::{Db, Durability, ErrorKind, Maintenance, Options, SimClock, TimeRange, parse_selector};
use std::time::Duration;

const HOUR_MS: i64 = 3_600_000;

#[test]
fn a_handle_held_across_the_removal_of_its_series_never_stands_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let clock = SimClock::new(10 * HOUR_MS);
    let options = options().maintenance(Maintenance::Manual).clock(clock.clone());
    let db = Db::open(folder.path(), options).unwrap();
    let mut appender = db.appender();
    let held = appender.series(&labels("gone", 0)).unwrap();
    appender.append(held, HOUR_MS, 1.0);
    appender.commit().unwrap().wait().unwrap();

    // Another series goes on for hours; the one that is held is removed, and its number is given to new ones.
    let mut round = 0;
    while db.stats().store.series_dropped == 0 || round < 6 {
        assert!(round < 20, "{:?}", db.stats().store);
        fill(&db, "goes_on", 1, [(3 + round) * HOUR_MS].into_iter());
        db.flush().unwrap();
        clock.advance(Duration::from_secs(3600));
        db.maintain().unwrap();
        round += 1;
    }
    fill(&db, "new", 50, [10 * HOUR_MS].into_iter());

    appender.append(held, 10 * HOUR_MS, 2.0);
    let report = appender.commit().unwrap().wait().unwrap();
    assert_eq!((report.accepted, report.refused_total), (0, 1));
    assert_eq!(report.refused[0].kind, ErrorKind::NotFound);
    assert_eq!((count(&db, "new"), count(&db, "gone")), (50, 1));

    let again = appender.series(&labels("gone", 0)).unwrap();
    appender.append(again, 10 * HOUR_MS, 2.0);
    assert_eq!(appender.commit().unwrap().wait().unwrap().accepted, 1);
    assert_eq!((count(&db, "new"), count(&db, "gone")), (50, 2));
}

#[test]
fn the_memory_of_a_database_is_what_was_allowed() {
    let this = std::env::current_exe().unwrap();
    let arguments = ["--exact", "memory::alone_in_its_process", "--ignored", "--nocapture"];
    let ended = std::process::Command::new(this).args(arguments).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
    assert!(String::from_utf8_lossy(&ended.stdout).contains("1 passed"));
}

/// Resident memory that is not the page cache, in bytes.
fn anonymous_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
#[ignore = "measures the process: `the_memory_of_a_database_is_what_was_allowed` runs it in one of its own"]
fn alone_in_its_process() {
    const ALLOWED: usize = 64 << 20;
    let folder = tempfile::tempdir().unwrap();
    let before = anonymous_bytes();
    let options = Options::new().retention(None).memory_bytes(ALLOWED).durability(Durability::Os);
    let db = Db::open(folder.path(), options).unwrap();
    let mut most = 0;
    let mut look = || most = most.max(anonymous_bytes().saturating_sub(before));

    // Series without end, until they are refused.
    let (mut handles, mut refused) = (Vec::new(), None);
    while refused.is_none() {
        let mut appender = db.appender();
        for _ in 0..1000 {
            match appender.series(&labels("flood", handles.len())) {
                Ok(series) => {
                    appender.append(series, 0, 1.0);
                    handles.push(series);
                }
                Err(error) => refused = Some(error.kind()),
            }
        }
        appender.commit().unwrap().wait().unwrap();
        look();
    }
    assert_eq!(refused, Some(ErrorKind::LimitExceeded));
    assert!(handles.len() > 50_000, "{} series", handles.len());

    // Values of which each differs from all others, and queries over them.
    for scrape in 1..25i64 {
        for (part, series) in handles.chunks(4000).enumerate() {
            let mut appender = db.appender();
            for (i, series) in series.iter().enumerate() {
                let value = ((part * 4000 + i) as f64 * 0.37 + scrape as f64 / 7.0).sin();
                appender.append(*series, scrape * 15_000, value);
            }
            assert_eq!(appender.commit().unwrap().wait().unwrap().refused_total, 0);
            look();
        }
        if scrape % 8 == 0 {
            // Whether it is answered or refused, it keeps to what is allowed.
            let _ = db.range("sum(rate(flood[1m]))", 0, scrape * 15_000, Duration::from_secs(15));
            look();
        }
    }
    let few = parse_selector("flood{i=~\"1.\"}").unwrap();
    assert_eq!(db.select(&few, TimeRange::ALL).unwrap().len(), 10);
    look();
    assert!(most <= ALLOWED, "{most} bytes of {ALLOWED}, with {} series", handles.len());
}
