//! Reload and quit over HTTP.

use super::app::App;
use super::respond;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use tokio::sync::oneshot;

/// `POST|PUT /-/reload`: reads the configuration again; 500 with the mistake if there is one, and then nothing has changed.
pub async fn reload(State(app): State<App>, method: Method) -> Response {
    if let Err(response) = allowed(&app, &method) {
        return *response;
    }
    let (reply, answer) = oneshot::channel();
    let sent = app.lifecycle.reload.send(reply).await.is_ok();
    let result = if sent { answer.await.ok() } else { None };
    match result {
        Some(Ok(())) => respond::text(StatusCode::OK, ""),
        Some(Err(why)) => {
            respond::text(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {why}\n"))
        }
        None => respond::text(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping\n"),
    }
}

/// `POST|PUT /-/quit`: ends the server in order.
pub async fn quit(State(app): State<App>, method: Method) -> Response {
    if let Err(response) = allowed(&app, &method) {
        return *response;
    }
    tracing::info!("stopping: asked for by POST /-/quit");
    // `run` holds a receiver until the end.
    let _ = app.lifecycle.quit.send(true);
    respond::text(StatusCode::OK, "Requesting termination... Goodbye!")
}

fn allowed(app: &App, method: &Method) -> Result<(), Box<Response>> {
    if ![Method::POST, Method::PUT].contains(method) {
        let text = "Only POST or PUT requests allowed";
        return Err(Box::new(respond::text(StatusCode::METHOD_NOT_ALLOWED, text)));
    }
    if app.flags.web.web_enable_lifecycle {
        return Ok(());
    }
    Err(Box::new(respond::text(StatusCode::FORBIDDEN, "Lifecycle API is not enabled.")))
}
