//! Writes metadata and the report, and gives everything its final name.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use target::{Finished, Placed, Target};
use types::Change;

use crate::{Conversion, Error, Events, Result, Stage};

/// Name of the report in the scratch folder until it is complete.
const REPORT: &str = "report.json";

pub(crate) fn run(
    job: &Conversion,
    finished: &Finished<'_>,
    changes: &[Change],
    target: &mut dyn Target,
    events: &dyn Events,
) -> Result<Placed> {
    events.stage(Stage::Finish, "creating output metadata");
    if let Some(path) = &job.report {
        write_report(path, &target.scratch_dir().join(REPORT), changes).map_err(|source| {
            Error::Report {
                path: path.display().to_string(),
                source,
            }
        })?;
    }
    let placed = target.finalise(finished)?;
    for note in &placed.notes {
        events.note(note);
    }
    Ok(placed)
}

/// The report appears whole or not at all. It is written in the scratch folder, so that a kill leaves nothing else;
/// on another file system it is copied to its place.
fn write_report(path: &Path, temporary: &Path, changes: &[Change]) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(changes)?;
    text.push(b'\n');
    let mut file = File::create(temporary)?;
    file.write_all(&text)?;
    file.sync_all()?;
    match fs::rename(temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => fs::write(path, &text),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_json_list_of_changes() {
        let dir = tempfile::tempdir().unwrap();
        let change = Change {
            step: "device-names".into(),
            path: "/etc/fstab".into(),
            before: Some("aa".into()),
            after: Some("bb".into()),
            why: "names change".into(),
        };
        let report = dir.path().join("r.json");
        write_report(
            &report,
            &dir.path().join("temporary"),
            std::slice::from_ref(&change),
        )
        .unwrap();
        let read: Vec<Change> = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
        assert_eq!(read, [change]);
        assert!(!dir.path().join("temporary").exists());
    }
}
