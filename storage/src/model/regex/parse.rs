//! Go's regular expressions, parsed without recursion into the form the matching engine takes.
//!
//! The syntax is that of Go's `regexp/syntax` documentation with the flags Prometheus uses (Perl's, and dot matches
//! newline); the errors have its words and quote the piece it quotes.

use super::{RegexError, class};
use regex_syntax::hir::{Capture, Class, ClassUnicode, Hir, Look, Repetition};

/// How deep groups may nest.
const NEST_MAX: usize = 250;
/// The largest count of a repetition, also of nested ones multiplied.
const REPEAT_MAX: u32 = 1000;
/// The most ranges in all classes together: more of them never fit a program, and are not worth the memory.
const RANGES_MAX: usize = 1 << 16;
/// What folding the cases of a wide range costs, in ranges.
const FOLD_COST: usize = 512;

/// A parsed expression.
pub(super) struct Parsed {
    pub(super) hir: Hir,
    /// Names of the groups, by number; number 0 is the whole.
    pub(super) groups: Vec<Option<String>>,
}

#[derive(Debug, Clone, Copy)]
struct Flags {
    fold: bool,
    multi_line: bool,
    dot_newline: bool,
    swap_greed: bool,
}

/// A piece of an expression, and the product of the counts of the repetitions in it.
struct Item {
    hir: Hir,
    repeats: u32,
}

/// An open group.
struct Group {
    /// Its number, if it captures.
    number: Option<u32>,
    /// To be restored when it closes.
    flags: Flags,
    branches: Vec<Hir>,
    items: Vec<Item>,
    repeats: u32,
}

impl Group {
    fn new(number: Option<u32>, flags: Flags) -> Self {
        Self { number, flags, branches: Vec::new(), items: Vec::new(), repeats: 1 }
    }

    fn end_branch(&mut self) {
        let items = std::mem::take(&mut self.items);
        self.repeats = items.iter().map(|i| i.repeats).fold(self.repeats, u32::max);
        self.branches.push(Hir::concat(items.into_iter().map(|i| i.hir).collect()));
    }

    fn close(mut self) -> Item {
        self.end_branch();
        let mut hir = Hir::alternation(self.branches);
        if let Some(index) = self.number {
            hir = Hir::capture(Capture { index, name: None, sub: Box::new(hir) });
        }
        Item { hir, repeats: self.repeats }
    }
}

struct Parser<'p> {
    pattern: &'p str,
    at: usize,
    flags: Flags,
    /// The open groups but the innermost.
    outer: Vec<Group>,
    group: Group,
    names: Vec<Option<String>>,
    ranges_left: usize,
}

type Outcome<T> = Result<T, RegexError>;

/// Parses `pattern`.
pub(super) fn parse(pattern: &str) -> Outcome<Parsed> {
    let flags = Flags { fold: false, multi_line: false, dot_newline: true, swap_greed: false };
    let group = Group::new(None, flags);
    let mut parser = Parser {
        pattern,
        at: 0,
        flags,
        outer: Vec::new(),
        group,
        names: vec![None],
        ranges_left: RANGES_MAX,
    };
    parser.run()?;
    if !parser.outer.is_empty() {
        return Err(RegexError::new("missing closing )", pattern));
    }
    Ok(Parsed { hir: parser.group.close().hir, groups: parser.names })
}

impl<'p> Parser<'p> {
    fn rest(&self) -> &'p str {
        self.pattern.get(self.at..).unwrap_or_default()
    }

    fn from(&self, start: usize) -> &'p str {
        self.pattern.get(start..self.at).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    fn push(&mut self, hir: Hir) {
        self.group.items.push(Item { hir, repeats: 1 });
    }

    fn run(&mut self) -> Outcome<()> {
        // Where the repetition directly before this place starts: two in a row are an error.
        let mut last_repeat = None;
        while let Some(c) = self.peek() {
            let start = self.at;
            let mut repeat = None;
            match c {
                '(' if self.rest().starts_with("(?") => self.perl_group()?,
                '(' => {
                    self.at += 1;
                    self.open(Some(None))?;
                }
                ')' => self.close()?,
                '|' => {
                    self.at += 1;
                    self.group.end_branch();
                }
                '^' | '$' | '.' => {
                    self.at += 1;
                    let hir = self.symbol(c);
                    self.push(hir);
                }
                '[' => {
                    let class = self.bracket()?;
                    self.push(Hir::class(Class::Unicode(class)));
                }
                '*' | '+' | '?' => {
                    self.at += 1;
                    let (min, max) = match c {
                        '*' => (0, None),
                        '+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    self.repeat(start, last_repeat, min, max)?;
                    repeat = Some(start);
                }
                '{' => match self.counts() {
                    Some((min, max)) => {
                        let fits = |count: Option<u32>| count.is_some_and(|n| n <= REPEAT_MAX);
                        let ordered = max.is_none_or(|max| fits(max) && min <= max);
                        if !fits(min) || !ordered {
                            return Err(RegexError::new("invalid repeat count", self.from(start)));
                        }
                        self.repeat(start, last_repeat, min.unwrap_or(0), max.flatten())?;
                        repeat = Some(start);
                    }
                    None => {
                        self.at += 1;
                        self.literal('{');
                    }
                },
                '\\' => self.backslash()?,
                _ => {
                    self.at += c.len_utf8();
                    self.literal(c);
                }
            }
            last_repeat = repeat;
        }
        Ok(())
    }

    fn symbol(&self, c: char) -> Hir {
        match c {
            '^' if self.flags.multi_line => Hir::look(Look::StartLF),
            '^' => Hir::look(Look::Start),
            '$' if self.flags.multi_line => Hir::look(Look::EndLF),
            '$' => Hir::look(Look::End),
            _ if self.flags.dot_newline => Hir::class(Class::Unicode(class::any())),
            _ => Hir::class(Class::Unicode(class::of_ranges(&[('\0', '\t'), ('\x0b', char::MAX)]))),
        }
    }

    fn literal(&mut self, c: char) {
        if self.flags.fold {
            let mut cases = class::of_ranges(&[(c, c)]);
            class::fold(&mut cases);
            self.push(Hir::class(Class::Unicode(cases)));
        } else {
            let mut bytes = [0; 4];
            self.push(Hir::literal(c.encode_utf8(&mut bytes).as_bytes()));
        }
    }

    /// Counts the ranges of a class against the limit.
    fn charge(&mut self, ranges: usize) -> Outcome<()> {
        let left = self.ranges_left.checked_sub(ranges);
        self.ranges_left = left.ok_or_else(|| {
            let shown: String = self.pattern.chars().take(100).collect();
            RegexError::new("expression too large", &shown)
        })?;
        Ok(())
    }

    /// Folds the cases of a class if the flag says so.
    fn folded(&mut self, class: &mut ClassUnicode) -> Outcome<()> {
        let wide = class.iter().any(|r| u32::from(r.end()) - u32::from(r.start()) > 256);
        self.charge(class.ranges().len() + if self.flags.fold && wide { FOLD_COST } else { 0 })?;
        if self.flags.fold {
            class::fold(class);
        }
        Ok(())
    }

    /// Opens a group; `capture` is the name, if it captures.
    fn open(&mut self, capture: Option<Option<String>>) -> Outcome<()> {
        if self.outer.len() >= NEST_MAX {
            return Err(RegexError::new("expression nests too deeply", self.pattern));
        }
        let number = capture.map(|name| {
            self.names.push(name);
            (self.names.len() - 1) as u32
        });
        let group = Group::new(number, self.flags);
        self.outer.push(std::mem::replace(&mut self.group, group));
        Ok(())
    }

    fn close(&mut self) -> Outcome<()> {
        self.at += 1;
        let Some(outer) = self.outer.pop() else {
            return Err(RegexError::new("unexpected )", self.pattern));
        };
        let group = std::mem::replace(&mut self.group, outer);
        self.flags = group.flags;
        self.group.items.push(group.close());
        Ok(())
    }

    /// `(?flags)`, `(?flags:`, `(?P<name>`, `(?<name>`.
    fn perl_group(&mut self) -> Outcome<()> {
        let start = self.at;
        let begins = |opening: &&str| self.rest().starts_with(*opening) && self.rest() != *opening;
        let opening = ["(?P<", "(?<"].into_iter().find(begins);
        if let Some(opening) = opening {
            let inside = self.rest().get(opening.len()..).unwrap_or_default();
            let Some((name, _)) = inside.split_once('>') else {
                return Err(RegexError::new("invalid named capture", self.rest()));
            };
            self.at += opening.len() + name.len() + 1;
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(RegexError::new("invalid named capture", self.from(start)));
            }
            return self.open(Some(Some(name.to_owned())));
        }
        self.at += 2;
        let mut flags = self.flags;
        let (mut on, mut fresh) = (true, false);
        while let Some(c) = self.next() {
            match c {
                'i' => flags.fold = on,
                'm' => flags.multi_line = on,
                's' => flags.dot_newline = on,
                'U' => flags.swap_greed = on,
                '-' if on => {
                    on = false;
                    fresh = false;
                    continue;
                }
                ':' | ')' if on || fresh => {
                    if c == ':' {
                        self.open(None)?;
                    }
                    self.flags = flags;
                    return Ok(());
                }
                _ => return Err(RegexError::new("invalid or unsupported Perl syntax", self.from(start))),
            }
            fresh = true;
        }
        Err(RegexError::new("invalid or unsupported Perl syntax", self.from(start)))
    }

    /// The counts of `{n}`, `{n,}`, `{n,m}`: least and, if there is an end, most; a count that is too large for any use is
    /// `None` inside. Without well-formed counts the brace is a literal and nothing is taken.
    #[expect(clippy::option_option, reason = "no end, an end too large to count, an end")]
    fn counts(&mut self) -> Option<(Option<u32>, Option<Option<u32>>)> {
        let rest = self.rest().strip_prefix('{')?;
        // No further than counts may go: of many open braces each would look at all the rest.
        let end = rest.bytes().position(|b| !b.is_ascii_digit() && b != b',')?;
        let inside = rest.get(..end).filter(|_| rest.as_bytes().get(end) == Some(&b'}'))?;
        let number = |digits: &str| {
            let plain = !digits.is_empty()
                && digits.bytes().all(|b| b.is_ascii_digit())
                && (digits.len() == 1 || !digits.starts_with('0'));
            plain.then(|| digits.parse::<u32>().ok().filter(|n| *n <= REPEAT_MAX))
        };
        let counts = match inside.split_once(',') {
            None => {
                let count = number(inside)?;
                (count, Some(count))
            }
            Some((least, "")) => (number(least)?, None),
            Some((least, most)) => (number(least)?, Some(number(most)?)),
        };
        self.at += inside.len() + 2;
        Some(counts)
    }

    /// Repeats the last item. `start` is where the operator starts, `last` where the one directly before it does.
    fn repeat(&mut self, start: usize, last: Option<usize>, min: u32, max: Option<u32>) -> Outcome<()> {
        let lazy = self.eat("?");
        if let Some(last) = last {
            return Err(RegexError::new("invalid nested repetition operator", self.from(last)));
        }
        let Some(item) = self.group.items.pop() else {
            return Err(RegexError::new("missing argument to repetition operator", self.from(start)));
        };
        let counted = self.pattern.as_bytes().get(start) == Some(&b'{');
        let count = max.unwrap_or(min);
        let mut repeats = item.repeats;
        if counted && count >= 2 {
            repeats = repeats.saturating_mul(count);
            if repeats > REPEAT_MAX {
                return Err(RegexError::new("invalid repeat count", self.from(start)));
            }
        }
        let greedy = lazy == self.flags.swap_greed;
        let hir = Hir::repetition(Repetition { min, max, greedy, sub: Box::new(item.hir) });
        self.group.items.push(Item { hir, repeats });
        Ok(())
    }

    fn backslash(&mut self) -> Outcome<()> {
        let look = match self.rest().as_bytes().get(1) {
            Some(b'A') => Some(Look::Start),
            Some(b'z') => Some(Look::End),
            Some(b'b') => Some(Look::WordAscii),
            Some(b'B') => Some(Look::WordAsciiNegate),
            _ => None,
        };
        if let Some(look) = look {
            self.at += 2;
            self.push(Hir::look(look));
        } else if self.eat("\\Q") {
            let (quoted, taken) = match self.rest().split_once("\\E") {
                Some((quoted, _)) => (quoted, quoted.len() + 2),
                None => (self.rest(), self.rest().len()),
            };
            self.at += taken;
            for c in quoted.chars() {
                self.literal(c);
            }
        } else if let Some(class) = self.named_class()? {
            self.push(Hir::class(Class::Unicode(class)));
        } else {
            let c = self.escape()?;
            self.literal(c);
        }
        Ok(())
    }

    /// `\d`, `\pN`, `\p{Greek}` and their like; `None`, and nothing taken, if there is none here.
    fn named_class(&mut self) -> Outcome<Option<ClassUnicode>> {
        let start = self.at;
        let mut ahead = self.rest().chars();
        if ahead.next() != Some('\\') {
            return Ok(None);
        }
        let Some(letter) = ahead.next() else { return Ok(None) };
        let mut negated = letter.is_ascii_uppercase();
        let found = if let Some(class) = class::perl(letter.to_ascii_lowercase()) {
            self.at += 2;
            Some(class)
        } else if matches!(letter, 'p' | 'P') {
            self.at += 2;
            let mut name = match self.next() {
                Some('{') => {
                    let Some((name, _)) = self.rest().split_once('}') else {
                        self.at = self.pattern.len();
                        return Err(RegexError::new("invalid character class range", self.from(start)));
                    };
                    self.at += name.len() + 1;
                    name.to_owned()
                }
                Some(c) => c.to_string(),
                None => String::new(),
            };
            if name.starts_with('^') {
                negated = !negated;
                name.remove(0);
            }
            class::unicode(&name)
        } else {
            return Ok(None);
        };
        let Some(mut class) = found else {
            return Err(RegexError::new("invalid character class range", self.from(start)));
        };
        self.folded(&mut class)?;
        if negated {
            class.negate();
        }
        Ok(Some(class))
    }

    /// A backslash and what it makes a character of.
    fn escape(&mut self) -> Outcome<char> {
        let start = self.at;
        self.at += 1;
        let Some(c) = self.next() else {
            return Err(RegexError::new("trailing backslash at end of expression", ""));
        };
        let plain = match c {
            'a' => Some('\x07'),
            'f' => Some('\x0c'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0b'),
            'x' => self.hex(),
            // A single digit other than 0 would refer back to a group, which there is not.
            '1'..='7' if !self.peek().is_some_and(|next| ('0'..='7').contains(&next)) => None,
            '0'..='7' => {
                let mut value = c.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = self.peek().and_then(|next| next.to_digit(8)) else { break };
                    value = value * 8 + digit;
                    self.at += 1;
                }
                char::from_u32(value)
            }
            _ if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c),
            _ => None,
        };
        plain.ok_or_else(|| RegexError::new("invalid escape sequence", self.from(start)))
    }

    /// `FF` or `{10FFFF}`.
    fn hex(&mut self) -> Option<char> {
        if !self.eat("{") {
            let high = self.next()?.to_digit(16)?;
            let low = self.next()?.to_digit(16)?;
            return char::from_u32(high * 16 + low);
        }
        let mut value = 0u32;
        let mut digits = 0;
        loop {
            let c = self.next()?;
            if c == '}' {
                return if digits > 0 { char::from_u32(value) } else { None };
            }
            value = value.checked_mul(16)?.checked_add(c.to_digit(16)?)?;
            if value > u32::from(char::MAX) {
                return None;
            }
            digits += 1;
        }
    }

    /// `[…]`.
    fn bracket(&mut self) -> Outcome<ClassUnicode> {
        let start = self.at;
        let open = |parser: &Self| {
            let whole = parser.pattern.get(start..).unwrap_or_default();
            RegexError::new("missing closing ]", whole)
        };
        self.at += 1;
        let negated = self.eat("^");
        let mut ranges = Vec::new();
        let mut first = true;
        while first || self.peek() != Some(']') {
            first = false;
            if let Some(named) = self.posix_class()? {
                ranges.extend_from_slice(named.ranges());
                continue;
            }
            if let Some(named) = self.named_class()? {
                ranges.extend_from_slice(named.ranges());
                continue;
            }
            let range = self.at;
            let Some(low) = self.class_char()? else { return Err(open(self)) };
            let mut high = low;
            if self.rest().starts_with('-') && !matches!(self.rest().as_bytes().get(1), None | Some(b']')) {
                self.at += 1;
                let Some(end) = self.class_char()? else { return Err(open(self)) };
                high = end;
                if high < low {
                    return Err(RegexError::new("invalid character class range", self.from(range)));
                }
            }
            let mut part = class::of_ranges(&[(low, high)]);
            self.folded(&mut part)?;
            ranges.extend_from_slice(part.ranges());
        }
        self.at += 1;
        // Put in order once: one by one would take the square of their number.
        let mut class = ClassUnicode::new(ranges);
        if negated {
            class.negate();
        }
        Ok(class)
    }

    fn class_char(&mut self) -> Outcome<Option<char>> {
        if self.peek() == Some('\\') { self.escape().map(Some) } else { Ok(self.next()) }
    }

    /// `[:name:]` or `[:^name:]` inside brackets; `None`, and nothing taken, if there is none here.
    fn posix_class(&mut self) -> Outcome<Option<ClassUnicode>> {
        let start = self.at;
        let Some((inside, _)) = self.rest().strip_prefix("[:").and_then(|rest| rest.split_once(":]")) else {
            return Ok(None);
        };
        self.at += inside.len() + 4;
        let name = inside.strip_prefix('^').unwrap_or(inside);
        let Some(mut class) = class::posix(name) else {
            return Err(RegexError::new("invalid character class range", self.from(start)));
        };
        self.folded(&mut class)?;
        if inside.starts_with('^') {
            class.negate();
        }
        Ok(Some(class))
    }
}
