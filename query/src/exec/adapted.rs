//! A source whose series are those of another one, with other values. Hot path.

use super::context::Context;
use super::source::{Source, Worker};
use crate::column::Column;
use crate::failure::QueryError;
use kymo_storage::api::LabelColumn;
use kymo_storage::model::Labels;
use std::sync::Arc;

/// See the module.
struct Adapted<F> {
    input: Arc<dyn Source>,
    fill: F,
    /// Whether `fill` itself has nothing to tell the user and cannot fail.
    quiet: bool,
}

impl<F> Source for Adapted<F>
where
    F: Fn(&dyn Source, usize, &mut Worker<'_>, &mut Column) -> Result<(), QueryError> + Send + Sync,
{
    fn len(&self) -> usize {
        self.input.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.input.labels(index)
    }

    fn drops_name(&self, index: usize) -> bool {
        self.input.drops_name(index)
    }

    fn label_column(&self, name: &str) -> LabelColumn {
        self.input.label_column(name)
    }

    fn is_distinct(&self) -> bool {
        self.input.is_distinct()
    }

    fn has_one_name(&self) -> bool {
        self.input.has_one_name()
    }

    fn is_ready(&self) -> bool {
        self.input.is_ready()
    }

    fn may_tell(&self) -> bool {
        !self.quiet || self.input.may_tell()
    }

    fn fill(&self, index: usize, worker: &mut Worker<'_>, out: &mut Column) -> Result<(), QueryError> {
        (self.fill)(&*self.input, index, worker, out)
    }
}

/// The series of `input`, computed by `fill`, which is given `input`, the number of the series and the column to fill.
pub(crate) fn adapted(
    input: Arc<dyn Source>,
    fill: impl Fn(&dyn Source, usize, &mut Worker<'_>, &mut Column) -> Result<(), QueryError>
    + Send
    + Sync
    + 'static,
) -> Arc<dyn Source> {
    Arc::new(Adapted { input, fill, quiet: false })
}

/// `input` with each column changed; labels stay.
pub(crate) fn mapped_columns(
    input: Arc<dyn Source>,
    change: impl Fn(&mut Column, &Context) + Send + Sync + 'static,
) -> Arc<dyn Source> {
    adapted(input, move |input, index, worker, out| {
        input.fill(index, worker, out)?;
        change(out, worker.context);
        Ok(())
    })
}

/// `input` with each float changed and without histograms; labels stay.
pub(crate) fn mapped(
    input: Arc<dyn Source>,
    change: impl Fn(f64) -> f64 + Send + Sync + 'static,
) -> Arc<dyn Source> {
    let fill = move |input: &dyn Source, index: usize, worker: &mut Worker<'_>, out: &mut Column| {
        input.fill(index, worker, out)?;
        out.histograms.clear();
        out.map(&change);
        Ok(())
    };
    Arc::new(Adapted { input, fill, quiet: true })
}
