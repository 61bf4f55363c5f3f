//! The section `otlp` of the configuration file: how OpenTelemetry names become those of Prometheus.

use serde::{Deserialize, Serialize};

/// How names of metrics and labels are translated.
/// Source: <https://prometheus.io/docs/prometheus/latest/configuration/configuration/>, `otlp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TranslationStrategy {
    /// Characters that are not of `[a-zA-Z0-9_:]` become `_`; unit and type are appended.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// Names stay as they are; unit and type are appended.
    NoUTF8EscapingWithSuffixes,
    /// Characters that are not of `[a-zA-Z0-9_:]` become `_`; nothing is appended.
    UnderscoreEscapingWithoutSuffixes,
    /// Names stay as they are.
    NoTranslation,
}

impl TranslationStrategy {
    /// Whether characters outside `[a-zA-Z0-9_:]` become `_`.
    pub fn escapes(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::UnderscoreEscapingWithoutSuffixes)
    }

    /// Whether the unit and the type are appended to the name of a metric.
    pub fn adds_suffixes(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::NoUTF8EscapingWithSuffixes)
    }
}

/// What the operator chose; the keys are those of Prometheus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpSettings {
    /// How names are translated.
    pub translation_strategy: TranslationStrategy,
    /// Every resource attribute becomes a label of every series.
    pub promote_all_resource_attributes: bool,
    /// These resource attributes become labels of every series.
    pub promote_resource_attributes: Vec<String>,
    /// With `promote_all_resource_attributes`: these do not.
    pub ignore_resource_attributes: Vec<String>,
    /// `service.name`, `service.namespace` and `service.instance.id` are kept in `target_info` too.
    pub keep_identifying_resource_attributes: bool,
    /// Explicit histograms are stored as native histograms with custom buckets.
    pub convert_histograms_to_nhcb: bool,
    /// Name, version, schema URL and attributes of the scope become labels `otel_scope_*`.
    pub promote_scope_metadata: bool,
    /// A label name that begins with `_` after escaping gets `key` in front of it.
    pub label_name_underscore_sanitization: bool,
    /// Several `_` in a row are kept when a label name is escaped.
    pub label_name_preserve_multiple_underscores: bool,
}

impl Default for OtlpSettings {
    fn default() -> Self {
        Self {
            translation_strategy: TranslationStrategy::default(),
            promote_all_resource_attributes: false,
            promote_resource_attributes: Vec::new(),
            ignore_resource_attributes: Vec::new(),
            keep_identifying_resource_attributes: false,
            convert_histograms_to_nhcb: false,
            promote_scope_metadata: false,
            label_name_underscore_sanitization: true,
            label_name_preserve_multiple_underscores: true,
        }
    }
}

impl OtlpSettings {
    /// Checks what a type cannot say.
    ///
    /// # Errors
    /// A sentence that names the keys.
    pub fn check(&self) -> Result<(), String> {
        if self.promote_all_resource_attributes && !self.promote_resource_attributes.is_empty() {
            return Err(
                "otlp: promote_all_resource_attributes and promote_resource_attributes exclude each other"
                    .to_owned(),
            );
        }
        if !self.promote_all_resource_attributes && !self.ignore_resource_attributes.is_empty() {
            return Err(
                "otlp: ignore_resource_attributes needs promote_all_resource_attributes: true".to_owned()
            );
        }
        for (key, names) in [
            ("promote_resource_attributes", &self.promote_resource_attributes),
            ("ignore_resource_attributes", &self.ignore_resource_attributes),
        ] {
            for (i, name) in names.iter().enumerate() {
                if name.trim().is_empty() {
                    return Err(format!("otlp: {key} holds an empty name"));
                }
                if names[..i].contains(name) {
                    return Err(format!("otlp: {key} holds {name:?} twice"));
                }
            }
        }
        Ok(())
    }
}
