//! Sets of characters by the names Go gives them.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

/// A class of inclusive ranges.
pub(super) fn of_ranges(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(ranges.iter().map(|(from, to)| ClassUnicodeRange::new(*from, *to)))
}

/// Every character.
pub(super) fn any() -> ClassUnicode {
    of_ranges(&[('\0', char::MAX)])
}

/// Adds the other cases of its characters.
pub(super) fn fold(class: &mut ClassUnicode) {
    // Fails only in builds without case tables, of which this is none; the class is then left as written.
    let _ = class.try_case_fold_simple();
}

/// `\d`, `\s`, `\w` by their letter: of ASCII only, unlike elsewhere.
pub(super) fn perl(letter: char) -> Option<ClassUnicode> {
    Some(match letter {
        'd' => of_ranges(&[('0', '9')]),
        's' => of_ranges(&[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')]),
        'w' => of_ranges(&[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]),
        _ => return None,
    })
}

/// `[:name:]` by its name.
pub(super) fn posix(name: &str) -> Option<ClassUnicode> {
    Some(match name {
        "alnum" => of_ranges(&[('0', '9'), ('A', 'Z'), ('a', 'z')]),
        "alpha" => of_ranges(&[('A', 'Z'), ('a', 'z')]),
        "ascii" => of_ranges(&[('\0', '\x7f')]),
        "blank" => of_ranges(&[('\t', '\t'), (' ', ' ')]),
        "cntrl" => of_ranges(&[('\0', '\x1f'), ('\x7f', '\x7f')]),
        "digit" => of_ranges(&[('0', '9')]),
        "graph" => of_ranges(&[('!', '~')]),
        "lower" => of_ranges(&[('a', 'z')]),
        "print" => of_ranges(&[(' ', '~')]),
        "punct" => of_ranges(&[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]),
        "space" => of_ranges(&[('\t', '\r'), (' ', ' ')]),
        "upper" => of_ranges(&[('A', 'Z')]),
        "word" => of_ranges(&[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]),
        "xdigit" => of_ranges(&[('0', '9'), ('A', 'F'), ('a', 'f')]),
        _ => return None,
    })
}

/// `\p{name}` by its name: a general category of one or two letters, or a script.
pub(super) fn unicode(name: &str) -> Option<ClassUnicode> {
    if name == "Any" {
        return Some(any());
    }
    let known = name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
    if !known {
        return None;
    }
    let kind = if name.len() <= 2 { "gc" } else { "sc" };
    let hir = regex_syntax::Parser::new().parse(&format!("\\p{{{kind}={name}}}")).ok()?;
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class.clone()),
        _ => None,
    }
}
