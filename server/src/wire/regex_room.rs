//! What the regular expressions of one request may come to when they are compiled: compiling takes time before any query has a place.

use kymo_storage::model::{Matcher, Regex};

/// Bytes of all programs of a request; as many as one query may have.
const REGEX_BYTES_MAX: usize = 4 << 20;

/// Counts what is compiled for a request.
#[derive(Debug, Default)]
pub struct RegexRoom {
    bytes: usize,
}

impl RegexRoom {
    /// These have been compiled.
    ///
    /// # Errors
    /// It is too much, in words with the limit and what was met.
    pub fn take<'m>(&mut self, matchers: impl IntoIterator<Item = &'m Matcher>) -> Result<(), String> {
        let bytes = matchers.into_iter().filter_map(Matcher::regex).map(Regex::program_bytes).sum::<usize>();
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= REGEX_BYTES_MAX {
            return Ok(());
        }
        let met = self.bytes;
        Err(format!(
            "the regular expressions of the request are {met} bytes compiled, more than the {REGEX_BYTES_MAX} allowed"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kymo_storage::model::MatchOp;

    #[test]
    fn the_sum_counts() {
        let one = [Matcher::new(MatchOp::Regex, "a", "[a-c].{0,300}x").unwrap()];
        let mut room = RegexRoom::default();
        let taken = (0..10_000).take_while(|_| room.take(&one).is_ok()).count();
        assert!((2..1_000).contains(&taken), "{taken}");
        assert!(RegexRoom::default().take(&[Matcher::equal("a", "b")]).is_ok());
    }
}
