//! Names of metrics and labels as Prometheus has them.
//!
//! Source: <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>, and the names Prometheus gives.

use crate::config::otlp::OtlpSettings;

/// Units by their codes of UCUM.
const UNITS: [(&str, &str); 27] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
    ("", ""),
];

/// Units behind a `/`.
const PER_UNITS: [(&str, &str); 7] = [
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

/// What of a metric's type shows in its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameKind {
    /// `_total` is appended.
    Counter,
    /// `_ratio` is appended if the unit is 1.
    Gauge,
    /// Nothing is appended.
    Other,
}

/// A word of a unit, or the unit itself if it has none; nothing for what stands in braces.
fn word<'a>(units: &[(&'static str, &'static str)], unit: &'a str) -> &'a str {
    let unit = unit.trim();
    if unit.contains(['{', '}']) {
        return "";
    }
    units.iter().find(|(code, _)| *code == unit).map_or(unit, |(_, word)| word)
}

/// What a unit appends: the main unit, and what stands behind a `/`.
fn unit_words(unit: &str) -> (&str, &str) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    (word(&UNITS, main), if per.trim().is_empty() { "" } else { word(&PER_UNITS, per) })
}

/// Only letters, digits and single underscores.
fn clean(unit: &str) -> String {
    let parts: Vec<&str> = unit.split(|c: char| !is_name_char(c)).filter(|p| !p.is_empty()).collect();
    parts.join("_")
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

fn without_leading_digit(name: String) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// The name of a metric.
pub(super) fn metric_name(settings: &OtlpSettings, name: &str, unit: &str, kind: NameKind) -> String {
    let strategy = settings.translation_strategy;
    match (strategy.escapes(), strategy.adds_suffixes()) {
        (true, true) => escaped_with_suffixes(name, unit, kind),
        (true, false) => {
            let parts: Vec<&str> =
                name.split(|c: char| !is_name_char(c) && c != '_').filter(|p| !p.is_empty()).collect();
            without_leading_digit(parts.join("_"))
        }
        (false, true) => with_suffixes(name, unit, kind),
        (false, false) => name.to_owned(),
    }
}

fn escaped_with_suffixes(name: &str, unit: &str, kind: NameKind) -> String {
    let mut tokens: Vec<&str> = name.split(|c: char| !is_name_char(c)).filter(|t| !t.is_empty()).collect();
    let (main, per) = unit_words(unit);
    let (main, per) = (clean(main), clean(per));
    if !main.is_empty() && !tokens.contains(&main.as_str()) {
        tokens.push(&main);
    }
    if !per.is_empty() && !tokens.contains(&per.as_str()) {
        tokens.extend(["per", per.as_str()]);
    }
    let last = match kind {
        NameKind::Counter => Some("total"),
        NameKind::Gauge if unit == "1" => Some("ratio"),
        NameKind::Gauge | NameKind::Other => None,
    };
    if let Some(last) = last {
        tokens.retain(|token| *token != last);
        tokens.push(last);
    }
    without_leading_digit(tokens.join("_"))
}

fn with_suffixes(name: &str, unit: &str, kind: NameKind) -> String {
    let (main, per) = unit_words(unit);
    let per = if per.is_empty() { String::new() } else { format!("per_{per}") };
    let last = match kind {
        NameKind::Counter => "total",
        NameKind::Gauge if unit == "1" => "ratio",
        NameKind::Gauge | NameKind::Other => "",
    };
    let trimmed = |name: &str, suffix: &str| -> String {
        let rest = (!suffix.is_empty()).then(|| name.strip_suffix(suffix)).flatten();
        rest.map_or(name, |rest| rest.trim_end_matches(['_', '.'])).to_owned()
    };
    let mut out = trimmed(&trimmed(name, last), &per);
    let main = if main.is_empty() || out.ends_with(main) { "" } else { main };
    for suffix in [main, &per, last] {
        if !suffix.is_empty() {
            out.push('_');
            out.push_str(suffix);
        }
    }
    out
}

/// The unit of metadata: the word, as it would stand in the name.
pub(super) fn unit_name(settings: &OtlpSettings, unit: &str) -> String {
    let (main, per) = unit_words(unit);
    let words: Vec<&str> =
        [main, if per.is_empty() { "" } else { "per" }, per].into_iter().filter(|w| !w.is_empty()).collect();
    let joined = words.join("_");
    if settings.translation_strategy.escapes() { clean(&joined) } else { joined }
}

/// The name of a label.
pub(super) fn label_name(settings: &OtlpSettings, name: &str) -> String {
    if !settings.translation_strategy.escapes() {
        return name.to_owned();
    }
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        let c = if c.is_ascii_alphanumeric() { c } else { '_' };
        let is_repeated = c == '_' && out.ends_with('_');
        if !is_repeated || settings.label_name_preserve_multiple_underscores {
            out.push(c);
        }
    }
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return format!("key_{out}");
    }
    let is_single = name.starts_with('_') && !name.starts_with("__");
    if settings.label_name_underscore_sanitization && is_single { format!("key{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::otlp::TranslationStrategy as Strategy;

    #[test]
    fn metrics() {
        use NameKind::{Counter, Gauge, Other};
        // Name, unit, type; escaped with suffixes, suffixes only, escaped only.
        let cases = [
            (
                "my.req.duration",
                "s",
                Counter,
                "my_req_duration_seconds_total",
                "my.req.duration_seconds_total",
                "my_req_duration",
            ),
            ("g", "1", Gauge, "g_ratio", "g_ratio", "g"),
            ("g", "1", Other, "g", "g", "g"),
            ("a.seconds.total", "s", Counter, "a_seconds_total", "a.seconds_total", "a_seconds_total"),
            ("io", "By/s", Gauge, "io_bytes_per_second", "io_bytes_per_second", "io"),
            ("speed", "m/m", Other, "speed_meters_per_minute", "speed_meters_per_minute", "speed"),
            ("hits", "{hit}", Counter, "hits_total", "hits_total", "hits"),
            ("rate", "{hit}/s", Gauge, "rate_per_second", "rate_per_second", "rate"),
            ("cpu", "%", Gauge, "cpu_percent", "cpu_percent", "cpu"),
            ("5xx", "", Other, "_5xx", "5xx", "_5xx"),
            ("a..b__c-", "", Other, "a_b_c", "a..b__c-", "a_b__c"),
            ("höhe", "m", Gauge, "h_he_meters", "höhe_meters", "h_he"),
            ("x", "foo/bar baz", Other, "x_foo_per_bar_baz", "x_foo_per_bar baz", "x"),
            ("total.requests", "", Counter, "requests_total", "total.requests_total", "total_requests"),
        ];
        for (name, unit, kind, full, suffixed, escaped) in cases {
            let named = |translation_strategy| {
                metric_name(
                    &OtlpSettings { translation_strategy, ..OtlpSettings::default() },
                    name,
                    unit,
                    kind,
                )
            };
            assert_eq!(named(Strategy::UnderscoreEscapingWithSuffixes), full);
            assert_eq!(named(Strategy::NoUTF8EscapingWithSuffixes), suffixed);
            assert_eq!(named(Strategy::UnderscoreEscapingWithoutSuffixes), escaped);
            assert_eq!(named(Strategy::NoTranslation), name);
        }
        assert_eq!(unit_name(&OtlpSettings::default(), "By/s"), "bytes_per_second");
    }

    #[test]
    fn labels() {
        let kept = OtlpSettings::default();
        let merged = OtlpSettings { label_name_preserve_multiple_underscores: false, ..kept.clone() };
        let plain = OtlpSettings { label_name_underscore_sanitization: false, ..kept.clone() };
        let raw = OtlpSettings { translation_strategy: Strategy::NoTranslation, ..kept.clone() };
        let cases = [
            ("http.status_code", "http_status_code", "http_status_code", "http_status_code"),
            ("a..b", "a__b", "a_b", "a__b"),
            ("5", "key_5", "key_5", "key_5"),
            ("_x", "key_x", "key_x", "_x"),
            ("__x", "__x", "_x", "__x"),
        ];
        for (name, with_defaults, without_repeats, without_key) in cases {
            assert_eq!(label_name(&kept, name), with_defaults);
            assert_eq!(label_name(&merged, name), without_repeats);
            assert_eq!(label_name(&plain, name), without_key);
            assert_eq!(label_name(&raw, name), name);
        }
    }
}
