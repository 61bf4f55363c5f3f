//! The outside oracle: a synced file of what was sent and what the server said, judged after the server was killed.
//!
//! A line a request: `sent ID` before the first byte leaves, then `acked ID` (2xx was read), `refused ID` (4xx) or nothing
//! (the outcome is unknown: the request may be stored whole or not at all). What a request holds is a function of its
//! id, so the file stays small and the tested process has no part in it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// What is known of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Sent, no answer read.
    Unknown,
    /// Answered 2xx.
    Acked,
    /// Answered 4xx.
    Refused,
}

/// The writer of the file; one a client thread.
#[derive(Debug)]
pub struct Oracle {
    file: File,
}

impl Oracle {
    /// Appends to (or creates) the file.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().create(true).append(true).open(path)? })
    }

    /// The request is about to be sent. Not synced: a `sent` that is lost with the machine is an unknown like any other.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn sent(&mut self, id: u64) -> io::Result<()> {
        self.file.write_all(format!("sent {id}\n").as_bytes())
    }

    /// The answer was read: `acked` says whether it was 2xx. Durable when this returns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn answered(&mut self, id: u64, acked: bool) -> io::Result<()> {
        let word = if acked { "acked" } else { "refused" };
        self.file.write_all(format!("{word} {id}\n").as_bytes())?;
        self.file.sync_data()
    }
}

/// Reads the files of all clients.
///
/// # Errors
/// A file cannot be read. A torn last line is left out: it was never reported.
pub fn read(paths: &[PathBuf]) -> io::Result<BTreeMap<u64, Outcome>> {
    let mut outcomes = BTreeMap::new();
    for path in paths {
        let mut text = String::new();
        File::open(path)?.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text[..whole].lines() {
            let Some((word, id)) = line.split_once(' ') else { continue };
            let Ok(id) = id.parse() else { continue };
            let outcome = match word {
                "acked" => Outcome::Acked,
                "refused" => Outcome::Refused,
                _ => Outcome::Unknown,
            };
            outcomes.insert(id, outcome);
        }
    }
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_survive_and_a_torn_line_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("oracle");
        let mut oracle = Oracle::open(&path).unwrap();
        for id in 1..=3 {
            oracle.sent(id).unwrap();
        }
        oracle.answered(1, true).unwrap();
        oracle.answered(2, false).unwrap();
        oracle.file.write_all(b"acked 3").unwrap();
        let outcomes = read(&[path]).unwrap();
        let expected = [(1, Outcome::Acked), (2, Outcome::Refused), (3, Outcome::Unknown)];
        assert_eq!(outcomes, BTreeMap::from(expected));
    }
}
