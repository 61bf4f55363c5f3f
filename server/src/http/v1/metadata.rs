//! `GET /api/v1/metadata`: what metric families say of themselves.

use crate::error::{ApiError, Side};
use crate::http::app::App;
use crate::http::respond::{self, Encoding, Notes};
use crate::wire::json;
use axum::extract::{Request, State};
use axum::response::Response;
use std::io::Write;

/// Type, help and unit of every family, or of `metric`; at most `limit` families, all if it is negative.
pub async fn metadata(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let encoding = Encoding::accepted(request.headers());
    let params = app.params(request).await?;
    let limit = params.number("limit", "limit must be a number")?.unwrap_or(-1);
    // One entry a family is all there is, so no limit of theirs is met.
    params.number("limit_per_metric", "limit_per_metric must be a number")?;
    let mut families = app.storage(Side::Read)?.metadata();
    if let Some(metric) = params.get("metric") {
        families.retain(|(family, _)| family == metric);
    }
    families.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(respond::success(encoding, &Notes::default(), |out| {
        out.write_all(b"{")?;
        for (i, (family, metadata)) in families.iter().enumerate() {
            if i > 0 {
                out.write_all(b",")?;
            }
            json::string(out, family)?;
            out.write_all(br#":[{"type":"#)?;
            json::string(out, metadata.metric_type.name())?;
            out.write_all(br#","help":"#)?;
            json::string(out, &metadata.help)?;
            out.write_all(br#","unit":"#)?;
            json::string(out, &metadata.unit)?;
            out.write_all(b"}]")?;
        }
        out.write_all(b"}")
    }))
}
