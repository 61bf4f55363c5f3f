//! From matchers to series: cheapest first, complements for matchers that a missing label satisfies.

use super::LabelIndex;
use crate::api::{Room, cancelled};
use crate::error::Result;
use crate::model::{MatchOp, Matcher};
use roaring::RoaringBitmap;
use std::collections::BTreeSet;

/// The series that satisfy all `matchers`; all series if there are none. A missing label counts as an empty value.
///
/// # Errors
/// What the index answers.
pub fn select<I: LabelIndex + ?Sized>(index: &I, matchers: &[Matcher]) -> Result<RoaringBitmap> {
    select_while(index, matchers, &|| true)
}

/// As [`select`], for one who may not want the answer any more: `go_on` is asked now and then.
///
/// # Errors
/// What the index answers; `Cancelled` if `go_on` said no.
pub fn select_while<I: LabelIndex + ?Sized>(
    index: &I,
    matchers: &[Matcher],
    go_on: &dyn Fn() -> bool,
) -> Result<RoaringBitmap> {
    let (mut complements, mut positives): (Vec<&Matcher>, Vec<&Matcher>) =
        matchers.iter().partition(|m| m.matches_empty());
    positives.sort_by_key(|m| cost(m));
    complements.sort_by_key(|m| cost(m));

    let mut found: Option<RoaringBitmap> = None;
    for matcher in positives {
        let matching = series_of_values(index, matcher, true, go_on)?;
        let rest = match found {
            None => matching,
            Some(before) => before & matching,
        };
        if rest.is_empty() {
            return Ok(rest);
        }
        found = Some(rest);
    }
    let mut found = match found {
        Some(found) => found,
        None => index.all_series()?,
    };
    for matcher in complements {
        if found.is_empty() {
            break;
        }
        if !matches_everything(matcher) {
            found -= series_of_values(index, matcher, false, go_on)?;
        }
    }
    Ok(found)
}

/// The label names of all series that satisfy one of `matcher_sets` (of all series if there is none) and are not `hidden`,
/// sorted.
///
/// # Errors
/// What the index answers, and as `room`.
pub fn label_names<I: LabelIndex + ?Sized>(
    index: &I,
    matcher_sets: &[Vec<Matcher>],
    hidden: &RoaringBitmap,
    room: &mut Room<'_>,
) -> Result<Vec<String>> {
    let (mut names, mut refused) = (Vec::new(), Ok(()));
    index.visit_names(&mut |name| {
        if refused.is_ok() {
            refused = room.take(1, name.len());
            names.push(name.to_owned());
        }
    })?;
    refused?;
    let Some(series) = union_of_sets(index, matcher_sets, hidden)? else { return Ok(names) };
    let mut kept = Vec::new();
    for name in names {
        let mut ids = Vec::new();
        index.visit_values(&name, "", &mut |id, _| ids.push(id))?;
        for id in ids {
            if index.value_intersects(&name, id, &series)? {
                kept.push(name);
                break;
            }
        }
    }
    Ok(kept)
}

/// The values of label `name` in series that satisfy one of `matcher_sets` (in all series if there is none) and are not
/// `hidden`, sorted.
///
/// # Errors
/// As [`label_names`].
pub fn label_values<I: LabelIndex + ?Sized>(
    index: &I,
    name: &str,
    matcher_sets: &[Vec<Matcher>],
    hidden: &RoaringBitmap,
    room: &mut Room<'_>,
) -> Result<Vec<String>> {
    let (mut kept, mut refused) = (BTreeSet::new(), Ok(()));
    let mut keep = |_, value: &str| {
        if refused.is_ok() {
            refused = room.take(1, value.len());
            kept.insert(value.to_owned());
        }
    };
    match union_of_sets(index, matcher_sets, hidden)? {
        None => index.visit_values(name, "", &mut keep)?,
        Some(series) => index.visit_values_of(name, &series, &mut keep)?,
    }
    refused?;
    Ok(kept.into_iter().collect())
}

/// The series of any of the sets but those `hidden`, or `None` when there is neither a set nor a hidden series and so no
/// restriction.
fn union_of_sets<I: LabelIndex + ?Sized>(
    index: &I,
    sets: &[Vec<Matcher>],
    hidden: &RoaringBitmap,
) -> Result<Option<RoaringBitmap>> {
    if sets.is_empty() {
        return if hidden.is_empty() { Ok(None) } else { Ok(Some(index.all_series()? - hidden)) };
    }
    let mut series = RoaringBitmap::new();
    for matchers in sets {
        series |= select(index, matchers)?;
    }
    Ok(Some(series - hidden))
}

/// How much work a matcher is, roughly: lookups before searches, searches before walks over all values.
fn cost(matcher: &Matcher) -> u32 {
    match matcher.op() {
        MatchOp::Equal | MatchOp::NotEqual if !matcher.value().is_empty() => 0,
        MatchOp::Regex | MatchOp::NotRegex if matcher.regex().is_some_and(|r| r.literals().is_some()) => 1,
        MatchOp::Regex | MatchOp::NotRegex if matcher.regex().is_some_and(|r| !r.prefix().is_empty()) => 2,
        MatchOp::Regex | MatchOp::NotRegex => 3,
        MatchOp::Equal | MatchOp::NotEqual => 4,
    }
}

/// Whether no value at all fails the matcher, known from its text.
fn matches_everything(matcher: &Matcher) -> bool {
    matcher.op() == MatchOp::Regex && matcher.value() == ".*"
}

/// After so much work ([`crate::model::Regex::cost`]) it is asked whether to go on; a value is at least the other.
const CHECK_EVERY: u64 = 1 << 17;
/// See there.
const VALUE_COST: u64 = 1 << 10;

/// The series that have the matcher's label with a (non-empty) value for which the matcher answers `wanted`.
fn series_of_values<I: LabelIndex + ?Sized>(
    index: &I,
    matcher: &Matcher,
    wanted: bool,
    go_on: &dyn Fn() -> bool,
) -> Result<RoaringBitmap> {
    let name = matcher.name();
    let mut ids = Vec::new();
    let (mut work, mut stopped) = (0, false);
    let mut may_look = |value: &str| {
        let cost = matcher.regex().map_or(value.len() as u64, |regex| regex.cost(value.len()));
        work += cost.saturating_add(VALUE_COST);
        if work >= CHECK_EVERY {
            work = 0;
            stopped = stopped || !go_on();
        }
        !stopped
    };
    // The values looked for are those the text of the matcher describes, not all others.
    let as_written = wanted == matches!(matcher.op(), MatchOp::Equal | MatchOp::Regex);
    match matcher.regex() {
        None if as_written && matcher.value().is_empty() => {}
        None if as_written => ids.extend(index.value_id(name, matcher.value())?),
        Some(regex) if as_written => match regex.literals() {
            Some(literals) => {
                for literal in literals.iter().filter(|l| !l.is_empty()) {
                    ids.extend(index.value_id(name, literal)?);
                }
            }
            None => index.visit_values(name, regex.prefix(), &mut |id, value| {
                if may_look(value) && regex.is_match(value) {
                    ids.push(id);
                }
            })?,
        },
        _ => index.visit_values(name, "", &mut |id, value| {
            if may_look(value) && matcher.matches(value) == wanted {
                ids.push(id);
            }
        })?,
    }
    if stopped {
        return Err(cancelled());
    }
    let mut series = RoaringBitmap::new();
    index.add_postings(name, &ids, &mut series)?;
    Ok(series)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;
    use std::cell::Cell;

    /// Series in a list, searched one by one, and how many values were looked at.
    struct ListIndex(Vec<Labels>, Cell<usize>);

    impl ListIndex {
        fn values(&self, name: &str) -> Vec<String> {
            let values: BTreeSet<String> =
                self.0.iter().filter_map(|l| l.get(name)).map(str::to_owned).collect();
            values.into_iter().collect()
        }
    }

    impl LabelIndex for ListIndex {
        fn all_series(&self) -> Result<RoaringBitmap> {
            Ok((0..self.0.len() as u32).collect())
        }
        fn visit_names(&self, visit: &mut dyn FnMut(&str)) -> Result<()> {
            let names: BTreeSet<&str> = self.0.iter().flat_map(|l| l.iter().map(|p| p.0)).collect();
            names.into_iter().for_each(visit);
            Ok(())
        }
        fn value_id(&self, name: &str, value: &str) -> Result<Option<u32>> {
            Ok(self.values(name).binary_search_by(|v| v.as_str().cmp(value)).ok().map(|i| i as u32))
        }
        fn visit_values(&self, name: &str, prefix: &str, visit: &mut dyn FnMut(u32, &str)) -> Result<()> {
            for (id, value) in self.values(name).iter().enumerate().filter(|v| v.1.starts_with(prefix)) {
                self.1.set(self.1.get() + 1);
                visit(id as u32, value);
            }
            Ok(())
        }
        fn add_postings(&self, name: &str, ids: &[u32], series: &mut RoaringBitmap) -> Result<()> {
            let values = self.values(name);
            for id in ids {
                let value = &values[*id as usize];
                series
                    .extend((0..self.0.len()).filter(|i| self.0[*i].value(name) == value).map(|i| i as u32));
            }
            Ok(())
        }
    }

    fn sample_index() -> ListIndex {
        let sets: [&[(&str, &str)]; 6] = [
            &[("__name__", "up"), ("job", "node"), ("zone", "a")],
            &[("__name__", "up"), ("job", "node")],
            &[("__name__", "up"), ("job", "db"), ("zone", "b")],
            &[("__name__", "rps"), ("job", "db"), ("path", "/x\n/y")],
            &[("__name__", "rps"), ("path", "/")],
            &[("other", "1")],
        ];
        ListIndex(sets.iter().map(|s| Labels::from_pairs(s.iter().copied())).collect(), Cell::new(0))
    }

    #[test]
    fn selection_agrees_with_asking_every_series() {
        let index = sample_index();
        let names = ["__name__", "job", "zone", "path", "missing"];
        let values = [
            "",
            "up",
            "node",
            "a",
            ".*",
            ".+",
            "n.*|db",
            "up|rps",
            "|a",
            "db|node|nothing",
            "/.*",
            "[^d].*",
            "(?i)UP",
            "a*",
        ];
        // All pairs; some for an interpreter.
        let step = if cfg!(miri) { 5 } else { 1 };
        let mut matchers = Vec::new();
        for name in names {
            for value in values.into_iter().step_by(step) {
                for op in [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex] {
                    matchers.push(Matcher::new(op, name, value).unwrap());
                }
            }
        }
        for first in matchers.iter().step_by(step) {
            for second in matchers.iter().step_by(step) {
                let both = [first.clone(), second.clone()];
                let expected: RoaringBitmap = (0..index.0.len() as u32)
                    .filter(|i| both.iter().all(|m| m.matches(index.0[*i as usize].value(m.name()))))
                    .collect();
                assert_eq!(select(&index, &both).unwrap(), expected, "{both:?}");
            }
        }
        assert_eq!(select(&index, &[]).unwrap().len(), 6);
    }

    #[test]
    fn what_can_be_looked_up_is_not_searched_for() {
        use MatchOp::{Equal, NotEqual, NotRegex, Regex};
        let index = sample_index();
        // Matchers and the values that are looked at for them: there are two jobs.
        let cases: [(&[(MatchOp, &str)], usize); 9] = [
            (&[(Equal, "node")], 0),
            (&[(NotEqual, "node")], 0),
            (&[(Regex, "node|db")], 0),
            (&[(NotRegex, "node|db")], 0),
            (&[(Regex, "no.*")], 1),
            (&[(Regex, ".*e")], 2),
            // The cheap one comes first, and leaves nothing to look for.
            (&[(Regex, ".*e"), (Regex, "nothing|none")], 0),
            (&[(Regex, "no.*"), (Regex, "nothing|none")], 0),
            (&[(Regex, ".*e"), (Regex, "x.*")], 0),
        ];
        for (matchers, visits) in cases {
            let matchers: Vec<Matcher> =
                matchers.iter().map(|(op, value)| Matcher::new(*op, "job", value).unwrap()).collect();
            index.1.set(0);
            select(&index, &matchers).unwrap();
            assert_eq!(index.1.get(), visits, "{matchers:?}");
        }
    }

    #[test]
    fn names_and_values_of_selected_series() {
        let index = sample_index();
        let rps = vec![Matcher::equal("__name__", "rps")];
        let zoned = vec![Matcher::new(MatchOp::NotEqual, "zone", "").unwrap()];
        let none = RoaringBitmap::new();
        let mut asked = 0;
        let mut ask = |bytes| {
            asked += bytes;
            Ok(())
        };
        let mut room = Room::new(&mut ask);
        assert_eq!(
            label_names(&index, std::slice::from_ref(&rps), &none, &mut room).unwrap(),
            ["__name__", "job", "path"]
        );
        assert_eq!(
            label_names(&index, &[], &none, &mut room).unwrap(),
            ["__name__", "job", "other", "path", "zone"]
        );
        assert_eq!(
            label_values(&index, "job", &[rps, zoned.clone()], &none, &mut room).unwrap(),
            ["db", "node"]
        );
        assert_eq!(label_values(&index, "__name__", &[zoned], &none, &mut room).unwrap(), ["up"]);
        assert_eq!(label_values(&index, "nothing", &[], &none, &mut room).unwrap(), [""; 0]);
        assert_eq!(asked, 64 << 10, "asked for in steps");
        let mut refuse = |_| Err(crate::error::Error::invalid("no room"));
        let mut room = Room::new(&mut refuse);
        assert!(label_names(&index, &[], &none, &mut room).is_err());
        assert!(label_values(&index, "job", &[], &none, &mut room).is_err());
    }

    #[test]
    #[cfg_attr(miri, ignore = "this index looks through all series for each value")]
    fn a_search_that_nobody_waits_for_ends() {
        use crate::error::ErrorKind;
        let series = |i: u32| Labels::from_pairs([("host", format!("h{i}"))]);
        let index = ListIndex((0..2_500).map(series).collect(), Cell::new(0));
        for (op, pattern) in [(MatchOp::Regex, "h.*[13579]"), (MatchOp::NotRegex, "h.*[13579]")] {
            let matcher = [Matcher::new(op, "host", pattern).unwrap()];
            let asked = Cell::new(0);
            let all = select_while(&index, &matcher, &|| {
                asked.set(asked.get() + 1);
                true
            });
            let often = (10..100).contains(&asked.get());
            assert_eq!((all.unwrap().len(), often), (1_250, true), "asked {} times", asked.get());
            asked.set(0);
            let stopped = select_while(&index, &matcher, &|| {
                asked.set(asked.get() + 1);
                asked.get() < 3
            });
            assert_eq!((stopped.unwrap_err().kind(), asked.get()), (ErrorKind::Cancelled, 3));
        }
    }
}
