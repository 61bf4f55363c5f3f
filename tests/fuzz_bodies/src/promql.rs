//! PromQL: texts of strangers and well-formed expressions; parsed, printed, parsed again, evaluated within a small budget.

#[path = "../../../query/tests/syntax/expressions.rs"]
mod expressions;

use crate::input::{Input, seed};
use crate::store;
use kymo_query::ast::Expr;
use kymo_query::syntax::{parse_duration, parse_metric_selector};
use kymo_query::{
    Engine, EngineOptions, FailureKind, ParseOptions, QueryLimits, QueryOptions, parse, pretty, print,
};
use kymo_storage::Storage;
use kymo_storage::env::Fs;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    let choice = input.u8();
    let moment = store::NOW - i64::from(input.u16()) * 60;
    if choice % 8 < 3 {
        let choices: Vec<u16> = input.0.chunks(2).map(|c| Input(c).u16()).collect();
        let text = expressions::Source::new(&choices).expression();
        let expr =
            parse(&text, &ParseOptions::default()).unwrap_or_else(|e| panic!("{text}: {:?}", e.first()));
        prints(&text, expr);
        return evaluate(&text, moment, choice);
    }
    let Ok(text) = std::str::from_utf8(input.0) else { return };
    match choice % 8 {
        3 => match parse_metric_selector(text) {
            Ok(matchers) => {
                let printed: Vec<String> = matchers.iter().map(print::matcher_text).collect();
                let again = parse_metric_selector(&format!("{{{}}}", printed.join(",")));
                assert_eq!(again.as_ref(), Ok(&matchers), "{printed:?}");
            }
            Err(errors) => assert!(!errors.is_empty()),
        },
        4 => {
            let _ = parse_duration(text);
            let plain = ParseOptions {
                experimental_functions: false,
                extended_ranges: false,
                fill_modifiers: false,
                duration_expressions: false,
                ..ParseOptions::default()
            };
            if let Ok(expr) = parse(text, &plain) {
                // What the plain language takes, the whole one takes, and it means the same.
                assert_eq!(parse(text, &ParseOptions::default()).as_ref(), Ok(&expr));
            }
        }
        _ => match parse(text, &ParseOptions::default()) {
            Ok(expr) => {
                prints(text, expr);
                evaluate(text, moment, choice);
            }
            Err(errors) => {
                assert!(!errors.is_empty());
                errors.iter().for_each(|e| assert!(!e.to_string().is_empty()));
            }
        },
    }
}

/// What is printed, on one line or on many, is the same expression.
fn prints(text: &str, mut expr: Expr) {
    let _ = kymo_server::wire::syntax_tree::syntax_tree(&expr).to_string();
    expr.clear_spans();
    let options = ParseOptions { bytes_max: 1 << 20, ..ParseOptions::default() };
    for printed in [expr.to_string(), pretty::pretty(&expr)] {
        let mut again = parse(&printed, &options)
            .unwrap_or_else(|errors| panic!("{text}\nis printed as\n{printed}\n{:?}", errors.first()));
        again.clear_spans();
        // Matchers are printed in an order of their own.
        let is_reordered = text.contains('{') && again.to_string() == expr.to_string();
        assert!(again == expr || is_reordered, "{text}\n{printed}\n{again:?}\n{expr:?}");
    }
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let limits = QueryLimits {
            samples: 100_000,
            points_per_series: 300,
            series: 5_000,
            bytes: 16 << 20,
            timeout: Duration::from_millis(800),
            ..QueryLimits::default()
        };
        Engine::new(EngineOptions { limits, threads: 1, ..EngineOptions::default() })
    })
}

fn data() -> &'static Storage {
    static DATA: OnceLock<Storage> = OnceLock::new();
    DATA.get_or_init(|| {
        let fs: Arc<dyn Fs> = Arc::new(store::base());
        store::open_read_only(&fs).unwrap()
    })
}

/// An answer, or a refusal that is nobody's bug.
fn evaluate(text: &str, moment: i64, choice: u8) {
    let options =
        QueryOptions { step_stats: choice & 64 != 0, explain: choice & 32 != 0, ..QueryOptions::default() };
    let result = if choice & 128 == 0 {
        engine().instant(data(), text, moment, &options)
    } else {
        engine().range(data(), text, moment - 600_000, moment, 20_000, &options)
    };
    match result {
        Ok(result) => assert!(result.stats.bytes_peak <= 17 << 20, "{text}: {:?}", result.stats),
        Err(error) => assert!(
            !matches!(error.kind, FailureKind::Internal | FailureKind::Storage | FailureKind::Canceled),
            "{text}: {error:?}"
        ),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "sum by (zone) (rate(requests_total[5m])) / on (zone) group_left count by (zone) (requests_total)",
        "histogram_quantile(0.9, sum(rate(latency_seconds[10m])))",
        "topk(3, requests_total) or bottomk(2, -requests_total{instance=~\"host-0[1-4].*\"})",
        "max_over_time(rate(requests_total[1m])[10m:30s] offset 1m)",
        "label_replace(requests_total, \"a\", \"$1-x\", \"instance\", \"(.*):.*\") unless requests_total > 3",
        "requests_total @ end() offset -5m + bool 1e3 == bool NaN",
        "quantile_over_time(0.5, requests_total[300] @ 1699999990)",
        "count_values(\"v\", requests_total) and absent(nothing{a!=\"b\"})",
        "sort_by_label_desc(requests_total, \"zone\", \"instance\")",
        "info(requests_total, {zone=\"z1\"})",
        "predict_linear(requests_total[10m], 3600) ^ 2 % 7 atan2 vector(time())",
        "'text' ",
        "{__name__=~\"re.*\", 'utf8 ü'=\"\\u00e4\\x41\"}",
        "histogram_count(latency_seconds) >/ 0.5",
        "increase(requests_total[1h] anchored) + delta(latency_seconds[5m] smoothed)",
        "requests_total[min(5m, step() * 2)]",
        "limitk(2, requests_total) - ignoring (instance) fill (0) requests_total",
        "holt_winters(a[1m], 0.1, 0.2)",
        "double_exponential_smoothing(requests_total[10m], 0.3, 0.3)",
        "((((1))))",
        "day_of_month() + hour(vector(1e15)) - days_in_month(vector(-1e18))",
        "stddev_over_time(latency_seconds[5m]) # comment",
    ];
    let mut seeds = Vec::new();
    for text in texts {
        for choice in [5, 133, 4] {
            seeds.push(seed(&[&[choice, 0, 0], text.as_bytes()]));
        }
    }
    for text in ["up", "{a=\"b\",c!=\"d\",e=~\"f|g\",h!~\"i.+\"}", "m{\"ü\"='x'}"] {
        seeds.push(seed(&[&[3, 0, 0], text.as_bytes()]));
    }
    for text in ["1h30m", "5ms", "0.5", "1y2w3d4h5m6s7ms"] {
        seeds.push(seed(&[&[4, 0, 0], text.as_bytes()]));
    }
    for i in 0..24u32 {
        let choices: Vec<u8> = (0..60u32).map(|j| ((i * 7919 + j * 104_729) % 251) as u8).collect();
        seeds.push(seed(&[&[if i % 2 == 0 { 0 } else { 128 }, 9, 0], &choices]));
    }
    seeds
}
