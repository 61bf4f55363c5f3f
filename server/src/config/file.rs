//! The configuration file (`--config`): what may change while the server runs.

use super::duration::Span;
use super::otlp::OtlpSettings;
use kymo_query::syntax::parse_metric_selector;
use kymo_storage::model::Matcher;
use kymo_storage::options::RetentionRule;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Read;
use std::path::Path;

/// Largest configuration file in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The file as it is written. Every key may be left out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigFile {
    /// Labels of this server, added to what leaves it for another one: federation and remote read.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub external_labels: BTreeMap<String, String>,
    /// Series that are kept for another time than `--retention` says; the first rule that matches a series decides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retention: Vec<RetentionEntry>,
    /// Limits of queries, in place of the flags of the same names.
    pub query: QuerySection,
    /// Limits of writes, in place of the flags of the same names.
    pub ingest: IngestSection,
    /// How OpenTelemetry metrics are named.
    pub otlp: OtlpSettings,
}

/// One rule of `retention`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionEntry {
    /// Which series: a selector such as `{env="dev"}`.
    #[serde(rename = "match")]
    pub selector: Selector,
    /// How long they are kept.
    pub keep: Span,
}

/// Limits of queries.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuerySection {
    /// The longest a query may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Samples one query may hold in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_samples: Option<u64>,
    /// Steps a range query may have, not counting the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_points: Option<u64>,
    /// How far back an instant selector looks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookback: Option<Span>,
}

/// Limits of writes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestSection {
    /// Bytes of a body as it is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<usize>,
    /// Bytes of a body when decompressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_decoded_bytes: Option<usize>,
}

/// A selector and what it means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector {
    text: String,
    /// The conditions; at least one does not hold for an empty label set.
    pub matchers: Vec<Matcher>,
}

impl TryFrom<String> for Selector {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let matchers = parse_metric_selector(&text).map_err(|errors| {
            let first = errors.first().map(ToString::to_string).unwrap_or_default();
            format!("{text:?} is not a selector: {first}")
        })?;
        if matchers.iter().all(Matcher::matches_empty) {
            return Err(format!("{text:?} selects every series; --retention is for that"));
        }
        Ok(Self { text, matchers })
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.text
    }
}

impl ConfigFile {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// A sentence with the path, and line and column where there is one.
    pub fn read(path: &Path) -> Result<Self, String> {
        Self::parse(&read_text(path)?).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Reads and checks a text.
    ///
    /// # Errors
    /// A sentence with line and column where there is one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: Self = from_yaml(text)?;
        for name in file.external_labels.keys() {
            if name.is_empty() || name == "__name__" {
                return Err(format!("external_labels: {name:?} cannot be the name of an external label"));
            }
        }
        if let Some(entry) = file.retention.iter().find(|e| e.keep.0.is_zero()) {
            return Err(format!("retention: {:?} is kept for no time at all", entry.selector.text));
        }
        for rule in file.retention_rules() {
            rule.validate().map_err(|e| format!("retention: {e}"))?;
        }
        let query = &file.query;
        let nothing = [
            ("query.timeout", query.timeout.is_some_and(|t| t.0.is_zero())),
            ("query.max_samples", query.max_samples == Some(0)),
            ("query.lookback", query.lookback.is_some_and(|t| t.0.is_zero())),
            ("ingest.max_body_bytes", file.ingest.max_body_bytes == Some(0)),
            ("ingest.max_decoded_bytes", file.ingest.max_decoded_bytes == Some(0)),
        ];
        if let Some((key, _)) = nothing.iter().find(|(_, zero)| *zero) {
            return Err(format!("{key} is 0; nothing could be answered"));
        }
        file.otlp.check()?;
        Ok(file)
    }

    /// The rules for the store.
    pub fn retention_rules(&self) -> Vec<RetentionRule> {
        let rule = |entry: &RetentionEntry| RetentionRule {
            matchers: entry.selector.matchers.clone(),
            keep: entry.keep.0,
        };
        self.retention.iter().map(rule).collect()
    }
}

/// The text of a file the operator named.
///
/// # Errors
/// It cannot be read, is larger than 4 MiB or not UTF-8; the sentence names it.
pub fn read_text(path: &Path) -> Result<String, String> {
    let failed = |e: &dyn std::fmt::Display| format!("read {}: {e}", path.display());
    let file = OpenOptions::new().read(true).open(path).map_err(|e| failed(&e))?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|e| failed(&e))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(failed(&format_args!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// A value from YAML. Aliases, depth and sizes are bounded by the parser.
///
/// # Errors
/// A sentence with line and column. What stands there is not repeated: it could be a secret.
pub fn from_yaml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_saphyr::from_str(text).map_err(|e| e.without_snippet().to_string())
}

/// A value as YAML.
///
/// # Errors
/// It holds something that YAML cannot say.
pub fn to_yaml<T: Serialize>(value: &T) -> Result<String, String> {
    serde_saphyr::to_string(value).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn a_full_file_and_what_is_shown_of_it() {
        let text = concat!(
            "external_labels: {region: eu, replica: 1}\n",
            "retention:\n",
            "  - {match: '{env=\"dev\"}', keep: 7d}\n",
            "  - {match: 'http_requests_total{job=~\"a|b\"}', keep: 1y}\n",
            "query: {timeout: 30s, max_samples: 1000, lookback: 1m}\n",
            "ingest: {max_body_bytes: 1000}\n",
            "otlp:\n  translation_strategy: NoTranslation\n  promote_resource_attributes: [service.name]\n",
        );
        let file = ConfigFile::parse(text).unwrap();
        assert_eq!(file.external_labels["replica"], "1");
        let rules = file.retention_rules();
        assert_eq!(rules[0].keep, Duration::from_secs(7 * 86_400));
        assert_eq!(rules[0].matchers, [Matcher::equal("env", "dev")]);
        assert_eq!(rules[1].matchers.len(), 2);
        assert_eq!(file.query.timeout, Some(Span(Duration::from_secs(30))));
        assert!(!file.otlp.translation_strategy.escapes() && !file.otlp.translation_strategy.adds_suffixes());
        assert!(file.otlp.label_name_underscore_sanitization, "what is left out has its default");
        assert_eq!(ConfigFile::parse(&to_yaml(&file).unwrap()).unwrap(), file);
        assert_eq!(ConfigFile::parse("").unwrap(), ConfigFile::default());
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let cases = [
            ("external_label: {}\n", "unknown field `external_label`", "line 1, column 1"),
            ("otlp:\n  promote_all: true\n", "unknown field `promote_all`", "line 2, column 3"),
            ("otlp:\n  translation_strategy: Maybe\n", "Maybe", "line 2"),
            ("query:\n  timeout: soon\n", "is not a duration", "line 2"),
            ("query:\n  max_samples: -1\n", "invalid u64", "line 2"),
            ("query: {max_samples: 0}\n", "query.max_samples is 0", ""),
            ("retention:\n  - match: '{env='\n    keep: 1d\n", "is not a selector", "line 2"),
            ("retention:\n  - match: '{env=~\".*\"}'\n    keep: 1d\n", "selects every series", "line 2"),
            ("retention:\n  - match: up\n", "keep", "line 2"),
            ("retention: [{match: up, keep: 0s}]\n", "kept for no time", ""),
            ("retention: [{match: up, keep: 10ms}]\n", "the least is 1s", ""),
            ("external_labels: {a: 1, a: 2}\n", "duplicate", "line 1"),
            ("external_labels: {__name__: x}\n", "external label", ""),
            ("otlp: {ignore_resource_attributes: [a]}\n", "needs promote_all", ""),
            ("otlp: {promote_resource_attributes: [a, a]}\n", "twice", ""),
            ("a: [\n", "", "line"),
            ("query: {}\n---\nquery: {}\n", "multiple", "line"),
        ];
        for (text, words, place) in cases {
            let error = ConfigFile::parse(text).unwrap_err();
            assert!(error.contains(words) && error.contains(place), "{text:?}: {error}");
        }
    }

    #[test]
    fn bombs_of_aliases_and_depth_are_refused() {
        let mut aliases = String::from("external_labels:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let again = format!("*a{}, ", i - 1).repeat(10);
            aliases.push_str(&format!("  a{i}: &a{i} [{again}]\n"));
        }
        assert!(ConfigFile::parse(&aliases).is_err());
        assert!(ConfigFile::parse(&"[".repeat(100_000)).is_err());
        assert!(ConfigFile::parse(&format!("{}x", "a: ".repeat(10_000))).is_err());
    }

    proptest! {
        #[test]
        fn any_text_ends_in_an_answer(text in "[a-z:{}\\[\\]&* \n'\"|>-]{0,200}") {
            let _ = ConfigFile::parse(&text);
        }
    }
}
