//! Text to tokens, up to the first mistake.
//!
//! What a character means depends on where it stands: outside, inside `{}` (where words are only names) or inside `[]`
//! (where a colon separates range and step, and words are those of duration expressions).

use super::number;
use super::token::{Token, TokenKind};
use crate::ast::BinaryOp;
use crate::format::{is_printable, quote, quote_char};
use crate::span::Span;
use nom::bytes::complete::{is_not, tag, take_while, take_while1};
use nom::combinator::{opt, recognize};
use nom::sequence::{pair, preceded};
use nom::{IResult, Parser as _};

/// The tokens of a text. The last one is [`TokenKind::End`], or [`TokenKind::Error`] with `error` saying what is wrong.
#[derive(Debug)]
pub(super) struct Lexed {
    pub(super) tokens: Vec<Token>,
    pub(super) error: String,
}

/// Splits `text` into tokens.
pub(super) fn lex(text: &str) -> Lexed {
    let mut lexer = Lexer {
        text,
        at: 0,
        tokens: Vec::with_capacity(text.len() / 4 + 1),
        paren_depth: 0,
        brace_open: false,
        bracket_open: false,
        at_duration: false,
        got_colon: false,
        got_duration: false,
    };
    let (kind, span, error) = match lexer.run() {
        Ok(()) => (TokenKind::End, Span::new(text.len(), text.len()), String::new()),
        Err(mistake) => (TokenKind::Error, Span::new(mistake.start, text.len()), mistake.message),
    };
    lexer.tokens.push(Token { kind, span });
    Lexed { tokens: lexer.tokens, error }
}

/// Where the text stops making sense, and why.
struct Mistake {
    start: usize,
    message: String,
}

fn mistake<T>(start: usize, message: impl Into<String>) -> Result<T, Mistake> {
    Err(Mistake { start, message: message.into() })
}

struct Lexer<'t> {
    text: &'t str,
    /// First byte not yet in a token.
    at: usize,
    tokens: Vec<Token>,
    paren_depth: u32,
    brace_open: bool,
    bracket_open: bool,
    /// Inside `[]`, before the first number: only what can begin a duration is known.
    at_duration: bool,
    /// Whether the `:` of `[range:step]` was seen.
    got_colon: bool,
    /// Whether a duration was seen inside brackets.
    got_duration: bool,
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_alphanumeric(c: char) -> bool {
    is_alpha(c) || c.is_ascii_digit()
}

/// A name without colons.
pub(super) fn name(input: &str) -> IResult<&str, &str> {
    recognize(pair(take_while1(is_alpha), take_while(is_alphanumeric))).parse(input)
}

/// A name that may hold colons; it may begin with one.
fn metric_name(input: &str) -> IResult<&str, &str> {
    let inner = |c: char| is_alphanumeric(c) || c == ':';
    recognize(pair(take_while1(|c: char| is_alpha(c) || c == ':'), take_while(inner))).parse(input)
}

/// `# ...` up to the end of the line.
fn comment(input: &str) -> IResult<&str, &str> {
    recognize(preceded(tag("#"), opt(is_not("\r\n")))).parse(input)
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// The character after the next one.
    fn peek_second(&self) -> Option<char> {
        self.rest().chars().nth(1)
    }

    /// Makes the next `len` bytes a token.
    fn emit(&mut self, kind: TokenKind, len: usize) {
        let end = self.at.saturating_add(len);
        self.tokens.push(Token { kind, span: Span::new(self.at, end) });
        self.at = end;
    }

    /// What `parser` takes from here, nothing if it does not apply.
    fn taken(&self, mut parser: impl FnMut(&'t str) -> IResult<&'t str, &'t str>) -> &'t str {
        parser(self.rest()).map_or("", |(_, taken)| taken)
    }

    fn run(&mut self) -> Result<(), Mistake> {
        loop {
            self.at += self.taken(take_while(is_space)).len();
            let note = self.taken(comment).len();
            if note > 0 && !self.at_duration {
                self.at += note;
                continue;
            }
            let Some(c) = self.peek() else { return self.finish() };
            if self.brace_open {
                self.inside_braces(c)?;
            } else if self.at_duration {
                self.duration_start(c)?;
            } else {
                self.statement(c)?;
            }
        }
    }

    fn finish(&self) -> Result<(), Mistake> {
        if self.brace_open {
            mistake(self.at, "unexpected end of input inside braces")
        } else if self.at_duration {
            mistake(self.at, "unexpected end of input in duration expression")
        } else if self.paren_depth != 0 {
            mistake(self.at, "unclosed left parenthesis")
        } else if self.bracket_open {
            mistake(self.at, "unclosed left bracket")
        } else {
            Ok(())
        }
    }

    fn statement(&mut self, c: char) -> Result<(), Mistake> {
        match c {
            '(' => self.open_paren(),
            ')' => return self.close_paren(),
            '{' => {
                self.emit(TokenKind::LeftBrace, 1);
                self.brace_open = true;
            }
            '[' if self.bracket_open => {
                return mistake(self.at, "unexpected left bracket '['");
            }
            '[' => {
                self.got_colon = false;
                self.emit(TokenKind::LeftBracket, 1);
                self.bracket_open = true;
                self.at_duration = true;
            }
            ']' if !self.bracket_open => {
                return mistake(self.at, "unexpected right bracket ']'");
            }
            ']' => {
                self.emit(TokenKind::RightBracket, 1);
                self.bracket_open = false;
            }
            '"' | '\'' | '`' => return self.string(c),
            ',' => self.emit(TokenKind::Comma, 1),
            '@' => self.emit(TokenKind::At, 1),
            c if c.is_ascii_digit() => return self.number_or_duration(),
            '.' if self.peek_second().is_some_and(|d| d.is_ascii_digit()) => {
                return self.number_or_duration();
            }
            c if is_alpha(c) || c == ':' => return self.word(c),
            c => return self.operator(c),
        }
        Ok(())
    }

    fn operator(&mut self, c: char) -> Result<(), Mistake> {
        let (op, len) = match (c, self.peek_second()) {
            ('=', Some('=')) => (BinaryOp::Equal, 2),
            ('=', Some('~')) => return mistake(self.at, "unexpected character after '=': '~'"),
            ('=', _) => {
                self.emit(TokenKind::Assign, 1);
                return Ok(());
            }
            ('!', Some('=')) => (BinaryOp::NotEqual, 2),
            ('!', next) => {
                let next = quote_char(next.unwrap_or('\u{fffd}'));
                return mistake(self.at, format!("unexpected character after '!': {next}"));
            }
            ('<', Some('=')) => (BinaryOp::LessOrEqual, 2),
            ('<', Some('/')) => (BinaryOp::TrimUpper, 2),
            ('<', _) => (BinaryOp::Less, 1),
            ('>', Some('=')) => (BinaryOp::GreaterOrEqual, 2),
            ('>', Some('/')) => (BinaryOp::TrimLower, 2),
            ('>', _) => (BinaryOp::Greater, 1),
            _ => match arithmetic(c) {
                Some(op) => (op, 1),
                None => {
                    let c = quote_char(c);
                    return mistake(self.at, format!("unexpected character: {c}"));
                }
            },
        };
        self.emit(TokenKind::Op(op), len);
        Ok(())
    }

    fn open_paren(&mut self) {
        self.emit(TokenKind::LeftParen, 1);
        self.paren_depth += 1;
    }

    fn close_paren(&mut self) -> Result<(), Mistake> {
        if self.paren_depth == 0 {
            return mistake(self.at + 1, "unexpected right parenthesis ')'");
        }
        self.emit(TokenKind::RightParen, 1);
        self.paren_depth -= 1;
        Ok(())
    }

    fn word(&mut self, c: char) -> Result<(), Mistake> {
        if self.bracket_open {
            if c == ':' {
                if self.got_colon {
                    return mistake(self.at, "unexpected colon ':'");
                }
                self.got_colon = true;
                self.emit(TokenKind::Colon, 1);
                return Ok(());
            }
            if self.duration_word() {
                return Ok(());
            }
            let c = quote_char(c);
            return mistake(self.at, format!("unexpected character: {c}, expected ':'"));
        }
        let word = self.taken(metric_name);
        let plain = if word.contains(':') { TokenKind::MetricIdentifier } else { TokenKind::Identifier };
        let kind = match TokenKind::of_word(word) {
            // New words that old queries use as names: special only in front of their argument.
            Some(TokenKind::Keyword(k)) if k.is_fill() && !self.paren_follows(word.len()) => plain,
            Some(kind) => kind,
            None => plain,
        };
        self.emit(kind, word.len());
        Ok(())
    }

    fn paren_follows(&self, skip: usize) -> bool {
        let behind = self.rest().get(skip..).unwrap_or_default();
        behind.trim_start_matches(is_space).starts_with('(')
    }

    /// Takes a word that can be part of a duration expression; `false` if the next one is none.
    fn duration_word(&mut self) -> bool {
        let word = self.taken(take_while(is_alpha));
        match TokenKind::of_word(word) {
            Some(kind @ TokenKind::Keyword(keyword)) if keyword.is_duration() => {
                self.emit(kind, word.len());
                true
            }
            _ => false,
        }
    }

    fn duration_start(&mut self, c: char) -> Result<(), Mistake> {
        match c {
            ']' => {
                self.emit(TokenKind::RightBracket, 1);
                self.bracket_open = false;
                self.at_duration = false;
            }
            ':' if !self.got_duration => {
                return mistake(self.at + 1, "unexpected colon before duration in duration expression");
            }
            ':' if self.got_colon => {
                return mistake(self.at + 1, "unexpected repeated colon in duration expression");
            }
            ':' => {
                self.emit(TokenKind::Colon, 1);
                self.got_colon = true;
            }
            '(' => self.open_paren(),
            ')' => return self.close_paren(),
            ',' => self.emit(TokenKind::Comma, 1),
            c if c.is_ascii_digit() || c == '.' && self.peek_second().is_some_and(|d| d.is_ascii_digit()) => {
                self.got_duration = true;
                self.at_duration = false;
                return self.number_or_duration();
            }
            c => {
                if let Some(op) = arithmetic(c) {
                    self.emit(TokenKind::Op(op), 1);
                } else if self.duration_word() {
                    self.got_duration = true;
                } else {
                    let c = quote_char(c);
                    let message = format!("unexpected character in duration expression: {c}");
                    return mistake(self.at, message);
                }
            }
        }
        Ok(())
    }

    fn inside_braces(&mut self, c: char) -> Result<(), Mistake> {
        match (c, self.peek_second()) {
            ('}', _) => {
                self.emit(TokenKind::RightBrace, 1);
                self.brace_open = false;
            }
            (',', _) => self.emit(TokenKind::Comma, 1),
            ('"' | '\'' | '`', _) => return self.string(c),
            ('=', Some('~')) => self.emit(TokenKind::MatchRegex, 2),
            ('=', _) => self.emit(TokenKind::Assign, 1),
            ('!', Some('~')) => self.emit(TokenKind::MatchNotRegex, 2),
            ('!', Some('=')) => self.emit(TokenKind::Op(BinaryOp::NotEqual), 2),
            ('!', next) => {
                let next = quote_char(next.unwrap_or('\u{fffd}'));
                let message = format!("unexpected character after '!' inside braces: {next}");
                return mistake(self.at, message);
            }
            ('{', _) => return mistake(self.at, "unexpected left brace '{'"),
            (c, _) if is_alpha(c) => {
                let len = self.taken(name).len();
                self.emit(TokenKind::Identifier, len);
            }
            (c, _) => {
                let c = quote_char(c);
                return mistake(self.at, format!("unexpected character inside braces: {c}"));
            }
        }
        Ok(())
    }

    fn number_or_duration(&mut self) -> Result<(), Mistake> {
        match number::scan(self.rest()) {
            (number::Scanned::Number, len) => self.emit(TokenKind::Number, len),
            (number::Scanned::Duration, len) => self.emit(TokenKind::Duration, len),
            (number::Scanned::Neither, len) => {
                let taken = quote(self.rest().get(..len).unwrap_or_default().as_bytes());
                return mistake(self.at, format!("bad number or duration syntax: {taken}"));
            }
        }
        Ok(())
    }

    fn string(&mut self, quote: char) -> Result<(), Mistake> {
        let body = self.rest().get(1..).unwrap_or_default();
        let mut chars = body.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.emit(TokenKind::String, at + 2);
                    return Ok(());
                }
                '\n' if quote != '`' => break,
                '\\' if quote != '`' => {
                    if let Err(message) = check_escape(&mut chars, quote) {
                        return mistake(self.at, message);
                    }
                }
                _ => {}
            }
        }
        mistake(self.at, if quote == '`' { "unterminated raw string" } else { "unterminated quoted string" })
    }
}

fn arithmetic(c: char) -> Option<BinaryOp> {
    Some(match c {
        '+' => BinaryOp::Add,
        '-' => BinaryOp::Sub,
        '*' => BinaryOp::Mul,
        '/' => BinaryOp::Div,
        '%' => BinaryOp::Mod,
        '^' => BinaryOp::Pow,
        _ => return None,
    })
}

/// Takes the escape sequence behind a backslash.
fn check_escape(chars: &mut std::str::CharIndices<'_>, quote: char) -> Result<(), String> {
    const CUT: &str = "escape sequence not terminated";
    let mut next = || chars.next().map(|(_, c)| c).ok_or_else(|| CUT.to_owned());
    let kind = next()?;
    // How many digits, their base, the greatest value, and the digit already taken.
    let (digits, base, max, first) = match kind {
        'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
        c if c == quote => return Ok(()),
        '0'..='7' => (3, 8, 255, Some(kind)),
        'x' => (2, 16, 255, None),
        'u' => (4, 16, 0x0010_ffff, None),
        'U' => (8, 16, 0x0010_ffff, None),
        c => return Err(format!("unknown escape sequence {}", code_point(c))),
    };
    let mut value: u32 = 0;
    let mut pending = first;
    for _ in 0..digits {
        let c = match pending.take() {
            Some(c) => c,
            None => next()?,
        };
        let Some(digit) = c.to_digit(base) else {
            return Err(format!("illegal character {} in escape sequence", code_point(c)));
        };
        // At most eight hexadecimal digits, so this never wraps.
        value = value.wrapping_mul(base).wrapping_add(digit);
    }
    if value > max || (0xd800..0xe000).contains(&value) {
        return Err("escape sequence is an invalid Unicode code point".to_owned());
    }
    Ok(())
}

/// `U+0022 '"'`, or only the number of what cannot be printed.
fn code_point(c: char) -> String {
    let code = c as u32;
    if is_printable(c) { format!("U+{code:04X} '{c}'") } else { format!("U+{code:04X}") }
}
