//! `absent` and `absent_over_time`: 1 where there is nothing.

use super::super::build::vector;
use super::super::context::Context;
use super::super::fan_out::drain;
use super::super::matrix::{Matrix, Row};
use super::super::source::Source;
use crate::column::{Bitmap, Column};
use crate::failure::QueryError;
use crate::plan::{Grid, Node};
use kymo_storage::model::Labels;
use std::sync::Arc;

/// One series with these labels: 1 at the steps at which `input` is empty.
///
/// # Errors
/// As [`vector`].
pub(crate) fn absent(
    context: &Context,
    input: Node,
    labels: Labels,
    grid: Grid,
) -> Result<Arc<dyn Source>, QueryError> {
    let input = vector(context, input, grid)?;
    context.hold(grid.count, Column::bytes(grid.count).saturating_mul(2))?;
    let mut seen = Bitmap::new(grid.count);
    drain(context, &*input, grid.count, |_, column| {
        column.add_steps(&mut seen);
        Ok(())
    })?;
    let mut column = Column::new(grid.count);
    column.values.fill(1.0);
    column.present.fill();
    column.present.and_not(&seen);
    let row = Row { labels, drops_name: false, column };
    Ok(Arc::new(Matrix::new(vec![row], true, None)))
}
