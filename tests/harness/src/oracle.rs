//! The outside oracle: a synced file of what was sent and what the server said, judged after the server was killed.
//!
//! A line a request: `sent ID` before the first byte leaves, then `acked ID NANOS` (2xx was read, so long after 1970), `refused ID
//! NANOS` (4xx) or nothing (the outcome is unknown: the request may be stored whole or not at all). What a request holds is a function
//! of its id, so the file stays small and the tested process has no part in it. `late ID` takes an answer back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

    /// The answer was read just now: `acked` says whether it was 2xx. Durable when this returns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn answered(&mut self, id: u64, acked: bool) -> io::Result<()> {
        let word = if acked { "acked" } else { "refused" };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        self.file.write_all(format!("{word} {id} {now}\n").as_bytes())?;
        self.file.sync_data()
    }

    /// No answer to this request counts: the machine had no power any more.
    fn late(&mut self, id: u64) -> io::Result<()> {
        self.file.write_all(format!("late {id}\n").as_bytes())
    }
}

/// Takes back all answers in the files that were read after `cut`; gives the requests.
///
/// # Errors
/// A file cannot be read or written.
pub fn take_back(paths: &[PathBuf], cut: SystemTime) -> io::Result<BTreeSet<u64>> {
    let cut = cut.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut late = BTreeSet::new();
    for path in paths {
        let mut oracle = Oracle::open(path)?;
        for line in whole_lines(path)?.lines() {
            let mut words = line.split(' ').skip(1);
            let (id, at) = (words.next().map(str::parse), words.next().map(str::parse::<u128>));
            if let (Some(Ok(id)), Some(Ok(at))) = (id, at)
                && at > cut
            {
                oracle.late(id)?;
                late.insert(id);
            }
        }
    }
    Ok(late)
}

/// How long before `end` the answer to a request was read.
///
/// # Errors
/// A file cannot be read.
pub fn answered_before(paths: &[PathBuf], id: u64, end: SystemTime) -> io::Result<Option<Duration>> {
    let text = id.to_string();
    for path in paths {
        for line in whole_lines(path)?.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            if let ["acked" | "refused", of, at] = words[..]
                && of == text
                && let Ok(at) = at.parse()
            {
                let end = end.duration_since(UNIX_EPOCH).unwrap_or_default();
                return Ok(Some(end.saturating_sub(Duration::from_nanos(at))));
            }
        }
    }
    Ok(None)
}

/// The file without a line that was cut off.
fn whole_lines(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.read_to_string(&mut text)?;
    text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    Ok(text)
}

/// Reads the files of all clients.
///
/// # Errors
/// A file cannot be read. A torn last line is left out: it was never reported.
pub fn read(paths: &[PathBuf]) -> io::Result<BTreeMap<u64, Outcome>> {
    let mut outcomes = BTreeMap::new();
    for path in paths {
        for line in whole_lines(path)?.lines() {
            let mut words = line.split(' ');
            let (word, id) = (words.next(), words.next().map(str::parse));
            let Some(Ok(id)) = id else { continue };
            let outcome = match word {
                Some("acked") => Outcome::Acked,
                Some("refused") => Outcome::Refused,
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
        oracle.file.write_all(b"acked 3 1").unwrap();
        let paths = [path];
        let expected = [(1, Outcome::Acked), (2, Outcome::Refused), (3, Outcome::Unknown)];
        assert_eq!(read(&paths).unwrap(), BTreeMap::from(expected));
    }

    #[test]
    fn what_was_answered_without_power_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("oracle")];
        let mut oracle = Oracle::open(&paths[0]).unwrap();
        let mut answered = |id, acked| {
            oracle.sent(id).unwrap();
            oracle.answered(id, acked).unwrap();
            SystemTime::now()
        };
        let cut = answered(1, true);
        std::thread::sleep(Duration::from_millis(2));
        answered(2, true);
        answered(3, false);
        assert_eq!(take_back(&paths, cut).unwrap(), BTreeSet::from([2, 3]));
        let expected = [(1, Outcome::Acked), (2, Outcome::Unknown), (3, Outcome::Unknown)];
        assert_eq!(read(&paths).unwrap(), BTreeMap::from(expected));
        assert_eq!(take_back(&paths, SystemTime::now()).unwrap(), BTreeSet::new());
        let before = |id| answered_before(&paths, id, cut).unwrap();
        assert!(before(1).is_some_and(|before| before < Duration::from_secs(1)));
        assert_eq!((before(2), before(4)), (Some(Duration::ZERO), None));
    }
}
