//! The state of a job, for people.

use wire::session::{JobState, JobStatus};

/// The job will not go on by itself.
pub(super) fn is_final(state: JobState) -> bool {
    matches!(
        state,
        JobState::Done | JobState::DoneWithErrors | JobState::Failed | JobState::Cancelled
    )
}

/// A status in one line.
pub(super) fn describe(status: &JobStatus) -> String {
    let state = status
        .state()
        .as_str_name()
        .to_ascii_lowercase()
        .replace('_', " ");
    let mut line = state;
    if !status.text.is_empty() {
        line = format!("{line}: {}", status.text);
    }
    let percent = status.done_bytes.saturating_mul(100);
    if let Some(percent) = percent.checked_div(status.total_bytes) {
        line = format!(
            "{line}, {percent} % of {} MiB, {} MiB/s",
            status.total_bytes >> 20,
            status.rate_bytes >> 20
        );
    }
    if status.bad_bytes > 0 {
        line = format!("{line}, {} bytes unreadable", status.bad_bytes);
    }
    if !status.error.is_empty() {
        line = format!("{line}: {}", status.error);
    }
    line
}
