//! What this server was told and what it can do: configuration, flags, features.

use super::status::page;
use crate::config::file::to_yaml;
use crate::error::{ApiError, Side};
use crate::http::app::App;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use kymo_query::catalog::{AGGREGATORS, FUNCTIONS};
use kymo_storage::ErrorKind;
use serde_json::{Map, Value, json};

/// `GET /api/v1/status/config`: the configuration in force, as YAML, with defaults filled in and secrets left out.
pub async fn config(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let yaml = to_yaml(&app.settings().file).map_err(|e| {
        ApiError::new(Side::Read, ErrorKind::Internal, format!("write the configuration: {e}"))
    })?;
    Ok(page(&request, &json!({ "yaml": yaml })))
}

/// `GET /api/v1/status/flags`: every flag and its value, under our name and under that of Prometheus.
pub async fn flags(State(app): State<App>, request: Request) -> Response {
    page(&request, &json!(app.flags.shown))
}

/// The operators of PromQL that are not functions or aggregators.
const OPERATORS: [&str; 21] = [
    "!=", "!~", "%", "*", "+", "-", "/", "</", "<", "<=", "==", "=~", ">", ">/", ">=", "@", "^", "and",
    "atan2", "or", "unless",
];

/// `GET /api/v1/features`: what can be asked of this server, in the categories and names of Prometheus.
pub async fn features(State(app): State<App>, request: Request) -> Response {
    let engine = app.engine.options();
    let functions = FUNCTIONS.iter().map(|f| (f.name, !f.experimental || engine.experimental_functions));
    let aggregators = AGGREGATORS.iter().map(|a| (a.name, !a.experimental || engine.experimental_functions));
    let operators = OPERATORS.iter().map(|o| (*o, true));
    let data = json!({
        "api": {
            "admin": app.flags.web.web_enable_admin_api,
            "exemplars": true,
            "federation": true,
            "label_values_match": true,
            "lifecycle": app.flags.web.web_enable_lifecycle,
            "otlp_write_receiver": true,
            "query_stats": true,
            "query_warnings": true,
            "remote_write_receiver": true,
            "time_range_labels": true,
            "time_range_series": true,
        },
        "kymo": {
            "active_queries": true,
            "explain": true,
            "export": true,
            "import_influx": true,
            "import_json_lines": true,
            "import_openmetrics": true,
            "import_prometheus_text": true,
            "remote_read": true,
            "remote_read_streamed": true,
            "remote_write_1": true,
            "remote_write_2": true,
            "retention_rules": true,
            "roles": true,
        },
        "otlp_receiver": { "delta_conversion": true, "native_delta_ingestion": false },
        "prometheus": { "agent_mode": false, "auto_reload_config": false, "server_mode": true },
        "promql": {
            "anchored": engine.extended_ranges,
            "at_modifier": true,
            "bool": true,
            "by": true,
            "delayed_name_removal": engine.delayed_name_removal,
            "duration_expr": true,
            "fill": engine.fill_modifiers,
            "fill_left": engine.fill_modifiers,
            "fill_right": engine.fill_modifiers,
            "group_left": true,
            "group_right": true,
            "ignoring": true,
            "negative_offset": true,
            "offset": true,
            "on": true,
            "per_query_lookback_delta": true,
            "smoothed": engine.extended_ranges,
            "subqueries": true,
            "without": true,
        },
        "promql_functions": switches(functions),
        "promql_operators": switches(operators.chain(aggregators)),
        "tsdb": {
            "exemplar_storage": true,
            "isolation": true,
            "native_histograms": true,
            "start_timestamps": true,
        },
    });
    page(&request, &data)
}

fn switches<'n>(list: impl Iterator<Item = (&'n str, bool)>) -> Value {
    Value::Object(list.map(|(name, on)| (name.to_owned(), Value::Bool(on))).collect::<Map<_, _>>())
}

/// The description of the whole interface, in the words of OpenAPI 3.1.
pub const OPENAPI: &str = include_str!("../../../openapi.yaml");

/// `GET /api/v1/openapi.yaml`: the description of every route.
pub async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/yaml; charset=utf-8"))], OPENAPI)
}
