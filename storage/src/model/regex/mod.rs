//! Regular expressions of matchers: Go's RE2 syntax, anchored at both ends, dot matches newline, of limited size.

mod class;
mod parse;
mod shape;

use parse::Parsed;
use regex_automata::meta;
use regex_automata::util::captures::Captures;
use regex_syntax::hir::{Hir, Look};
use shape::{Shape, literals_of, prefix_of, shape_of};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// The longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 64 << 10;
/// The largest compiled program of one expression, in bytes.
const PROGRAM_BYTES_MAX: usize = 1 << 20;
/// The same for a set of literals, which is compiled only when its groups are asked for.
const LITERALS_PROGRAM_BYTES_MAX: usize = 16 << 20;

/// Why a text is not an expression, in the words Prometheus' users know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {message}")]
pub struct RegexError {
    message: String,
    /// What compiling came to before it was given up, in bytes.
    program_bytes: usize,
}

impl RegexError {
    /// What is wrong, and the piece of the pattern in which it is.
    fn new(what: &str, fragment: &str) -> Self {
        Self { message: format!("{what}: `{fragment}`"), program_bytes: 0 }
    }

    /// What was compiled in vain, in bytes; 0 if the text is no expression.
    pub fn program_bytes(&self) -> usize {
        self.program_bytes
    }
}

/// A compiled, anchored expression; cheap to clone.
#[derive(Clone)]
pub struct Regex {
    inner: Arc<Inner>,
}

struct Inner {
    plan: Plan,
    prefix: String,
    /// Names of the groups, by number; group 0 is the whole match.
    groups: Vec<Option<String>>,
    hir: Hir,
    program: OnceLock<Option<meta::Regex>>,
}

/// How a text is matched.
enum Plan {
    /// Exactly these strings, sorted.
    Literals(Vec<String>),
    /// A string with anything before or behind.
    Shape(Shape),
    /// The compiled program.
    Program,
}

impl Regex {
    /// Compiles `^(?s:pattern)$`.
    ///
    /// # Errors
    /// The pattern is malformed, longer than 64 KiB, or its program is larger than 1 MiB.
    pub fn new(pattern: &str) -> Result<Self, RegexError> {
        if pattern.len() > PATTERN_BYTES_MAX {
            let (met, limit) = (pattern.len(), PATTERN_BYTES_MAX);
            let message = format!("expression of {met} bytes is longer than the {limit} allowed");
            return Err(RegexError { message, program_bytes: 0 });
        }
        let Parsed { hir, groups } = parse::parse(pattern)?;
        let plan = match literals_of(&hir) {
            Some(literals) => Plan::Literals(literals),
            None => shape_of(&hir).map_or(Plan::Program, Plan::Shape),
        };
        let prefix = prefix_of(&hir);
        let inner = Inner { plan, prefix, groups, hir, program: OnceLock::new() };
        if matches!(inner.plan, Plan::Program) && inner.program().is_none() {
            let shown: String = pattern.chars().take(100).collect();
            let error = RegexError::new("expression too large", &shown);
            return Err(RegexError { program_bytes: PROGRAM_BYTES_MAX, ..error });
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What the compiled program holds, in bytes; 0 as long as none is needed. The cost of compiling goes with it.
    pub fn program_bytes(&self) -> usize {
        self.inner.program.get().and_then(Option::as_ref).map_or(0, meta::Regex::memory_usage)
    }

    /// How much work it may be at worst to match a text of so many bytes: its bytes, each as often as the program has KiB.
    pub fn cost(&self, text_bytes: usize) -> u64 {
        (text_bytes as u64).saturating_mul(1 + (self.program_bytes() >> 10) as u64)
    }

    /// Whether the whole of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        match &self.inner.plan {
            Plan::Literals(literals) => literals.binary_search_by(|l| l.as_str().cmp(text)).is_ok(),
            Plan::Shape(shape) => shape.is_match(text),
            Plan::Program => self.inner.program().is_some_and(|program| program.is_match(text)),
        }
    }

    /// All texts that match, sorted, if the expression stands for a moderate number of them: `a|b|c`, `x[12]`, `y?`.
    pub fn literals(&self) -> Option<&[String]> {
        match &self.inner.plan {
            Plan::Literals(literals) => Some(literals),
            Plan::Shape(_) | Plan::Program => None,
        }
    }

    /// What every matching text begins with; may be empty.
    pub fn prefix(&self) -> &str {
        &self.inner.prefix
    }

    /// If the whole of `text` matches, `template` with `$1`, `$name`, `${1}`, `${name}` replaced by what the groups
    /// matched and `$$` by `$`. A name is as long as it can be; groups that do not exist or did not match are empty.
    pub fn expand(&self, text: &str, template: &str) -> Option<String> {
        if !self.is_match(text) {
            return None;
        }
        let program = self.inner.program()?;
        let mut captures = program.create_captures();
        program.captures(text, &mut captures);
        captures.is_match().then(|| self.inner.fill(text, &captures, template))
    }
}

impl Inner {
    fn program(&self) -> Option<&meta::Regex> {
        self.program.get_or_init(|| self.compile()).as_ref()
    }

    fn compile(&self) -> Option<meta::Regex> {
        let limit = match self.plan {
            Plan::Literals(_) => LITERALS_PROGRAM_BYTES_MAX,
            Plan::Shape(_) | Plan::Program => PROGRAM_BYTES_MAX,
        };
        let config = meta::Config::new().nfa_size_limit(Some(limit));
        let anchored = Hir::concat(vec![Hir::look(Look::Start), self.hir.clone(), Hir::look(Look::End)]);
        meta::Builder::new().configure(config).build_from_hir(&anchored).ok()
    }

    /// What a group of the template matched: by number, else the first of its name that matched.
    fn group<'t>(&self, text: &'t str, captures: &Captures, name: &str) -> &'t str {
        let get = |number: usize| captures.get_group(number).and_then(|span| text.get(span.range()));
        if name.bytes().all(|b| b.is_ascii_digit()) && (name.len() == 1 || !name.starts_with('0')) {
            return name.parse().ok().and_then(get).unwrap_or_default();
        }
        let named = self.groups.iter().enumerate().filter(|(_, group)| group.as_deref() == Some(name));
        named.filter_map(|(number, _)| get(number)).next().unwrap_or_default()
    }

    fn fill(&self, text: &str, captures: &Captures, template: &str) -> String {
        let mut out = String::with_capacity(template.len());
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            rest = after;
            if let Some(behind) = rest.strip_prefix('$') {
                out.push('$');
                rest = behind;
            } else if let Some((name, behind)) = reference(rest) {
                out.push_str(self.group(text, captures, name));
                rest = behind;
            } else {
                out.push('$');
            }
        }
        out.push_str(rest);
        out
    }
}

/// The name of a group behind a `$`, and what follows; `None` if the `$` stands for itself.
fn reference(rest: &str) -> Option<(&str, &str)> {
    let braced = rest.strip_prefix('{');
    let start = braced.unwrap_or(rest);
    let end = start.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(start.len());
    let (name, behind) = start.split_at_checked(end)?;
    let behind = if braced.is_some() { behind.strip_prefix('}')? } else { behind };
    (!name.is_empty()).then_some((name, behind))
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner.plan {
            Plan::Literals(literals) => write!(f, "Regex({} literals)", literals.len()),
            Plan::Shape(shape) => write!(f, "Regex({shape:?})"),
            Plan::Program => write!(f, "Regex(prefix {:?})", self.inner.prefix),
        }
    }
}

#[cfg(test)]
mod tests;
