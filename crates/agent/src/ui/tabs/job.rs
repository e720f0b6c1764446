//! The job: stage, progress, connection; cancel, and what can be done after the end.

use wire::session::{JobState, JobStatus};

use super::{bytes, server};
use crate::app::{Phase, View};
use crate::ui::form::{Id, Row};

const BAR: u64 = 50;

pub(crate) fn rows(view: &View) -> Vec<Row> {
    let mut rows = Vec::new();
    let status = view.status.clone().unwrap_or_default();
    rows.push(Row::head(match (view.job, view.phase) {
        (Some(job), _) => format!("Job {job}: {}", state(status.state())),
        (None, Phase::Running | Phase::Ended) => state(status.state()).to_owned(),
        (None, _) => "No job yet".to_owned(),
    }));
    rows.push(Row::note(status.text.clone()));
    rows.push(Row::gap());
    progress(&status, view.phase == Phase::Running, &mut rows);
    rows.push(Row::note(format!(
        "Connection   {}",
        server::connection(&view.connection)
    )));
    rows.push(Row::gap());
    if !status.error.is_empty() {
        rows.push(Row::note(format!("Error: {}", status.error)));
    }
    if status.state() == JobState::WaitingForApproval {
        let number = view.job.unwrap_or_default();
        rows.push(Row::note(format!(
            "Approve it on the web page, or with `v2v jobs approve {number}`."
        )));
    }
    rows.push(match view.phase {
        Phase::Ended => Row::Buttons(match status.state() {
            JobState::Done | JobState::DoneWithErrors => {
                vec![(Id::Poweroff, "Power off"), (Id::Reboot, "Reboot")]
            }
            _ => vec![
                (Id::Retry, "Retry"),
                (Id::Poweroff, "Power off"),
                (Id::Reboot, "Reboot"),
            ],
        }),
        Phase::Running => Row::Buttons(vec![(Id::Cancel, "Cancel")]),
        Phase::Detecting | Phase::Setup => Row::note("Not started: see F6 Start."),
    });
    rows
}

fn progress(status: &JobStatus, running: bool, rows: &mut Vec<Row>) {
    let (done, total) = (status.done_bytes, status.total_bytes);
    if total > 0 {
        let done = done.min(total);
        let part = |of: u64| {
            let share = u128::from(done) * u128::from(of) / u128::from(total);
            usize::try_from(share).unwrap_or_default()
        };
        let full = part(BAR);
        let rest = usize::try_from(BAR)
            .unwrap_or_default()
            .saturating_sub(full);
        rows.push(Row::note(format!(
            "[{}{}] {} %",
            "#".repeat(full),
            ".".repeat(rest),
            part(100)
        )));
        let rate = match status.eta_seconds {
            _ if !running => String::new(),
            0 => format!(", {}/s", bytes(status.rate_bytes)),
            seconds => format!(
                ", {}/s, {} left",
                bytes(status.rate_bytes),
                duration(seconds)
            ),
        };
        rows.push(Row::note(format!(
            "Copied       {} of {}{rate}",
            bytes(done),
            bytes(total),
        )));
    }
    rows.push(Row::note(format!(
        "Network      {}",
        bytes(status.wire_bytes)
    )));
    rows.push(Row::note(format!(
        "Unreadable   {}",
        bytes(status.bad_bytes)
    )));
}

/// `1:02:03`.
fn duration(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hours}:{minutes:02}:{seconds:02}")
}

/// The state in words; the last four end the job.
pub(crate) fn state(state: JobState) -> &'static str {
    match state {
        JobState::Unspecified => "asking the server",
        JobState::Queued => "queued",
        JobState::WaitingForApproval => "waiting for approval",
        JobState::WaitingForAgent => "waiting for this machine",
        JobState::Inspecting => "inspecting",
        JobState::Converting => "converting",
        JobState::Copying => "copying",
        JobState::Done => "DONE",
        JobState::DoneWithErrors => "DONE, but some sectors could not be read and are zero",
        JobState::Failed => "FAILED",
        JobState::Cancelled => "CANCELLED",
    }
}
