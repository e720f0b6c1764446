//! Reads the source's metadata and disk tables; connects its NICs.

use source::{Opened, SourceKind};

use crate::{Events, Job, Result, Stage};

pub(crate) fn run(job: &Job, events: &dyn Events) -> Result<Opened> {
    let files = match &job.source {
        SourceKind::Ova(path) => path.display().to_string(),
        SourceKind::Disk(paths) => paths
            .iter()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>()
            .join(", "),
        _ => "source".to_owned(),
    };
    events.stage(Stage::Open, &format!("opening {files}"));
    let mut opened = source::open(&job.source, &job.source_options)?;
    for warning in &opened.warnings {
        events.warning(warning);
    }
    job.networks.apply(&mut opened.machine)?;
    Ok(opened)
}
