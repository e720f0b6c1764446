//! What changes a job: approve, give keys, cancel, retry. Plain forms; what was typed as a secret is never shown again.

use axum::extract::{Extension, Form, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};

use super::access::Session;
use super::gate::{Fields, check_token, field};
use super::layout::{self, Frame, Here, csrf_field};
use super::{App, Refusal, humane, job, job_id, words};
use crate::{Approval, JobState, JobView};

/// Rows for keys in the form; all but the first are folded.
const KEY_ROWS: usize = 5;

/// What a refused form had in it.
#[derive(Debug, Default)]
pub(super) struct Typed {
    options: String,
    error: Option<String>,
}

/// What can be done with a job as it is now.
pub(super) fn actions(job: &JobView, csrf: &str, typed: &Typed) -> Markup {
    let address = |what: &str| format!("/jobs/{}/{what}", job.id);
    html! {
        @if job.state == JobState::WaitingForApproval {
            (approve_form(job, csrf, typed))
        } @else if let Some(error) = &typed.error {
            p.alert role="alert" { (humane::clean(error)) }
        }
        div.actions {
            @if matches!(job.state, JobState::Failed | JobState::Cancelled) {
                form method="post" action=(address("retry")) {
                    (csrf_field(csrf))
                    button.primary type="submit" { "Try again" }
                }
            }
            @if !job.state.is_ended() {
                a.button.danger href=(address("cancel")) { "Cancel this job…" }
            }
        }
        @if !job.state.is_ended() && job.state != JobState::WaitingForApproval {
            details.card.keys id="give-keys" open[typed.error.is_some()] {
                summary { "Give keys of encrypted volumes" }
                form method="post" action=(address("approve")) autocomplete="off" {
                    (csrf_field(csrf))
                    (key_fields())
                    button type="submit" { "Give keys" }
                }
            }
        }
    }
}

fn approve_form(job: &JobView, csrf: &str, typed: &Typed) -> Markup {
    html! {
        section.card.ask-card aria-labelledby="approve-title" {
            h2 id="approve-title" { "Approve this job?" }
            @if let Some(error) = &typed.error {
                p.alert role="alert" id="approve-error" { (humane::clean(error)) }
            }
            form method="post" action={ "/jobs/" (job.id) "/approve" } autocomplete="off" {
                (csrf_field(csrf))
                label for="options" { "Options of this job, over those of the server" }
                input id="options" name="options" type="text" value=(typed.options) maxlength="4096"
                    autocomplete="off" autocapitalize="none" spellcheck="false"
                    placeholder="-on web1 -of qcow2 -n default"
                    aria-describedby={ "options-help" @if typed.error.is_some() { " approve-error" } };
                p.help id="options-help" {
                    "In the words of " code { "v2v" } ". The server's: "
                    @if job.options.is_empty() { "none." }
                    @else { code { (humane::clean(&words::join(&job.options))) } }
                }
                fieldset {
                    legend { "Keys of encrypted volumes (LUKS, BitLocker), if there are any" }
                    (key_fields())
                }
                button.primary type="submit" { "Approve and start" }
                noscript { p.help { "Load the page again to see what changed." } }
            }
        }
    }
}

fn key_fields() -> Markup {
    html! {
        (key_row(1))
        details {
            summary { "More volumes" }
            @for number in 2..=KEY_ROWS { (key_row(number)) }
        }
        p.help {
            "Kept in memory for this job only; never stored or shown. All volumes with one key: "
            code { "all" } "."
        }
    }
}

fn key_row(number: usize) -> Markup {
    let id = format!("key-id-{number}");
    let secret = format!("key-secret-{number}");
    html! {
        div.key-row {
            div {
                label for=(id) { "Device, UUID or all" }
                input id=(id) name="key_id" type="text" placeholder="sda3" autocomplete="off"
                    autocapitalize="none" spellcheck="false" maxlength="256";
            }
            div {
                label for=(secret) { "Passphrase or recovery key" }
                input id=(secret) name="key_secret" type="password" autocomplete="off" maxlength="8192";
            }
        }
    }
}

/// POST /jobs/N/approve.
pub(super) async fn approve(
    State(app): State<App>,
    Extension(session): Extension<Session>,
    Path(id): Path<String>,
    Form(fields): Form<Fields>,
) -> Result<Response, Refusal> {
    check_token(&app, &session, &fields)?;
    let job = job_id(&id)?;
    let options = field(&fields, "options").to_owned();
    let approval = match approval(&fields) {
        Ok(approval) => approval,
        Err(text) => return refused(&app, &session, &id, options, text).await,
    };
    match app.ask(move |control| control.approve(job, approval)).await {
        Ok(()) => Ok(Redirect::to(&format!("/jobs/{job}")).into_response()),
        Err(refusal) if refusal.status == StatusCode::CONFLICT => {
            refused(&app, &session, &id, options, refusal.text).await
        }
        Err(refusal) => Err(refusal),
    }
}

async fn refused(
    app: &App,
    session: &Session,
    id: &str,
    options: String,
    error: String,
) -> Result<Response, Refusal> {
    let typed = Typed {
        options,
        error: Some(error),
    };
    let page = job::show(app, session, id, &typed).await?;
    Ok((StatusCode::CONFLICT, page).into_response())
}

/// The form as the jobs want it. Its errors repeat no secret.
fn approval(fields: &Fields) -> Result<Approval, String> {
    let all = |name: &'static str| {
        fields
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };
    let mut keys = Vec::new();
    for (id, secret) in all("key_id").zip(all("key_secret")) {
        match (id.trim(), secret) {
            ("", "") => {}
            ("", _) => {
                return Err("a key has no volume: give the device, its UUID, or all".to_owned());
            }
            (id, "") => return Err(format!("the key of {id} is empty")),
            (id, secret) => keys.push((id.to_owned(), secret.as_bytes().to_vec())),
        }
    }
    Ok(Approval {
        options: words::split(field(fields, "options"))?,
        keys,
    })
}

/// GET /jobs/N/cancel: asks first.
pub(super) async fn confirm_cancel(
    State(app): State<App>,
    Extension(session): Extension<Session>,
    Path(id): Path<String>,
) -> Result<Markup, Refusal> {
    let id = job_id(&id)?;
    let job = app.ask(move |control| control.job(id)).await?.job;
    let csrf = app.access.form_token(&session);
    let name = humane::clean(&job.name);
    let content = html! {
        section.card.narrow {
            h1 { "Cancel job #" (job.id) "?" }
            p { bdi { strong { (name) } } " is " (layout::words(job.state)) ". " bdi { (humane::clean(&job.text)) } }
            p { "What was received is kept: the job can be tried again." }
            form.actions method="post" action={ "/jobs/" (job.id) "/cancel" } {
                (csrf_field(&csrf))
                button.danger type="submit" { "Cancel the job" }
                a.button href={ "/jobs/" (job.id) } { "Go back" }
            }
        }
    };
    let frame = Frame {
        title: "Cancel?",
        here: Here::Nowhere,
        live: false,
        refresh: false,
        csrf: &csrf,
    };
    Ok(layout::page(&frame, &content))
}

/// POST /jobs/N/cancel.
pub(super) async fn cancel(
    State(app): State<App>,
    Extension(session): Extension<Session>,
    Path(id): Path<String>,
    Form(fields): Form<Fields>,
) -> Result<Redirect, Refusal> {
    check_token(&app, &session, &fields)?;
    let id = job_id(&id)?;
    app.ask(move |control| control.cancel(id)).await?;
    Ok(Redirect::to(&format!("/jobs/{id}")))
}

/// POST /jobs/N/retry.
pub(super) async fn retry(
    State(app): State<App>,
    Extension(session): Extension<Session>,
    Path(id): Path<String>,
    Form(fields): Form<Fields>,
) -> Result<Redirect, Refusal> {
    check_token(&app, &session, &fields)?;
    let id = job_id(&id)?;
    app.ask(move |control| control.retry(id)).await?;
    Ok(Redirect::to(&format!("/jobs/{id}")))
}
