//! The labels of a data point: its attributes, what is promoted of resource and scope, job and instance.

use super::names::label_name;
use crate::config::otlp::OtlpSettings;
use crate::wire::base64;
use crate::wire::otlp::messages::{AnyValue, KeyValue, Scope};
use kymo_storage::model::{Labels, METRIC_NAME};
use std::collections::BTreeMap;
use std::fmt::Write;

const SERVICE_NAME: &str = "service.name";
const SERVICE_NAMESPACE: &str = "service.namespace";
const SERVICE_INSTANCE_ID: &str = "service.instance.id";
/// What becomes job and instance.
const IDENTIFYING: [&str; 3] = [SERVICE_NAMESPACE, SERVICE_NAME, SERVICE_INSTANCE_ID];
/// Nesting of an attribute that is written out; below it stands nothing.
const DEPTH_MAX: u32 = 16;

/// What all data points of a scope have in common.
pub(super) struct LabelSource<'a> {
    settings: &'a OtlpSettings,
    /// Set where a point has none of that name.
    promoted: BTreeMap<String, String>,
    /// Set in any case: job, instance, scope.
    fixed: BTreeMap<String, String>,
}

fn find<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a KeyValue> {
    attributes.iter().find(|a| a.key == key)
}

fn text_of(attribute: &KeyValue) -> String {
    attribute.value.as_ref().map_or_else(String::new, text)
}

/// Job and instance.
fn identity(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    if let Some(name) = find(attributes, SERVICE_NAME) {
        let job = match find(attributes, SERVICE_NAMESPACE) {
            Some(namespace) => format!("{}/{}", text_of(namespace), text_of(name)),
            None => text_of(name),
        };
        out.insert("job".to_owned(), job);
    }
    if let Some(instance) = find(attributes, SERVICE_INSTANCE_ID) {
        out.insert("instance".to_owned(), text_of(instance));
    }
    out
}

/// Attributes under the names of labels; those that get the same name are joined by `;`, in the order of their keys.
fn named<'a>(
    settings: &OtlpSettings,
    attributes: impl Iterator<Item = &'a KeyValue>,
) -> BTreeMap<String, String> {
    let mut sorted: Vec<&KeyValue> = attributes.collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    let mut out: BTreeMap<String, String> = BTreeMap::new();
    for attribute in sorted {
        let value = text_of(attribute);
        let entry = out.entry(label_name(settings, &attribute.key)).or_default();
        if !entry.is_empty() {
            entry.push(';');
        }
        entry.push_str(&value);
    }
    out
}

impl<'a> LabelSource<'a> {
    pub(super) fn new(
        settings: &'a OtlpSettings,
        resource: &[KeyValue],
        scope: Option<&Scope>,
        schema_url: &str,
    ) -> Self {
        let is_promoted = |a: &&KeyValue| match settings.promote_all_resource_attributes {
            true => !settings.ignore_resource_attributes.contains(&a.key),
            false => settings.promote_resource_attributes.contains(&a.key),
        };
        let promoted = named(settings, resource.iter().filter(is_promoted));
        let mut fixed = identity(resource);
        if let Some(scope) = scope.filter(|s| settings.promote_scope_metadata && !s.name.is_empty()) {
            for attribute in &scope.attributes {
                let name = label_name(settings, &format!("otel_scope_{}", attribute.key));
                fixed.insert(name, text_of(attribute));
            }
            let about = [("name", &*scope.name), ("version", &*scope.version), ("schema_url", schema_url)];
            for (what, value) in about {
                fixed.insert(format!("otel_scope_{what}"), value.to_owned());
            }
        }
        Self { settings, promoted, fixed }
    }

    /// The labels of a point, without the metric's name.
    pub(super) fn of_point(&self, attributes: &[KeyValue]) -> BTreeMap<String, String> {
        let mut labels = named(self.settings, attributes.iter());
        for (name, value) in &self.promoted {
            let own = labels.entry(name.clone()).or_default();
            if own.is_empty() {
                own.clone_from(value);
            }
        }
        labels.extend(self.fixed.iter().map(|(n, v)| (n.clone(), v.clone())));
        labels
    }
}

/// A label set with the metric's name and one more label, whatever the attributes were called.
pub(super) fn series(labels: &BTreeMap<String, String>, name: &str, more: Option<(&str, &str)>) -> Labels {
    let own = |key: &str| key != METRIC_NAME && more.is_none_or(|(k, _)| k != key);
    let pairs = labels.iter().filter(|(key, _)| own(key)).map(|(k, v)| (k.as_str(), v.as_str()));
    Labels::from_pairs(pairs.chain([(METRIC_NAME, name)]).chain(more))
}

/// The labels of `target_info`: nothing if the resource has only what identifies it, or nothing that does.
pub(super) fn target_info(settings: &OtlpSettings, resource: &[KeyValue]) -> Option<Labels> {
    let identity = identity(resource);
    if identity.is_empty() || resource.iter().all(|a| IDENTIFYING.contains(&a.key.as_str())) {
        return None;
    }
    let keep = settings.keep_identifying_resource_attributes;
    let described = resource.iter().filter(|a| keep || !IDENTIFYING.contains(&a.key.as_str()));
    let mut labels = named(settings, described);
    labels.extend(identity);
    Some(series(&labels, "target_info", None))
}

/// An attribute's value as the text of a label.
pub(super) fn text(value: &AnyValue) -> String {
    if let Some(text) = &value.string_value {
        return text.clone();
    }
    let mut out = String::new();
    write_value(&mut out, value, false, 0);
    out
}

/// Writing to a string cannot fail, so results are passed over.
fn write_value(out: &mut String, value: &AnyValue, quoted: bool, depth: u32) {
    if depth > DEPTH_MAX {
        return;
    }
    match value {
        AnyValue { string_value: Some(text), .. } if quoted => {
            let _ = write!(out, "{}", serde_json::Value::from(text.as_str()));
        }
        AnyValue { string_value: Some(text), .. } => out.push_str(text),
        AnyValue { bool_value: Some(value), .. } => drop(write!(out, "{value}")),
        AnyValue { int_value: Some(value), .. } => drop(write!(out, "{value}")),
        AnyValue { double_value: Some(value), .. } => drop(write!(out, "{value}")),
        AnyValue { array_value: Some(array), .. } => {
            out.push('[');
            for (i, item) in array.values.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(out, item, true, depth + 1);
            }
            out.push(']');
        }
        AnyValue { kvlist_value: Some(list), .. } => {
            out.push('{');
            for (i, pair) in list.values.iter().enumerate() {
                let comma = if i > 0 { "," } else { "" };
                let _ = write!(out, "{comma}{}:", serde_json::Value::from(pair.key.as_str()));
                match &pair.value {
                    Some(value) => write_value(out, value, true, depth + 1),
                    None => out.push_str("null"),
                }
            }
            out.push('}');
        }
        AnyValue { bytes_value: Some(bytes), .. } => base64::encode(out, bytes),
        AnyValue { .. } if quoted => out.push_str("null"),
        AnyValue { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::otlp::messages::{ArrayValue, KeyValueList};

    fn attribute(key: &str, value: &str) -> KeyValue {
        let value = AnyValue { string_value: Some(value.to_owned()), ..AnyValue::default() };
        KeyValue { key: key.to_owned(), value: Some(value) }
    }

    fn shown(labels: &BTreeMap<String, String>) -> String {
        series(labels, "m", None).to_string()
    }

    #[test]
    fn points_resources_and_scopes() {
        let resource = [
            attribute("service.name", "api"),
            attribute("service.namespace", "shop"),
            attribute("service.instance.id", "i1"),
            attribute("host.name", "h"),
            attribute("cloud.zone", "z"),
        ];
        let scope =
            Scope { name: "lib".into(), version: "2".into(), attributes: vec![attribute("a.b", "c")] };
        let point = [
            attribute("x.y", "2"),
            attribute("x_y", "1"),
            attribute("job", "mine"),
            attribute("host.name", "own"),
        ];
        let labels = |settings: &OtlpSettings| {
            shown(&LabelSource::new(settings, &resource, Some(&scope), "url").of_point(&point))
        };
        let default = OtlpSettings::default();
        let base = r#"{__name__="m", host_name="own", instance="i1", job="shop/api", x_y="2;1"}"#;
        assert_eq!(labels(&default), base);
        let some = OtlpSettings {
            promote_resource_attributes: vec!["host.name".into(), "cloud.zone".into()],
            ..default.clone()
        };
        assert_eq!(labels(&some), base.replace(r#"{__name__="m""#, r#"{__name__="m", cloud_zone="z""#));
        let all = OtlpSettings {
            promote_all_resource_attributes: true,
            ignore_resource_attributes: vec![
                "service.name".into(),
                "service.namespace".into(),
                "service.instance.id".into(),
                "cloud.zone".into(),
            ],
            promote_scope_metadata: true,
            ..default.clone()
        };
        let scoped = r#"job="shop/api", otel_scope_a_b="c", otel_scope_name="lib", otel_scope_schema_url="url", otel_scope_version="2""#;
        assert_eq!(labels(&all), base.replace(r#"job="shop/api""#, scoped));

        let info = |settings: &OtlpSettings, resource: &[KeyValue]| {
            target_info(settings, resource).map(|l| l.to_string())
        };
        let expected =
            r#"{__name__="target_info", cloud_zone="z", host_name="h", instance="i1", job="shop/api"}"#;
        assert_eq!(info(&default, &resource).as_deref(), Some(expected));
        assert_eq!(info(&default, &resource[..3]), None, "nothing but what identifies");
        assert_eq!(info(&default, &resource[3..]), None, "nothing that identifies");
        let keep = OtlpSettings { keep_identifying_resource_attributes: true, ..default };
        assert!(info(&keep, &resource).unwrap().contains(r#"service_name="api""#));
    }

    #[test]
    fn values_as_text() {
        let value = AnyValue::default;
        let nested = AnyValue {
            kvlist_value: Some(Box::new(KeyValueList {
                values: vec![attribute("k", "v\""), KeyValue { key: "n".into(), value: None }],
            })),
            ..value()
        };
        let array = ArrayValue { values: vec![AnyValue { int_value: Some(-3), ..value() }, nested] };
        let cases = [
            (AnyValue { bool_value: Some(true), ..value() }, "true"),
            (AnyValue { double_value: Some(0.5), ..value() }, "0.5"),
            (AnyValue { array_value: Some(Box::new(array)), ..value() }, r#"[-3,{"k":"v\"","n":null}]"#),
            (AnyValue { bytes_value: Some(b"hello".to_vec()), ..value() }, "aGVsbG8="),
            (AnyValue { bytes_value: Some(b"hell".to_vec()), ..value() }, "aGVsbA=="),
            (value(), ""),
        ];
        for (value, expected) in cases {
            assert_eq!(text(&value), expected);
        }
    }
}
