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
}

impl SampleValue {
    /// The number, if it is one.
    pub fn float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            Self::Histogram(_) => None,
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
    /// It is not that envelope, or holds what floats cannot say (native histograms).
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
                let value = SampleValue::Float(read_point(&row["value"])?.1);
                Ok((read_labels(&row["metric"])?, value))
            };
            Ok(Answer::Vector(rows()?.iter().map(row).collect::<Result<_, String>>()?))
        }
        Some("matrix") => {
            let row = |row: &Json| {
                let values = row["values"].as_array().ok_or_else(|| format!("no values in {row}"))?;
                let point = |json| read_point(json).map(|(time, value)| (time, SampleValue::Float(value)));
                let points = values.iter().map(point).collect::<Result<_, String>>()?;
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

fn read_point(json: &Json) -> Result<(i64, f64), String> {
    let seconds = json[0].as_f64().ok_or_else(|| format!("no timestamp in {json}"))?;
    let text = json[1].as_str().ok_or_else(|| format!("no value in {json}"))?;
    let value = parse_value(text).ok_or_else(|| format!("no number: {text}"))?;
    Ok(((seconds * 1000.0).round() as i64, value))
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
