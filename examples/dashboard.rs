//! A dashboard inside of the program it watches: the program writes its metrics into a database in memory, PromQL reads them, and a
//! few lines of text show them.
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use kymo::{Db, Labels, Options, Result, SimClock, Value};
use std::time::Duration;

/// The panels: a title and what it shows.
const PANELS: [(&str, &str); 3] = [
    ("requests/s", "sum by (path) (rate(http_requests_total[1m]))"),
    (
        "errors %",
        "100 * sum(rate(http_requests_total{code=\"500\"}[1m])) / sum(rate(http_requests_total[1m]))",
    ),
    ("in flight", "max_over_time(http_in_flight[1m])"),
];
const MINUTES: i64 = 10;

pub(crate) fn main() -> Result<()> {
    print!("{}", render()?);
    Ok(())
}

/// The dashboard after ten minutes of made-up work.
pub(crate) fn render() -> Result<String> {
    let clock = SimClock::new(0);
    // An hour is enough for a look; what is older goes by itself.
    let options = Options::new().retention(Some(Duration::from_secs(3600))).clock(clock.clone());
    let db = Db::in_memory_with(options)?;
    work(&db, &clock)?;
    let (end, mut page) = (MINUTES * 60_000, String::new());
    for (title, query) in PANELS {
        let answer = db.range(query, end - 8 * 60_000, end, Duration::from_secs(60))?;
        let Value::Matrix(series) = &answer.value else { continue };
        for line in series {
            let values: Vec<f64> = line.points.iter().map(|point| point.value).collect();
            let (name, last) = (line.labels.value("path"), values.last().copied().unwrap_or(f64::NAN));
            page += &format!("{title:<12}{name:<10}{}  {last:.1}\n", bars(&values));
        }
    }
    Ok(page)
}

/// What the program does, and what it tells of it: a sample of each series every five seconds.
fn work(db: &Db, clock: &SimClock) -> Result<()> {
    let requests = |path, code| {
        Labels::from_pairs([("__name__", "http_requests_total"), ("path", path), ("code", code)])
    };
    let mut appender = db.appender();
    let good = appender.series(&requests("/", "200"))?;
    let bad = appender.series(&requests("/", "500"))?;
    let search = appender.series(&requests("/search", "200"))?;
    let in_flight = appender.series(&Labels::from_pairs([("__name__", "http_in_flight")]))?;
    for tick in 0..=MINUTES * 12 {
        let at = tick as f64;
        let row = [at * 50.0, at * 2.0, (at * at / 4.0).floor(), (at % 7.0) + 1.0];
        appender.append_row(&[good, bad, search, in_flight], tick * 5_000, &row)?;
        let _ = appender.commit()?;
        clock.advance(Duration::from_secs(5));
    }
    // Batches are committed in order, so when this one is, all are.
    appender.append(in_flight, MINUTES * 60_000 + 1, 0.0);
    appender.commit()?.wait()?;
    Ok(())
}

/// One letter a value, the higher the larger.
fn bars(values: &[f64]) -> String {
    let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let bar = |value: &f64| ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][((value / most * 7.0) as usize).min(7)];
    values.iter().map(bar).collect()
}
