//! `/tokens`: how machines are let in. A join string is shown once, in the answer to the form that made it.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Extension, Form, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};

use super::access::Session;
use super::gate::{Fields, check_token, field};
use super::layout::{self, Frame, Here, csrf_field, moment};
use super::{App, Refusal, humane};
use crate::{CreatedToken, NewToken, TokenView};

/// Tokens on the page, newest first.
const MAX_ROWS: usize = 200;
/// Longest note, in characters.
const MAX_NOTE: usize = 200;
/// Addresses of a join string: it must fit on a kernel command line.
const MAX_SERVERS: usize = 8;
/// Times to live that the form offers, in seconds.
const TIMES: [(u64, &str); 4] = [
    (3600, "1 hour"),
    (8 * 3600, "8 hours"),
    (86400, "1 day"),
    (7 * 86400, "7 days"),
];

/// GET /tokens.
pub(super) async fn page(
    State(app): State<App>,
    Extension(session): Extension<Session>,
) -> Result<Markup, Refusal> {
    show(&app, &session, None, None).await
}

/// POST /tokens.
pub(super) async fn create(
    State(app): State<App>,
    Extension(session): Extension<Session>,
    Form(fields): Form<Fields>,
) -> Result<Response, Refusal> {
    check_token(&app, &session, &fields)?;
    let made = match new_token(&fields) {
        Ok(new) => match app.ask(move |control| control.create_token(new)).await {
            Ok(made) => Ok(made),
            Err(refusal) if refusal.status == StatusCode::CONFLICT => Err(refusal.text),
            Err(refusal) => return Err(refusal),
        },
        Err(text) => Err(text),
    };
    Ok(match made {
        Ok(made) => show(&app, &session, Some(&made), None)
            .await?
            .into_response(),
        Err(text) => {
            let page = show(&app, &session, None, Some(&text)).await?;
            (StatusCode::CONFLICT, page).into_response()
        }
    })
}

fn new_token(fields: &Fields) -> Result<NewToken, String> {
    let number = |name: &str, what: &str| {
        field(fields, name)
            .trim()
            .parse()
            .map_err(|_| format!("{what}: expected a number"))
    };
    let uses: u64 = number("uses", "machines")?;
    let servers: Vec<String> = field(fields, "servers")
        .split([',', ' ', '\r', '\n'])
        .filter(|server| !server.is_empty())
        .map(str::to_owned)
        .collect();
    if servers.len() > MAX_SERVERS {
        return Err(format!("expected at most {MAX_SERVERS} addresses"));
    }
    Ok(NewToken {
        servers,
        ttl_seconds: number("ttl", "valid for")?,
        uses: u32::try_from(uses)
            .ok()
            .filter(|uses| (1..=10_000).contains(uses))
            .ok_or_else(|| "machines: expected 1 to 10000".to_owned())?,
        auto_approve: field(fields, "auto_approve") == "yes",
        note: field(fields, "note")
            .trim()
            .chars()
            .take(MAX_NOTE)
            .collect(),
    })
}

async fn show(
    app: &App,
    session: &Session,
    made: Option<&CreatedToken>,
    error: Option<&str>,
) -> Result<Markup, Refusal> {
    let mut tokens = app.ask(|control| control.tokens()).await?;
    tokens.reverse();
    let csrf = app.access.form_token(session);
    let content = html! {
        div.head { h1 { "Tokens" } }
        @if let Some(made) = made { (created(made)) }
        (form(&csrf, error))
        div id="tokens" data-live[made.is_none()] { (table(&tokens)) }
    };
    let frame = Frame {
        title: "Tokens",
        here: Here::Tokens,
        // The answer to a form cannot be fetched again.
        live: made.is_none() && error.is_none(),
        refresh: false,
        csrf: &csrf,
    };
    Ok(layout::page(&frame, &content))
}

fn created(made: &CreatedToken) -> Markup {
    let join = made.join.to_string();
    html! {
        section.card.good-card aria-labelledby="made-title" {
            h2 id="made-title" { "Token #" (made.id) " is made" }
            p role="status" {
                "It is shown this once. Valid until " (moment(made.expires_unix_ms)) "."
            }
            (copyable("join", "Join string", &join))
            (copyable("kernel", "On the kernel command line of the P2V image (starts by itself)", &format!("p2v.join={join}")))
            (copyable("iso", "Or put into an image of its own", &format!("v2v iso customize p2v.iso -o my.iso --join {join} --auto")))
            details {
                summary { "To type by hand on the machine" }
                dl.pairs {
                    div { dt { "Server" } dd { code { (made.join.servers.join(", ")) } } }
                    div { dt { "Code" } dd { code.big { (made.join.secret.code()) } } }
                    div { dt { "Fingerprint, to compare" } dd { code.hash { (made.join.fingerprint) } } }
                }
            }
        }
    }
}

fn copyable(id: &str, label: &str, text: &str) -> Markup {
    html! {
        div.copyable {
            label for=(id) { (label) }
            textarea id=(id) readonly rows="3" spellcheck="false" data-copy { (text) }
        }
    }
}

fn form(csrf: &str, error: Option<&str>) -> Markup {
    html! {
        section.card aria-labelledby="new-title" {
            h2 id="new-title" { "New token" }
            @if let Some(error) = error { p.alert role="alert" { (humane::clean(error)) } }
            form.grid method="post" action="/tokens" {
                (csrf_field(csrf))
                div {
                    label for="note" { "Note" }
                    input id="note" name="note" type="text" maxlength=(MAX_NOTE) placeholder="rack 4, web servers";
                }
                div {
                    label for="ttl" { "Valid for" }
                    select id="ttl" name="ttl" {
                        @for (seconds, text) in TIMES {
                            option value=(seconds) selected[seconds == 86400] { (text) }
                        }
                    }
                }
                div {
                    label for="uses" { "Machines" }
                    input id="uses" name="uses" type="number" min="1" max="10000" value="1" required;
                }
                div {
                    label for="servers" { "Addresses of this server" }
                    input id="servers" name="servers" type="text" autocomplete="off" spellcheck="false"
                        placeholder="192.0.2.10:7440" aria-describedby="servers-help";
                    p.help id="servers-help" { "As machines reach it. Empty: those that it listens on." }
                }
                div.check {
                    input id="auto" name="auto_approve" type="checkbox" value="yes";
                    label for="auto" { "Start without approval" }
                }
                div { button.primary type="submit" { "Make the token" } }
            }
        }
    }
}

fn table(tokens: &[TokenView]) -> Markup {
    html! {
        @if !tokens.is_empty() {
            section.card {
                h2 { "Tokens made" }
                div {
                    table.small.tokens role="table" {
                        thead role="rowgroup" {
                            tr role="row" {
                                @for title in ["Token", "Note", "State", "Machines", "Approval", "Expires", ""] {
                                    th role="columnheader" scope="col" { (title) }
                                }
                            }
                        }
                        tbody role="rowgroup" { @for token in tokens.iter().take(MAX_ROWS) { (row(token)) } }
                    }
                }
                @if tokens.len() > MAX_ROWS { p.more { "and " (tokens.len() - MAX_ROWS) " older" } }
            }
        }
    }
}

fn row(token: &TokenView) -> Markup {
    let (class, sign, state) = state(token, now_ms());
    html! {
        tr role="row" {
            th role="rowheader" scope="row" { "#" (token.id) }
            td role="cell" { bdi { (humane::clean(&token.note)) } }
            td role="cell" { span class={ "badge " (class) } { span.sign aria-hidden="true" { (sign) } (state) } }
            td role="cell" data-label="Machines" { (token.used) " of " (token.uses) }
            td role="cell" data-label="Approval" { @if token.auto_approve { "none needed" } @else { "needed" } }
            td role="cell" data-label="Expires" { (moment(token.expires_unix_ms)) }
            td role="cell" {
                @if class == "good" {
                    a href={ "/tokens/" (token.id) "/revoke" } { "Withdraw" span.hidden { " token " (token.id) } "…" }
                }
            }
        }
    }
}

fn state(token: &TokenView, now_ms: u64) -> (&'static str, &'static str, &'static str) {
    if token.revoked {
        ("calm", "–", "withdrawn")
    } else if token.used >= token.uses {
        ("calm", "–", "used")
    } else if token.expires_unix_ms <= now_ms {
        ("calm", "–", "expired")
    } else {
        ("good", "✓", "valid")
    }
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

fn token_id(text: &str) -> Result<u64, Refusal> {
    text.parse()
        .map_err(|_| Refusal::new(StatusCode::NOT_FOUND, "there is no such token"))
}

/// GET /tokens/N/revoke: asks first.
pub(super) async fn confirm_revoke(
    State(app): State<App>,
    Extension(session): Extension<Session>,
    Path(id): Path<String>,
) -> Result<Markup, Refusal> {
    let id = token_id(&id)?;
    let csrf = app.access.form_token(&session);
    let content = html! {
        section.card.narrow {
            h1 { "Withdraw token #" (id) "?" }
            p { "No further machine can use it. Machines that did stay." }
            form.actions method="post" action={ "/tokens/" (id) "/revoke" } {
                (csrf_field(&csrf))
                button.danger type="submit" { "Withdraw it" }
                a.button href="/tokens" { "Go back" }
            }
        }
    };
    let frame = Frame {
        title: "Withdraw?",
        here: Here::Tokens,
        live: false,
        refresh: false,
        csrf: &csrf,
    };
    Ok(layout::page(&frame, &content))
}

/// POST /tokens/N/revoke.
pub(super) async fn revoke(
    State(app): State<App>,
    Extension(session): Extension<Session>,
    Path(id): Path<String>,
    Form(fields): Form<Fields>,
) -> Result<Redirect, Refusal> {
    check_token(&app, &session, &fields)?;
    let id = token_id(&id)?;
    app.ask(move |control| control.revoke_token(id)).await?;
    Ok(Redirect::to("/tokens"))
}
