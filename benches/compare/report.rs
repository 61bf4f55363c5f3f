//! The table.

use super::subject::Subject;
use super::trial::Measured;
use std::fmt::Write as _;
use std::time::Duration;

fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

fn ms(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1000.0)
}

fn mib(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / f64::from(1 << 20))
}

/// A row: its name, and how to show one measurement.
type Row = (&'static str, fn(&Measured) -> String);

const ROWS: [Row; 14] = [
    ("CPU s per million samples", |m| format!("{:.3}", m.cpu.as_secs_f64() / m.samples as f64 * 1e6)),
    ("CPU s per million samples, flush", |m| {
        format!("{:.3}", m.written.cpu.as_secs_f64() / m.samples as f64 * 1e6)
    }),
    ("samples/s", |m| format!("{:.0}", m.samples as f64 / m.wall.as_secs_f64())),
    ("ack p50, ms", |m| ms(percentile(&m.ack, 50))),
    ("ack p99, ms", |m| ms(percentile(&m.ack, 99))),
    ("requests refused", |m| m.refused.to_string()),
    ("resident memory after load, MiB", |m| mib(m.resident_bytes)),
    ("peak memory, MiB", |m| mib(m.peak_bytes)),
    ("B/sample, final form", |m| format!("{:.3}", m.written.final_bytes as f64 / m.samples as f64)),
    ("B/sample, whole directory", |m| format!("{:.3}", m.written.directory_bytes as f64 / m.samples as f64)),
    ("kill -9, start, first answer, ms", |m| ms(m.restart)),
    ("acked samples missing after kill -9", |m| m.lost.to_string()),
    ("ten queries, sum of medians, ms", |m| ms(m.queries.iter().map(|q| q.1).sum())),
    ("ten queries, CPU s of all rounds", |m| format!("{:.2}", m.query_cpu.as_secs_f64())),
];

/// Markdown.
pub(crate) fn table(subjects: &[Subject], results: &[Measured]) -> String {
    let mut out = String::new();
    let mut line = |name: &str, cells: Vec<String>| {
        let _ = write!(out, "| {name:<36} |");
        for cell in cells {
            let _ = write!(out, " {cell:>24} |");
        }
        out.push('\n');
    };
    line("", subjects.iter().map(|s| s.name.to_owned()).collect());
    line("---", subjects.iter().map(|_| "---:".to_owned()).collect());
    line("version", subjects.iter().map(|s| short(&s.version)).collect());
    for (name, show) in ROWS {
        line(name, results.iter().map(show).collect());
    }
    for (i, (name, ..)) in
        results.first().map(|r| r.queries.as_slice()).unwrap_or_default().iter().enumerate()
    {
        let cell = |m: &Measured| format!("{} ({} series)", ms(m.queries[i].1), m.queries[i].2);
        line(&format!("query {}: {name}, ms", i + 1), results.iter().map(cell).collect());
    }
    out
}

fn short(version: &str) -> String {
    let word =
        version.split_whitespace().find(|w| w.contains('.') && w.contains(|c: char| c.is_ascii_digit()));
    word.unwrap_or(version).trim_end_matches(',').chars().take(24).collect()
}
