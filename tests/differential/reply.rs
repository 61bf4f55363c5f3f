//! What a server answered to a query: everything of the envelope that is compared.

use kymo_tests::answer::{LabelMap, parse_value, read_labels};
use kymo_tests::http::Client;
use serde_json::Value as Json;

/// When a query is asked, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Once.
    Instant(i64),
    /// At each step.
    Range {
        /// The first step.
        start: i64,
        /// The last step is not after this.
        end: i64,
        /// Between two steps.
        step: i64,
    },
}

/// A sample of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// A number.
    Float(f64),
    /// A native histogram: count, sum, and kind of bounds, lower, upper, count of each bucket.
    Histogram(f64, f64, Vec<(u64, f64, f64, f64)>),
}

/// A series of an answer.
pub(crate) type Row = (LabelMap, Vec<(i64, Value)>);

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    /// The HTTP status.
    pub(crate) status: u16,
    /// `errorType`, or `resultType`.
    pub(crate) kind: String,
    /// `error`, or the string that is the result.
    pub(crate) text: String,
    /// The series, in the order given; a scalar is one without labels.
    pub(crate) rows: Vec<Row>,
    /// Warnings.
    pub(crate) warnings: Vec<String>,
    /// Infos.
    pub(crate) infos: Vec<String>,
}

/// Asks a server.
///
/// # Panics
/// It cannot be reached, or does not speak the Prometheus API.
pub(crate) fn ask(client: &mut Client, query: &str, when: When) -> Reply {
    let seconds = |ms: i64| format!("{:.3}", ms as f64 / 1000.0);
    let answer = match when {
        When::Instant(at) => client.post_form("/api/v1/query", &[("query", query), ("time", &seconds(at))]),
        When::Range { start, end, step } => client.post_form(
            "/api/v1/query_range",
            &[("query", query), ("start", &seconds(start)), ("end", &seconds(end)), ("step", &seconds(step))],
        ),
    };
    let Ok(answer) = answer else {
        // The connection was closed: what Prometheus does when a query makes it panic.
        let (kind, text) = (String::from("no answer"), String::new());
        let (rows, warnings, infos) = (Vec::new(), Vec::new(), Vec::new());
        return Reply { status: 0, kind, text, rows, warnings, infos };
    };
    let json = answer.json().unwrap_or_else(|e| panic!("{query}: {e}"));
    let mut reply = read(&json).unwrap_or_else(|e| panic!("{query}: {e}"));
    reply.status = answer.status;
    reply
}

fn read(json: &Json) -> Result<Reply, String> {
    let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
    let list = |key: &str| -> Vec<String> { json[key].as_array().into_iter().flatten().map(text).collect() };
    let mut reply = Reply {
        status: 0,
        kind: text(&json["errorType"]),
        text: text(&json["error"]),
        rows: Vec::new(),
        warnings: list("warnings"),
        infos: list("infos"),
    };
    if json["status"] != "success" {
        return Ok(reply);
    }
    let data = &json["data"];
    let result = &data["result"];
    reply.kind = text(&data["resultType"]);
    match reply.kind.as_str() {
        "scalar" => reply.rows.push((LabelMap::new(), vec![point(result)?])),
        "string" => reply.text = text(&result[1]),
        "vector" => {
            for row in result.as_array().ok_or("no list")? {
                let sample = if row["value"].is_null() { &row["histogram"] } else { &row["value"] };
                reply.rows.push((read_labels(&row["metric"])?, vec![point(sample)?]));
            }
        }
        "matrix" => {
            for row in result.as_array().ok_or("no list")? {
                let both = [&row["values"], &row["histograms"]];
                let samples = both.into_iter().filter_map(Json::as_array).flatten();
                let mut points = samples.map(point).collect::<Result<Vec<_>, _>>()?;
                points.sort_by_key(|p| p.0);
                reply.rows.push((read_labels(&row["metric"])?, points));
            }
        }
        other => return Err(format!("unknown resultType {other:?}")),
    }
    Ok(reply)
}

fn point(json: &Json) -> Result<(i64, Value), String> {
    let time = (json[0].as_f64().ok_or("no timestamp")? * 1000.0).round() as i64;
    let number = |json: &Json| -> Result<f64, String> {
        let text = json.as_str().ok_or_else(|| format!("no number: {json}"))?;
        parse_value(text).ok_or_else(|| format!("no number: {text}"))
    };
    if let Some(text) = json[1].as_str() {
        return Ok((time, Value::Float(parse_value(text).ok_or_else(|| format!("no number: {text}"))?)));
    }
    let histogram = &json[1];
    let bucket = |b: &Json| -> Result<(u64, f64, f64, f64), String> {
        Ok((b[0].as_u64().ok_or("no kind of bounds")?, number(&b[1])?, number(&b[2])?, number(&b[3])?))
    };
    let buckets =
        histogram["buckets"].as_array().into_iter().flatten().map(bucket).collect::<Result<_, _>>()?;
    Ok((time, Value::Histogram(number(&histogram["count"])?, number(&histogram["sum"])?, buckets)))
}

impl Reply {
    /// Whether the query was answered.
    pub(crate) fn succeeded(&self) -> bool {
        self.status == 200
    }

    /// All numbers of the answer, those of histograms included.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = f64> {
        self.rows.iter().flat_map(|row| &row.1).flat_map(|(_, value)| match value {
            Value::Float(value) => vec![*value],
            Value::Histogram(count, sum, buckets) => {
                let bounds = buckets.iter().flat_map(|b| [b.1, b.2, b.3]);
                [*count, *sum].into_iter().chain(bounds).collect()
            }
        })
    }
}
