//! The examples, run: each one's `main`, and what it claims.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

#[path = "../../examples/assert_on_metrics.rs"]
mod assert_on_metrics;
#[path = "../../examples/dashboard.rs"]
mod dashboard;
#[path = "../../examples/replay_blocks.rs"]
mod replay_blocks;
#[path = "../../examples/sensor_logger.rs"]
mod sensor_logger;

use kymo::{Db, Options};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// Names the folder of the logger that runs as a process of its own.
const FOLDER: &str = "KYMO_TEST_SENSOR_FOLDER";

#[test]
fn metrics_are_asserted_on() {
    assert_on_metrics::main().unwrap();
}

#[test]
fn a_dashboard_is_drawn() {
    dashboard::main().unwrap();
    let page = dashboard::render().unwrap();
    let titles: Vec<&str> = page.lines().map(|line| line.split("  ").next().unwrap().trim()).collect();
    assert_eq!(titles, ["requests/s", "requests/s", "errors %", "in flight"], "{page}");
    assert!(page.lines().nth(1).unwrap().contains("/search") && page.contains('█'), "{page}");
}

#[test]
fn blocks_are_replayed_in_the_order_of_time() {
    replay_blocks::main().unwrap();
    let folder = tempfile::tempdir().unwrap();
    replay_blocks::make_block(folder.path()).unwrap();
    let mut told = Vec::new();
    let mut tell =
        |time, labels: &kymo::Labels, value| told.push((time, labels.value("room").to_owned(), value));
    replay_blocks::replay(folder.path(), "celsius", &mut tell).unwrap();
    assert_eq!(told.len(), 80);
    assert_eq!(told[0], (0, "attic".to_owned(), 25.0));
    assert_eq!(told[79], (39 * 15_000, "cellar".to_owned(), 12.0 + 3.9));
    assert!(told.is_sorted_by_key(|sample| sample.0));
}

/// Not a test by itself: the process that the next one starts and kills.
#[test]
fn the_logger_as_a_process() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let stored = &mut |number| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "stored {number}").and_then(|()| out.flush()).unwrap();
    };
    sensor_logger::log_readings(folder.as_ref(), i64::MAX / 4, stored).unwrap();
}

#[test]
fn a_logger_that_is_killed_again_and_again_loses_nothing_it_said() {
    sensor_logger::main().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut said = -1;
    for round in 0..4 {
        let mut logger = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_logger_as_a_process", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(logger.stdout.take().unwrap()).lines().map_while(Result::ok);
        let numbers = lines.filter_map(|line| line.split("stored ").nth(1)?.trim().parse::<i64>().ok());
        let mut heard = 0;
        for number in numbers {
            assert!(number >= said, "{number} after {said}");
            said = number;
            heard += 1;
            if heard == 20 + round * 7 {
                // A kill without warning, in the middle of whatever it does.
                logger.kill().unwrap();
            }
        }
        logger.wait().unwrap();
        assert!(heard >= 20, "the logger ended by itself after {heard} readings");
        let db = Db::open(folder.path(), Options::new().retention(None).free_space_min(Some(0))).unwrap();
        let next = sensor_logger::next_number(&db).unwrap();
        assert!(next > said, "reading {said} was said to be stored, the next is {next}");
        let count = db.instant("count_over_time(celsius[10y])", next * 1_000).unwrap().single();
        assert_eq!(count, Some(next as f64), "no gap");
        db.close().unwrap();
    }
}
