//! What matches, what does not, and what is refused with which words.

use super::*;
use proptest::prelude::*;

#[test]
fn it_matches_what_go_matches() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("", &[""], &["a"]),
        ("foo", &["foo"], &["foobar", "xfoo", ""]),
        ("a|b|cd", &["a", "b", "cd"], &["ab", "c", ""]),
        ("a|", &["a", ""], &["b"]),
        (".*", &["", "x\ny"], &[]),
        (".+", &["x", "\n"], &[""]),
        ("foo.*", &["foo", "foo\n"], &["fo"]),
        ("foo.+", &["foox"], &["foo"]),
        (".*foo", &["foo", "éfoo"], &["foox"]),
        (".+foo.+", &["afoob", "éfooé", "ffoofoo"], &["foo", "afoo", "foob", "foofo"]),
        ("(?-s:.)+", &["ab"], &["a\nb"]),
        ("^foo$", &["foo"], &["foo\n"]),
        (r"\Afoo\z", &["foo"], &["xfoo"]),
        (r"foo\Q.*\E", &["foo.*"], &["foobar"]),
        (r"\Qa\", &["a\\"], &["a"]),
        (r"a\Q\E*", &["", "aa"], &["b"]),
        (r"\d+", &["12"], &["١٢", ""]),
        (r"\w", &["a", "_"], &["é"]),
        (r"\W", &["é"], &["a"]),
        (r"[\d\-x]+", &["1-x"], &["d"]),
        (r"\s", &[" ", "\t"], &["\u{a0}", "\x0b"]),
        (r"\pN", &["1", "١"], &["a"]),
        (r"\p{Greek}+", &["αβ"], &["a"]),
        (r"\p{^Greek}", &["a"], &["α"]),
        (r"\PN", &["a"], &["1"]),
        (r"[^a]", &["\n", "b"], &["a"]),
        ("[]a]+", &["]a"], &["b"]),
        ("[a-]+", &["a-"], &["b"]),
        ("[a&&b]+", &["a&b"], &["c"]),
        ("[[a]+", &["[a"], &["b"]),
        ("[a~~b]", &["~"], &["c"]),
        ("[[:alpha:]_]+", &["a_"], &["1"]),
        ("[[:^alpha:]]", &["1"], &["a"]),
        ("[[:alpha]+", &["[:alph"], &["1"]),
        ("(?i)straSSe", &["STRASSE", "strasse", "STRAſſE"], &["strase"]),
        ("(?i:a)b", &["Ab"], &["AB"]),
        ("a(?i)b|c", &["aB", "C"], &["AB"]),
        ("(?i)[^x]", &["a"], &["X"]),
        ("a{2}", &["aa"], &["a", "aaa"]),
        ("a{2,}", &["aaa"], &["a"]),
        ("a{,2}", &["a{,2}"], &["a"]),
        ("a{01}", &["a{01}"], &["a"]),
        ("a{x", &["a{x"], &["a"]),
        ("{", &["{"], &[]),
        ("a{0}", &[""], &["a"]),
        (r"\x41\x{1F600}\101\a", &["A😀A\x07"], &[]),
        (r"\.\_\-\/", &["._-/"], &[]),
        ("(?P<n>a)(?<n>b)", &["ab"], &["a"]),
        ("(?U)a*?", &["", "aaa"], &[]),
        ("(?m)a$\n^b", &["a\nb"], &["ab"]),
        (r"a\b-", &["a-"], &["a"]),
        ("a # b", &["a # b"], &["a"]),
        ("}]", &["}]"], &[]),
        ("^*", &[""], &["a"]),
        ("(|a)+", &["", "aa"], &["b"]),
        ("()", &[""], &["a"]),
        ("[^\\x00-\\x{10FFFF}]", &[], &["", "a"]),
    ];
    for (pattern, yes, no) in cases {
        let regex = Regex::new(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
        for text in *yes {
            assert!(regex.is_match(text), "{pattern} should match {text:?}");
            assert!(text.starts_with(regex.prefix()), "{pattern} has prefix {:?}", regex.prefix());
            assert!(regex.expand(text, "x").is_some(), "{pattern} should expand {text:?}");
        }
        for text in *no {
            assert!(!regex.is_match(text), "{pattern} should not match {text:?}");
            assert!(regex.expand(text, "x").is_none());
        }
    }
}

#[test]
fn errors_have_gos_words() {
    let deep = "(".repeat(300);
    let cases = [
        ("(", "missing closing ): `(`"),
        ("a(b", "missing closing ): `a(b`"),
        ("a)b", "unexpected ): `a)b`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("a|+?", "missing argument to repetition operator: `+?`"),
        ("(?i)*", "missing argument to repetition operator: `*`"),
        ("({2})", "missing argument to repetition operator: `{2}`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a+?{2}x", "invalid nested repetition operator: `+?{2}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{99999999999}", "invalid repeat count: `{99999999999}`"),
        ("a{2,1}", "invalid repeat count: `{2,1}`"),
        ("(a{100}){11}", "invalid repeat count: `{11}`"),
        ("x[a-", "missing closing ]: `[a-`"),
        ("[", "missing closing ]: `[`"),
        ("[]", "missing closing ]: `[]`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        (r"\p{Foo}", "invalid character class range: `\\p{Foo}`"),
        (r"\p{greek}", "invalid character class range: `\\p{greek}`"),
        (r"\pX", "invalid character class range: `\\pX`"),
        (r"\8", "invalid escape sequence: `\\8`"),
        (r"(a)\1", "invalid escape sequence: `\\1`"),
        (r"\<foo", ""),
        (r"\y", "invalid escape sequence: `\\y`"),
        (r"\Z", "invalid escape sequence: `\\Z`"),
        (r"\C", "invalid escape sequence: `\\C`"),
        (r"\u0041", "invalid escape sequence: `\\u`"),
        (r"\x{110000}", "invalid escape sequence: `\\x{110000`"),
        (r"a\", "trailing backslash at end of expression: ``"),
        ("x(?", "invalid or unsupported Perl syntax: `(?`"),
        ("(?i", "invalid or unsupported Perl syntax: `(?i`"),
        ("(?P<", "invalid or unsupported Perl syntax: `(?P`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
        ("(?<=a)b", "invalid named capture: `(?<=a)b`"),
        ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?i-)a", "invalid or unsupported Perl syntax: `(?i-)`"),
        ("(?P<n", "invalid named capture: `(?P<n`"),
        ("(?P<a b>c)", "invalid named capture: `(?P<a b>`"),
        ("(?P=n)", "invalid or unsupported Perl syntax: `(?P`"),
    ];
    for (pattern, message) in cases {
        match (Regex::new(pattern), message) {
            (Ok(_), "") => {}
            (Err(error), _) => assert_eq!(error.to_string(), format!("error parsing regexp: {message}")),
            (Ok(_), _) => panic!("{pattern} was taken"),
        }
    }
    let error = Regex::new(&deep).unwrap_err().to_string();
    assert!(error.starts_with("error parsing regexp: expression nests too deeply"), "{error}");
    let error = Regex::new(&"a".repeat(70_000)).unwrap_err().to_string();
    assert!(error.contains("70000 bytes is longer than the 65536 allowed"), "{error}");
    let error = Regex::new(r"(\pL{10}\PL{10}){50}").unwrap_err().to_string();
    assert!(error.contains("expression too large"), "{error}");
}

/// Patterns made to take time or memory: each is compiled or refused at once, and matches in linear time.
#[test]
#[cfg_attr(miri, ignore = "megabytes of patterns")]
fn bombs_do_no_harm() {
    let nested = |inner: &str, close: &str, depth: usize| {
        format!("{}{inner}{}", "(".repeat(depth), close.repeat(depth))
    };
    let bombs = [
        "\\pL".repeat(21_000),
        format!("[{}]", "\\pL".repeat(21_000)),
        format!("(?i)[{}]", "\\pL".repeat(21_000)),
        format!("(?i){}", "[!-〿]".repeat(8_000)),
        format!("[{}]", "ab".repeat(32_000)),
        format!("(?i)[{}]", "éz".repeat(20_000)),
        nested("a", ")*", 249),
        nested("a", "|b)", 249),
        nested("a*", "?b?)", 249),
        "(x+x+)+y".to_owned(),
        "(a?){500}a{500}".to_owned(),
        "((a{10}){10}){10}".to_owned(),
        ".{1000}.{1000}.{1000}".to_owned(),
        "(.*)(.*)(.*)(.*)(.*)z".to_owned(),
        "[ab]".repeat(16_000),
        "(a|b)".repeat(13_000),
        "a|".repeat(32_000),
        "(?i)".repeat(16_000),
        "a?".repeat(30_000),
        "[^\\pL\\pN]{1000}".to_owned(),
    ];
    let text = "x".repeat(5_000);
    for bomb in &bombs {
        if let Ok(regex) = Regex::new(bomb) {
            regex.is_match(&text);
            regex.expand("aaaa", "$1");
        }
    }
}

#[test]
fn literals_and_prefixes_are_known() {
    let literals = |pattern: &str| Regex::new(pattern).unwrap().literals().map(<[String]>::to_vec);
    let set = |items: &[&str]| Some(items.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
    assert_eq!(literals("b|a|cd|a"), set(&["a", "b", "cd"]));
    assert_eq!(literals("(?:x|y)-(1|2)"), set(&["x-1", "x-2", "y-1", "y-2"]));
    assert_eq!(literals("^(foo|bar)$"), set(&["bar", "foo"]));
    assert_eq!(literals(r"10\.0\.0\.1:9[01]"), set(&["10.0.0.1:90", "10.0.0.1:91"]));
    assert_eq!(literals("a?"), set(&["", "a"]));
    assert_eq!(literals(""), set(&[""]));
    assert_eq!(literals("(?i)ab"), set(&["AB", "Ab", "aB", "ab"]));
    assert_eq!(literals("a.*|b"), None);
    assert_eq!(literals("[a-z]{3}"), None);
    assert_eq!(literals(r"\ba"), None);
    let many: Vec<String> = (0..5000).map(|i| format!("pod-{i:04}")).collect();
    assert_eq!(literals(&many.join("|")), Some(many));
    let prefix = |pattern: &str| Regex::new(pattern).unwrap().prefix().to_owned();
    assert_eq!(prefix("foo.*bar"), "foo");
    assert_eq!(prefix("(foo)ba+r"), "foob");
    assert_eq!(prefix("foo1.*|foo2.*"), "foo");
    assert_eq!(prefix("^foo\\d"), "foo");
    assert_eq!(prefix("é+"), "");
    assert_eq!(prefix("a|b.*"), "");
}

#[test]
fn templates_expand_as_in_go() {
    let expand =
        |pattern: &str, text: &str, template: &str| Regex::new(pattern).unwrap().expand(text, template);
    let cases = [
        ("(.*)-(.*)", "a-b", "$2/$1", "b/a"),
        ("(.*)", "x", "$1_y", ""),
        ("(.*)", "x", "${1}_y", "x_y"),
        ("(?P<name>.*)", "x", "$name.$1.$$1", "x.x.$1"),
        ("(a)|(b)", "b", "<$1$2$3>", "<b>"),
        ("(?P<n>a)|(?P<n>b)", "b", "$n", "b"),
        ("a", "a", "$", "$"),
        ("a", "a", "${", "${"),
        ("a", "a", "$ ${a b} ${}", "$ ${a b} ${}"),
        ("a", "a", "$0$00", "a"),
        ("a|b", "b", "plain", "plain"),
        ("(.*)(\\d+)", "a123", "$1|$2", "a12|3"),
        ("(.*?)(\\d+)", "a123", "$1|$2", "a|123"),
        ("(é+).*", "éé1", "${1}é$9", "ééé"),
        ("(é+).*", "éé1", "<$1é>", "<>"),
    ];
    for (pattern, text, template, expected) in cases {
        assert_eq!(expand(pattern, text, template).as_deref(), Some(expected), "{pattern} {template}");
    }
    assert_eq!(expand("a", "b", "x"), None);
    assert_eq!(expand("a", "ab", "x"), None);
}

proptest! {
    #[test]
    fn any_pattern_is_taken_or_refused(pattern in "[a-c(){}\\[\\]|*+?.^$\\\\dpQEx:<>P0-3,=é-]{0,24}", text in "[a-cé0-3]{0,6}") {
        if let Ok(regex) = Regex::new(&pattern) {
            let plain = regex.inner.program().map(|p| p.is_match(&text));
            prop_assert_eq!(Some(regex.is_match(&text)), plain, "the plan of {} differs from its program", pattern);
            if regex.is_match(&text) {
                prop_assert!(text.starts_with(regex.prefix()));
            }
            let _ = regex.expand(&text, &pattern);
        }
    }

    #[test]
    fn quoted_text_matches_itself_only(text in "\\PC{0,12}", other in "\\PC{0,12}") {
        let regex = Regex::new(&regex_syntax::escape(&text)).unwrap();
        prop_assert!(regex.is_match(&text));
        prop_assert_eq!(regex.literals(), Some(&[text.clone()][..]));
        prop_assert_eq!(regex.is_match(&other), text == other);
    }
}
