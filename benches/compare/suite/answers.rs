//! Whether two programs answered alike: the same series, and values near each other at the last step.

use serde_json::Value;
use std::collections::BTreeMap;

/// What an answer says, for comparing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    /// How many series, names or label sets.
    pub(crate) count: usize,
    /// By labels, the last value; empty for answers without values.
    last: BTreeMap<String, f64>,
}

impl Answer {
    /// Reads the body of an answer.
    ///
    /// # Errors
    /// What the server said instead.
    pub(crate) fn read(body: &[u8]) -> Result<Self, String> {
        let json: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        if json["status"] != "success" {
            return Err(json["error"].as_str().unwrap_or("no success").to_owned());
        }
        if let Some(list) = json["data"].as_array() {
            return Ok(Self { count: list.len(), last: BTreeMap::new() });
        }
        let series = json["data"]["result"].as_array().cloned().unwrap_or_default();
        let last = series.iter().filter_map(|one| {
            let point = one.get("value").or_else(|| one["values"].as_array()?.last())?;
            Some((labels(&one["metric"]), point[1].as_str()?.parse().ok()?))
        });
        Ok(Self { count: series.len(), last: last.collect() })
    }

    /// The median relative distance of the last values of series that both have.
    pub(crate) fn distance(&self, other: &Self) -> f64 {
        let mut distances: Vec<f64> = self
            .last
            .iter()
            .filter_map(|(labels, value)| {
                let theirs = *other.last.get(labels)?;
                let size = value.abs().max(theirs.abs());
                let same =
                    value.to_bits() == theirs.to_bits() || size == 0.0 || (value.is_nan() && theirs.is_nan());
                Some(if same { 0.0 } else { (value - theirs).abs() / size })
            })
            .collect();
        distances.sort_by(f64::total_cmp);
        distances.get(distances.len() / 2).copied().unwrap_or(0.0)
    }
}

/// Sorted by name, as `serde_json` keeps objects.
fn labels(metric: &Value) -> String {
    let pairs: BTreeMap<&String, &Value> = metric.as_object().into_iter().flatten().collect();
    format!("{pairs:?}")
}
