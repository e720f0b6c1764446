//! The frame around every page, and the two files and the icon that pages refer to.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::humane;
use crate::JobState;

/// Without JavaScript, a page that changes loads itself again after so many seconds.
const REFRESH_SECONDS: u32 = 5;

/// What a page says of itself.
pub(super) struct Frame<'a> {
    /// Before " – v2v" in the window's title.
    pub(super) title: &'a str,
    /// Which part of the menu it belongs to.
    pub(super) here: Here,
    /// Its parts change by themselves.
    pub(super) live: bool,
    /// Without JavaScript it may load itself again: nothing is typed into it.
    pub(super) refresh: bool,
    /// Token of the form that ends the session.
    pub(super) csrf: &'a str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Here {
    Jobs,
    Tokens,
    Nowhere,
}

pub(super) fn page(frame: &Frame<'_>, content: &Markup) -> Markup {
    let item = |here: Here, address: &str, text: &str| {
        html! {
            a href=(address) aria-current=[(frame.here == here).then_some("page")] { (text) }
        }
    };
    let bar = html! {
        header.top {
            a.brand href="/" { "v2v" span { " converter server" } }
            nav aria-label="Pages" {
                (item(Here::Jobs, "/", "Jobs"))
                (item(Here::Tokens, "/tokens", "Tokens"))
            }
            p.link-state id="link-state" role="status" {}
            form method="post" action="/logout" {
                (csrf_field(frame.csrf))
                button.quiet type="submit" { "Sign out" }
            }
        }
    };
    document(frame.title, frame.refresh, frame.live, &bar, content)
}

fn document(title: &str, refresh: bool, live: bool, bar: &Markup, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – v2v" }
                link rel="icon" href="/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/style.css";
                @if refresh {
                    noscript { meta http-equiv="refresh" content=(REFRESH_SECONDS); }
                }
                script src="/app.js" defer {}
            }
            body data-live-page=[live.then_some("")] {
                a.skip href="#content" { "Skip to content" }
                (bar)
                main id="content" tabindex="-1" { (content) }
            }
        }
    }
}

/// The form for the key.
pub(super) fn login(next: &str, wrong: Option<&str>) -> Markup {
    let bar = html! {
        header.top { span.brand { "v2v" span { " converter server" } } }
    };
    let content = html! {
        section.card.narrow {
            h1 { "Key" }
            p {
                "Open the link that " code { "v2v serve" } " printed, or enter the key: it is in "
                code { "web.key" } " in the state folder of the server."
            }
            @if let Some(wrong) = wrong {
                p.alert role="alert" id="wrong" { (wrong) }
            }
            form method="post" action="/login" {
                input type="hidden" name="next" value=(next);
                label for="key" { "Key of this server" }
                input id="key" name="key" type="password" autocomplete="off" required autofocus
                    spellcheck="false" autocapitalize="none"
                    aria-describedby=[wrong.map(|_| "wrong")];
                button.primary type="submit" { "Open" }
            }
        }
    };
    document("Key", false, false, &bar, &content)
}

/// A page that only goes on to `path`.
pub(super) fn onward(path: &str) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content=(format!("0;url={path}"));
                title { "v2v" }
            }
            body { p { a href=(path) { "Go on" } } }
        }
    }
}

/// A page with one sentence.
pub(super) fn message(status: StatusCode, text: &str) -> Markup {
    let bar = html! {
        header.top { a.brand href="/" { "v2v" span { " converter server" } } }
    };
    let content = html! {
        section.card.narrow {
            h1 { (status.canonical_reason().unwrap_or("Error")) }
            p role="alert" { (humane::clean(text)) }
            p { a href="/" { "Back to the jobs" } }
        }
    };
    document("Error", false, false, &bar, &content)
}

pub(super) fn csrf_field(token: &str) -> Markup {
    html! { input type="hidden" name="csrf" value=(token); }
}

/// A state as a word, with a sign and a colour.
pub(super) fn badge(state: JobState) -> Markup {
    let (class, sign) = match state {
        JobState::Queued => ("calm", "…"),
        JobState::WaitingForApproval => ("ask", "?"),
        JobState::WaitingForAgent => ("ask", "○"),
        JobState::Inspecting | JobState::Converting | JobState::Copying => ("busy", "▸"),
        JobState::Done => ("good", "✓"),
        JobState::DoneWithErrors => ("warn", "!"),
        JobState::Failed => ("bad", "✕"),
        JobState::Cancelled => ("calm", "–"),
    };
    html! {
        span class={ "badge " (class) } { span.sign aria-hidden="true" { (sign) } (words(state)) }
    }
}

/// A state for people.
pub(super) fn words(state: JobState) -> String {
    state.word().replace('-', " ")
}

/// A moment; empty for 0.
pub(super) fn moment(unix_ms: u64) -> Markup {
    html! {
        @if unix_ms > 0 {
            time datetime=(humane::rfc3339(unix_ms)) { (humane::utc(unix_ms)) }
        }
    }
}

/// A bar with its percent, or words where the total is not known.
pub(super) fn bar(label: &str, done: u64, total: u64) -> Markup {
    html! {
        @if let Some(percent) = humane::percent(done, total) {
            span.bar {
                progress max="100" value=(percent) aria-label=(label) {}
                span.percent { (percent) " %" }
            }
        }
    }
}

pub(super) async fn style() -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/css; charset=utf-8")],
        include_str!("style.css"),
    )
}

pub(super) async fn script() -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/javascript; charset=utf-8")],
        include_str!("app.js"),
    )
}

pub(super) async fn icon() -> impl IntoResponse {
    let icon = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" {
            rect width="16" height="16" rx="3" fill="#1f5f8b" {}
            path d="M3 8h8M8 4.5 11.5 8 8 11.5" stroke="#fff" stroke-width="2" fill="none" {}
        }
    };
    let PreEscaped(text) = icon;
    ([(CONTENT_TYPE, "image/svg+xml")], text)
}
