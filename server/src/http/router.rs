//! Every route in one table; what is not in it is 404, and a method that is not in a row is 405.

use super::app::App;
use super::{health, respond, v1};
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use tokio::time::Instant;

/// One row: the path and what answers it. `GET` answers `HEAD` too.
type Row = (&'static str, MethodRouter<App>);

fn rows() -> [Row; 19] {
    [
        ("/", get(health::front_page)),
        ("/-/healthy", get(health::healthy)),
        ("/-/ready", get(health::ready)),
        ("/metrics", get(health::metrics)),
        ("/api/v1/write", post(v1::write::write)),
        ("/api/v1/query", get(v1::query::instant).post(v1::query::instant)),
        ("/api/v1/query_range", get(v1::query::range).post(v1::query::range)),
        ("/api/v1/query_exemplars", get(v1::query::exemplars).post(v1::query::exemplars)),
        ("/api/v1/format_query", get(v1::syntax::format).post(v1::syntax::format)),
        ("/api/v1/parse_query", get(v1::syntax::parse).post(v1::syntax::parse)),
        ("/api/v1/series", get(v1::series::series).post(v1::series::series)),
        ("/api/v1/labels", get(v1::series::labels).post(v1::series::labels)),
        ("/api/v1/label/{name}/values", get(v1::series::label_values)),
        ("/api/v1/metadata", get(v1::metadata::metadata)),
        ("/api/v1/status/buildinfo", get(v1::status::buildinfo)),
        ("/api/v1/status/runtimeinfo", get(v1::status::runtimeinfo)),
        ("/api/v1/status/tsdb", get(v1::status::tsdb)),
        ("/api/v1/rules", get(v1::status::rules)),
        ("/api/v1/alerts", get(v1::status::alerts)),
    ]
}

/// The router of the whole server.
pub fn router(app: App) -> Router {
    let mut router = Router::new();
    for (path, methods) in rows() {
        router = router.route(path, methods);
    }
    router
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(app.clone(), observe))
        .fallback(not_found)
        .layer(middleware::map_response(guard))
        .with_state(app)
}

async fn not_found() -> Response {
    respond::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

async fn method_not_allowed() -> Response {
    respond::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
}

/// Counts requests by route: by the pattern of the table, never by what the client wrote.
async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(|p| p.as_str().to_owned());
    let handler = rows_index(path.as_deref());
    let started = Instant::now();
    let response = next.run(request).await;
    app.metrics.http_duration.get(handler).observe(started.elapsed());
    app.metrics.http_requests.get((handler, response.status().as_u16())).inc();
    response
}

fn rows_index(path: Option<&str>) -> &'static str {
    static PATHS: std::sync::OnceLock<Vec<&'static str>> = std::sync::OnceLock::new();
    let paths = PATHS.get_or_init(|| rows().iter().map(|(path, _)| *path).collect());
    paths.iter().find(|p| Some(**p) == path).copied().unwrap_or("other")
}

/// Headers of every response: browsers must not guess types, and no page of ours loads anything from elsewhere. There are no
/// CORS headers: other origins are closed out.
async fn guard(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'self'"));
    response
}
