//! The engine: from a text and a store to an answer, within limits.

pub mod features;

use crate::ast::{Expr, ValueType};
use crate::budget::{Budget, Held, MemoryPool, MemoryUse, OnLong, Progress, Shared, Turns};
use crate::clock::{Instant, now};
use crate::exec::Operator;
use crate::exec::context::{Behaviour, Context, Watch};
use crate::exec::pool::Pool;
use crate::failure::{FailureKind, QueryError};
use crate::limits::{self, QueryLimits};
use crate::plan::{self, Question};
use crate::syntax::ParseOptions;
use crate::value::Value;
use kymo_storage::api::Queryable;
use kymo_storage::model::Timestamp;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// What holds for all queries of an engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// How far an instant selector looks back for the newest sample.
    pub lookback: Duration,
    /// The step of subqueries that give none.
    pub subquery_step: Duration,
    /// The limits of one query, unless the query brings its own.
    pub limits: QueryLimits,
    /// The memory of all queries together, in bytes.
    pub memory_bytes: u64,
    /// Threads one query may use; 1 means only the caller's, 0 as many as the machine has. Answers do not depend on it.
    pub threads: usize,
    /// Functions and aggregators marked experimental.
    pub experimental_functions: bool,
    /// `anchored` and `smoothed`.
    pub extended_ranges: bool,
    /// `fill`, `fill_left` and `fill_right`.
    pub fill_modifiers: bool,
    /// Arithmetic in durations.
    pub duration_expressions: bool,
    /// Names are dropped at the end of a query instead of at each operation, as Prometheus does with
    /// `promql-delayed-name-removal`.
    pub delayed_name_removal: bool,
    /// `rate`, `increase`, `irate` and `resets` pay attention to start timestamps, and `start_timestamp` answers them, as in
    /// Prometheus with `use-start-timestamps`.
    pub use_start_timestamps: bool,
    /// Whether a metric is a counter is told by its label `__type__` instead of its name, as in Prometheus with
    /// `type-and-unit-labels`.
    pub type_and_unit_labels: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            lookback: Duration::from_secs(300),
            subquery_step: Duration::from_secs(60),
            limits: QueryLimits::default(),
            memory_bytes: 8 << 30,
            threads: 0,
            experimental_functions: true,
            extended_ranges: true,
            fill_modifiers: true,
            duration_expressions: true,
            delayed_name_removal: false,
            use_start_timestamps: false,
            type_and_unit_labels: false,
        }
    }
}

/// What one query brings with it.
#[derive(Debug, Clone, Default)]
pub struct QueryOptions {
    /// A time limit shorter than the engine's.
    pub timeout: Option<Duration>,
    /// Set to end the query early.
    pub cancel: Arc<AtomicBool>,
    /// Another lookback than the engine's; zero means the engine's.
    pub lookback: Option<Duration>,
    /// Other limits than the engine's.
    pub limits: Option<QueryLimits>,
    /// Where the query says how far it has come.
    pub progress: Arc<Progress>,
    /// Called once if the query turns out to be long.
    pub on_long: Option<OnLong>,
    /// Counts the samples of each step (see [`QueryResult::samples_per_step`]).
    pub step_stats: bool,
    /// Says what each operator did (see [`QueryResult::explain`]).
    pub explain: bool,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct QueryResult {
    /// The answer itself.
    pub value: Value,
    /// What may be wrong with it, as clients see it.
    pub warnings: Vec<String>,
    /// What is worth knowing about it, as clients see it.
    pub infos: Vec<String>,
    /// What it took.
    pub stats: QueryStats,
    /// For each step, as Prometheus counts them, the samples that the query looked at; those of windows that overlap count as often.
    /// Only if it was asked for.
    pub samples_per_step: Option<Vec<(Timestamp, u64)>>,
    /// What each operator did, if it was asked for.
    pub explain: Option<Operator>,
    /// The memory of `value`: it counts as used until all clones of this are dropped.
    pub memory: Held,
}

/// What an answer took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct QueryStats {
    /// Time to parse, check and plan.
    pub prepare: Duration,
    /// Time to evaluate.
    pub evaluate: Duration,
    /// Series that selectors found.
    pub series: u64,
    /// Samples read from the store.
    pub samples_read: u64,
    /// Most samples held in memory at one time.
    pub samples_peak: u64,
    /// Most memory reserved at one time, in bytes.
    pub bytes_peak: u64,
}

/// Evaluates queries; shared by all threads of a process.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
    pool: Arc<MemoryPool>,
    turns: Arc<Turns>,
    helpers: Arc<Pool>,
}

/// Trees higher than this are evaluated on a thread with a stack that is sure to hold them.
const HEIGHT_ON_CALLER: usize = 40;
/// The stack of that thread.
const DEEP_STACK_BYTES: usize = 64 << 20;

impl Engine {
    /// An engine.
    pub fn new(options: EngineOptions) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = match options.threads {
            0 => cores.min(8),
            threads => threads,
        };
        let (pool, turns) = (MemoryPool::new(options.memory_bytes), Turns::new(cores));
        Self { pool, turns, options, helpers: Arc::new(Pool::new(threads)) }
    }

    /// What holds for all queries.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// A handle to what [`Engine::memory_used`] says.
    pub fn memory_use(&self) -> MemoryUse {
        MemoryUse::new(self.pool.clone())
    }

    /// Memory that running queries have reserved, in bytes.
    pub fn memory_used(&self) -> u64 {
        self.pool.used()
    }

    /// Reads and checks a text as this engine would.
    ///
    /// # Errors
    /// All mistakes found.
    pub fn parse(&self, text: &str) -> Result<Expr, QueryError> {
        self.parse_within(text, &self.options.limits)
    }

    fn parse_within(&self, text: &str, limits: &QueryLimits) -> Result<Expr, QueryError> {
        let options = ParseOptions {
            bytes_max: limits.text_bytes,
            depth_max: limits.depth,
            experimental_functions: self.options.experimental_functions,
            extended_ranges: self.options.extended_ranges,
            fill_modifiers: self.options.fill_modifiers,
            duration_expressions: self.options.duration_expressions,
            ..ParseOptions::default()
        };
        Ok(crate::parse(text, &options)?)
    }

    /// Evaluates `text` at `time`.
    ///
    /// # Errors
    /// See [`FailureKind`].
    pub fn instant(
        &self,
        store: &dyn Queryable,
        text: &str,
        time: Timestamp,
        options: &QueryOptions,
    ) -> Result<QueryResult, QueryError> {
        self.evaluate(store, text, (time, time, 0), options)
    }

    /// Evaluates `text` at `start`, `start + step`, ... up to at most `end`; all in milliseconds. The answer is a matrix.
    ///
    /// # Errors
    /// See [`FailureKind`]; a step that is not positive, an end before the start, too many steps.
    pub fn range(
        &self,
        store: &dyn Queryable,
        text: &str,
        start: Timestamp,
        end: Timestamp,
        step: i64,
        options: &QueryOptions,
    ) -> Result<QueryResult, QueryError> {
        let bad = |message: &str| Err(QueryError::new(FailureKind::BadData, message));
        if step <= 0 {
            return bad(
                "zero or negative query resolution step widths are not accepted. Try a positive integer",
            );
        }
        if end < start {
            return bad("end timestamp must not be before start time");
        }
        let intervals = end.abs_diff(start) / step.unsigned_abs();
        let allowed = options.limits.as_ref().unwrap_or(&self.options.limits).points_per_series;
        if intervals > allowed {
            return Err(limits::too_many_points(allowed, intervals.saturating_add(1)));
        }
        self.evaluate(store, text, (start, end, step), options)
    }

    fn evaluate(
        &self,
        store: &dyn Queryable,
        text: &str,
        (start, end, step): (Timestamp, Timestamp, i64),
        options: &QueryOptions,
    ) -> Result<QueryResult, QueryError> {
        let began = now();
        let mut limits = options.limits.clone().unwrap_or_else(|| self.options.limits.clone());
        if let Some(timeout) = options.timeout {
            limits.timeout = limits.timeout.min(timeout);
        }
        let expr = self.parse_within(text, &limits)?;
        let value_type = expr.value_type();
        if step != 0 && !matches!(value_type, ValueType::Scalar | ValueType::Vector) {
            let message = format!(
                "invalid expression type \"{value_type}\" for range query, must be Scalar or instant Vector"
            );
            return Err(QueryError::new(FailureKind::BadData, message));
        }
        let lookback = options.lookback.filter(|l| !l.is_zero()).unwrap_or(self.options.lookback);
        let question = Question {
            text,
            start,
            end,
            step,
            lookback: millis(lookback),
            subquery_step: millis(self.options.subquery_step).max(1),
            steps_max: limits.samples,
        };
        let budget = self.budget(limits, options);
        budget.check()?;
        let work = || self.work(store, &expr, (&question, options), &budget, began);
        let done = if height_exceeds(&expr, HEIGHT_ON_CALLER) { on_deep_stack(work) } else { guarded(work) };
        // A tree is as deep to drop as it is to walk.
        done?
    }

    fn work(
        &self,
        store: &dyn Queryable,
        expr: &Expr,
        (question, options): (&Question<'_>, &QueryOptions),
        budget: &Arc<Budget>,
        began: Instant,
    ) -> Result<QueryResult, QueryError> {
        let plan = plan::plan(expr, question)?;
        let querier = store.querier(plan.range())?;
        let plan::Plan { root, selects } = plan;
        let behaviour = Behaviour {
            delayed_names: self.options.delayed_name_removal,
            start_timestamps: self.options.use_start_timestamps,
            type_labels: self.options.type_and_unit_labels,
        };
        let context = Context::new(
            budget.clone(),
            querier,
            selects,
            self.helpers.clone(),
            behaviour,
            question.lookback,
        );
        let grid = question.grid();
        let context = context.watched(options.explain, options.step_stats.then_some(grid.count));
        let prepared = began.elapsed();
        let (value, memory) = crate::exec::run(&context, root, grid, question.step == 0)?;
        let (annotations, store_warnings, Watch { explain, step_samples }) = context.finish(question.text);
        let (mut warnings, infos) = annotations.into_texts(question.text);
        warnings.extend(store_warnings);
        let (samples_read, samples_peak, bytes_peak, series) = budget.totals();
        let evaluate = began.elapsed().saturating_sub(prepared);
        let stats =
            QueryStats { prepare: prepared, evaluate, series, samples_read, samples_peak, bytes_peak };
        let at_steps = |samples: Vec<u64>| {
            samples.into_iter().enumerate().map(|(step, samples)| (grid.time(step), samples)).collect()
        };
        let samples_per_step = step_samples.map(at_steps);
        let memory = Held::new(memory);
        Ok(QueryResult { value, warnings, infos, stats, samples_per_step, explain, memory })
    }

    fn budget(&self, limits: QueryLimits, options: &QueryOptions) -> Arc<Budget> {
        let shared = Shared {
            cancel: options.cancel.clone(),
            pool: self.pool.clone(),
            turns: self.turns.clone(),
            progress: options.progress.clone(),
            on_long: options.on_long.clone(),
        };
        Budget::new(limits, shared)
    }

    /// Reserves memory that counts as that of a query: for what is asked of a store without PromQL.
    ///
    /// # Errors
    /// The memory of one query or of all queries would be passed.
    pub fn hold(&self, bytes: u64) -> Result<Held, QueryError> {
        let budget = self.budget(self.options.limits.clone(), &QueryOptions::default());
        budget.reserve(0, bytes).map(Held::new)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A panic is a bug of ours; it ends the query and not the process.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, QueryError> {
    std::panic::catch_unwind(AssertUnwindSafe(work))
        .map_err(|_| QueryError::internal("the query ended in a panic; this is a bug"))
}

fn on_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, QueryError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("query".to_owned())
            .stack_size(DEEP_STACK_BYTES)
            .spawn_scoped(scope, || guarded(work))
            .map_err(|e| QueryError::internal(format!("a thread cannot be started: {e}")))?;
        thread.join().map_err(|_| QueryError::internal("the query ended in a panic; this is a bug"))?
    })
}

/// Whether the tree is higher than `limit`; looks no deeper than that.
fn height_exceeds(expr: &Expr, limit: usize) -> bool {
    let mut level = vec![expr];
    for _ in 0..limit {
        level = level.into_iter().flat_map(Expr::children).collect();
        if level.is_empty() {
            return false;
        }
    }
    true
}
