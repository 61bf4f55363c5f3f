//! The published description of the interface, and whether an answer is what it says. Of JSON Schema it knows the words that the
//! description uses; one that it does not know is a mistake.

use kymo_storage::model::Regex;
use kymo_tests::http::Response;
use serde_json::Value;
use std::collections::BTreeSet;

/// `server/openapi.yaml`.
pub(crate) struct Description(Value);

/// The words of a schema that say nothing about values.
const SILENT: [&str; 1] = ["description"];

impl Description {
    /// As the server hands it out.
    pub(crate) fn published() -> Self {
        Self(serde_saphyr::from_str(kymo_server::http::v1::server::OPENAPI).unwrap())
    }

    /// Path and method of every operation, in lower case.
    pub(crate) fn operations(&self) -> Vec<(String, String)> {
        let of_path = |(path, item): (&String, &Value)| {
            let methods: Vec<String> = item.as_object().unwrap().keys().cloned().collect();
            methods.into_iter().map(|method| (path.clone(), method)).collect::<Vec<_>>()
        };
        self.0["paths"].as_object().unwrap().iter().flat_map(of_path).collect()
    }

    /// The path of the description that a path of a request is for.
    pub(crate) fn route(&self, path: &str) -> Option<String> {
        let fits = |pattern: &str| {
            let (mut given, mut asked) = (path.split('/'), pattern.split('/'));
            loop {
                match (given.next(), asked.next()) {
                    (None, None) => return true,
                    (Some(given), Some(asked)) if given == asked || asked.starts_with('{') => {}
                    _ => return false,
                }
            }
        };
        self.0["paths"].as_object().unwrap().keys().find(|pattern| fits(pattern)).cloned()
    }

    /// The role that a route asks for.
    pub(crate) fn role(&self, path: &str) -> String {
        let item = self.0["paths"][path].as_object().unwrap();
        item.values().next().unwrap()["x-role"].as_str().unwrap().to_owned()
    }

    /// The statuses of an operation that are described each for itself.
    pub(crate) fn statuses(&self, path: &str, method: &str) -> BTreeSet<u16> {
        let responses = self.0["paths"][path][method]["responses"].as_object();
        responses.into_iter().flatten().filter_map(|(status, _)| status.parse().ok()).collect()
    }

    /// The names of the parameters of an operation that are not in its path.
    pub(crate) fn parameters(&self, path: &str, method: &str) -> BTreeSet<String> {
        let operation = &self.0["paths"][path][method];
        let listed = operation["parameters"].as_array().into_iter().flatten().map(|p| self.followed(p));
        let mut names: BTreeSet<String> =
            listed.filter(|p| p["in"] == "query").map(|p| p["name"].as_str().unwrap().to_owned()).collect();
        let form = &self.followed(&operation["requestBody"])["content"]["application/x-www-form-urlencoded"];
        names.extend(form["schema"]["properties"].as_object().into_iter().flatten().map(|(n, _)| n.clone()));
        names
    }

    /// Whether an answer is one that the operation may give; `Err` says why not. An operation that is not described has the
    /// answers to a wrong method.
    pub(crate) fn check(&self, path: &str, method: &str, answer: &Response) -> Result<(), String> {
        let head = method == "head";
        let responses = &self.0["paths"][path][if head { "get" } else { method }]["responses"];
        let described = match (responses.get(answer.status.to_string()), responses.get("default")) {
            (Some(described), _) => described,
            (None, Some(default)) if answer.status >= 400 => default,
            (None, None) if answer.status == 405 => return Ok(()),
            _ => return Err(format!("status {} is not described", answer.status)),
        };
        let described = self.followed(described);
        for (name, header) in described["headers"].as_object().into_iter().flatten() {
            match answer.header(&name.to_ascii_lowercase()) {
                Some(text) => {
                    let number = text.parse::<u64>().map(Value::from);
                    let value = number.unwrap_or_else(|_| Value::from(text));
                    self.valid(&header["schema"], &value, name)?;
                }
                None if header["required"] == true => return Err(format!("header {name} is missing")),
                None => {}
            }
        }
        let Some(content) = described["content"].as_object() else {
            return if answer.body.is_empty() { Ok(()) } else { Err(format!("a body: {}", answer.text())) };
        };
        let media = answer.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
        let Some(kind) = content.get(media) else { return Err(format!("type {media:?} is not described")) };
        let Some(schema) = kind.get("schema").filter(|_| !head) else { return Ok(()) };
        match media {
            "application/json" => self.valid(schema, &answer.json()?, "$"),
            "application/stream+json" => answer.text().lines().enumerate().try_for_each(|(i, line)| {
                let line = serde_json::from_str(line).map_err(|e| format!("line {}: {e}", i + 1))?;
                self.valid(schema, &line, &format!("line {}", i + 1))
            }),
            _ => self.valid(schema, &Value::from(answer.text()), "$"),
        }
    }

    fn followed<'v>(&'v self, value: &'v Value) -> &'v Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.0.pointer(reference.trim_start_matches('#')).unwrap(),
            None => value,
        }
    }

    /// Whether `value` is as `schema` says; `at` is where it stands.
    pub(crate) fn valid(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let schema = self.followed(schema);
        let words = schema.as_object().ok_or_else(|| format!("{at}: a schema is an object: {schema}"))?;
        for (word, says) in words {
            self.word(words, (word, says), value, at)?;
        }
        Ok(())
    }

    fn word(
        &self,
        words: &serde_json::Map<String, Value>,
        (word, says): (&str, &Value),
        value: &Value,
        at: &str,
    ) -> Result<(), String> {
        let list = || says.as_array().into_iter().flatten();
        let count = |n: usize| n as u64;
        let fits = match word {
            "type" => match says.as_array() {
                Some(any) => any.iter().any(|name| is_of(name, value)),
                None => is_of(says, value),
            },
            "const" => says == value,
            "enum" => list().any(|one| one == value),
            "required" => {
                value.as_object().is_none_or(|o| list().all(|n| o.contains_key(n.as_str().unwrap())))
            }
            "minItems" => value.as_array().is_none_or(|a| count(a.len()) >= says.as_u64().unwrap()),
            "maxItems" => value.as_array().is_none_or(|a| count(a.len()) <= says.as_u64().unwrap()),
            "minimum" => value.as_f64().is_none_or(|n| n >= says.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|n| n <= says.as_f64().unwrap()),
            "pattern" => {
                let pattern = says.as_str().unwrap();
                // Ours match whole texts.
                assert!(pattern.starts_with('^') && pattern.ends_with('$'), "{pattern}");
                value.as_str().is_none_or(|text| Regex::new(pattern).unwrap().is_match(text))
            }
            "oneOf" => list().filter(|schema| self.valid(schema, value, at).is_ok()).count() == 1,
            "anyOf" => list().any(|schema| self.valid(schema, value, at).is_ok()),
            "allOf" => return list().try_for_each(|schema| self.valid(schema, value, at)),
            "properties" => {
                let known = says.as_object().unwrap().iter();
                let mut met = known.filter_map(|(name, schema)| Some((name, schema, value.get(name)?)));
                return met.try_for_each(|(name, schema, v)| self.valid(schema, v, &format!("{at}.{name}")));
            }
            "additionalProperties" => {
                let known = words.get("properties").and_then(Value::as_object);
                let is_more = |name: &str| known.is_none_or(|known| !known.contains_key(name));
                let mut more = value.as_object().into_iter().flatten().filter(|(name, _)| is_more(name));
                if *says == false {
                    return more
                        .next()
                        .map_or(Ok(()), |(name, _)| Err(format!("{at}: {name} is not described")));
                }
                return more.try_for_each(|(name, v)| self.valid(says, v, &format!("{at}.{name}")));
            }
            "prefixItems" => {
                let mut pairs = list().zip(value.as_array().into_iter().flatten()).enumerate();
                return pairs.try_for_each(|(i, (schema, v))| self.valid(schema, v, &format!("{at}[{i}]")));
            }
            "items" => {
                let mut items = value.as_array().into_iter().flatten().enumerate();
                return items.try_for_each(|(i, v)| self.valid(says, v, &format!("{at}[{i}]")));
            }
            known if SILENT.contains(&known) => true,
            unknown => panic!("{at}: a word that nobody checks: {unknown}"),
        };
        if fits { Ok(()) } else { Err(format!("{at}: {value} is not {word} {says}")) }
    }
}

fn is_of(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type {other}"),
    }
}

#[test]
fn what_is_not_described_is_found() {
    let description = Description::published();
    let answer = |status: u16, media: &str, body: &str| Response {
        status,
        headers: vec![("content-type".to_owned(), media.to_owned())],
        body: body.as_bytes().to_vec(),
    };
    let fine = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1.5,"+Inf"]}]}}"#;
    let json = "application/json";
    let cases = [
        ("/api/v1/query", 200, json, fine.to_owned(), ""),
        ("/api/v1/query", 201, json, fine.to_owned(), "status 201"),
        ("/api/v1/query", 200, "text/plain", fine.to_owned(), "type \"text/plain\""),
        ("/api/v1/query", 200, json, fine.replace("+Inf", "Infinity"), "oneOf"),
        ("/api/v1/query", 200, json, fine.replace("\"+Inf\"", "1"), "oneOf"),
        ("/api/v1/query", 200, json, fine.replace("vector", "tensor"), "oneOf"),
        ("/api/v1/query", 200, json, fine.replace("\"data\"", "\"date\""), "is not"),
        ("/api/v1/query", 200, json, fine.replace("}]}}", "}]},\"more\":1}"), "more is not described"),
        ("/api/v1/query", 200, json, fine.replace("[1.5,", "[1.5,1,"), "oneOf"),
        ("/api/v1/query", 400, json, fine.to_owned(), "is not"),
        ("/api/v1/rules", 200, json, r#"{"status":"success","data":{"groups":[1]}}"#.to_owned(), "maxItems"),
        ("/ping", 204, "", String::new(), "header X-Influxdb-Version is missing"),
        ("/api/v1/import", 204, "", "x".to_owned(), "a body"),
    ];
    for (path, status, media, body, why) in cases {
        let method = if path.ends_with("import") { "post" } else { "get" };
        match description.check(path, method, &answer(status, media, &body)) {
            Ok(()) => assert_eq!(why, "", "{path} {body}"),
            Err(found) => assert!(!why.is_empty() && found.contains(why), "{path} {body}: {found}"),
        }
    }
}
