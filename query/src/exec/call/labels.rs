//! `label_replace` and `label_join`: functions of labels alone.

use super::super::build::{arguments, text, vector};
use super::super::context::Context;
use super::super::matrix::{OnSame, distinct, relabelled};
use super::super::source::Source;
use crate::failure::QueryError;
use crate::plan::{Grid, Node};
use kymo_storage::model::{Labels, METRIC_NAME};
use regex_automata::Input;
use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures;
use std::sync::Arc;

/// The largest compiled program of an expression.
const PROGRAM_BYTES_MAX: usize = 1 << 20;
/// How deep groups of an expression may nest.
const NEST_MAX: u32 = 100;

/// A string argument that names a label; any text of UTF-8 that is not empty does.
fn name(node: Node, what: &str) -> Result<String, QueryError> {
    let bytes = text(node)?;
    match String::from_utf8(bytes) {
        Ok(name) if !name.is_empty() => Ok(name),
        Ok(name) => Err(QueryError::execution(format!("invalid {what}: {name}"))),
        Err(bytes) => {
            let shown = String::from_utf8_lossy(bytes.as_bytes()).into_owned();
            Err(QueryError::execution(format!("invalid {what}: {shown}")))
        }
    }
}

fn words(node: Node) -> Result<String, QueryError> {
    text(node).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// `label_replace(v, dst, replacement, src, regex)`.
///
/// # Errors
/// A bad expression or label name, series that become the same.
pub(super) fn replace(context: &Context, args: Vec<Node>, grid: Grid) -> Result<Arc<dyn Source>, QueryError> {
    let [input, target, template, source, pattern] = arguments(args)?;
    let (template, source, pattern) = (words(template)?, words(source)?, words(pattern)?);
    let regex = Regex::builder()
        .configure(Regex::config().nfa_size_limit(Some(PROGRAM_BYTES_MAX)))
        .syntax(regex_automata::util::syntax::Config::new().nest_limit(NEST_MAX))
        .build(&format!("^(?s:{pattern})$"))
        .map_err(|_| {
            QueryError::execution(format!("invalid regular expression in label_replace(): {pattern}"))
        })?;
    let target = name(target, "destination label name in label_replace()")?;
    let mut captures = regex.create_captures();
    relabel(context, input, grid, &target, |labels| {
        let value = labels.value(&source);
        regex.captures(Input::new(value), &mut captures);
        captures.is_match().then(|| expand(&template, value, &captures))
    })
}

/// `label_join(v, dst, separator, src...)`.
///
/// # Errors
/// A bad label name, series that become the same.
pub(super) fn join(context: &Context, args: Vec<Node>, grid: Grid) -> Result<Arc<dyn Source>, QueryError> {
    let mut args = args.into_iter();
    let (Some(input), Some(target), Some(separator)) = (args.next(), args.next(), args.next()) else {
        return Err(QueryError::internal("the checker sees to the number of arguments"));
    };
    let separator = words(separator)?;
    let sources: Vec<String> =
        args.map(|a| name(a, "source label name in label_join()")).collect::<Result<_, _>>()?;
    let target = name(target, "destination label name in label_join()")?;
    relabel(context, input, grid, &target, |labels| {
        let values: Vec<&str> = sources.iter().map(|s| labels.value(s)).collect();
        Some(values.join(&separator))
    })
}

/// Sets label `target` to what `value` says, if it says anything. A name set this way stays.
fn relabel(
    context: &Context,
    input: Node,
    grid: Grid,
    target: &str,
    mut value: impl FnMut(&Labels) -> Option<String>,
) -> Result<Arc<dyn Source>, QueryError> {
    let input = vector(context, input, grid)?;
    let mut labels = Vec::with_capacity(input.len());
    let mut drops = Vec::with_capacity(input.len());
    for index in 0..input.len() {
        let before = input.labels(index);
        let value = value(&before);
        drops.push(input.drops_name(index) && (value.is_none() || target != METRIC_NAME));
        labels.push(match value {
            Some(value) => before.to_builder().set(target, &value).build(),
            None => before,
        });
    }
    distinct(context, relabelled(input, labels, Some(drops)), grid.count, OnSame::Merge)
}

/// Replaces `$1`, `${1}`, `$name` and `${name}` by what the groups matched and `$$` by `$`; a name reaches as far as it can.
fn expand(template: &str, text: &str, captures: &Captures) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (group, after) = match rest.strip_prefix('{') {
            Some(braced) => match braced.split_once('}') {
                Some((group, after)) if !group.is_empty() && group.chars().all(is_word) => (group, after),
                _ => {
                    // Not a reference: the sign stands for itself.
                    out.push('$');
                    continue;
                }
            },
            None => rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len())),
        };
        if group.is_empty() {
            out.push('$');
            continue;
        }
        let span = match group.parse::<usize>() {
            Ok(number) => captures.get_group(number),
            Err(_) => captures.get_group_by_name(group),
        };
        if let Some(span) = span {
            out.push_str(text.get(span.start..span.end).unwrap_or_default());
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let regex = Regex::new("^(?s:(?P<first>[a-z]+)-([0-9]+))$").unwrap();
        let mut captures = regex.create_captures();
        regex.captures(Input::new("abc-42"), &mut captures);
        let cases = [
            ("$1", "abc"),
            ("${2}x", "42x"),
            ("$2x", ""),
            ("$first.$2", "abc.42"),
            ("$$1", "$1"),
            ("$9", ""),
            ("a$", "a$"),
            ("${", "${"),
            ("-$2-$1-", "-42-abc-"),
        ];
        for (template, expected) in cases {
            assert_eq!(expand(template, "abc-42", &captures), expected, "{template}");
        }
    }
}
