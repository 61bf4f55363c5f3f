//! `Answer`: what PromQL came to, as columns.

use ::kymo::{Labels, Value};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::collections::BTreeSet;

/// The answer of a query. `kind` is `scalar`, `string`, `vector` or `matrix`.
#[pyclass(frozen, module = "kymo")]
pub(crate) struct Answer {
    answer: ::kymo::Answer,
}

impl Answer {
    pub(crate) fn new(answer: ::kymo::Answer) -> Self {
        Self { answer }
    }

    /// Each series with its floats; a scalar has no labels. Native histograms are left out.
    fn rows(&self) -> Vec<(Labels, Vec<i64>, Vec<f64>)> {
        match &self.answer.value {
            Value::Scalar(point) => vec![(Labels::empty(), vec![point.timestamp], vec![point.value])],
            Value::String { .. } => Vec::new(),
            Value::Vector(samples) => samples
                .iter()
                .filter(|sample| sample.histogram.is_none())
                .map(|sample| {
                    (sample.labels.clone(), vec![sample.point.timestamp], vec![sample.point.value])
                })
                .collect(),
            Value::Matrix(all) => all
                .iter()
                .map(|series| {
                    let (times, values) = series.points.iter().map(|p| (p.timestamp, p.value)).unzip();
                    (series.labels.clone(), times, values)
                })
                .collect(),
        }
    }
}

#[pymethods]
impl Answer {
    /// `scalar`, `string`, `vector` or `matrix`.
    #[getter]
    fn kind(&self) -> &'static str {
        self.answer.value.type_name()
    }

    /// The text of a string, else None.
    #[getter]
    fn text(&self) -> Option<&str> {
        match &self.answer.value {
            Value::String { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The number of a scalar, or of a vector with exactly one float, else None.
    #[getter]
    fn value(&self) -> Option<f64> {
        self.answer.single()
    }

    /// What may be wrong with the answer.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.answer.warnings.clone()
    }

    /// What is worth knowing about the answer.
    #[getter]
    fn infos(&self) -> Vec<String> {
        self.answer.infos.clone()
    }

    /// Samples read from the store.
    #[getter]
    fn samples_read(&self) -> u64 {
        self.answer.stats.samples_read
    }

    /// A list of `(labels, timestamps, values)`: a dict, an int64 array of milliseconds, a float64 array.
    fn series<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for (labels, times, values) in py.detach(|| self.rows()) {
            list.append((labels_dict(py, &labels)?, times.into_pyarray(py), values.into_pyarray(py)))?;
        }
        Ok(list)
    }

    /// One row a sample: a dict of columns of one length. `timestamp` (int64, milliseconds) and `value` (float64) are arrays, each label
    /// is a list of str, empty where a series has not that label. pandas and polars take it as it is.
    fn columns<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let rows = py.detach(|| self.rows());
        let mut names = BTreeSet::new();
        for (labels, ..) in &rows {
            names.extend(labels.iter().map(|(name, _)| name.to_owned()));
        }
        let columns = PyDict::new(py);
        for name in &names {
            let column = PyList::empty(py);
            for (labels, times, _) in &rows {
                let text = pyo3::types::PyString::new(py, labels.value(name));
                for _ in times {
                    column.append(&text)?;
                }
            }
            columns.set_item(name, column)?;
        }
        let times: Vec<i64> = rows.iter().flat_map(|row| row.1.iter().copied()).collect();
        let values: Vec<f64> = rows.iter().flat_map(|row| row.2.iter().copied()).collect();
        columns.set_item("timestamp", PyArray1::from_vec(py, times))?;
        columns.set_item("value", PyArray1::from_vec(py, values))?;
        Ok(columns)
    }

    fn __repr__(&self) -> String {
        let (kind, rows) = (self.kind(), self.rows());
        let samples: usize = rows.iter().map(|row| row.1.len()).sum();
        format!("<kymo.Answer {kind}: {} series, {samples} samples>", rows.len())
    }
}

pub(crate) fn labels_dict<'py>(py: Python<'py>, labels: &Labels) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in labels.iter() {
        dict.set_item(name, value)?;
    }
    Ok(dict)
}
