//! A source that counts what is asked of it.

use super::profile::{Begun, Counters};
use super::source::{Source, Worker};
use crate::clock::now;
use crate::column::Column;
use crate::failure::QueryError;
use kymo_storage::api::LabelColumn;
use kymo_storage::model::Labels;
use std::sync::Arc;

/// `input`, watched from now on.
pub(crate) fn metered(begun: Begun, input: Arc<dyn Source>) -> Arc<dyn Source> {
    let counters = begun.built(input.len());
    Arc::new(Metered { input, counters })
}

/// See the module.
struct Metered {
    input: Arc<dyn Source>,
    counters: Arc<Counters>,
}

impl Source for Metered {
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

    fn fill(&self, index: usize, worker: &mut Worker<'_>, out: &mut Column) -> Result<(), QueryError> {
        let since = now();
        let result = self.input.fill(index, worker, out);
        self.counters.add_series(since, out.present.count() + out.histograms.len());
        result
    }
}
