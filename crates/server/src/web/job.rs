//! `/jobs/N`: one job with all that is known of it, in the order in which an administrator asks.

use axum::extract::{Extension, Path, State};
use maud::{Markup, html};

use super::access::Session;
use super::job_parts as parts;
use super::layout::{self, Frame, Here, badge, bar};
use super::{App, Refusal, api, forms, humane, job_id, list, words};
use crate::{JobDetail, JobState, JobView, LogLine};

/// Log lines on the page; all of them are in log.txt.
const LOG_LINES: usize = 200;

/// GET /jobs/N.
pub(super) async fn page(
    State(app): State<App>,
    Extension(session): Extension<Session>,
    Path(id): Path<String>,
) -> Result<Markup, Refusal> {
    show(&app, &session, &id, &forms::Typed::default()).await
}

/// The page, with what was typed into its form before and why it was refused.
pub(super) async fn show(
    app: &App,
    session: &Session,
    id: &str,
    typed: &forms::Typed,
) -> Result<Markup, Refusal> {
    let id = job_id(id)?;
    let (detail, log) = app
        .ask(move |control| Ok((control.job(id)?, api::last_lines(control, id, LOG_LINES)?)))
        .await?;
    let csrf = app.access.form_token(session);
    let job = &detail.job;
    let name = humane::clean(&job.name);
    let frame = Frame {
        title: &name,
        here: Here::Nowhere,
        live: true,
        // Loading again would empty the form.
        refresh: !job.state.is_ended() && job.state != JobState::WaitingForApproval,
        csrf: &csrf,
    };
    Ok(layout::page(&frame, &content(&detail, &log, &csrf, typed)))
}

fn content(detail: &JobDetail, log: &[LogLine], csrf: &str, typed: &forms::Typed) -> Markup {
    let job = &detail.job;
    html! {
        p.crumb { a href="/" { "Jobs" } " / #" (job.id) }
        div.head {
            h1 { bdi { (humane::clean(&job.name)) } }
            div id="state" data-live aria-live="polite" { (badge(job.state)) }
        }
        div id="head" data-live { (head(job)) }
        div id="concerns" data-live { (parts::concerns(&detail.concerns)) }
        div id="actions" data-live { (forms::actions(job, csrf, typed)) }
        div id="placed" data-live { (parts::placed(&detail.placed)) }
        div.columns {
            div {
                div id="disks" data-live { (parts::disks(&detail.disks)) }
                div id="nics" data-live { (parts::nics(&detail.nics)) }
                div id="guest" data-live { (parts::guest(detail.guest.as_deref())) }
            }
            div {
                div id="machine" data-live { (parts::inventory(&detail.inventory)) }
                div id="about" data-live { (about(job)) }
            }
        }
        div id="changes" data-live { (parts::changes(&detail.changes)) }
        div id="proof" data-live { (parts::proof(&detail.proof, &detail.disks)) }
        section.card aria-labelledby="log-title" {
            h2 id="log-title" { "Log" }
            div id="log" data-live data-follow tabindex="0" role="log" aria-live="off" aria-labelledby="log-title" {
                (parts::log(log))
            }
            p.more { a href={ "/jobs/" (job.id) "/log.txt" } { "Whole log as text" } }
        }
    }
}

fn head(job: &JobView) -> Markup {
    let progress = &job.progress;
    let moving = !job.state.is_ended();
    html! {
        section.card.now {
            p.text class=[(job.state == JobState::Failed).then_some("failed")] {
                bdi { (humane::clean(&job.text)) }
            }
            (bar("progress of this job", progress.done_bytes, progress.total_bytes))
            dl.figures {
                @if progress.total_bytes > 0 {
                    (figure("Received", &format!(
                        "{} of {}",
                        humane::size(progress.done_bytes),
                        humane::size(progress.total_bytes)
                    )))
                }
                @if moving && progress.rate_bytes > 0 { (figure("Rate", &humane::rate(progress.rate_bytes))) }
                @if moving && progress.eta_seconds > 0 {
                    (figure("Time", &format!("{} left", humane::duration(progress.eta_seconds))))
                }
                @if progress.wire_bytes > 0 { (figure("On the wire", &humane::size(progress.wire_bytes))) }
                @if progress.zero_bytes > 0 { (figure("Zero, not sent", &humane::size(progress.zero_bytes))) }
                @if progress.same_bytes > 0 { (figure("Same as before, not sent", &humane::size(progress.same_bytes))) }
                @if progress.bad_bytes > 0 { (figure("Unreadable", &humane::size(progress.bad_bytes))) }
                div { dt { "Agent" } dd { (list::agent(job)) } }
            }
        }
    }
}

fn figure(label: &str, value: &str) -> Markup {
    html! { div { dt { (label) } dd { (value) } } }
}

fn about(job: &JobView) -> Markup {
    html! {
        section.card {
            h2 { "Job" }
            dl.pairs {
                div { dt { "Begun" } dd { (layout::moment(job.created_unix_ms)) } }
                @if job.ended_unix_ms > 0 {
                    div { dt { "Ended" } dd { (layout::moment(job.ended_unix_ms)) } }
                    (figure("Took", &humane::duration(job.ended_unix_ms.saturating_sub(job.created_unix_ms) / 1000)))
                }
                @if job.progress.first_byte_ms > 0 {
                    (figure("First byte after", &format!("{} ms", job.progress.first_byte_ms)))
                }
                div {
                    dt { "Options" }
                    dd {
                        @if job.options.is_empty() { "none" }
                        @else { code { (humane::clean(&words::join(&job.options))) } }
                    }
                }
            }
        }
    }
}
