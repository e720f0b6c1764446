//! The web page: what [`Control`] knows, for people, for programs, and for approving.
//!
//! ```text
//! listen    accepts, TLS where the address is not loopback, limits
//!   └─ gate     who is it: cookie, key in the address, bearer; forms only from this page
//!        ├─ list, job, tokens    pages (maud); forms and confirm pages for what changes something
//!        ├─ events               server-sent events: "something changed", then the page fetches itself
//!        └─ api                  JSON, log as text, metrics, health
//! ```
//!
//! Every page is whole without JavaScript. With it, /app.js replaces the parts marked `data-live`.
//! All text of machines is hostile: maud escapes it, [`humane::clean`] takes out what turns or hides text.

mod access;
mod api;
mod events;
mod forms;
mod gate;
pub mod humane;
mod job;
mod job_parts;
mod layout;
mod list;
mod listen;
mod metrics;
mod tokens;
mod words;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::Semaphore;

pub use self::access::{Access, needs_tls};
pub use self::listen::serve;

use crate::{Control, ControlError, JobId};

/// Longest request body: some options and keys, key files of LUKS included.
const MAX_BODY: usize = 256 << 10;
/// Browsers that are told of changes at the same time; others ask again by themselves.
const MAX_STREAMS: usize = 64;
/// Longest time for an answer to begin.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What every handler has.
#[derive(Clone)]
struct App {
    control: Arc<dyn Control>,
    access: Arc<Access>,
    /// The page is served by TLS.
    tls: bool,
    streams: Arc<Semaphore>,
    stop: types::CancelToken,
}

impl App {
    fn new(control: Arc<dyn Control>, access: Access, tls: bool, stop: types::CancelToken) -> Self {
        Self {
            control,
            access: Arc::new(access),
            tls,
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            stop,
        }
    }

    /// Asks the jobs. They read a database, so it is done where blocking is allowed.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Control) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let control = Arc::clone(&self.control);
        match tokio::task::spawn_blocking(move || question(control.as_ref())).await {
            Ok(answer) => answer.map_err(Refusal::from),
            Err(error) => Err(Refusal::from(ControlError::Internal(format!(
                "the question was not answered: {error}"
            )))),
        }
    }
}

/// Why a page is not shown; becomes a page or a JSON object of its own.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    text: String,
}

impl Refusal {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        let status = match &error {
            ControlError::NotFound(_) => StatusCode::NOT_FOUND,
            ControlError::Refused(_) => StatusCode::CONFLICT,
            ControlError::Internal(text) => {
                tracing::error!("web page: {text}");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, layout::message(self.status, &self.text)).into_response()
    }
}

/// The number in a path such as /jobs/17.
fn job_id(text: &str) -> Result<JobId, Refusal> {
    text.parse().map(JobId).map_err(|_| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            "there is no such job: expected a number",
        )
    })
}

fn router(app: App) -> Router {
    let pages = Router::new()
        .route("/", get(list::page))
        .route("/jobs/{id}", get(job::page))
        .route("/jobs/{id}/approve", post(forms::approve))
        .route(
            "/jobs/{id}/cancel",
            get(forms::confirm_cancel).post(forms::cancel),
        )
        .route("/jobs/{id}/retry", post(forms::retry))
        .route("/jobs/{id}/log.txt", get(api::log_text))
        .route("/tokens", get(tokens::page).post(tokens::create))
        .route(
            "/tokens/{id}/revoke",
            get(tokens::confirm_revoke).post(tokens::revoke),
        )
        .route("/login", post(gate::log_in))
        .route("/logout", post(gate::log_out))
        .route("/events", get(events::stream))
        .route("/api/jobs", get(api::jobs))
        .route("/api/jobs/{id}", get(api::job))
        .route("/api/jobs/{id}/logs", get(api::logs))
        .route("/metrics", get(metrics::page))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "there is no such page") })
        .layer(middleware::from_fn_with_state(app.clone(), gate::check));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/style.css", get(layout::style))
        .route("/app.js", get(layout::script))
        .route("/icon.svg", get(layout::icon))
        .merge(pages)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(gate::limits))
        .with_state(app)
}
