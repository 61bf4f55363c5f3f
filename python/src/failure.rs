//! The exception of the module.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;

pyo3::create_exception!(
    kymo,
    Error,
    PyException,
    "What went wrong. `kind` says what to do: invalid, out_of_bounds, duplicate, limit_exceeded, not_found, unavailable, cancelled, \
     deadline, corrupt, io or internal."
);

/// An error of the library as an exception.
pub(crate) fn raise(error: &::kymo::Error) -> PyErr {
    let kind = snake(&format!("{:?}", error.kind()));
    let text = error.to_string();
    Python::attach(|py| {
        let raised = Error::new_err(text);
        // An exception takes any attribute; without it the text still says what is wrong.
        let _ = raised.value(py).setattr("kind", kind);
        raised
    })
}

/// `LimitExceeded` as `limit_exceeded`.
fn snake(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    for (at, letter) in name.char_indices() {
        if letter.is_uppercase() && at > 0 {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}
