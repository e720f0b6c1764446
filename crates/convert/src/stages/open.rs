//! Reads the source's metadata and disk tables.

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
    Ok(source::open(&job.source, &job.source_options)?)
}
