//! `/api/…`: the same as JSON, for programs; and a job's log as text.

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;

use super::gate::{Fields, field};
use super::{App, Refusal, job_id, job_parts};
use crate::{Control, ControlError, JobId, LogLine};

/// Log lines that are read at once.
const LINES_AT_ONCE: usize = 1000;

/// A refusal as a JSON object.
#[derive(Debug)]
pub(super) struct JsonRefusal(Refusal);

impl From<Refusal> for JsonRefusal {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for JsonRefusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": self.0.text }).to_string();
        (self.0.status, [(CONTENT_TYPE, "application/json")], body).into_response()
    }
}

fn json<T: Serialize>(value: &T) -> Result<Response, JsonRefusal> {
    let body = serde_json::to_string(value)
        .map_err(|error| Refusal::from(ControlError::Internal(error.to_string())))?;
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

/// GET /api/jobs: a list of `JobView`.
pub(super) async fn jobs(State(app): State<App>) -> Result<Response, JsonRefusal> {
    json(&app.ask(|control| control.jobs()).await?)
}

/// GET /api/jobs/N: a `JobDetail`.
pub(super) async fn job(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, JsonRefusal> {
    let id = job_id(&id)?;
    json(&app.ask(move |control| control.job(id)).await?)
}

/// GET /api/jobs/N/logs: a list of `LogLine`; `?after=NUMBER` only newer ones, `?limit=N` at most so many.
pub(super) async fn logs(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(query): Query<Fields>,
) -> Result<Response, JsonRefusal> {
    let id = job_id(&id)?;
    let after = field(&query, "after").parse().unwrap_or(0);
    let limit = field(&query, "limit")
        .parse()
        .unwrap_or(LINES_AT_ONCE)
        .clamp(1, LINES_AT_ONCE);
    json(
        &app.ask(move |control| control.logs(id, after, limit))
            .await?,
    )
}

/// GET /jobs/N/log.txt: the whole log so far, read and sent piece by piece.
pub(super) async fn log_text(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let id = job_id(&id)?;
    let end = app
        .ask(move |control| {
            control.job(id)?;
            last_number(control, id)
        })
        .await?;
    let pieces = stream::unfold(0u64, move |after| {
        let app = app.clone();
        async move {
            if after >= end {
                return None;
            }
            let lines = app
                .ask(move |control| control.logs(id, after, LINES_AT_ONCE))
                .await;
            let lines = match lines {
                Ok(lines) => lines,
                Err(refusal) => return Some((Err(std::io::Error::other(refusal.text)), end)),
            };
            let last = lines.last()?.number;
            let mut text = String::new();
            for line in &lines {
                job_parts::plain(line, &mut text);
            }
            Some((Ok(Bytes::from(text)), last))
        }
    });
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// The last `count` lines of a job's log.
pub(super) fn last_lines(
    control: &dyn Control,
    id: JobId,
    count: usize,
) -> Result<Vec<LogLine>, ControlError> {
    let last = last_number(control, id)?;
    control.logs(id, last.saturating_sub(count as u64), count)
}

/// The number of the last line. Numbers have no gaps, so doubling and halving finds it in few questions.
fn last_number(control: &dyn Control, id: JobId) -> Result<u64, ControlError> {
    let more_than = |number: u64| Ok(!control.logs(id, number, 1)?.is_empty());
    let (mut low, mut high) = (0u64, 1u64);
    if !more_than(low)? {
        return Ok(0);
    }
    while more_than(high)? {
        low = high;
        high = match high.checked_mul(2) {
            Some(high) => high,
            None => return Ok(low),
        };
    }
    // There are more than `low` lines, and at most `high`.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if more_than(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(high)
}
