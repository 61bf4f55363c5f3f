//! Computes all series of a source, on several threads if that pays, and hands them over in order. Hot path.
//!
//! Thread `t` of `n` computes chunks `t`, `t + n`, ... and the caller takes the chunks in turn: what is computed from the series
//! does not depend on the number of threads, to the bit.

use super::context::Context;
use super::source::{Source, Worker};
use crate::budget::{Reservation, Slice};
use crate::column::Column;
use crate::failure::QueryError;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// A chunk has about so many values.
const CHUNK_VALUES: usize = 1 << 16;
/// A chunk has at most so many series.
const CHUNK_SERIES_MAX: usize = 128;
/// After so many series a thread looks whether others should go first.
const RENEW_EVERY: usize = 16;
/// The stack of a thread: trees are at most 256 high.
const STACK_BYTES: usize = 4 << 20;

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
    let chunk = (CHUNK_VALUES / steps.max(1)).clamp(1, CHUNK_SERIES_MAX);
    let chunks = series.div_ceil(chunk);
    let threads = context.threads.min(chunks);
    if threads <= 1 || source.is_ready() {
        let _memory = context.budget.reserve(0, Column::bytes(steps))?;
        let mut worker = Worker::new(context);
        let mut column = Column::new(steps);
        let mut slice = Slice::default();
        for index in 0..series {
            if index % RENEW_EVERY == 0 {
                slice.renew(&context.budget)?;
                context.budget.count_computed(RENEW_EVERY.saturating_mul(steps));
            }
            source.fill(index, &mut worker, &mut column)?;
            consume(index, &mut column)?;
        }
        return Ok(());
    }
    let in_flight = (threads * 3 * chunk) as u64;
    let _memory = context.budget.reserve(0, in_flight.saturating_mul(Column::bytes(steps)))?;
    std::thread::scope(|scope| {
        let mut pipes = Vec::with_capacity(threads);
        for thread in 0..threads {
            let (full, filled) = sync_channel::<Chunk>(1);
            let (back, empty) = sync_channel::<Vec<Column>>(3);
            let work = move || {
                let mut worker = Worker::new(context);
                let mut at = thread;
                while at < chunks {
                    let range = at * chunk..((at + 1) * chunk).min(series);
                    let made = fill_chunk(source, range, &mut worker, empty.try_recv().unwrap_or_default());
                    let failed = made.is_err();
                    if full.send(made).is_err() || failed {
                        return;
                    }
                    at += threads;
                }
            };
            std::thread::Builder::new()
                .name("query".to_owned())
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, work)
                .map_err(|e| QueryError::internal(format!("a thread cannot be started: {e}")))?;
            pipes.push((filled, back));
        }
        collect(&pipes, chunks, chunk, &mut consume)
    })
}

/// Takes the chunks in order.
fn collect(
    pipes: &[(Receiver<Chunk>, SyncSender<Vec<Column>>)],
    chunks: usize,
    chunk: usize,
    consume: &mut impl FnMut(usize, &mut Column) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    for at in 0..chunks {
        let (filled, back) = &pipes[at % pipes.len()];
        let Ok(made) = filled.recv() else {
            return Err(QueryError::internal("a thread of the query ended early"));
        };
        let (mut columns, _memory) = made?;
        for (i, column) in columns.iter_mut().enumerate() {
            consume(at * chunk + i, column)?;
        }
        // A thread that has all its chunks no longer takes columns back.
        let _ = back.try_send(columns);
    }
    Ok(())
}

fn fill_chunk(
    source: &dyn Source,
    range: std::ops::Range<usize>,
    worker: &mut Worker<'_>,
    mut columns: Vec<Column>,
) -> Chunk {
    let context = worker.context;
    let budget = &context.budget;
    let mut slice = Slice::default();
    let mut memory = budget.reserve(0, 0)?;
    columns.resize_with(range.len(), Column::default);
    for (at, (column, index)) in columns.iter_mut().zip(range).enumerate() {
        if at % RENEW_EVERY == 0 {
            slice.renew(budget)?;
        }
        source.fill(index, worker, column)?;
        memory.hold(column.histogram_size())?;
        budget.count_computed(column.len());
    }
    Ok((columns, memory))
}
