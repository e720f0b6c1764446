//! Writes metadata and the report, and gives everything its final name.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use target::{Finished, Target};
use types::Change;

use crate::{Error, Events, Job, Outcome, Result, Stage};

pub(crate) fn run(
    job: &Job,
    finished: &Finished<'_>,
    changes: &[Change],
    target: &mut dyn Target,
    events: &dyn Events,
) -> Result<Outcome> {
    events.stage(Stage::Finish, "creating output metadata");
    if let Some(path) = &job.report {
        write_report(path, changes).map_err(|source| Error::Report {
            path: path.display().to_string(),
            source,
        })?;
    }
    let placed = target.finalise(finished)?;
    for note in &placed.notes {
        events.warning(note);
    }
    Ok(Outcome {
        placed,
        changes: changes.len(),
    })
}

/// The report appears whole or not at all.
fn write_report(path: &Path, changes: &[Change]) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(changes)?;
    text.push(b'\n');
    let name = path
        .file_name()
        .ok_or(io::ErrorKind::InvalidInput)?
        .to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.v2v-{}", std::process::id()));
    let result = File::create_new(&temporary)
        .and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&temporary, path));
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}
