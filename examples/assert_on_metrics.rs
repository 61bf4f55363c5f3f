//! How a test asserts on metrics: the code under test writes into a database in memory, whose clock the test moves.
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use kymo::{Db, Labels, Options, Result, SimClock};
use std::time::Duration;

pub(crate) fn main() -> Result<()> {
    let clock = SimClock::new(0);
    let db = Db::in_memory_with(Options::new().retention(None).clock(clock.clone()))?;
    let mut queue = Queue::new(&db)?;

    for round in 0..60 {
        (0..3).for_each(|_| queue.push());
        queue.work(if round < 30 { 1 } else { 5 });
        clock.advance(Duration::from_secs(1));
        queue.scrape(round * 1_000)?;
    }

    // The assertions are PromQL: what an alert would ask in production is what the test asks here.
    let now = 59_000;
    let ask = |query| Ok::<_, kymo::Error>(db.instant(query, now)?.single());
    assert_eq!(ask("max_over_time(queue_length[1m])")?, Some(60.0), "it grows while work is slow");
    assert_eq!(ask("queue_length")?, Some(0.0), "and is empty in the end");
    assert_eq!(ask("increase(queue_done_total[30s]) > bool 80")?, Some(1.0));
    assert_eq!(ask("absent(queue_lost_total)")?, Some(1.0), "nothing is lost");
    println!("all assertions hold");
    Ok(())
}

/// The code under test.
struct Queue<'a> {
    db: &'a Db,
    waiting: u64,
    done: u64,
    length: Labels,
    done_total: Labels,
}

impl<'a> Queue<'a> {
    fn new(db: &'a Db) -> Result<Self> {
        let named = |name| Labels::from_pairs([("__name__", name)]);
        let (length, done_total) = (named("queue_length"), named("queue_done_total"));
        Ok(Self { db, waiting: 0, done: 0, length, done_total })
    }

    fn push(&mut self) {
        self.waiting += 1;
    }

    fn work(&mut self, most: u64) {
        let now = self.waiting.min(most);
        self.waiting -= now;
        self.done += now;
    }

    fn scrape(&self, time: i64) -> Result<()> {
        let mut appender = self.db.appender();
        appender.append_labels(&self.length, time, self.waiting as f64)?;
        appender.append_labels(&self.done_total, time, self.done as f64)?;
        appender.commit()?.wait().map(drop)
    }
}
