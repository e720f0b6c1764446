//! `/metrics`: what a monitoring system reads, in Prometheus' text format (version 0.0.4).

use std::fmt::Write;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::App;
use super::api::JsonRefusal;
use crate::{JobState, JobView, Progress};

/// GET /metrics.
pub(super) async fn page(State(app): State<App>) -> Result<Response, JsonRefusal> {
    let jobs = app.ask(|control| control.jobs()).await?;
    let headers = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((headers, text(&jobs)).into_response())
}

/// All figures. Names of machines are no labels: there would be no end of time series.
fn text(jobs: &[JobView]) -> String {
    let mut out = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, values: &[(String, u64)]| {
        // Writing to a String does not fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let by_state: Vec<(String, u64)> = JobState::ALL
        .iter()
        .map(|state| {
            let count = jobs.iter().filter(|job| job.state == *state).count();
            (format!("{{state=\"{}\"}}", state.word()), count as u64)
        })
        .collect();
    metric("v2v_jobs", "gauge", "Jobs by state.", &by_state);
    let count = |which: &dyn Fn(&JobView) -> bool| {
        vec![(
            String::new(),
            jobs.iter().filter(|job| which(job)).count() as u64,
        )]
    };
    metric(
        "v2v_agents_connected",
        "gauge",
        "Machines that are connected now.",
        &count(&|job| job.connected),
    );
    let sum = |which: &dyn Fn(&JobView) -> bool, value: &dyn Fn(&Progress) -> u64| {
        let all = jobs.iter().filter(|job| which(job));
        let total = all.fold(0u64, |sum, job| sum.saturating_add(value(&job.progress)));
        vec![(String::new(), total)]
    };
    let every = |_: &JobView| true;
    for (name, help, value) in TOTALS {
        metric(name, "counter", help, &sum(&every, value));
    }
    let running = |job: &JobView| !job.state.is_ended();
    metric(
        "v2v_receive_rate_bytes",
        "gauge",
        "Bytes a second of all running jobs.",
        &sum(&running, &|progress| progress.rate_bytes),
    );
    metric(
        "v2v_needed_bytes",
        "gauge",
        "Bytes that running jobs still need.",
        &sum(&running, &|progress| {
            progress.total_bytes.saturating_sub(progress.done_bytes)
        }),
    );
    out
}

type Total = (
    &'static str,
    &'static str,
    &'static (dyn Fn(&Progress) -> u64 + Sync),
);

const TOTALS: &[Total] = &[
    (
        "v2v_received_bytes_total",
        "Bytes of disk data received over the network.",
        &|p| p.received_bytes,
    ),
    (
        "v2v_wire_bytes_total",
        "Bytes of messages that crossed the network.",
        &|p| p.wire_bytes,
    ),
    (
        "v2v_zero_bytes_total",
        "Bytes known to be zero, not sent.",
        &|p| p.zero_bytes,
    ),
    (
        "v2v_same_bytes_total",
        "Bytes found the same as in an earlier run, not sent.",
        &|p| p.same_bytes,
    ),
    (
        "v2v_unreadable_bytes_total",
        "Bytes that could not be read.",
        &|p| p.bad_bytes,
    ),
];
