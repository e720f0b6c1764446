//! Writes metadata and the report, and gives everything its final name.

use source::Opened;
use target::{Finished, Target};
use types::StorageMap;

use super::pending::Pending;
use super::prepare::Prepared;
use crate::report::{DiskBytes, Report, SCHEMA, TargetFiles};
use crate::{Conversion, Events, Outcome, Result, Stage};

pub(crate) fn run(
    job: &Conversion,
    opened: &Opened,
    storage: &StorageMap,
    prepared: Prepared,
    disks: Vec<DiskBytes>,
    target: &mut dyn Target,
    events: &dyn Events,
) -> Result<Outcome> {
    events.stage(Stage::Finish, "creating output metadata");
    let Prepared {
        guest,
        outcome,
        treatment,
        ..
    } = prepared;
    let boot_options = crate::boot_options(&opened.machine, storage, &outcome.boot_entries);
    let mut report = Report {
        schema: SCHEMA,
        v2v: env!("CARGO_PKG_VERSION").to_owned(),
        conversion: treatment,
        source: opened.machine.clone(),
        concerns: guest.concerns.clone(),
        guest,
        steps: outcome.steps,
        changes: outcome.changes,
        warnings: [opened.warnings.clone(), outcome.warnings].concat(),
        caps: outcome.caps,
        boot_entries: outcome.boot_entries,
        space: outcome.space,
        disks,
        target: TargetFiles::default(),
    };
    let pending = match job.report.as_deref() {
        Some(path) => Some(Pending::create(path, &report)?),
        None => None,
    };
    let placed = target.finalise(&Finished {
        machine: &opened.machine,
        caps: &report.caps,
        guest: Some(&report.guest),
        boot_options: &boot_options,
    })?;
    for note in &placed.notes {
        events.note(note);
    }
    report.target = TargetFiles {
        files: placed.files.clone(),
        domain: placed.domain.clone(),
    };
    if let Some(pending) = pending {
        pending.write(&report)?;
    }
    Ok(Outcome {
        placed,
        changes: report.changes,
        steps: report.steps,
        guest: report.guest,
    })
}
