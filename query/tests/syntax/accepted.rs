//! What is accepted, and the canonical text it stands for.

use kymo_query::syntax::{parse_duration, parse_metric_selector};
use kymo_query::{ParseOptions, parse, print};

/// Text, canonical text.
const ACCEPTED: &[(&str, &str)] = &[
    // Numbers.
    ("1_000", "1000"),
    (".5", "0.5"),
    ("2.", "2"),
    ("0x1F", "31"),
    ("010", "8"),
    ("1e-7", "0.0000001"),
    ("+inf", "+Inf"),
    ("-iNf", "-Inf"),
    ("NaN", "NaN"),
    ("-NaN", "NaN"),
    ("5m", "5m"),
    ("-90s", "-1m30s"),
    ("- - 1", "1"),
    // Texts.
    ("'a\\'b'", "\"a'b\""),
    ("`a\\nb`", "\"a\\\\nb\""),
    ("\"\\xff\\u00e9\\101\"", "\"\\xfféA\""),
    // Selectors.
    ("{\"foo.bar\", \"my.label\"='x',}", "{\"my.label\"=\"x\",__name__=\"foo.bar\"}"),
    ("a{c=\"1\", b!=\"2\", sum=~\"3\", d!~\"4\"}", "a{b!=\"2\",c=\"1\",d!~\"4\",sum=~\"3\"}"),
    ("a:b{}", "a:b"),
    ("{__name__=\"a\"}", "{__name__=\"a\"}"),
    (
        "sum + by + offset + start + step + fill + anchored",
        "sum + by + offset + start + step + fill + anchored",
    ),
    ("fill + fill(0) fill", "fill + fill (0) fill"),
    ("a[300]", "a[5m]"),
    ("a[1h+5m*2 : step()]", "a[1h + 5m * 2:step()]"),
    ("a[min_of(step(), 1m)+(2)]", "a[min_of(step(), 1m) + (2)]"),
    ("a offset 1d @ 5", "a @ 5.000 offset 1d"),
    ("a @ -0.0005 offset -7", "a @ -0.001 offset -7s"),
    ("a offset 0", "a"),
    ("a[5m] @ end() offset -step()", "a[5m] @ end() offset -step()"),
    ("a offset -2^2", "a offset -2s ^ 2"),
    ("a offset (1m+2m)", "a offset (1m + 2m)"),
    ("a[5m] AnchoreD offset 1m", "a[5m] anchored offset 1m"),
    ("a smoothed", "a smoothed"),
    ("(a + b)[1h:] @ start()", "(a + b)[1h:] @ start()"),
    // Operators.
    ("-1 ^ 2", "-1 ^ 2"),
    ("Inf ^ 1", "Inf ^ 1"),
    ("+Inf ^ 1", "+Inf ^ 1"),
    ("(+Inf) ^ Inf ^ Inf * Inf", "(+Inf) ^ Inf ^ +Inf * +Inf"),
    ("-inf ^ -Inf", "-Inf ^ -Inf"),
    ("1 - 2 - 3 ^ 4 ^ 5", "1 - 2 - 3 ^ 4 ^ 5"),
    ("a </ 5 >/ b", "a </ 5 >/ b"),
    ("a ATAN2 b UnLess c", "a atan2 b unless c"),
    ("a == bool on() b", "a == bool on () b"),
    ("a * on(x, \"y.z\",) group_left b", "a * on (x, \"y.z\") group_left () b"),
    (
        "a / ignoring(x) group_right(y) fill_right(1) fill_left(-2e22) b",
        "a / ignoring (x) group_right (y) fill_left (-2e+22) fill_right (1) b",
    ),
    ("1 + on() 2", "1 + 2"),
    // Calls and aggregations.
    ("SUM BY (a,) (x)", "sum by (a) (x)"),
    ("sum(x) without (by)", "sum without (by) (x)"),
    ("topk without() (3, x)", "topk without () (3, x)"),
    ("count_values by () (\"v\", x)", "count_values(\"v\", x)"),
    ("start() + step()", "start() + step()"),
    ("info(a, {b=~\".*\"})", "info(a, {b=~\".*\"})"),
    ("label_join(a, \"b\", \"-\")", "label_join(a, \"b\", \"-\")"),
    ("hour() # of the day\n+ 1", "hour() + 1"),
];

#[test]
fn canonical_texts() {
    for (text, canonical) in ACCEPTED {
        match parse(text, &ParseOptions::default()) {
            Ok(expr) => assert_eq!(expr.to_string(), *canonical, "{text}"),
            Err(errors) => panic!("{text}: {}", errors[0]),
        }
    }
}

/// The tree with parentheses around each operator.
fn grouped(text: &str) -> String {
    use kymo_query::ast::Expr;
    fn show(expr: &Expr) -> String {
        match expr {
            Expr::Binary(e) => format!("({} {} {})", show(&e.left), e.op, show(&e.right)),
            Expr::Unary(e) => format!("({}{})", e.op, show(&e.expr)),
            other => other.to_string(),
        }
    }
    show(&parse(text, &ParseOptions::default()).unwrap())
}

#[test]
fn precedence() {
    let cases = [
        ("a or b and c", "(a or (b and c))"),
        ("a and b == c", "(a and (b == c))"),
        ("a == b + c", "(a == (b + c))"),
        ("a + b * c ^ d", "(a + (b * (c ^ d)))"),
        ("a - b - c", "((a - b) - c)"),
        ("a ^ b ^ c", "(a ^ (b ^ c))"),
        ("-a ^ b", "(-(a ^ b))"),
        ("-a * b", "((-a) * b)"),
        ("a ^ -b ^ c * d", "((a ^ (-(b ^ c))) * d)"),
        ("- a offset 1m", "(-a offset 1m)"),
        ("a offset -2 ^ 2", "(a offset -2s ^ 2)"),
        ("a % b atan2 c / d", "(((a % b) atan2 c) / d)"),
        ("a </ b < c", "((a </ b) < c)"),
    ];
    for (text, expected) in cases {
        assert_eq!(grouped(text), expected, "{text}");
    }
}

#[test]
fn metric_selectors() {
    let texts =
        |text| parse_metric_selector(text).map(|m| m.iter().map(print::matcher_text).collect::<Vec<_>>());
    assert_eq!(texts("a{b=\"c\"}").unwrap(), ["b=\"c\"", "__name__=\"a\""]);
    assert_eq!(texts("{\"a.b\"}").unwrap(), ["__name__=\"a.b\""]);
    assert!(texts("{}").unwrap().is_empty());
    let refused = [
        ("", "unknown position: parse error: unexpected end of input"),
        ("a[5m]", "1:2: parse error: unexpected \"[\""),
        ("rate(a)", "1:5: parse error: unexpected \"(\""),
    ];
    for (text, message) in refused {
        assert_eq!(texts(text).unwrap_err()[0].to_string(), message);
    }
}

#[test]
fn durations() {
    assert_eq!(parse_duration("1h30m"), Ok(5_400_000));
}
