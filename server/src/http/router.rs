//! Every route in one table; what is not in it is 404, and a method that is not in a row is 405.

use super::app::App;
use super::door::CrossOrigin;
use super::{control, door, federate, health, respond, v1};
use crate::access::Access;
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::handler::Handler;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodRouter, any, get, post};
use std::collections::HashMap;
use std::sync::OnceLock;
use tokio::time::Instant;

/// One row: a path, what it asks of those who call it, and what answers. `GET` answers `HEAD` too.
pub struct Row {
    /// The path, in the syntax of the router.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// Whether it answers while the store is being opened.
    pub early: bool,
    methods: MethodRouter<App>,
}

fn row(path: &'static str, access: Access, methods: MethodRouter<App>) -> Row {
    Row { path, access, early: false, methods }
}

/// A row that answers before the store is open.
fn early(path: &'static str, access: Access, methods: MethodRouter<App>) -> Row {
    Row { early: true, ..row(path, access, methods) }
}

/// What answers POST and PUT alike: the requests that change the store by order.
fn changing<H: Handler<T, App>, T: 'static>(handler: H) -> MethodRouter<App> {
    post(handler.clone()).put(handler)
}

/// Every route there is.
pub fn rows() -> Vec<Row> {
    use Access as A;
    vec![
        early("/", A::Anyone, get(health::front_page)),
        early("/-/healthy", A::Anyone, get(health::healthy)),
        early("/-/ready", A::Anyone, get(health::ready)),
        early("/-/reload", A::ADMIN, any(control::reload)),
        early("/-/quit", A::ADMIN, any(control::quit)),
        early("/version", A::Anyone, get(v1::status::version)),
        early("/metrics", A::READ, get(health::metrics)),
        row("/api/v1/write", A::WRITE, post(v1::write::write)),
        row("/api/v1/otlp/v1/metrics", A::WRITE, post(v1::otlp::write)),
        row("/federate", A::READ, get(federate::federate)),
        row("/api/v1/read", A::READ, post(v1::read::read)),
        row("/api/v1/import", A::WRITE, post(v1::import::json_lines)),
        row("/api/v1/import/prometheus", A::WRITE, post(v1::import::text)),
        row("/api/v1/export", A::READ, get(v1::export::export).post(v1::export::export)),
        row("/write", A::WRITE, post(v1::import::influx_1)),
        row("/api/v2/write", A::WRITE, post(v1::import::influx_2)),
        early("/ping", A::Anyone, get(v1::import::ping)),
        row("/api/v1/query", A::READ, get(v1::query::instant).post(v1::query::instant)),
        row("/api/v1/query_range", A::READ, get(v1::query::range).post(v1::query::range)),
        row("/api/v1/query_exemplars", A::READ, get(v1::exemplars::exemplars).post(v1::exemplars::exemplars)),
        row("/api/v1/format_query", A::READ, get(v1::syntax::format).post(v1::syntax::format)),
        row("/api/v1/parse_query", A::READ, get(v1::syntax::parse).post(v1::syntax::parse)),
        row("/api/v1/series", A::READ, get(v1::series::series).post(v1::series::series)),
        row("/api/v1/labels", A::READ, get(v1::series::labels).post(v1::series::labels)),
        row("/api/v1/label/{name}/values", A::READ, get(v1::series::label_values)),
        row("/api/v1/metadata", A::READ, get(v1::metadata::metadata)),
        row("/api/v1/status/buildinfo", A::READ, get(v1::status::buildinfo)),
        row("/api/v1/status/runtimeinfo", A::READ, get(v1::status::runtimeinfo)),
        row("/api/v1/status/active_queries", A::READ, get(v1::queries::list)),
        row("/api/v1/status/active_queries/{id}/cancel", A::ADMIN, post(v1::queries::cancel)),
        row("/api/v1/status/tsdb", A::READ, get(v1::cardinality::tsdb)),
        row("/api/v1/status/tsdb/blocks", A::READ, get(v1::cardinality::blocks)),
        row("/api/v1/status/self_metrics", A::READ, get(v1::self_metrics::self_metrics)),
        row("/api/v1/status/config", A::READ, get(v1::server::config)),
        row("/api/v1/status/flags", A::READ, get(v1::server::flags)),
        row("/api/v1/features", A::READ, get(v1::server::features)),
        early("/api/v1/status/walreplay", A::READ, get(v1::status::walreplay)),
        early("/api/v1/openapi.yaml", A::READ, get(v1::server::openapi)),
        row("/api/v1/rules", A::READ, get(v1::rules::rules)),
        row("/api/v1/alerts", A::READ, get(v1::rules::alerts)),
        row("/api/v1/alertmanagers", A::READ, get(v1::targets::alertmanagers)),
        row("/api/v1/targets", A::READ, get(v1::targets::targets)),
        row("/api/v1/targets/metadata", A::READ, get(v1::targets::metadata)),
        row("/api/v1/scrape_pools", A::READ, get(v1::targets::scrape_pools)),
        row("/api/v1/notifications", A::READ, get(v1::targets::notifications)),
        row("/api/v1/admin/tsdb/delete_series", A::ADMIN, changing(v1::admin::delete_series)),
        row("/api/v1/admin/tsdb/clean_tombstones", A::ADMIN, changing(v1::admin::clean_tombstones)),
        row("/api/v1/admin/tsdb/snapshot", A::ADMIN, changing(v1::admin::snapshot)),
    ]
}

/// What is known of a route before it is called.
#[derive(Debug, Clone, Copy)]
struct Known {
    path: &'static str,
    access: Access,
    early: bool,
}

/// The row that a request is for, `None` if there is none.
fn known(request: &Request) -> Option<Known> {
    static TABLE: OnceLock<HashMap<&'static str, Known>> = OnceLock::new();
    let entry = |row: Row| (row.path, Known { path: row.path, access: row.access, early: row.early });
    let table = TABLE.get_or_init(|| rows().into_iter().map(entry).collect());
    let path = request.extensions().get::<MatchedPath>()?;
    table.get(path.as_str()).copied()
}

/// The router of the whole server.
pub fn router(app: App) -> Router {
    let mut router = Router::new();
    for row in rows() {
        router = router.route(row.path, row.methods);
    }
    router
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(app.clone(), pass))
        .with_state(app)
}

/// What every request passes before its handler, and every answer after it. One layer for all of it: each takes a KiB for as long as
/// the request is at work, and ten thousand may wait for their bodies.
async fn pass(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = match door::refuse_many(&app) {
        Some(refusal) => refusal,
        None => {
            let cross_origin = CrossOrigin::of(&app, &request);
            let mut response = match cross_origin.as_ref().and_then(CrossOrigin::preflight) {
                Some(answer) => answer,
                None => {
                    // Counted by the pattern of the table, never by what the client wrote.
                    let (known, started) = (known(&request), Instant::now());
                    let refusal = match refuse_at_once(&app, known, &request) {
                        None => refuse_unknown(&app, known, request.headers()).await,
                        refusal => refusal,
                    };
                    let response = match refusal {
                        Some(refusal) => refusal,
                        None => next.run(request).await,
                    };
                    let handler = known.map_or("other", |row| row.path);
                    app.metrics.http_duration.get(handler).observe(started.elapsed());
                    app.metrics.http_requests.get((handler, response.status().as_u16())).inc();
                    response
                }
            };
            if let Some(cross_origin) = cross_origin {
                cross_origin.tell(&app, response.headers_mut());
            }
            response
        }
    };
    door::guard(&app, response.headers_mut());
    response
}

/// The answer to a page of another site that would change something.
fn refuse_at_once(app: &App, known: Option<Known>, request: &Request) -> Option<Response> {
    let changes = known.is_some_and(|row| [Access::WRITE, Access::ADMIN].contains(&row.access));
    if changes { door::refuse_foreign(app, request) } else { None }
}

/// The answer to those who may not call; a path that is no route asks for no role, but for somebody who is known. And while the store
/// is being opened only the early rows answer the others, as Prometheus does it: 503, and that it is not stopping.
async fn refuse_unknown(app: &App, known: Option<Known>, headers: &HeaderMap) -> Option<Response> {
    let access = known.map_or(Access::Anyone, |row| row.access);
    if let Err(response) = door::admit(app, access, headers).await {
        return Some(response);
    }
    if app.storage_if_open().is_some() || known.is_none_or(|row| row.early) {
        return None;
    }
    let mut response =
        respond::text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable: the server is starting\n");
    response.headers_mut().insert("x-prometheus-stopping", HeaderValue::from_static("false"));
    Some(response)
}

async fn not_found() -> Response {
    respond::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

async fn method_not_allowed() -> Response {
    respond::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_has_every_route_and_no_other() {
        let text = v1::server::OPENAPI;
        let paths = text.split("\npaths:\n").nth(1).unwrap().split("\ncomponents:").next().unwrap();
        let mut described: Vec<(&str, String)> = Vec::new();
        for line in paths.lines() {
            if let Some(path) = line.strip_prefix("  /") {
                described.push((path.trim_end_matches(':'), String::new()));
            } else if let (Some(role), Some(last)) =
                (line.strip_prefix("      x-role: "), described.last_mut())
            {
                role.clone_into(&mut last.1);
            }
        }
        let role = |access: Access| match access {
            Access::Anyone => "anyone",
            Access::Needs(role) => role.name(),
        };
        let mut routes: Vec<(&str, String)> =
            rows().iter().map(|r| (r.path.strip_prefix('/').unwrap(), role(r.access).to_owned())).collect();
        routes.sort();
        described.sort();
        assert_eq!(described, routes);
    }

    #[test]
    fn the_description_is_yaml_whose_references_lead_somewhere() {
        let page: serde_json::Value = serde_saphyr::from_str(v1::server::OPENAPI).unwrap();
        let text = page.to_string();
        let mut references = 0;
        for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|t| t.split('"').next()) {
            assert!(page.pointer(reference).is_some(), "{reference}");
            references += 1;
        }
        assert!(references > 50, "{references}");
        assert_eq!(page["openapi"], "3.1.0");
    }
}
