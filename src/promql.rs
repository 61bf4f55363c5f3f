//! PromQL, typed: instants and ranges with limits, cancellation and annotations, and what each operator did.

use crate::db::Db;
use crate::error::guarded;
use crate::query_options::QueryOptions;
use crate::{Error, ErrorKind, Result};
use kymo_query::{Held, Operator, QueryResult, QueryStats, Value};
use kymo_storage::model::Timestamp;
use std::time::Duration;

/// An answer. It counts towards the memory of queries until it and all its clones are dropped.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Answer {
    /// The answer itself.
    pub value: Value,
    /// What may be wrong with it.
    pub warnings: Vec<String>,
    /// What is worth knowing about it.
    pub infos: Vec<String>,
    /// What it took.
    pub stats: QueryStats,
    /// For each step the samples looked at, if it was asked for; those of windows that overlap count as often.
    pub samples_per_step: Option<Vec<(Timestamp, u64)>>,
    /// What each operator did, if it was asked for.
    pub explain: Option<Operator>,
    /// Gives the memory back when it goes.
    _memory: Held,
}

impl From<QueryResult> for Answer {
    fn from(result: QueryResult) -> Self {
        let QueryResult { value, warnings, infos, stats, samples_per_step, explain, memory, .. } = result;
        Self { value, warnings, infos, stats, samples_per_step, explain, _memory: memory }
    }
}

impl Answer {
    /// The number of a scalar, or of a vector with exactly one sample that is a float; `None` for everything else.
    pub fn single(&self) -> Option<f64> {
        match &self.value {
            Value::Scalar(point) => Some(point.value),
            Value::Vector(samples) => match samples.as_slice() {
                [sample] if sample.histogram.is_none() => Some(sample.point.value),
                _ => None,
            },
            Value::Matrix(_) | Value::String { .. } => None,
        }
    }
}

impl Db {
    /// Evaluates PromQL at one instant, in milliseconds since the Unix epoch.
    ///
    /// ```
    /// use kymo::{Db, Labels};
    ///
    /// let db = Db::in_memory()?;
    /// let mut appender = db.appender();
    /// let jobs = appender.series(&Labels::from_pairs([("__name__", "jobs_total")]))?;
    /// (0..=10).for_each(|minute| appender.append(jobs, minute * 60_000, 6.0 * minute as f64));
    /// appender.commit()?.wait()?;
    /// assert_eq!(db.instant("rate(jobs_total[5m])", 600_000)?.single(), Some(0.1));
    /// # Ok::<(), kymo::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid`: the text is not PromQL ([`Error::mistakes`] says where), or cannot be evaluated on this data. `LimitExceeded`,
    /// `Deadline`, `Cancelled`: as the options say. `Io`: the disk refuses.
    pub fn instant(&self, query: &str, time: Timestamp) -> Result<Answer> {
        self.instant_with(query, time, &QueryOptions::default())
    }

    /// As [`Db::instant`], with limits and wishes of its own.
    ///
    /// # Errors
    /// As [`Db::instant`].
    pub fn instant_with(&self, query: &str, time: Timestamp, options: &QueryOptions) -> Result<Answer> {
        guarded(|| {
            options.validate()?;
            let options = options.for_engine(&self.engine().options().limits);
            Ok(self.engine().instant(&self.storage(), query, time, &options)?.into())
        })
    }

    /// Evaluates PromQL at `start`, `start + step`, ... up to at most `end`, in milliseconds since the Unix epoch. The answer is a
    /// matrix: a series for each label set, with a point for each step that has one.
    ///
    /// # Errors
    /// As [`Db::instant`]; `Invalid` for a step shorter than a millisecond or an end before the start.
    pub fn range(&self, query: &str, start: Timestamp, end: Timestamp, step: Duration) -> Result<Answer> {
        self.range_with(query, start, end, step, &QueryOptions::default())
    }

    /// As [`Db::range`], with limits and wishes of its own.
    ///
    /// # Errors
    /// As [`Db::range`].
    pub fn range_with(
        &self,
        query: &str,
        start: Timestamp,
        end: Timestamp,
        step: Duration,
        options: &QueryOptions,
    ) -> Result<Answer> {
        guarded(|| {
            options.validate()?;
            let step = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
            let options = options.for_engine(&self.engine().options().limits);
            Ok(self.engine().range(&self.storage(), query, start, end, step, &options)?.into())
        })
    }

    /// Evaluates `query` at `time` and says what each operator did: series, points, samples, bytes, chunks, time. For a range:
    /// [`QueryOptions::explain`].
    ///
    /// # Errors
    /// As [`Db::instant`].
    pub fn explain(&self, query: &str, time: Timestamp) -> Result<Operator> {
        let answer = self.instant_with(query, time, &QueryOptions::new().explain(true))?;
        answer.explain.ok_or_else(|| Error::new(ErrorKind::Internal, "a query was not explained"))
    }

    /// Reads and checks a text without evaluating it, and answers it in the one form in which PromQL prints it.
    ///
    /// # Errors
    /// `Invalid`: it is not PromQL; [`Error::mistakes`] says where.
    pub fn check_query(&self, query: &str) -> Result<String> {
        guarded(|| Ok(self.engine().parse(query)?.to_string()))
    }
}
