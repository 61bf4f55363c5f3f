//! Damage that a read met and stepped around, each sentence once.

use crate::error::{Error, ErrorKind, Result};
use crate::model::TimeRange;
use parking_lot::Mutex;
use std::collections::BTreeSet;

/// How many sentences are kept; damage comes in crowds and the first say enough.
const WARNINGS_MAX: usize = 20;

/// A file that should be there and is not read: put aside as damaged, or refused by the operating system.
#[derive(Debug)]
pub(crate) struct Missing {
    /// The times it may have had samples of.
    pub(crate) times: TimeRange,
    /// What to tell the reader.
    pub(crate) sentence: String,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Warnings {
    sentences: Mutex<BTreeSet<String>>,
}

impl Warnings {
    /// Warns of the files that are missing from an answer over `range`.
    pub(crate) fn of_missing(missing: &[Missing], range: TimeRange) -> Self {
        let touched = missing.iter().filter(|file| file.times.overlaps(&range));
        let sentences = touched.take(WARNINGS_MAX).map(|file| file.sentence.clone()).collect();
        Self { sentences: Mutex::new(sentences) }
    }

    /// Passes a value through, turns confined damage into a warning, and hands every other error on.
    ///
    /// # Errors
    /// What is not confined to a file.
    pub(crate) fn confine<T>(&self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if is_confined(&error) => {
                let mut sentences = self.sentences.lock();
                if sentences.len() < WARNINGS_MAX {
                    sentences.insert(format!("stored data is damaged and left out: {error}"));
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn list(&self) -> Vec<String> {
        self.sentences.lock().iter().cloned().collect()
    }
}

/// A damaged block is not the caller's error.
fn is_confined(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Io)
}
