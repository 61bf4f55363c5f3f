//! A native histogram as the HTTP API writes it.

use crate::value::write_value;
use kymo_storage::model::FloatHistogram;

/// Appends `{"count":"3","sum":"4.5","buckets":[[0,"1","2","3"]]}`: each populated bucket in rising order as the rule of its
/// bounds, the bounds and the count; without `buckets` if none is populated.
pub fn write_histogram(out: &mut String, histogram: &FloatHistogram) {
    out.push_str("{\"count\":");
    quoted(out, histogram.count);
    out.push_str(",\"sum\":");
    quoted(out, histogram.sum);
    let mut before = ",\"buckets\":[[";
    for bucket in histogram.populated_buckets() {
        out.push_str(before);
        before = ",[";
        out.push(char::from(b'0' + bucket.boundary_rule()));
        for value in [bucket.lower, bucket.upper, bucket.count] {
            out.push(',');
            quoted(out, value);
        }
        out.push(']');
    }
    if before == ",[" {
        out.push(']');
    }
    out.push('}');
}

fn quoted(out: &mut String, value: f64) {
    out.push('"');
    write_value(out, value);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::series_text::parse_series;

    #[test]
    fn only_populated_buckets_are_written() {
        let cases = [
            ("{{}}", r#"{"count":"0","sum":"0"}"#),
            (
                "{{count:9 sum:-1.5 z_bucket:1 z_bucket_w:0.25 buckets:[1 0 4] n_buckets:[3]}}",
                r#"{"count":"9","sum":"-1.5","buckets":[[1,"-1","-0.5","3"],[3,"-0.25","0.25","1"],[0,"0.5","1","1"],[0,"2","4","4"]]}"#,
            ),
            (
                "{{schema:-53 count:3 sum:NaN custom_values:[1] buckets:[1 2]}}",
                r#"{"count":"3","sum":"NaN","buckets":[[3,"-Inf","1","1"],[0,"1","+Inf","2"]]}"#,
            ),
        ];
        for (text, expected) in cases {
            let series = parse_series(&format!("m {text}")).unwrap();
            let mut out = String::new();
            write_histogram(&mut out, &series.items[0].histograms().unwrap()[0]);
            assert_eq!(out, expected);
        }
    }
}
