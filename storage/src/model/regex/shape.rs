//! What can be known of an expression without running it: its literals, its prefix, or that it is a search for a string.

use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

/// The most strings an expression is taken apart into.
const LITERALS_MAX: usize = 1 << 16;
/// The most bytes of them all.
const LITERALS_BYTES_MAX: usize = 1 << 20;
/// The most strings the product of two parts may give.
const PRODUCT_MAX: usize = 1024;

/// All strings that match, sorted; `None` if there are too many or the expression looks around.
pub(super) fn literals_of(hir: &Hir) -> Option<Vec<String>> {
    let mut strings = enumerate(strip_anchors(hir).as_ref())?;
    strings.sort_unstable();
    strings.dedup();
    Some(strings)
}

/// Without `^` in front and `$` behind, which say nothing where everything is anchored.
fn strip_anchors(hir: &Hir) -> std::borrow::Cow<'_, Hir> {
    let HirKind::Concat(parts) = hir.kind() else { return std::borrow::Cow::Borrowed(hir) };
    let is = |part: &Hir, look: Look| matches!(part.kind(), HirKind::Look(l) if *l == look);
    let mut rest = parts.as_slice();
    while let Some((first, behind)) = rest.split_first().filter(|(first, _)| is(first, Look::Start)) {
        let _ = first;
        rest = behind;
    }
    while let Some((last, before)) = rest.split_last().filter(|(last, _)| is(last, Look::End)) {
        let _ = last;
        rest = before;
    }
    if rest.len() == parts.len() {
        return std::borrow::Cow::Borrowed(hir);
    }
    std::borrow::Cow::Owned(Hir::concat(rest.to_vec()))
}

/// The depth of the recursion is that of the expression, which the parser limits.
fn enumerate(hir: &Hir) -> Option<Vec<String>> {
    let strings = match hir.kind() {
        HirKind::Empty => vec![String::new()],
        HirKind::Literal(literal) => vec![std::str::from_utf8(&literal.0).ok()?.to_owned()],
        HirKind::Class(Class::Unicode(class)) => {
            let count: u64 = class.iter().map(|r| u64::from(r.end()) - u64::from(r.start()) + 1).sum();
            if count > PRODUCT_MAX as u64 {
                return None;
            }
            class.iter().flat_map(|r| r.start()..=r.end()).map(String::from).collect()
        }
        HirKind::Class(Class::Bytes(_)) | HirKind::Look(_) => return None,
        HirKind::Capture(capture) => enumerate(&capture.sub)?,
        HirKind::Repetition(Repetition { min: 0, max: Some(1), sub, .. }) => {
            let mut strings = enumerate(sub)?;
            strings.push(String::new());
            strings
        }
        HirKind::Repetition(_) => return None,
        HirKind::Alternation(branches) => {
            let mut all = Vec::new();
            for branch in branches {
                all.extend(enumerate(branch)?);
                if all.len() > LITERALS_MAX {
                    return None;
                }
            }
            all
        }
        HirKind::Concat(parts) => product(parts)?,
    };
    let bytes: usize = strings.iter().map(String::len).sum();
    (strings.len() <= LITERALS_MAX && bytes <= LITERALS_BYTES_MAX).then_some(strings)
}

fn product(parts: &[Hir]) -> Option<Vec<String>> {
    let mut strings = vec![String::new()];
    for part in parts {
        let tails = enumerate(part)?;
        let count = strings.len().checked_mul(tails.len())?;
        if count > LITERALS_MAX || (strings.len() > 1 && tails.len() > 1 && count > PRODUCT_MAX) {
            return None;
        }
        let heads: usize = strings.iter().map(String::len).sum();
        let ends: usize = tails.iter().map(String::len).sum();
        if heads.saturating_mul(tails.len()).saturating_add(ends.saturating_mul(strings.len()))
            > LITERALS_BYTES_MAX
        {
            return None;
        }
        strings =
            strings.iter().flat_map(|head| tails.iter().map(move |tail| format!("{head}{tail}"))).collect();
    }
    Some(strings)
}

/// What every match begins with.
pub(super) fn prefix_of(hir: &Hir) -> String {
    let mut out = String::new();
    prefix_into(hir, &mut out);
    out
}

/// Appends what `hir` begins with; `true` if that is all it stands for.
fn prefix_into(hir: &Hir, out: &mut String) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(Look::Start | Look::End) => true,
        HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
            Ok(text) => {
                out.push_str(text);
                true
            }
            Err(_) => false,
        },
        HirKind::Capture(capture) => prefix_into(&capture.sub, out),
        HirKind::Concat(parts) => parts.iter().all(|part| prefix_into(part, out)),
        HirKind::Alternation(branches) => {
            let mut common: Option<String> = None;
            for branch in branches {
                let mut text = prefix_of(branch);
                if let Some(common) = &common {
                    let same = common.chars().zip(text.chars()).take_while(|(a, b)| a == b);
                    let len = same.map(|(c, _)| c.len_utf8()).sum();
                    text.truncate(len);
                }
                common = Some(text);
            }
            out.push_str(&common.unwrap_or_default());
            false
        }
        HirKind::Class(_) | HirKind::Look(_) | HirKind::Repetition(_) => false,
    }
}

/// A search for a string: how many characters, at least, lie before and behind it, if any may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    before: Option<usize>,
    text: String,
    behind: Option<usize>,
}

/// The expression as a search for a string: `.*`, `.+`, `a.*`, `.+a`, `.*a.*`.
pub(super) fn shape_of(hir: &Hir) -> Option<Shape> {
    let hir = strip_anchors(hir);
    let single = std::slice::from_ref(hir.as_ref());
    let parts = if let HirKind::Concat(parts) = hir.kind() { parts.as_slice() } else { single };
    let mut before = None;
    let mut text = None;
    let mut behind = None;
    for part in parts {
        let part = bare(part);
        match (any_run(part), part.kind()) {
            (Some(least), _) if text.is_none() && before.is_none() => before = Some(least),
            (Some(least), _) if text.is_some() && behind.is_none() => behind = Some(least),
            (None, HirKind::Literal(literal)) if text.is_none() => {
                text = Some(std::str::from_utf8(&literal.0).ok()?.to_owned());
            }
            _ => return None,
        }
    }
    (before.is_some() || behind.is_some()).then(|| Shape { before, text: text.unwrap_or_default(), behind })
}

/// Without the groups around it.
fn bare(mut hir: &Hir) -> &Hir {
    while let HirKind::Capture(capture) = hir.kind() {
        hir = &capture.sub;
    }
    hir
}

/// How many characters a run of any characters takes at least: 0 for `.*`, 1 for `.+`.
fn any_run(hir: &Hir) -> Option<usize> {
    let HirKind::Repetition(Repetition { min: min @ 0..=1, max: None, sub, .. }) = hir.kind() else {
        return None;
    };
    let HirKind::Class(Class::Unicode(class)) = bare(sub).kind() else { return None };
    let any = class.ranges().len() == 1
        && class.iter().next().is_some_and(|r| r.start() == '\0' && r.end() == char::MAX);
    any.then_some(*min as usize)
}

impl Shape {
    pub(super) fn is_match(&self, text: &str) -> bool {
        let mut inner = text.chars();
        for _ in 0..self.before.unwrap_or(0) {
            if inner.next().is_none() {
                return false;
            }
        }
        for _ in 0..self.behind.unwrap_or(0) {
            if inner.next_back().is_none() {
                return false;
            }
        }
        let (inner, wanted) = (inner.as_str(), self.text.as_str());
        match (self.before, self.behind) {
            (Some(_), Some(_)) => inner.contains(wanted),
            (Some(_), None) => inner.ends_with(wanted),
            (None, Some(_)) => inner.starts_with(wanted),
            (None, None) => inner == wanted,
        }
    }
}
