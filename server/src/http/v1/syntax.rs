//! What is asked about a query's text alone: its layout and its syntax tree.

use crate::error::{ApiError, Side};
use crate::http::app::App;
use crate::http::respond::{self, BodyWriter, Encoding, Notes};
use crate::wire::json;
use crate::wire::syntax_tree::syntax_tree;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use kymo_query::ParseError;
use kymo_query::ast::Expr;
use kymo_storage::ErrorKind;
use std::io;

/// `GET|POST /api/v1/format_query`: the text of `query`, laid out for reading.
///
/// # Errors
/// Parameters that cannot be read. Mistakes in the text are all in the answer's `data.errors`.
pub async fn format(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    answer(app, request, |out, expr| json::string(out, &kymo_query::pretty::pretty(expr))).await
}

/// `GET|POST /api/v1/parse_query`: the syntax tree of `query`.
///
/// # Errors
/// As [`format()`].
pub async fn parse(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    answer(app, request, |out, expr| json::page(out, &syntax_tree(expr))).await
}

/// Texts are of bounded length and need no turn, but the longest are too much work for a thread that others share.
async fn answer(
    app: App,
    request: Request,
    write: impl FnOnce(&mut BodyWriter, &Expr) -> io::Result<()> + Send + 'static,
) -> Result<Response, ApiError> {
    let encoding = Encoding::accepted(request.headers());
    let params = app.params(request).await?;
    let text = params.get("query").unwrap_or_default().to_owned();
    let work = move || match app.engine.parse(&text) {
        Ok(expr) => respond::success(encoding, &Notes::default(), |out| write(out, &expr)),
        Err(error) => {
            mistakes(&error.parse_errors).unwrap_or_else(|| ApiError::query(&error).into_response())
        }
    };
    tokio::task::spawn_blocking(work).await.map_err(|failure| {
        tracing::error!(%failure, "reading a query's text ended in a bug");
        ApiError::new(Side::Read, ErrorKind::Internal, "the text met a bug of Kymo; see the log")
    })
}

/// The first mistake as clients know it, and all of them with their places in `data`.
fn mistakes(errors: &[ParseError]) -> Option<Response> {
    let first = errors.first()?;
    let list: Vec<serde_json::Value> = errors
        .iter()
        .map(|error| {
            let place = error.position.and(error.span);
            serde_json::json!({
                "message": error.message,
                "line": error.position.map(|p| p.0),
                "column": error.position.map(|p| p.1),
                "start": place.map(|s| s.start),
                "end": place.map(|s| s.end),
            })
        })
        .collect();
    Some(respond::error_with_data(
        &ApiError::parameter("query", first),
        &serde_json::json!({ "errors": list }),
    ))
}
