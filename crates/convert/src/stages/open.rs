//! Reads the source's metadata and disk tables; connects its NICs.

use source::Opened;

use crate::{Events, Job, Result, Stage};

pub(crate) fn run(job: &Job, events: &dyn Events) -> Result<Opened> {
    events.stage(Stage::Open, &format!("opening the source {}", job.source));
    let mut opened = source::open(&job.source, &job.source_options)?;
    for warning in &opened.warnings {
        events.warning(warning);
    }
    job.networks.apply(&mut opened.machine)?;
    Ok(opened)
}
