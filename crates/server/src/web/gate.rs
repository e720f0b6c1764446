//! What every request passes: headers of every answer, who is asking, and whether a form is this page's own.

use axum::extract::{Extension, Form, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, LOCATION, ORIGIN,
    REFERRER_POLICY, SET_COOKIE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::access::{Session, TooMany};
use super::listen::PeerAddress;
use super::{ANSWER_TIMEOUT, App, Refusal, layout};

/// Nothing from elsewhere, nothing inline, nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const FETCH_SITE: &str = "sec-fetch-site";

/// Fields of a posted form, in order; a name may come twice.
pub(super) type Fields = Vec<(String, String)>;

/// Outermost: the headers that every answer has, and a limit to its time.
pub(super) async fn limits(request: Request, next: Next) -> Response {
    let mut response = match tokio::time::timeout(ANSWER_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "the request took too long").into_response()
        }
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_FRAME_OPTIONS, "DENY"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // With no-referrer, browsers send "Origin: null" with forms, and their check would be lost.
        (REFERRER_POLICY, "same-origin"),
        (CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Lets in who has a cookie, shows the key in the address, or (for programs, reading) as a bearer.
pub(super) async fn check(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reading && let Err(refusal) = own_form(request.headers(), request.uri()) {
        return refusal.into_response();
    }
    if path == "/login" {
        return next.run(request).await;
    }
    if reading && let Some(key) = key_in(request.uri()) {
        let peer = request.extensions().get().copied();
        let foreign = request
            .headers()
            .get(FETCH_SITE)
            .is_some_and(|site| site == "cross-site");
        return by_link(&app, &key, &path, foreign, peer).await;
    }
    let session = request
        .headers()
        .get_all(COOKIE)
        .iter()
        .filter_map(|header| header.to_str().ok())
        .find_map(|header| app.access.recognise(header));
    if let Some(session) = session {
        request.extensions_mut().insert(session);
        return next.run(request).await;
    }
    let program = path.starts_with("/api/") || matches!(path.as_str(), "/metrics" | "/events");
    if program
        && reading
        && let Some(key) = bearer(request.headers())
    {
        return match app.access.log_in(&key).await {
            Ok(Some(_)) => next.run(request).await,
            Ok(None) => {
                note_failure(request.extensions().get());
                unauthorised("the key is wrong")
            }
            Err(TooMany) => too_many(),
        };
    }
    if program {
        return unauthorised("a key is needed: Authorization: Bearer KEY");
    }
    (StatusCode::UNAUTHORIZED, layout::login(&path, None)).into_response()
}

/// POST /login.
pub(super) async fn log_in(
    State(app): State<App>,
    peer: Option<Extension<PeerAddress>>,
    Form(fields): Form<Fields>,
) -> Response {
    let next = local_path(field(&fields, "next"));
    match app.access.log_in(field(&fields, "key").trim()).await {
        Ok(Some(session)) => entered(&app, &session, &next, false),
        Ok(None) => {
            note_failure(peer.as_deref());
            let page = layout::login(&next, Some("This is not the key."));
            (StatusCode::UNAUTHORIZED, page).into_response()
        }
        Err(TooMany) => too_many(),
    }
}

/// POST /logout.
pub(super) async fn log_out(
    State(app): State<App>,
    Extension(session): Extension<Session>,
    Form(fields): Form<Fields>,
) -> Result<Response, Refusal> {
    check_token(&app, &session, &fields)?;
    let headers = [(SET_COOKIE, app.access.clear_cookie())];
    Ok((headers, Redirect::to("/")).into_response())
}

/// The first field of this name, or nothing.
pub(super) fn field<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields
        .iter()
        .find(|(known, _)| known == name)
        .map_or("", |(_, value)| value)
}

/// Refuses a form that does not carry its session's token.
pub(super) fn check_token(app: &App, session: &Session, fields: &Fields) -> Result<(), Refusal> {
    if app.access.is_form_token(session, field(fields, "csrf")) {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "this form is too old, or not of this page: load the page again",
    ))
}

async fn by_link(
    app: &App,
    key: &str,
    path: &str,
    foreign: bool,
    peer: Option<PeerAddress>,
) -> Response {
    match app.access.log_in(key).await {
        // A SameSite=Strict cookie does not go with a redirect that another site began: the page itself goes on.
        Ok(Some(session)) => entered(app, &session, path, foreign),
        Ok(None) => {
            note_failure(peer.as_ref());
            let page = layout::login(
                path,
                Some("The key in this link is not the key of this server."),
            );
            (StatusCode::UNAUTHORIZED, page).into_response()
        }
        Err(TooMany) => too_many(),
    }
}

fn entered(app: &App, session: &Session, path: &str, by_page: bool) -> Response {
    let cookie = app.access.set_cookie(session, app.tls);
    if by_page {
        return ([(SET_COOKIE, cookie)], layout::onward(path)).into_response();
    }
    let headers = [(SET_COOKIE, cookie), (LOCATION, path.to_owned())];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// A form must come from a page of the same origin: browsers say so in `Origin` (RFC 6454, section 7) and
/// `Sec-Fetch-Site` (W3C Fetch Metadata, section 2.4); what sends neither is no browser and has no cookie to steal.
fn own_form(headers: &HeaderMap, uri: &Uri) -> Result<(), Refusal> {
    let host = uri
        .authority()
        .map(|authority| authority.as_str())
        .or_else(|| headers.get(HOST)?.to_str().ok());
    let own_origin = headers.get(ORIGIN).is_none_or(|origin| {
        origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"))
            .is_some_and(|(_, from)| Some(from) == host)
    });
    let own_site = headers
        .get(FETCH_SITE)
        .is_none_or(|site| site == "same-origin" || site == "none");
    if own_origin && own_site {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "this form came from another site",
    ))
}

fn key_in(uri: &Uri) -> Option<String> {
    let query: axum::extract::Query<Fields> = axum::extract::Query::try_from_uri(uri).ok()?;
    query
        .0
        .into_iter()
        .find(|(name, _)| name == "key")
        .map(|(_, key)| key)
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| key.trim().to_owned())
}

/// A path of this server: `next` may have been made up by somebody.
fn local_path(next: &str) -> String {
    let local = next.starts_with('/')
        && !next.starts_with("//")
        && next
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'/' | b'.' | b'-'));
    if local { next } else { "/" }.to_owned()
}

fn note_failure(peer: Option<&PeerAddress>) {
    let from = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.0.to_string());
    tracing::warn!("web page: a wrong key from {from}");
}

fn unauthorised(text: &str) -> Response {
    let body = serde_json::json!({ "error": text }).to_string();
    let headers = [
        (WWW_AUTHENTICATE, "Bearer"),
        (axum::http::header::CONTENT_TYPE, "application/json"),
    ];
    (StatusCode::UNAUTHORIZED, headers, body).into_response()
}

fn too_many() -> Response {
    Refusal::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too many wrong keys: wait some seconds",
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_other_sites_are_refused() {
        let uri: Uri = "/jobs/1/cancel".parse().unwrap();
        let allowed = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            own_form(&headers, &uri).is_ok()
        };
        let host = ("host", "127.0.0.1:7480");
        assert!(allowed(&[host]));
        assert!(allowed(&[
            host,
            ("origin", "http://127.0.0.1:7480"),
            (FETCH_SITE, "same-origin")
        ]));
        for origin in ["http://127.0.0.1:7481", "http://evil.example", "null", ""] {
            assert!(!allowed(&[host, ("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site"] {
            assert!(!allowed(&[host, (FETCH_SITE, site)]), "{site}");
        }
        assert!(!allowed(&[("origin", "http://127.0.0.1:7480")]));
    }

    #[test]
    fn nobody_is_led_to_another_site() {
        assert_eq!(local_path("/jobs/3"), "/jobs/3");
        for wrong in [
            "//evil.example",
            "https://evil.example",
            "",
            "/\\evil",
            "/a\r\nb",
            "/?key=x",
        ] {
            assert_eq!(local_path(wrong), "/", "{wrong}");
        }
    }
}
