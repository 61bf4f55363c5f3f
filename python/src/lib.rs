//! The Python module `kymo`: the embedded database with NumPy arrays in and out. Rust works with the interpreter lock released.

mod answer;
mod database;
mod failure;

use pyo3::prelude::*;

/// Kymo, the metrics database with PromQL, in your process.
#[pymodule]
fn kymo(py: Python<'_>, module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("Error", py.get_type::<failure::Error>())?;
    module.add_class::<database::Database>()?;
    module.add_class::<database::Appender>()?;
    module.add_class::<database::Series>()?;
    module.add_class::<database::Selection>()?;
    module.add_class::<answer::Answer>()
}
