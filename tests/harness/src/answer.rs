//! The answers of a query, whoever gave them: the engine in this process, or a server over HTTP.

use kymo_storage::model::FloatHistogram;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A label set as a test sees it.
pub type LabelMap = BTreeMap<String, String>;

/// The value of one sample.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
    /// A native histogram as the HTTP API shows it.
    Shown(Arc<ShownHistogram>),
}

/// What the HTTP API shows of a native histogram: no schema, no hint, no empty buckets.
#[derive(Debug, Clone, PartialEq)]
pub struct ShownHistogram {
    /// Observations.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// The buckets that are not empty, in rising order.
    pub buckets: Vec<ShownBucket>,
}

/// A bucket as the HTTP API shows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShownBucket {
    /// Which bounds are inside: 0 the upper, 1 the lower, 2 none, 3 both.
    pub boundary_rule: u8,
    /// The lower bound.
    pub lower: f64,
    /// The upper bound.
    pub upper: f64,
    /// Observations.
    pub count: f64,
}

impl ShownHistogram {
    /// What should be shown of `histogram`.
    pub fn of(histogram: &FloatHistogram) -> Self {
        let buckets = histogram.populated_buckets().map(|b| ShownBucket {
            boundary_rule: b.boundary_rule(),
            lower: b.lower,
            upper: b.upper,
            count: b.count,
        });
        Self { count: histogram.count, sum: histogram.sum, buckets: buckets.collect() }
    }

    /// Reads `{"count":"3","sum":"4.5","buckets":[[0,"1","2","3"]]}`.
    fn read(json: &Json) -> Result<Self, String> {
        let number = |json: &Json| {
            json.as_str().and_then(parse_value).ok_or_else(|| format!("no number as a string: {json}"))
        };
        let object = json.as_object().ok_or_else(|| format!("no histogram: {json}"))?;
        if let Some(key) = object.keys().find(|k| !["count", "sum", "buckets"].contains(&k.as_str())) {
            return Err(format!("unknown key {key} in {json}"));
        }
        let mut buckets = Vec::new();
        for row in object.get("buckets").and_then(Json::as_array).into_iter().flatten() {
            let bucket = match row.as_array().map(Vec::as_slice) {
                Some([rule, lower, upper, count]) => ShownBucket {
                    boundary_rule: rule.as_u64().filter(|r| *r < 4).ok_or("no boundary rule")? as u8,
                    lower: number(lower)?,
                    upper: number(upper)?,
                    count: number(count)?,
                },
                _ => return Err(format!("no bucket: {row}")),
            };
            buckets.push(bucket);
        }
        if object.contains_key("buckets") && buckets.is_empty() {
            return Err("an empty list of buckets is left out".to_owned());
        }
        Ok(Self { count: number(&json["count"])?, sum: number(&json["sum"])?, buckets })
    }
}

impl SampleValue {
    /// The number, if it is one.
    pub fn float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            Self::Histogram(_) | Self::Shown(_) => None,
        }
    }
}

/// The value of a query.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// One number.
    Scalar(f64),
    /// A text.
    Text(String),
    /// One value a series, in the order given.
    Vector(Vec<(LabelMap, SampleValue)>),
    /// Milliseconds and values of each series, in the order given.
    Matrix(Vec<(LabelMap, Vec<(i64, SampleValue)>)>),
}

/// What a query came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The value, or the error's text.
    pub result: Result<Answer, String>,
    /// Warnings, as the API words them.
    pub warnings: Vec<String>,
    /// Infos, as the API words them.
    pub infos: Vec<String>,
}

impl Outcome {
    /// An error without annotations.
    pub fn error(text: impl Into<String>) -> Self {
        Self { result: Err(text.into()), warnings: Vec::new(), infos: Vec::new() }
    }

    /// Reads the envelope of the Prometheus HTTP API.
    ///
    /// # Errors
    /// It is not that envelope.
    pub fn from_json(json: &Json) -> Result<Self, String> {
        let list = |key: &str| -> Vec<String> {
            let items = json[key].as_array().into_iter().flatten();
            items.filter_map(|i| i.as_str().map(str::to_owned)).collect()
        };
        let result = match json["status"].as_str() {
            Some("success") => Ok(read_data(&json["data"])?),
            Some("error") => Err(json["error"].as_str().unwrap_or_default().to_owned()),
            _ => return Err(format!("no status in {json}")),
        };
        Ok(Self { result, warnings: list("warnings"), infos: list("infos") })
    }
}

fn read_data(data: &Json) -> Result<Answer, String> {
    let result = &data["result"];
    let rows = || result.as_array().ok_or_else(|| format!("result is no list: {result}"));
    match data["resultType"].as_str() {
        Some("scalar") => Ok(Answer::Scalar(read_point(result)?.1)),
        Some("string") => Ok(Answer::Text(result[1].as_str().unwrap_or_default().to_owned())),
        Some("vector") => {
            let row = |row: &Json| {
                let (_, value) = match (row.get("value"), row.get("histogram")) {
                    (Some(point), None) => read_float(point)?,
                    (None, Some(point)) => read_histogram(point)?,
                    _ => return Err(format!("not one of value and histogram in {row}")),
                };
                Ok((read_labels(&row["metric"])?, value))
            };
            Ok(Answer::Vector(rows()?.iter().map(row).collect::<Result<_, String>>()?))
        }
        Some("matrix") => {
            let row = |row: &Json| {
                let list = |key: &str| row[key].as_array().into_iter().flatten();
                let floats = list("values").map(read_float);
                let histograms = list("histograms").map(read_histogram);
                let mut points = floats.chain(histograms).collect::<Result<Vec<_>, String>>()?;
                if points.is_empty() {
                    return Err(format!("neither values nor histograms in {row}"));
                }
                points.sort_by_key(|point| point.0);
                Ok((read_labels(&row["metric"])?, points))
            };
            Ok(Answer::Matrix(rows()?.iter().map(row).collect::<Result<_, String>>()?))
        }
        _ => Err(format!("unknown resultType in {data}")),
    }
}

/// A label object.
///
/// # Errors
/// It is something else.
pub fn read_labels(json: &Json) -> Result<LabelMap, String> {
    let object = json.as_object().ok_or_else(|| format!("no label object: {json}"))?;
    Ok(object.iter().map(|(n, v)| (n.clone(), v.as_str().unwrap_or_default().to_owned())).collect())
}

fn read_float(json: &Json) -> Result<(i64, SampleValue), String> {
    read_point(json).map(|(time, value)| (time, SampleValue::Float(value)))
}

fn read_histogram(json: &Json) -> Result<(i64, SampleValue), String> {
    Ok((read_time(json)?, SampleValue::Shown(Arc::new(ShownHistogram::read(&json[1])?))))
}

fn read_time(json: &Json) -> Result<i64, String> {
    let seconds = json[0].as_f64().ok_or_else(|| format!("no timestamp in {json}"))?;
    Ok((seconds * 1000.0).round() as i64)
}

fn read_point(json: &Json) -> Result<(i64, f64), String> {
    let text = json[1].as_str().ok_or_else(|| format!("no value in {json}"))?;
    let value = parse_value(text).ok_or_else(|| format!("no number: {text}"))?;
    Ok((read_time(json)?, value))
}

/// A number as the API and the script language write it.
pub fn parse_value(text: &str) -> Option<f64> {
    match text.to_ascii_lowercase().as_str() {
        "nan" | "+nan" | "-nan" => Some(f64::NAN),
        "inf" | "+inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        lower => {
            let (sign, digits) = match lower.strip_prefix('-') {
                Some(rest) => (-1.0, rest),
                None => (1.0, lower.strip_prefix('+').unwrap_or(lower)),
            };
            if let Some(hex) = digits.strip_prefix("0x") {
                return u64::from_str_radix(hex, 16).ok().map(|n| sign * n as f64);
            }
            digits
                .starts_with(|c: char| c.is_ascii_digit() || c == '.')
                .then(|| digits.parse::<f64>().ok())?
                .map(|n| sign * n)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_envelopes() {
        for (text, value) in
            [("1", 1.0), ("-0.5e1", -5.0), ("+Inf", f64::INFINITY), ("0x1F", 31.0), (".5", 0.5)]
        {
            assert_eq!(parse_value(text), Some(value), "{text}");
        }
        assert!(
            parse_value("stale").is_none() && parse_value("_").is_none() && parse_value("infinity").is_none()
        );
        let text = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1.5,"2"]}]},"infos":["i"]}"#;
        let outcome = Outcome::from_json(&serde_json::from_str(text).unwrap()).unwrap();
        let labels = LabelMap::from([("a".to_owned(), "b".to_owned())]);
        assert_eq!(outcome.result, Ok(Answer::Vector(vec![(labels, SampleValue::Float(2.0))])));
        assert_eq!(outcome.infos, ["i"]);
    }
}
