//! `info`: adds the labels of info series to series of the same instance and job.

use super::super::build::vector;
use super::super::context::Context;
use super::super::kernel::Kernel;
use super::super::matrix::{Matrix, OnSame, Row, distinct};
use super::super::scan::{Input, Scan};
use super::super::source::{Source, Worker};
use crate::column::{Bitmap, Column};
use crate::failure::QueryError;
use crate::math::window::WindowSteps;
use crate::plan::{Grid, Node, NodeKind, Window, WindowSource, read_range};
use crate::span::Span;
use kymo_storage::model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// The info metric if none is named.
const DEFAULT_METRIC: &str = "target_info";
/// The labels that say which info series belongs to a series.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// Instance and job.
type Identity = [String; 2];

fn identity(labels: &Labels) -> Identity {
    IDENTIFYING.map(|name| labels.value(name).to_owned())
}

/// The source of `info(v)` or `info(v, {selector})`.
///
/// # Errors
/// Info series that contradict each other, and as [`vector`].
pub(super) fn build(context: &Context, args: Vec<Node>, grid: Grid) -> Result<Arc<dyn Source>, QueryError> {
    let mut args = args.into_iter();
    let Some(base) = args.next() else {
        return Err(QueryError::internal("the checker sees to the number of arguments"));
    };
    let (names, data) = matchers(context, args.next());
    let names = effective_names(names)?;
    let steps = reference(&base).map_or(
        WindowSteps { first: grid.start, step: grid.step, count: grid.count, range: context.lookback },
        |found| WindowSteps { count: grid.count, range: context.lookback, ..found },
    );
    let base = vector(context, base, grid)?;
    let base = Matrix::collect(context, &*base, grid.count)?;
    let is_info = |labels: &Labels| names.iter().all(|m| m.matches(labels.metric_name()));
    let wanted: std::collections::HashSet<Identity> = (0..base.len())
        .map(|i| base.labels(i))
        .filter(|l| !is_info(l))
        .map(|l| identity(&l))
        .filter(|i| i.iter().any(|v| !v.is_empty()))
        .collect();
    let infos = if wanted.is_empty() {
        Infos::default()
    } else {
        let all: Vec<Matcher> = names.iter().chain(&data).cloned().collect();
        Infos::read(context, &all, steps, &wanted)?
    };
    infos.check(context, &base, grid.count)?;
    let mut rows = Vec::new();
    let mut memory = context.budget.reserve(0, 0)?;
    for index in 0..base.len() {
        context.budget.check()?;
        let before = rows.len();
        let labels = base.labels(index);
        if is_info(&labels) {
            rows.push(Row { labels, drops_name: base.drops_name(index), column: base.column(index).clone() });
        } else {
            enrich(&infos, &data, &labels, base.drops_name(index), base.column(index), &mut rows)?;
        }
        memory.grow(0, Column::bytes(grid.count).saturating_mul((rows.len() - before) as u64))?;
    }
    distinct(context, Arc::new(Matrix::new(rows, false, Some(memory))), grid.count, OnSame::Merge)
}

/// The conditions of the second argument on names and on other labels.
fn matchers(context: &Context, selector: Option<Node>) -> (Vec<Matcher>, Vec<Matcher>) {
    match selector.map(|s| s.kind) {
        Some(NodeKind::Instant(Window { source: WindowSource::Select(index), .. })) => {
            context.matchers(index).iter().cloned().partition(|m| m.name() == METRIC_NAME)
        }
        _ => (Vec::new(), Vec::new()),
    }
}

/// Without a condition on names they are `target_info`; with only negative ones they end in `_info`.
fn effective_names(mut names: Vec<Matcher>) -> Result<Vec<Matcher>, QueryError> {
    if names.is_empty() {
        names.push(Matcher::equal(METRIC_NAME, DEFAULT_METRIC));
    } else if names.iter().all(|m| matches!(m.op(), MatchOp::NotEqual | MatchOp::NotRegex)) {
        let ending = Matcher::new(MatchOp::Regex, METRIC_NAME, ".+_info");
        names.insert(0, ending.map_err(|e| QueryError::internal(e.to_string()))?);
    }
    Ok(names)
}

/// When the first selector below `node` reads: info series are looked up at the same time.
fn reference(node: &Node) -> Option<WindowSteps> {
    match &node.kind {
        NodeKind::Instant(w) | NodeKind::Range(w) => match &w.source {
            WindowSource::Select(_) => Some(w.steps),
            WindowSource::Subquery { inner, grid } => {
                let found = reference(inner)?;
                if found.step == 0 {
                    return Some(found);
                }
                let offset = grid.start.saturating_sub(found.first);
                Some(WindowSteps { first: w.steps.first.saturating_sub(offset), ..w.steps })
            }
        },
        NodeKind::Call { args, .. } => args.iter().find_map(reference),
        NodeKind::Absent { input, .. } | NodeKind::Negate(input) | NodeKind::Once(input) => reference(input),
        NodeKind::Aggregate { param, input, .. } => {
            param.as_deref().and_then(reference).or_else(|| reference(input))
        }
        NodeKind::Binary { left, right, .. } => reference(left).or_else(|| reference(right)),
        NodeKind::Number(_) | NodeKind::Text(_) => None,
    }
}

/// Info series: their labels, and at each step the time of their newest sample.
#[derive(Default)]
struct Infos {
    series: Vec<(Labels, Column)>,
    /// By identity: for each metric name the series.
    by_identity: HashMap<Identity, Vec<(String, Vec<usize>)>>,
}

impl Infos {
    fn read(
        context: &Context,
        matchers: &[Matcher],
        steps: WindowSteps,
        wanted: &std::collections::HashSet<Identity>,
    ) -> Result<Self, QueryError> {
        let range = read_range(&steps);
        let set = context.more_series(range, matchers)?;
        let window = Window {
            source: WindowSource::Select(usize::MAX),
            steps,
            border: None,
            read: steps,
            totals: false,
        };
        let input = Input::Series { set, range, name: None, totals: false };
        let scan = Scan::new(context, input, window, Kernel::FloatTime, Span::new(0, 0), false);
        let mut infos = Self::default();
        let mut worker = Worker::new(context);
        for index in 0..scan.len() {
            let labels = scan.labels(index);
            let identity = identity(&labels);
            if !wanted.contains(&identity) {
                continue;
            }
            let mut column = Column::default();
            scan.fill(index, &mut worker, &mut column)?;
            let (samples, bytes) = column.size();
            context.hold(samples as usize, bytes + labels.as_bytes().len() as u64 * 2 + 128)?;
            let at = infos.series.len();
            let names = infos.by_identity.entry(identity).or_default();
            match names.iter_mut().find(|(name, _)| name == labels.metric_name()) {
                Some((_, series)) => series.push(at),
                None => names.push((labels.metric_name().to_owned(), vec![at])),
            }
            infos.series.push((labels, column));
        }
        Ok(infos)
    }

    /// The newest of `candidates` at `step`.
    fn newest(&self, candidates: &[usize], step: usize) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        for at in candidates {
            if let Some(time) = self.series[*at].1.get(step)
                && best.is_none_or(|(_, known)| time > known)
            {
                best = Some((*at, time));
            }
        }
        best.map(|(at, _)| at)
    }

    /// No two info series of one metric and identity may have samples of the same time.
    fn check(&self, context: &Context, base: &Matrix, steps: usize) -> Result<(), QueryError> {
        let mut any = Bitmap::new(steps);
        (0..base.len()).for_each(|i| base.column(i).add_steps(&mut any));
        let histograms = self.series.iter().flat_map(|(_, column)| &column.histograms);
        if histograms.into_iter().any(|(step, _)| any.get(*step)) {
            return Err(QueryError::execution("info sample should be float"));
        }
        for (_, candidates) in self.by_identity.values().flatten().filter(|(_, c)| c.len() > 1) {
            context.budget.check()?;
            for step in 0..steps {
                if !any.get(step) {
                    continue;
                }
                let Some(best) = self.newest(candidates, step) else { continue };
                let (labels, column) = &self.series[best];
                let time = column.values[step];
                let twin =
                    candidates.iter().find(|c| **c != best && self.series[**c].1.get(step) == Some(time));
                if let Some(twin) = twin {
                    let millis = (time * 1000.0).round() as i64;
                    let other = &self.series[*twin].0;
                    return Err(QueryError::execution(format!(
                        "found duplicate series for info metric: existing {labels} @ {millis}, new {other} @ {millis}"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Adds to `rows` what becomes of one series: a row for each combination of info series it meets.
fn enrich(
    infos: &Infos,
    data: &[Matcher],
    labels: &Labels,
    drops_name: bool,
    column: &Column,
    rows: &mut Vec<Row>,
) -> Result<(), QueryError> {
    let none = Vec::new();
    let by_name = infos.by_identity.get(&identity(labels)).unwrap_or(&none);
    let must_match = data.iter().any(|m| !m.matches_empty());
    let mut known: HashMap<Vec<Option<usize>>, usize> = HashMap::new();
    for step in column.steps().ones() {
        let met: Vec<Option<usize>> = by_name.iter().map(|(_, series)| infos.newest(series, step)).collect();
        if must_match && met.iter().all(Option::is_none) {
            continue;
        }
        let row = match known.entry(met) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(free) => {
                let met = free.key().iter().flatten().map(|at| &infos.series[*at].0);
                let labels = with_info(labels, met, data)?;
                rows.push(Row { labels, drops_name, column: Column::new(column.len()) });
                *free.insert(rows.len() - 1)
            }
        };
        match column.histogram(step) {
            Some(histogram) => rows[row].column.push_histogram(step, Arc::clone(histogram)),
            None => rows[row].column.set(step, column.values[step]),
        }
    }
    Ok(())
}

/// `labels` and the labels of the info series that are asked for and not yet there.
fn with_info<'a>(
    labels: &Labels,
    infos: impl Iterator<Item = &'a Labels>,
    data: &[Matcher],
) -> Result<Labels, QueryError> {
    let mut added = LabelsBuilder::new();
    for info in infos {
        for (name, value) in info.iter() {
            if name == METRIC_NAME || (!data.is_empty() && !data.iter().any(|m| m.name() == name)) {
                continue;
            }
            let known = added.value(name);
            if !known.is_empty() && known != value {
                return Err(QueryError::execution(format!("conflicting label: {name}")));
            }
            if labels.get(name).is_none() {
                added.set(name, value);
            }
        }
    }
    let mut all = labels.to_builder();
    for (name, value) in added.build().iter() {
        all.set(name, value);
    }
    Ok(all.build())
}
