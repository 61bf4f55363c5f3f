//! The text exposition format (0.0.4) of `/metrics`.

use super::registry::{Kind, Visitor};
use std::fmt::Write;

/// Collects the exposition as text.
#[derive(Debug, Default)]
pub struct Text {
    out: String,
    family: &'static str,
}

/// The `Content-Type` of what [`Text::finish`] gives.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Text {
    /// The whole page.
    pub fn finish(self) -> String {
        self.out
    }
}

fn escaped(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

impl Visitor for Text {
    fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.family = name;
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "# HELP {name} {}\n# TYPE {name} {kind}", escaped(help, false));
    }

    fn sample(&mut self, suffix: &'static str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.out, "{}{suffix}", self.family);
        for (i, (name, value)) in labels.iter().enumerate() {
            let open = if i == 0 { '{' } else { ',' };
            let _ = write!(self.out, "{open}{name}=\"{}\"", escaped(value, true));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.out, "{close} {}", number(value));
    }
}

#[cfg(test)]
mod tests {
    use super::super::registry::Histogram;
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_page() {
        let mut text = Text::default();
        let visitor: &mut dyn Visitor = &mut text;
        visitor.counter("kymo_a_total", "Says \\ a\nb.", 3.0);
        visitor.family("kymo_b", Kind::Gauge, "B.");
        visitor.sample("", &[("x", "a\"b"), ("y", "")], f64::INFINITY);
        visitor.family("kymo_c_seconds", Kind::Histogram, "C.");
        let histogram = Histogram::default();
        histogram.observe(Duration::from_millis(1));
        histogram.observe(Duration::from_secs(60));
        visitor.histogram(&[("h", "1")], &histogram);
        let page = text.finish();
        let begin = "# HELP kymo_a_total Says \\\\ a\\nb.\n# TYPE kymo_a_total counter\nkymo_a_total 3\n\
                     # HELP kymo_b B.\n# TYPE kymo_b gauge\nkymo_b{x=\"a\\\"b\",y=\"\"} +Inf\n";
        assert!(page.starts_with(begin), "{page}");
        for line in [
            "kymo_c_seconds_bucket{h=\"1\",le=\"0.001\"} 1\n",
            "kymo_c_seconds_bucket{h=\"1\",le=\"30\"} 1\n",
            "kymo_c_seconds_bucket{h=\"1\",le=\"+Inf\"} 2\n",
            "kymo_c_seconds_sum{h=\"1\"} 60.001\n",
            "kymo_c_seconds_count{h=\"1\"} 2\n",
        ] {
            assert!(page.contains(line), "{line}");
        }
    }
}
