//! What every request passes before its handler: who it is from, whether he may, and what a browser is told.

use super::app::{App, Origins};
use super::respond;
use crate::access::gatekeeper::{Credentials, Denied};
use crate::access::{Access, Role};
use crate::wire::base64;
use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_SECURITY_POLICY,
    HOST, ORIGIN, REFERRER_POLICY, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

/// Longest `Authorization` looked at, in bytes: names and passwords are shorter.
const AUTHORIZATION_BYTES_MAX: usize = 8 << 10;

/// Judges a request for a route that asks for `access`: `Err` is the answer to one that is not let in. Its body has not been
/// looked at then.
pub(super) async fn admit(app: &App, access: Access, headers: &HeaderMap) -> Result<(), Response> {
    let deny = |reason, status, text: String| {
        app.metrics.http_denied.get(reason).inc();
        respond::text(status, text)
    };
    let mut buffer = Vec::new();
    let credentials = credentials(headers, &mut buffer);
    match app.gatekeeper.judge(credentials).await {
        Ok(roles) if roles.allow(access) => Ok(()),
        Ok(_) => {
            let needed = match access {
                Access::Needs(role) => role.name(),
                Access::Anyone => Role::Read.name(),
            };
            Err(deny("role", StatusCode::FORBIDDEN, format!("Forbidden: this needs the role {needed}\n")))
        }
        Err(Denied::Busy) => {
            let text = "Service Unavailable: too many passwords wait to be judged\n".to_owned();
            Err(deny("busy", StatusCode::SERVICE_UNAVAILABLE, text))
        }
        Err(why) => {
            let reason = if why == Denied::Missing { "missing" } else { "wrong" };
            let mut response = deny(reason, StatusCode::UNAUTHORIZED, "Unauthorized\n".to_owned());
            for challenge in app.gatekeeper.challenges() {
                response.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            Err(response)
        }
    }
}

/// Reads `Authorization`. Exactly one, of one of two schemes; anything else says nothing that can be believed.
fn credentials<'c>(headers: &'c HeaderMap, buffer: &'c mut Vec<u8>) -> Credentials<'c> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key(AUTHORIZATION) { Credentials::Unreadable } else { Credentials::None };
    };
    let Some((scheme, rest)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
        return Credentials::Unreadable;
    };
    let rest = rest.trim();
    if rest.len() > AUTHORIZATION_BYTES_MAX {
        return Credentials::Unreadable;
    }
    if scheme.eq_ignore_ascii_case("bearer") {
        return if rest.is_empty() { Credentials::Unreadable } else { Credentials::Bearer(rest) };
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Credentials::Unreadable;
    }
    let Some(decoded) = base64::decode(rest) else { return Credentials::Unreadable };
    *buffer = decoded;
    match std::str::from_utf8(buffer).ok().and_then(|text| text.split_once(':')) {
        Some((name, password)) => Credentials::Basic(name, password),
        None => Credentials::Unreadable,
    }
}

/// What a browser that asks for a page of another site is told: nothing, unless `--web-cors-origin` names its origin.
pub(super) struct CrossOrigin {
    origin: Option<HeaderValue>,
    is_preflight: bool,
}

impl CrossOrigin {
    /// `None` if no other origins are named.
    pub(super) fn of(app: &App, request: &Request) -> Option<Self> {
        app.cors.as_ref()?;
        let origin = request.headers().get(ORIGIN).cloned();
        let is_preflight = request.method() == Method::OPTIONS
            && (request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD) || origin.is_none())
            && request.uri().path().starts_with("/api/v1/");
        Some(Self { origin, is_preflight })
    }

    /// The answer to a preflight. It carries no credentials, so it is answered before anybody is asked who he is.
    pub(super) fn preflight(&self) -> Option<Response> {
        self.is_preflight.then(|| StatusCode::NO_CONTENT.into_response())
    }

    /// Adds what the browser may do with an answer.
    pub(super) fn tell(self, app: &App, headers: &mut HeaderMap) {
        headers.append(VARY, HeaderValue::from_static("Origin"));
        let (Some(origin), Some(allowed)) = (self.origin, &app.cors) else { return };
        headers.insert(
            ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("Accept, Authorization, Content-Type, Origin"),
        );
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Date"));
        if allowed.everyone {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        } else if origin.to_str().is_ok_and(|text| allowed.pattern.is_match(text)) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
    }
}

/// The answer to a request that would change something, if it comes from a page of another site: a browser sends the form of
/// any page to any server, with what it knows of the user, and only its answer is kept from that page. Programs name no origin.
pub(super) fn refuse_foreign(app: &App, request: &Request) -> Option<Response> {
    let headers = request.headers();
    if request.method().is_safe() || !is_foreign(headers, request.uri().host().and(request.uri().authority()))
    {
        return None;
    }
    let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
    let is_named =
        |allowed: &Origins| allowed.everyone || origin.is_some_and(|o| allowed.pattern.is_match(o));
    if app.cors.as_ref().is_some_and(is_named) {
        return None;
    }
    app.metrics.http_denied.get("origin").inc();
    let text = "Forbidden: a page of another origin may not change anything; --web-cors-origin names those that may\n";
    Some(respond::text(StatusCode::FORBIDDEN, text))
}

/// Whether a browser says that another site asks; `authority` is what HTTP/2 has in place of `Host`.
fn is_foreign(headers: &HeaderMap, authority: Option<&Authority>) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        // `none`: the user asked, and no page.
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let host = authority.map(Authority::as_str).or_else(|| headers.get(HOST)?.to_str().ok());
    let own = origin.to_str().ok().and_then(|text| text.split_once("://")).map(|(_, host)| host);
    own.is_none() || own != host
}

/// The answer to a request beyond the rate that is allowed, if this is one.
pub(super) fn refuse_many(app: &App) -> Option<Response> {
    if app.gatekeeper.within_rate() {
        return None;
    }
    app.metrics.http_denied.get("rate").inc();
    Some(respond::text(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests\n"))
}

/// Headers of every response: browsers must not guess types, frame us, or say where they came from, and no page of ours loads
/// anything from elsewhere. The web configuration file may set others in their place.
pub(super) fn guard(app: &App, headers: &mut HeaderMap) {
    let own = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, "default-src 'self'"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in own {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in app.gatekeeper.headers() {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        format!("{:?}", credentials(&headers, &mut Vec::new()))
    }

    #[test]
    fn credentials_in_all_forms() {
        let cases: [(&[&str], &str); 14] = [
            (&[], "None"),
            (&["Basic YWxpY2U6d29uZGVy"], r#"Basic("alice", "wonder")"#),
            (&["basic YTpiOmM="], r#"Basic("a", "b:c")"#),
            (&["Basic Og=="], r#"Basic("", "")"#),
            (&["Bearer abc"], r#"Bearer("abc")"#),
            (&["BEARER  abc "], r#"Bearer("abc")"#),
            (&["Bearer abc", "Bearer abc"], "Unreadable"),
            (&["Basic YWxpY2U6d29uZGVy", "Basic YWxpY2U6d29uZGVy"], "Unreadable"),
            (&["Bearer "], "Unreadable"),
            (&["Basic"], "Unreadable"),
            (&["Basic YWxpY2U"], "Unreadable"),
            (&["Basic YR=="], "Unreadable"),
            (&["Basic /////w=="], "Unreadable"),
            (&["Digest x"], "Unreadable"),
        ];
        for (values, expected) in cases {
            assert_eq!(read(values), expected, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn any_header_ends_in_an_answer(text in "[ -~]{0,60}") {
            read(&[&text, ]);
            read(&[&format!("Basic {text}")]);
        }
    }
}
