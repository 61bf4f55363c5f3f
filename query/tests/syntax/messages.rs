//! What is refused, with the position and the text of the message.

use kymo_query::{ParseOptions, parse};

/// Text, position, message.
const REFUSED: &[(&str, &str, &str)] = &[
    // Nothing, and too little.
    ("", "unknown position", "no expression found in input"),
    ("# a comment", "1:1", "no expression found in input"),
    ("1 +", "1:4", "unexpected end of input"),
    ("a\n  +", "2:4", "unexpected end of input"),
    ("(a", "1:3", "unclosed left parenthesis"),
    ("a)", "1:3", "unexpected right parenthesis ')'"),
    ("a[5m", "1:5", "unclosed left bracket"),
    ("a]", "1:2", "unexpected right bracket ']'"),
    ("a{", "1:3", "unexpected end of input inside braces"),
    ("a b", "1:3", "unexpected identifier \"b\""),
    ("1 2", "1:3", "unexpected number \"2\""),
    ("a 1234567890123", "1:3", "unexpected number \"1234567890\"..."),
    ("*a", "1:1", "unexpected <op:*>"),
    ("bool", "1:1", "unexpected <bool>"),
    // Characters and literals.
    ("🙂", "1:1", "unexpected character: '🙂'"),
    ("a ; b", "1:3", "unexpected character: ';'"),
    ("a =~ b", "1:3", "unexpected character after '=': '~'"),
    ("a ! b", "1:3", "unexpected character after '!': ' '"),
    ("\"abc", "1:1", "unterminated quoted string"),
    ("'ab\nc'", "1:1", "unterminated quoted string"),
    ("`abc", "1:1", "unterminated raw string"),
    ("\"\\x1\"", "1:1", "illegal character U+0022 '\"' in escape sequence"),
    ("\"\\q\"", "1:1", "unknown escape sequence U+0071 'q'"),
    ("\"\\400\"", "1:1", "escape sequence is an invalid Unicode code point"),
    ("\"\\ud800\"", "1:1", "escape sequence is an invalid Unicode code point"),
    ("2.5.", "1:1", "bad number or duration syntax: \"2.5.\""),
    (
        "0xfffffffffffffffff",
        "1:1",
        "error parsing number: strconv.ParseFloat: parsing \"0xfffffffffffffffff\": invalid syntax",
    ),
    ("a[1h1d]", "1:3", "not a valid duration string: \"1h1d\""),
    ("a[400y]", "1:3", "duration out of range"),
    // Matchers.
    ("a{b}", "1:4", "unexpected \"}\" in label matching, expected label matching operator"),
    ("a{b=\"x\" c=\"y\"}", "1:9", "unexpected identifier \"c\" in label matching, expected \",\" or \"}\""),
    ("a{b=c}", "1:5", "unexpected identifier \"c\" in label matching, expected string"),
    ("a{,}", "1:3", "unexpected \",\" in label matching, expected identifier or \"}\""),
    ("a{b!\"x\"}", "1:4", "unexpected character after '!' inside braces: '\"'"),
    ("a{{}", "1:3", "unexpected left brace '{'"),
    ("a{1=\"x\"}", "1:3", "unexpected character inside braces: '1'"),
    ("a{b=\"\\xff\"}", "1:5", "label name or value is not valid UTF-8: \"\\xff\""),
    ("{}", "1:1", "vector selector must contain at least one non-empty matcher"),
    ("1 + {a=~\".*\"}", "1:5", "vector selector must contain at least one non-empty matcher"),
    ("a{__name__=\"b\"}", "1:1", "metric name must not be set twice: \"a\" or \"b\""),
    // Ranges, subqueries, modifiers.
    (
        "a[]",
        "1:3",
        "unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()",
    ),
    ("a[", "1:3", "unexpected end of input in duration expression"),
    ("a[b]", "1:3", "unexpected character in duration expression: 'b'"),
    ("a[5m b]", "1:6", "unexpected character: 'b', expected ':'"),
    ("a[5m 5m]", "1:6", "unexpected duration \"5m\" in subquery or range, expected \":\" or \"]\""),
    ("a[5m:5m 5m]", "1:9", "unexpected duration \"5m\" in subquery selector, expected \"]\""),
    (
        "a[5m:*]",
        "1:6",
        "unexpected <op:*> in subquery selector, expected number, duration, step(), range(), or \"]\"",
    ),
    ("a[:5m]", "1:4", "unexpected colon before duration in duration expression"),
    ("a[5m[", "1:5", "unexpected left bracket '['"),
    ("a[0]", "1:3", "duration must be greater than 0"),
    ("a[-5m]", "1:3", "duration must be greater than 0"),
    ("a[5m:0s]", "1:6", "duration must be greater than 0"),
    ("a[5m/0]", "1:5", "division by zero"),
    ("a offset (5m % 0)", "1:14", "modulo by zero"),
    ("(a)[5m]", "1:4", "ranges only allowed for vector selectors"),
    ("a offset 1m[5m]", "1:12", "no offset modifiers allowed before range"),
    ("a @ 1[5m]", "1:6", "no @ modifiers allowed before range"),
    ("1[5m:]", "1:1", "subquery is only allowed on instant vector, got scalar instead"),
    ("a[5m][5m:]", "1:1", "subquery is only allowed on instant vector, got matrix instead"),
    ("a offset", "1:9", "unexpected end of input in offset, expected number, duration, step(), or range()"),
    ("a offset 1m offset 2m", "1:1", "offset may not be set multiple times"),
    (
        "(a) offset 1m",
        "1:1",
        "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
    ),
    ("a @ bar", "1:5", "unexpected identifier \"bar\" in @, expected timestamp"),
    ("a @ start", "1:10", "unexpected end of input in @, expected timestamp"),
    ("a @ 1 @ 2", "1:1", "@ <timestamp> may not be set multiple times"),
    ("a @ Inf", "1:1", "timestamp out of bounds for @ modifier: +Inf"),
    ("a @ 1e30", "1:1", "timestamp out of bounds for @ modifier: 1000000000000000019884624838656.000000"),
    (
        "1 @ 1",
        "1:1",
        "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
    ),
    ("a[5m] anchored smoothed", "1:1", "anchored and smoothed modifiers cannot be used together"),
    ("a[5m:] smoothed", "1:1", "smoothed modifier is not supported for subqueries"),
    // Calls and aggregations.
    ("nofunc(a)", "1:1", "unknown function with name \"nofunc\""),
    ("rate(a[5m],)", "1:11", "trailing commas not allowed in function call args"),
    ("rate(a)", "1:6", "expected type range vector in call to function \"rate\", got instant vector"),
    ("abs()", "1:1", "expected 1 argument(s) in call to \"abs\", got 0"),
    ("round(a, 1, 2)", "1:1", "expected at most 2 argument(s) in call to \"round\", got 3"),
    ("label_join(a, \"b\")", "1:1", "expected at least 3 argument(s) in call to \"label_join\", got 2"),
    (
        "histogram_quantiles(a, \"q\")",
        "1:1",
        "expected at least 3 argument(s) in call to \"histogram_quantiles\", got 2",
    ),
    ("info(a, b)", "1:9", "expected label selectors only, got vector selector instead"),
    ("info(a, (b))", "1:9", "expected label selectors only"),
    ("sum()", "1:1", "no arguments for aggregate expression provided"),
    ("topk(a)", "1:1", "wrong number of arguments for aggregate expression provided, expected 2, got 1"),
    ("sum(a, b)", "1:1", "wrong number of arguments for aggregate expression provided, expected 1, got 2"),
    ("sum(1)", "1:5", "expected type instant vector in aggregation expression, got scalar"),
    ("topk(\"3\", a)", "1:6", "expected type scalar in aggregation parameter, got string"),
    ("count_values(3, a)", "1:14", "expected type string in aggregation parameter, got scalar"),
    ("sum(a b)", "1:7", "unexpected identifier \"b\" in aggregation"),
    ("sum by (a) b", "1:12", "unexpected identifier \"b\" in aggregation"),
    ("sum by a (b)", "1:8", "unexpected identifier \"a\" in grouping opts, expected \"(\""),
    ("sum by (a foo) (b)", "1:11", "unexpected identifier \"foo\" in grouping opts, expected \",\" or \")\""),
    ("sum by (1) (b)", "1:9", "unexpected number \"1\" in grouping opts, expected label"),
    ("sum by (\"\") (b)", "1:9", "invalid label name for grouping: \"\""),
    // Operators.
    ("1 == 1", "1:3", "comparisons between scalars must use BOOL modifier"),
    ("a + bool b", "1:3", "bool modifier can only be used on comparison operators"),
    ("1 and 1", "1:1", "set operator \"and\" not allowed in binary scalar expression"),
    ("a or 1", "1:1", "set operator \"or\" not allowed in binary scalar expression"),
    ("a[5m] + 1", "1:1", "binary expression must contain only scalar and instant vector types"),
    ("1 + \"a\"", "1:5", "binary expression must contain only scalar and instant vector types"),
    (
        "-a[5m]",
        "1:1",
        "unary expression only allowed on expressions of type scalar or instant vector, got \"range vector\"",
    ),
    (
        "-\"a\"",
        "1:1",
        "unary expression only allowed on expressions of type scalar or instant vector, got \"string\"",
    ),
    ("a and on(b) group_left() c", "1:1", "no grouping allowed for \"and\" operation"),
    ("a + on(x) group_left(x) b", "1:3", "label \"x\" must not occur in ON and GROUP clause at once"),
    ("a + group_left b", "1:5", "unexpected <group_left>"),
    ("a + on(b) 1", "1:1", "vector matching only allowed between instant vectors"),
    ("a + fill(0) 1", "1:1", "filling in missing series only allowed between instant vectors"),
    ("a or fill(0) b", "1:1", "filling in missing series not allowed for set operators"),
    ("a + fill(x) b", "1:10", "unexpected identifier \"x\""),
];

#[test]
fn messages_and_positions() {
    for (text, position, message) in REFUSED {
        match parse(text, &ParseOptions::default()) {
            Ok(expr) => panic!("{text} is read as {expr}"),
            Err(errors) => {
                let expected = format!("{position}: parse error: {message}");
                assert_eq!(errors[0].to_string(), expected, "{text}");
            }
        }
    }
}

#[test]
fn a_bad_regular_expression_is_named() {
    let errors = parse("a{b=~\"(\"}", &ParseOptions::default()).unwrap_err();
    let text = errors[0].to_string();
    assert!(text.starts_with("1:3: parse error: error parsing regexp: "), "{text}");
}

#[test]
fn all_mistakes_of_meaning_are_listed() {
    let errors = parse("rate(a) + sum(1)", &ParseOptions::default()).unwrap_err();
    let columns: Vec<u32> = errors.iter().filter_map(|e| e.position.map(|p| p.1)).collect();
    assert_eq!(columns, [6, 15]);
}

#[test]
fn experiments_can_be_switched_off() {
    let options = ParseOptions {
        experimental_functions: false,
        extended_ranges: false,
        fill_modifiers: false,
        duration_expressions: false,
        ..ParseOptions::default()
    };
    let cases = [
        ("mad_over_time(a[5m])", "1:1: parse error: function \"mad_over_time\" is not enabled"),
        (
            "limitk(1, a)",
            "1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
        ),
        ("rate(a[5m] anchored)", "1:6: parse error: anchored modifier is experimental and not enabled"),
        ("a smoothed", "1:1: parse error: smoothed modifier is experimental and not enabled"),
        ("a[5m + 1]", "1:3: parse error: experimental duration expression is not enabled"),
        ("a[(5m)]", "1:4: parse error: experimental duration expression is not enabled"),
        ("a offset step()", "1:10: parse error: experimental duration expression is not enabled"),
        ("a + fill(0) b", "1:1: parse error: binop fill modifiers are experimental and not enabled"),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text, &options).unwrap_err()[0].to_string(), expected);
        assert!(parse(text, &ParseOptions::default()).is_ok(), "{text}");
    }
}

#[test]
fn limits_are_named() {
    let cases = [
        ("(".repeat(200) + "a" + &")".repeat(200), "expression is nested deeper than 128 levels"),
        ("1+".repeat(300) + "1", "expression is more than 256 operations deep"),
        ("2^".repeat(300) + "1", "expression is more than 256 operations deep"),
        (" ".repeat(65_537), "query of 65537 bytes is longer than the limit of 65536 bytes"),
        (
            format!("{{{}}}", (0..300).map(|i| format!("a=~\"x{i}\",")).collect::<String>()),
            "more than 256 different regular expressions",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(parse(&text, &ParseOptions::default()).unwrap_err()[0].message, message);
    }
    for (text, levels) in [("(", 120), ("-", 60_000)] {
        let closing = if text == "(" { ")".repeat(levels) } else { String::new() };
        let text = text.repeat(levels) + "1" + &closing;
        assert!(parse(&text, &ParseOptions::default()).is_ok());
    }
}
