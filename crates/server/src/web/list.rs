//! `/`: all jobs, newest first; a table, or cards in a narrow window.

use std::collections::BTreeMap;

use axum::extract::{Extension, Query, State};
use maud::{Markup, html};

use super::access::Session;
use super::gate::{Fields, field};
use super::layout::{self, Frame, Here, badge, bar};
use super::{App, Refusal, humane};
use crate::{JobState, JobView};

/// Jobs on one page.
const PAGE: usize = 100;

/// GET /: `?state=WORD` shows one state, `?page=N` older jobs.
pub(super) async fn page(
    State(app): State<App>,
    Extension(session): Extension<Session>,
    Query(query): Query<Fields>,
) -> Result<Markup, Refusal> {
    let mut jobs = app.ask(|control| control.jobs()).await?;
    jobs.reverse();
    let mut counts = BTreeMap::new();
    for job in &jobs {
        *counts.entry(place(job.state)).or_insert(0usize) += 1;
    }
    let all = jobs.len();
    let state = JobState::from_word(field(&query, "state"));
    if let Some(state) = state {
        jobs.retain(|job| job.state == state);
    }
    let found = jobs.len();
    let number: usize = field(&query, "page").parse().unwrap_or(0);
    let first = number.saturating_mul(PAGE).min(found);
    let shown = &jobs[first..found.min(first + PAGE)];
    let content = html! {
        div.head {
            h1 { "Jobs" }
            a.button href="/tokens" { "Add a machine" }
        }
        p.hidden id="summary" data-live aria-live="polite" { (summary(&counts)) }
        nav.filter id="filter" data-live aria-label="Show jobs by state" {
            (filter("/", "all", all, state.is_none()))
            @for each in JobState::ALL {
                @if let Some(count) = counts.get(&place(each)) {
                    (filter(
                        &format!("/?state={}", each.word()),
                        &layout::words(each),
                        *count,
                        state == Some(each),
                    ))
                }
            }
        }
        div id="jobs" data-live {
            @if shown.is_empty() { (empty(all)) } @else { (table(shown)) }
            (older(state, number, found))
        }
    };
    let frame = Frame {
        title: "Jobs",
        here: Here::Jobs,
        live: true,
        refresh: true,
        csrf: &app.access.form_token(&session),
    };
    Ok(layout::page(&frame, &content))
}

fn place(state: JobState) -> usize {
    JobState::ALL
        .iter()
        .position(|known| *known == state)
        .unwrap_or(JobState::ALL.len())
}

fn summary(counts: &BTreeMap<usize, usize>) -> String {
    let parts: Vec<String> = counts
        .iter()
        .filter_map(|(place, count)| {
            Some(format!(
                "{count} {}",
                layout::words(*JobState::ALL.get(*place)?)
            ))
        })
        .collect();
    parts.join(", ")
}

fn filter(address: &str, text: &str, count: usize, here: bool) -> Markup {
    html! {
        a href=(address) aria-current=[here.then_some("true")] { (text) " " span.count { (count) } }
    }
}

fn empty(all: usize) -> Markup {
    html! {
        section.card.empty {
            @if all == 0 {
                h2 { "No machine has come yet" }
                p {
                    a href="/tokens" { "Make a token" }
                    ", boot the P2V image on the machine, and give it the join string. It appears here."
                }
            } @else {
                p { "No job is in this state. " a href="/" { "Show all" } }
            }
        }
    }
}

// Roles are said again since `display: block`, which cards are made of, takes them away in some browsers.
fn table(jobs: &[JobView]) -> Markup {
    html! {
        table.jobs role="table" {
            caption.hidden { "Jobs, newest first" }
            thead role="rowgroup" {
                tr role="row" {
                    @for title in ["Job", "State", "Progress", "Rate", "Left", "Machine"] {
                        th role="columnheader" scope="col" { (title) }
                    }
                }
            }
            tbody role="rowgroup" {
                @for job in jobs { (row(job)) }
            }
        }
    }
}

fn row(job: &JobView) -> Markup {
    let progress = &job.progress;
    let moving = !job.state.is_ended();
    let name = humane::clean(&job.name);
    html! {
        tr role="row" {
            th.name role="rowheader" scope="row" {
                a href={ "/jobs/" (job.id) } { bdi { (name) } }
                span.number { "#" (job.id) }
            }
            td.state role="cell" {
                (badge(job.state))
                p.text { bdi { (humane::clean(&job.text)) } }
                @if job.state == JobState::WaitingForApproval {
                    a href={ "/jobs/" (job.id) "#approve-title" } { "Approve" span.hidden { " " (name) } "…" }
                }
            }
            td.progress role="cell" {
                (bar(&format!("progress of {name}"), progress.done_bytes, progress.total_bytes))
                @if progress.total_bytes > 0 {
                    span.bytes { (humane::size(progress.done_bytes)) " of " (humane::size(progress.total_bytes)) }
                }
                @if progress.bad_bytes > 0 {
                    span.badge.warn { span.sign aria-hidden="true" { "!" } (humane::size(progress.bad_bytes)) " unreadable" }
                }
            }
            td.rate role="cell" data-label="Rate" {
                @if moving && progress.rate_bytes > 0 { (humane::rate(progress.rate_bytes)) }
            }
            td.left role="cell" data-label="Left" {
                @if moving && progress.eta_seconds > 0 { (humane::duration(progress.eta_seconds)) }
            }
            td.machine role="cell" {
                bdi { (humane::clean(&job.machine)) }
                span.agent { (agent(job)) }
            }
        }
    }
}

/// Whether the agent is there, and from where.
pub(super) fn agent(job: &JobView) -> Markup {
    let address = humane::clean(&job.address);
    html! {
        @if job.connected {
            span.dot.on aria-hidden="true" { "●" } " connected"
        } @else {
            span.dot aria-hidden="true" { "○" } " not connected"
        }
        @if !address.is_empty() { ", " bdi { (address) } }
    }
}

fn older(state: Option<JobState>, number: usize, found: usize) -> Markup {
    let address = |number: usize| match state {
        Some(state) => format!("/?state={}&page={number}", state.word()),
        None => format!("/?page={number}"),
    };
    html! {
        @if found > PAGE {
            nav.pages aria-label="More jobs" {
                @if number > 0 { a href=(address(number.min(found / PAGE + 1) - 1)) { "Newer" } }
                @if number.saturating_add(1).saturating_mul(PAGE) < found {
                    a href=(address(number + 1)) { "Older" }
                }
            }
        }
    }
}
