//! What each operator of a query did: kept only if it is asked for.

use super::operator::Operator;
use crate::catalog::{AGGREGATORS, FUNCTIONS};
use crate::clock::{Instant, now};
use crate::plan::{Node, NodeKind};
use crate::span::Span;
use kymo_storage::api::SeriesSet;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The operators in the order in which they were begun; the first is the outermost.
#[derive(Default)]
pub(crate) struct Profile {
    operators: Mutex<Operators>,
}

#[derive(Default)]
struct Operators {
    all: Vec<Watched>,
    /// Those being built, outermost first.
    open: Vec<usize>,
}

struct Watched {
    name: String,
    span: Span,
    steps: usize,
    children: Vec<usize>,
    bytes: u64,
    counters: Arc<Counters>,
}

/// What one operator counts.
#[derive(Default)]
pub(crate) struct Counters {
    series: AtomicU64,
    computed: AtomicU64,
    points: AtomicU64,
    nanos: AtomicU64,
    samples: AtomicU64,
    set: OnceLock<Arc<dyn SeriesSet>>,
}

impl Counters {
    /// A leaf reads from this set.
    pub(crate) fn reads(&self, set: &Arc<dyn SeriesSet>) {
        let _ = self.set.set(Arc::clone(set));
    }

    /// A leaf has read so many samples.
    pub(crate) fn add_samples(&self, samples: u64) {
        self.samples.fetch_add(samples, Ordering::Relaxed);
    }

    /// A series was computed since then, with so many points.
    pub(crate) fn add_series(&self, since: Instant, points: usize) {
        self.add_time(since);
        self.computed.fetch_add(1, Ordering::Relaxed);
        self.points.fetch_add(points as u64, Ordering::Relaxed);
    }

    fn add_time(&self, since: Instant) {
        let nanos = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// An operator whose building has begun.
pub(crate) struct Begun {
    at: usize,
    since: Instant,
    bytes: u64,
    counters: Arc<Counters>,
}

impl Begun {
    /// The operator yields so many series; what it counts from now on.
    pub(crate) fn built(self, series: usize) -> Arc<Counters> {
        self.counters.add_time(self.since);
        self.counters.series.store(series as u64, Ordering::Relaxed);
        self.counters
    }
}

impl Profile {
    /// The counters of the operator being built.
    pub(crate) fn current(&self) -> Option<Arc<Counters>> {
        let operators = self.operators.lock();
        let at = operators.open.last()?;
        operators.all.get(*at).map(|o| Arc::clone(&o.counters))
    }

    /// The operator of `node` is about to be built; the query holds `bytes`.
    pub(crate) fn begin(&self, node: &Node, steps: usize, bytes: u64) -> Begun {
        let mut operators = self.operators.lock();
        let at = operators.all.len();
        if let Some(parent) = operators.open.last().copied() {
            operators.all[parent].children.push(at);
        }
        let counters = Arc::<Counters>::default();
        operators.all.push(Watched {
            name: name(&node.kind),
            span: node.span,
            steps,
            children: Vec::new(),
            bytes: 0,
            counters: Arc::clone(&counters),
        });
        operators.open.push(at);
        Begun { at, since: now(), bytes, counters }
    }

    /// The operator is built; the query now holds `bytes`.
    pub(crate) fn end(&self, begun: &Begun, bytes: u64) {
        let mut operators = self.operators.lock();
        operators.open.pop();
        operators.all[begun.at].bytes = bytes.saturating_sub(begun.bytes);
    }

    /// The operators as a tree, each with its piece of `text`.
    pub(crate) fn finish(self, text: &str) -> Option<Operator> {
        let operators = self.operators.into_inner().all;
        (!operators.is_empty()).then(|| tree(&operators, 0, text))
    }
}

fn tree(operators: &[Watched], at: usize, text: &str) -> Operator {
    let watched = &operators[at];
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counters = &watched.counters;
    let chunks = counters.set.get().map(|set| set.chunks_read()).unwrap_or_default();
    Operator {
        name: watched.name.clone(),
        text: watched.span.of(text).to_owned(),
        steps: watched.steps,
        series: load(&counters.series),
        computed: load(&counters.computed),
        points: load(&counters.points),
        samples: load(&counters.samples),
        bytes: watched.bytes,
        chunks_decoded: chunks.decoded,
        chunks_skipped: chunks.skipped,
        time: Duration::from_nanos(load(&counters.nanos)),
        children: watched.children.iter().map(|child| tree(operators, *child, text)).collect(),
    }
}

fn name(kind: &NodeKind) -> String {
    match kind {
        NodeKind::Number(_) => "number".to_owned(),
        NodeKind::Text(_) => "string".to_owned(),
        NodeKind::Instant(_) => "selector".to_owned(),
        NodeKind::Range(_) => "range".to_owned(),
        NodeKind::Call { id, .. } => FUNCTIONS.iter().find(|f| f.id == *id).map_or("", |f| f.name).to_owned(),
        NodeKind::Absent { .. } => "absent".to_owned(),
        NodeKind::Aggregate { id, grouping, .. } => {
            let name = AGGREGATORS.iter().find(|a| a.id == *id).map_or("", |a| a.name);
            format!("{name}{grouping}").trim_end().to_owned()
        }
        NodeKind::Binary { op, .. } => op.as_str().to_owned(),
        NodeKind::Negate(_) => "-".to_owned(),
        NodeKind::Once(_) => "once".to_owned(),
    }
}
