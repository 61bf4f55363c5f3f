//! Random expressions over a generated fleet, asked of Kymo and of a real Prometheus: the answers must be the same.
//!
//! - `KYMO_ORACLE_URL=http://HOST:PORT` names a running, empty Prometheus 3.x with the remote write receiver and all
//!   experimental PromQL features: then everything PromQL has is asked, annotations and texts of errors are compared too.
//!   Else Debian's Prometheus 2.42 is started, and asked stable expressions over floats at times at which no sample lies
//!   on the edge of a window (its windows include both edges). Without either the test is skipped, unless
//!   `KYMO_REQUIRE_PEERS=1`.
//! - `KYMO_DIFFERENTIAL_CASES` expressions are asked; `KYMO_DIFFERENTIAL_SEED` makes them others, `KYMO_DIFFERENTIAL_CASE` asks
//!   one of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a failed expectation is a failed test; the figures are printed, and the clock is the real one"
)]

mod compare;
mod damage;
mod expression;
mod fleet;
mod generate;
mod native;
mod reply;
mod selectors;
mod trace;
mod wire;

use compare::{Strictness, close, compare};
use fleet::{LENGTH_MS, START_MS, fleet};
use generate::{Class, Generator};
use kymo_tests::http::Client;
use kymo_tests::peers::{Peer, require};
use kymo_tests::promqltest::backend::{InProcess, Place};
use kymo_tests::promqltest::run::Backend;
use kymo_tests::promqltest::script;
use kymo_tests::rng::{Rng, mix};
use kymo_tests::server::Server;
use reply::{Reply, When};
use std::collections::BTreeMap;
use trace::Pair;

/// Expressions asked unless the environment says otherwise.
const CASES: u64 = 2_000;
/// The seed of the fleet: one for all runs, because a running oracle keeps what it has.
const FLEET_SEED: u64 = 1;
/// So many differences are traced and printed, the others only counted.
const PRINTED: usize = 25;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// The seed of this run: `KYMO_DIFFERENTIAL_SEED`, or one that is the same on every machine, so that a red build means a change of
/// ours and not a quirk of some release of Prometheus that nobody has met before. Search with seeds of your own.
fn seed() -> u64 {
    number("KYMO_DIFFERENTIAL_SEED").unwrap_or(2)
}

/// A random time for a query of `class`.
fn when(rng: &mut Rng, class: Class) -> When {
    let second = |rng: &mut Rng, from: i64, length: u64| START_MS + (from + rng.below(length) as i64) * 1000;
    let range = rng.below(3) == 0;
    let (start, step) = match class {
        // Late enough that all windows are full, and a quarter past the second: no sample is near an edge.
        Class::StableFloat => (
            second(rng, 45 * 60, 35 * 60) + 250,
            [7_000, 15_000, 30_000, 60_000, 300_000][rng.below(5) as usize],
        ),
        Class::Everything => {
            let start = second(rng, -600, 6600) + [0, 0, 250, rng.below(1000) as i64][rng.below(4) as usize];
            (start, [1_000, 15_000, 30_000, 60_000, 250, 77_777, 400_000][rng.below(7) as usize])
        }
    };
    if range {
        When::Range { start, end: start + step * rng.below(25) as i64, step }
    } else {
        When::Instant(start)
    }
}

/// What a run came to.
#[derive(Debug, Default)]
struct Tally {
    expressions: u64,
    answered: u64,
    values: usize,
    rounding: u64,
    unsettled: u64,
    differences: u64,
    damaged: u64,
    refused: u64,
    mismatches: u64,
    other_texts: u64,
    other_notes: u64,
    reports: Vec<String>,
    examples: BTreeMap<String, String>,
}

impl Tally {
    /// Notes texts that differ where only their presence has to agree.
    fn texts(&mut self, query: &str, theirs: &Reply, ours: &Reply) {
        if theirs.text != ours.text {
            self.other_texts += 1;
            let example = format!("{query}\n      theirs {}\n      ours   {}", theirs.text, ours.text);
            if self.examples.len() < 40 {
                self.examples.insert(format!("text {}", self.other_texts), example);
            }
        }
        let sorted = |notes: &[&Vec<String>]| {
            let mut all: Vec<String> = notes.iter().flat_map(|n| n.iter().cloned()).collect();
            all.sort();
            all
        };
        let (a, b) = (sorted(&[&theirs.warnings, &theirs.infos]), sorted(&[&ours.warnings, &ours.infos]));
        if a != b {
            self.other_notes += 1;
            if self.examples.len() < 40 {
                let example = format!("{query}\n      theirs {a:?}\n      ours   {b:?}");
                self.examples.insert(format!("notes {}", self.other_notes), example);
            }
        }
    }

    fn line(&self) -> String {
        format!(
            "{} expressions ({} answered), {} values compared, {} differences by rounding alone, \
             {} where Prometheus itself does not always answer the same, {} differences; \
             {} damaged texts ({} refused), {} mismatches; other words in {} errors and {} lists of annotations",
            self.expressions,
            self.answered,
            self.values,
            self.rounding,
            self.unsettled,
            self.differences,
            self.damaged,
            self.refused,
            self.mismatches,
            self.other_texts,
            self.other_notes,
        )
    }
}

/// Asks one case of both sides.
fn carry_out(pair: &mut Pair, class: Class, seed: u64, case: u64, tally: &mut Tally) {
    let mut rng = Rng::new(mix(&[seed, case]));
    let node = Generator::new(&mut rng, class).query();
    let when = when(&mut rng, class);
    let query = node.to_string();
    let (theirs, ours) = pair.ask(&query, when);
    assert!(ours.status != 0, "no answer to case {case}: {query}");
    tally.expressions += 1;
    if theirs.status == 0 {
        tally.unsettled += 1;
        return;
    }
    tally.answered += u64::from(theirs.succeeded());
    let sorted = node.yields != expression::Type::Matrix;
    let strict = Strictness { order: node.ordered && pair.strict.order, sorted, ..pair.strict };
    match compare(&theirs, &ours, strict, &close) {
        Ok(values) => {
            tally.values += values;
            if class == Class::Everything {
                tally.texts(&query, &theirs, &ours);
            }
        }
        Err(_) if unsettled(pair, &query, when, (&theirs, &ours), strict) => tally.unsettled += 1,
        Err(difference) => {
            let cause = pair.trace(&node, when, difference.clone());
            if cause.rounding {
                tally.rounding += 1;
            } else {
                tally.differences += 1;
                if tally.reports.len() < PRINTED {
                    tally.reports.push(format!(
                        "case {case}: {query}\n  {when:?}: {difference}\n  because of {}\n  {:?}: {}",
                        cause.query, cause.when, cause.difference
                    ));
                }
            }
        }
    }
    if case.is_multiple_of(2) {
        damaged(pair, class, &query, when, (case, &mut rng), tally);
    }
}

/// Whether Prometheus, asked again and again, gives another answer, or ours: several of its operators yield series in the order of
/// a hash map, which decides what `limitk` or a tie takes.
fn unsettled(
    pair: &mut Pair,
    query: &str,
    when: When,
    (theirs, ours): (&Reply, &Reply),
    strict: Strictness,
) -> bool {
    (0..8).any(|_| {
        let again = reply::ask(&mut pair.theirs, query, when);
        compare(theirs, &again, strict, &close).is_err() || compare(&again, ours, strict, &close).is_ok()
    })
}

/// Asks for a damaged text: it must be refused alike, or answered alike.
fn damaged(
    pair: &mut Pair,
    class: Class,
    query: &str,
    when: When,
    (case, rng): (u64, &mut Rng),
    tally: &mut Tally,
) {
    let query = damage::damage(query, rng);
    let (theirs, ours) = pair.ask(&query, when);
    tally.damaged += 1;
    tally.refused += u64::from(!theirs.succeeded());
    // The language has grown since 2.42: what it refuses may mean something now.
    let grown = class == Class::StableFloat
        && (theirs.status == 400 || theirs.text.starts_with("invalid") && theirs.text.contains("label name")
            // It cannot answer a pinned range vector in parentheses.
            || theirs.text == "unexpected number of samples"
            // It looks at the number of series to keep before it knows whether there are any.
            || theirs.text.starts_with("Scalar value") && ours.succeeded());
    let narrow = theirs.text.contains("unexpected colon before duration");
    let same =
        grown || narrow || theirs.status == ours.status && (theirs.succeeded() || theirs.kind == ours.kind);
    if !same {
        tally.mismatches += 1;
        if tally.reports.len() < PRINTED {
            let one = |r: &Reply| format!("{} {} {}", r.status, r.kind, r.text);
            tally.reports.push(format!(
                "case {case}, damaged: {query}\n  {when:?}\n      theirs {}\n      ours   {}",
                one(&theirs),
                one(&ours)
            ));
        }
    } else if class == Class::Everything && !theirs.succeeded() {
        tally.texts(&query, &theirs, &ours);
    }
}

fn run(pair: &mut Pair, class: Class, name: &str) {
    let seed = seed();
    let cases = number("KYMO_DIFFERENTIAL_CASES").unwrap_or(CASES);
    println!("against {name}: {cases} expressions, KYMO_DIFFERENTIAL_SEED={seed}");
    let mut tally = Tally::default();
    let chosen = number("KYMO_DIFFERENTIAL_CASE").map_or(0..cases, |case| case..case + 1);
    for case in chosen {
        carry_out(pair, class, seed, case, &mut tally);
    }
    for report in &tally.reports {
        println!("{report}\n");
    }
    for (what, example) in &tally.examples {
        println!("{what}: {example}");
    }
    println!("{name}, seed {seed}: {}", tally.line());
    assert_eq!((tally.differences, tally.mismatches), (0, 0), "differences, mismatches (seed {seed})");
    assert!(tally.values as u64 > tally.expressions, "next to nothing was compared");
}

/// Stores the fleet unless the server has it.
fn load(client: &mut Client, floats_only: bool) {
    let expected = fleet(FLEET_SEED, floats_only);
    let count = |client: &mut Client| {
        let query = "count(last_over_time({__name__=~\".+\"}[2h]))";
        let reply = reply::ask(client, query, When::Instant(START_MS + LENGTH_MS - 1000));
        reply.numbers().next().unwrap_or(0.0)
    };
    if count(client) == 0.0 {
        wire::send_all(client, &expected);
    }
    assert_eq!(count(client), expected.len() as f64, "the oracle holds something else than this fleet");
}

#[test]
fn kymo_answers_as_prometheus_does() {
    let dir = tempfile::tempdir().unwrap();
    let oracle = std::env::var("KYMO_ORACLE_URL").ok();
    let class = if oracle.is_some() { Class::Everything } else { Class::StableFloat };
    let floats_only = class == Class::StableFloat;
    let started;
    let mut theirs = match oracle {
        Some(url) => {
            let address = url.trim_start_matches("http://").trim_end_matches('/').parse();
            Client::new(
                address.unwrap_or_else(|e| panic!("KYMO_ORACLE_URL={url}: {e}; it must be http://IP:PORT")),
            )
        }
        None => {
            let Some(program) = require("prometheus") else { return };
            let configuration =
                "global: {evaluation_interval: 1m}\nstorage: {tsdb: {out_of_order_time_window: 20y}}\n";
            let flags = ["--web.enable-remote-write-receiver", "--storage.tsdb.retention.time=30y"];
            started = Peer::prometheus(&program, dir.path(), configuration, &flags);
            started.client()
        }
    };
    let server = Server::start(env!("CARGO_BIN_EXE_kymo"), &dir.path().join("data"), &["--retention=30y"]);
    let mut ours = server.client();
    load(&mut theirs, floats_only);
    load(&mut ours, floats_only);
    let everything = class == Class::Everything;
    let strict = Strictness { annotations: everything, texts: false, order: everything, sorted: true };
    let name = if everything { "Prometheus 3.x" } else { "Prometheus 2.42" };
    run(&mut Pair { theirs, ours, class, strict }, class, name);
}

/// An engine of one thread and one of several give the same bits.
#[test]
fn one_thread_and_several_answer_alike() {
    let seed = seed();
    let cases = number("KYMO_DIFFERENTIAL_CASES").unwrap_or(CASES);
    let series: Vec<_> = fleet(FLEET_SEED, false).into_iter().map(fleet::FleetSeries::stored).collect();
    let mut engines = [1, 4].map(|threads| {
        let mut engine = InProcess::new(Place::Head, threads);
        engine.clear().and_then(|()| engine.load(&series)).unwrap();
        engine
    });
    for case in 0..cases {
        let mut rng = Rng::new(mix(&[seed, case]));
        let query = Generator::new(&mut rng, Class::Everything).query().to_string();
        let when = match when(&mut rng, Class::Everything) {
            When::Instant(at_ms) => script::When::Instant { at_ms },
            When::Range { start, end, step } => {
                script::When::Range { start_ms: start, end_ms: end, step_ms: step }
            }
        };
        // NaN is unequal to itself; its text shows everything that an answer does.
        let [one, several] = engines.each_mut().map(|engine| format!("{:?}", engine.ask(&query, when)));
        assert!(one == several, "case {case} of seed {seed}: {query} {when:?}\n{one}\n{several}");
    }
    println!("one thread and four: {cases} expressions, the same bits (seed {seed})");
}
