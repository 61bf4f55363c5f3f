//! Series that come and go, and the handles that outlive them.

use super::{count, fill, labels, options};
use kymo::{Db, ErrorKind, Maintenance, SimClock};
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
