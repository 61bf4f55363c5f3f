//! Computes all series of a source, on several threads if that pays, and hands them over in order. Hot path.
//!
//! The series are cut into chunks, and whoever is free takes the next: the caller, and helpers that go from query to query. The
//! caller hands over the chunks in their order, so the answer does not depend on the number of threads, to the bit. A helper
//! waits for nothing: if there is no more to do at the moment it goes, and the caller calls it again.

use super::context::Context;
use super::source::{Source, Worker};
use crate::budget::{Reservation, Slice};
use crate::clock::now;
use crate::column::Column;
use crate::failure::QueryError;
use parking_lot::{Condvar, Mutex};
use rayon_core::ScopeFifo;
use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// A chunk has at most about so many values.
const CHUNK_VALUES: usize = 1 << 16;
/// And at most so many series.
const CHUNK_SERIES_MAX: usize = 128;
/// Each thread gets about so many chunks, so that all are done at the same time.
const CHUNKS_A_THREAD: usize = 8;
/// Chunks that may be under way or wait to be handed over, for each thread.
const WINDOW_A_THREAD: usize = 4;
/// A series is as much work as so many samples, at least.
const WORK_A_SERIES: usize = 128;
/// Less work than this is done before a helper has come.
const HELP_FROM: usize = 1 << 17;
/// A helper goes after so long, for the next query.
const HELP_TIME: Duration = Duration::from_millis(5);
/// After at most so many series a thread looks whether others should go first.
const RENEW_EVERY: usize = 16;
/// And after about so many values.
const RENEW_VALUES: usize = 1 << 13;

/// After so many series of so many steps a thread looks whether others should go first.
fn renew_every(steps: usize) -> usize {
    (RENEW_VALUES / steps.max(1)).clamp(1, RENEW_EVERY)
}

/// Columns, and the memory of their histograms.
type Chunk = Result<(Vec<Column>, Reservation), QueryError>;

/// Calls `consume` with each series of `source` and its number, in ascending order.
///
/// # Errors
/// The first error of the source or of `consume`.
pub(crate) fn drain(
    context: &Context,
    source: &dyn Source,
    steps: usize,
    mut consume: impl FnMut(usize, &mut Column) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    let series = source.len();
    let threads = context.threads;
    let work =
        series.saturating_mul(steps.saturating_add(context.samples_a_series).saturating_add(WORK_A_SERIES));
    let helpers = if threads <= 1 || series <= 1 || work < HELP_FROM || source.is_ready() {
        None
    } else {
        context.pool.helpers()
    };
    let Some(helpers) = helpers else {
        return alone(context, source, steps, consume);
    };
    let chunk = (CHUNK_VALUES / steps.max(1)).clamp(1, CHUNK_SERIES_MAX);
    let chunk = chunk.min(series.div_ceil(threads.saturating_mul(CHUNKS_A_THREAD))).max(1);
    let window = threads.saturating_mul(WINDOW_A_THREAD);
    let in_flight = (window * chunk) as u64;
    let _memory = context.budget.reserve(0, in_flight.saturating_mul(Column::bytes(steps)))?;
    let line = Line {
        context,
        source,
        series,
        steps,
        chunk,
        window,
        state: Mutex::default(),
        ready: Condvar::new(),
    };
    helpers.in_place_scope_fifo(|scope| line.hand_over(scope, &mut consume))
}

/// As [`drain`], without help.
fn alone(
    context: &Context,
    source: &dyn Source,
    steps: usize,
    mut consume: impl FnMut(usize, &mut Column) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    let _memory = context.budget.reserve(0, Column::bytes(steps))?;
    let mut worker = Worker::new(context);
    let mut column = Column::new(steps);
    let mut slice = Slice::default();
    let every = renew_every(steps);
    for index in 0..source.len() {
        if index % every == 0 {
            slice.renew(&context.budget)?;
            context.budget.count_computed(every.saturating_mul(steps));
        }
        source.fill(index, &mut worker, &mut column)?;
        consume(index, &mut column)?;
    }
    Ok(())
}

/// The chunks of one source on their way.
struct Line<'c> {
    context: &'c Context,
    source: &'c dyn Source,
    series: usize,
    steps: usize,
    /// Series in a chunk.
    chunk: usize,
    /// Chunks that may be under way.
    window: usize,
    state: Mutex<State<'c>>,
    /// The chunk that is to be handed over next is there.
    ready: Condvar,
}

#[derive(Default)]
struct State<'c> {
    /// The chunk to be computed next.
    next: usize,
    /// How many are handed over.
    taken: usize,
    /// Those from `taken` to `next`, once they are there.
    done: VecDeque<Option<Chunk>>,
    /// Columns to be used again.
    spare: Vec<Vec<Column>>,
    /// What helpers left behind.
    workers: Vec<Worker<'c>>,
    /// How many were called and are not gone.
    helpers: usize,
    /// Nobody waits for more.
    over: bool,
}

/// Tells the helpers that nobody waits for more.
struct Over<'l, 'c>(&'l Line<'c>);

impl Drop for Over<'_, '_> {
    fn drop(&mut self) {
        self.0.state.lock().over = true;
    }
}

impl<'c> Line<'c> {
    fn chunks(&self) -> usize {
        self.series.div_ceil(self.chunk)
    }

    /// The caller's part.
    fn hand_over<'s>(
        &'s self,
        scope: &ScopeFifo<'s>,
        consume: &mut impl FnMut(usize, &mut Column) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let _over = Over(self);
        let (mut worker, every) = (Worker::new(self.context), renew_every(self.steps));
        for at in 0..self.chunks() {
            self.call_helpers(scope);
            let (mut columns, _memory) = self.chunk_of(at, &mut worker)?;
            for (i, column) in columns.iter_mut().enumerate() {
                if i % every == 0 {
                    self.context.budget.check()?;
                }
                consume(at * self.chunk + i, column)?;
            }
            self.state.lock().spare.push(columns);
        }
        Ok(())
    }

    /// Calls as many helpers as there is work for, unless they would soon have to go again.
    fn call_helpers<'s>(&'s self, scope: &ScopeFifo<'s>) {
        let mut state = self.state.lock();
        if state.next - state.taken > self.window / 2 {
            return;
        }
        // One chunk is the caller's own.
        let wanted = (self.context.threads - 1).min((self.chunks() - state.next).saturating_sub(1));
        for _ in state.helpers..wanted {
            state.helpers += 1;
            scope.spawn_fifo(|_| self.help());
        }
    }

    /// Waits for chunk `at`, the next to be handed over, and computes what nobody else does meanwhile.
    fn chunk_of(&self, at: usize, worker: &mut Worker<'c>) -> Chunk {
        let mut state = self.state.lock();
        loop {
            if let Some(Some(_)) = state.done.front() {
                state.taken += 1;
                let done = state.done.pop_front().flatten();
                return done.unwrap_or_else(|| Err(QueryError::internal("a chunk is there or it is not")));
            }
            match self.claim(&mut state) {
                Some((number, columns)) => {
                    drop(state);
                    let made = self.compute(number, worker, columns, Slice::default(), true);
                    state = self.state.lock();
                    self.put(&mut state, number, made);
                }
                // Helpers always end, and put what they have taken on.
                None if state.taken < state.next => self.ready.wait(&mut state),
                None => return Err(QueryError::internal(format!("nobody computes chunk {at}"))),
            }
        }
    }

    /// A helper's part.
    fn help(&self) {
        let began = now();
        let mut state = self.state.lock();
        let mut worker = state.workers.pop().unwrap_or_else(|| Worker::new(self.context));
        while !state.over && began.elapsed() < HELP_TIME {
            let Some(slice) = Slice::at_once(&self.context.budget) else { break };
            let Some((number, columns)) = self.claim(&mut state) else { break };
            drop(state);
            let work = AssertUnwindSafe(|| self.compute(number, &mut worker, columns, slice, false));
            // What a panic leaves behind is not used again.
            let made = catch_unwind(work).unwrap_or_else(|_| {
                worker = Worker::new(self.context);
                Err(QueryError::internal("a thread of the query ended in a panic; this is a bug"))
            });
            state = self.state.lock();
            self.put(&mut state, number, made);
        }
        state.helpers -= 1;
        state.workers.push(worker);
    }

    /// Takes on the next chunk: its number, and columns to compute in.
    fn claim(&self, state: &mut State<'c>) -> Option<(usize, Vec<Column>)> {
        let number = state.next;
        if number >= self.chunks() || number >= state.taken + self.window {
            return None;
        }
        state.next += 1;
        state.done.push_back(None);
        Some((number, state.spare.pop().unwrap_or_default()))
    }

    fn put(&self, state: &mut State<'c>, number: usize, made: Chunk) {
        let place = number - state.taken;
        if let Some(slot) = state.done.get_mut(place) {
            *slot = Some(made);
        }
        if place == 0 {
            self.ready.notify_one();
        }
    }

    /// Computes a chunk. The caller lets others go first if it `may_wait`.
    fn compute(
        &self,
        number: usize,
        worker: &mut Worker<'c>,
        mut columns: Vec<Column>,
        mut slice: Slice,
        may_wait: bool,
    ) -> Chunk {
        let range: Range<usize> = number * self.chunk..((number + 1) * self.chunk).min(self.series);
        let budget = &self.context.budget;
        let mut memory = budget.reserve(0, 0)?;
        columns.resize_with(range.len(), Column::default);
        let every = renew_every(self.steps);
        for (at, (column, index)) in columns.iter_mut().zip(range).enumerate() {
            if at % every == 0 {
                if may_wait { slice.renew(budget)? } else { budget.check()? }
            }
            self.source.fill(index, worker, column)?;
            memory.hold(column.histogram_size())?;
            budget.count_computed(column.len());
        }
        Ok((columns, memory))
    }
}
