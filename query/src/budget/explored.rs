//! The memory and the turns of queries under a schedule explorer.
//!
//! ```text
//! KYMO_SCHEDULES=100000 cargo test --release -p kymo-query --features shuttle explored -- --nocapture
//! ```

use super::{Budget, MemoryPool, Progress, Shared, Turns};
use crate::limits::QueryLimits;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const POOL: u64 = 100;
const QUERIES: u64 = 3;
const CORES: usize = 2;

/// Schedules tried of each kind; `KYMO_SCHEDULES` sets both together.
fn schedules() -> usize {
    std::env::var("KYMO_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(4_000_usize).div_ceil(2)
}

fn explore(scheduler: impl Scheduler + 'static, test: fn()) -> usize {
    Runner::new(scheduler, Config::new()).run(test)
}

/// Granted at this moment, by a count that the explorer does not interleave.
struct Granted {
    now: AtomicU64,
    limit: u64,
}

impl Granted {
    fn take(&self, bytes: u64) {
        let now = self.now.fetch_add(bytes, Ordering::SeqCst) + bytes;
        assert!(now <= self.limit, "{now} granted of {}", self.limit);
    }

    fn give(&self, bytes: u64) {
        self.now.fetch_sub(bytes, Ordering::SeqCst);
    }
}

fn memory() {
    let pool = MemoryPool::new(POOL);
    let granted = Arc::new(Granted { now: AtomicU64::new(0), limit: POOL });
    let query = |number: u64| {
        let (pool, granted, turns) = (Arc::clone(&pool), Arc::clone(&granted), Turns::new(1));
        shuttle::thread::spawn(move || {
            let shared = Shared {
                cancel: Arc::default(),
                pool,
                turns,
                progress: Arc::<Progress>::default(),
                on_long: None,
            };
            let limits = QueryLimits { bytes: 80, ..QueryLimits::default() };
            let budget = Budget::new(limits, shared);
            for bytes in [30 + 10 * number, 45, 20] {
                let Ok(mut held) = budget.reserve(1, bytes) else { continue };
                granted.take(bytes);
                let more = held.grow(0, 15).is_ok();
                let all = bytes + if more { 15 } else { 0 };
                if more {
                    granted.take(15);
                }
                assert!(budget.bytes_now() <= 80);
                granted.give(all);
                drop(held);
            }
            assert_eq!(budget.bytes_now(), 0);
        })
    };
    let queries: Vec<_> = (0..QUERIES).map(query).collect();
    queries.into_iter().for_each(|query| query.join().unwrap());
    assert_eq!(pool.used(), 0, "all is given back");
}

fn turns() {
    let turns = Turns::new(CORES);
    let working = Arc::new(Granted { now: AtomicU64::new(0), limit: CORES as u64 });
    let query = |_| {
        let (turns, working) = (Arc::clone(&turns), Arc::clone(&working));
        shuttle::thread::spawn(move || {
            for _ in 0..2 {
                let turn = turns.take(|| Ok::<(), ()>(())).unwrap();
                working.take(1);
                shuttle::thread::yield_now();
                working.give(1);
                drop(turn);
            }
        })
    };
    let queries: Vec<_> = (0..QUERIES + 1).map(query).collect();
    queries.into_iter().for_each(|query| query.join().unwrap());
    assert!(turns.take_at_once().is_some(), "nobody kept a turn");
}

#[test]
fn memory_of_many_queries_stays_within_the_pool() {
    let explored = explore(RandomScheduler::new(schedules()), memory)
        + explore(PctScheduler::new(3, schedules()), memory);
    println!("schedules_of_memory explored={explored} failures=0");
    assert!(explored > 0);
}

#[test]
fn turns_are_no_more_than_cores_and_nobody_waits_for_ever() {
    let explored =
        explore(RandomScheduler::new(schedules()), turns) + explore(PctScheduler::new(3, schedules()), turns);
    println!("schedules_of_turns explored={explored} failures=0");
    assert!(explored > 0);
}
