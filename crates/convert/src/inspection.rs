//! The dry run (`v2v inspect`): the guest is really converted, on overlays that are then thrown away, so that the plan
//! is what a conversion would do. What stops a conversion because of the guest is a result here, a blocker; what stops
//! the program is an error.

use image::BlockSource;
use source::Opened;
use target::TargetKind;
use types::{CancelToken, Concern, GuestInfo, Severity};

use crate::report::{DiskBytes, Inspection, SCHEMA, Treatment};
use crate::stages::copy::data_bytes;
use crate::stages::prepare::{Prepared, Seen};
use crate::{Conversion, Error, Events, Job, Result, Unknown, stages};

/// Looks at what converting this source would do. Nothing is written but scratch files; the manifest's hashes of an
/// OVA are left to the conversion.
pub fn inspect(job: &Job, events: &dyn Events, cancel: &CancelToken) -> Result<Inspection> {
    let mut opened = stages::open::run(job, events)?;
    let mut conversion = job.conversion.clone();
    conversion.target.kind = TargetKind::Null;
    conversion.report = None;
    for warning in &opened.warnings {
        events.warning(warning);
    }
    conversion.networks.apply(&mut opened.machine)?;
    let (target, host) = stages::check::run(&conversion, &opened, events, cancel)?;
    let mut seen = Seen::default();
    let prepared = stages::prepare::run(
        &conversion,
        &host,
        &opened,
        target.scratch_dir(),
        &mut seen,
        events,
        cancel,
    );
    match prepared {
        Ok(prepared) => possible(opened, seen, prepared),
        Err(error) => match blocker(&error, &conversion) {
            Some(blocker) => impossible(&conversion, opened, seen, blocker),
            None => Err(error),
        },
    }
}

fn possible(opened: Opened, seen: Seen, prepared: Prepared) -> Result<Inspection> {
    let Prepared {
        overlays,
        guest,
        outcome,
        treatment,
    } = prepared;
    let mut disks = Vec::new();
    for overlay in &overlays {
        disks.push(disk_bytes(overlay.as_ref())?);
    }
    Ok(Inspection {
        schema: SCHEMA,
        v2v: env!("CARGO_PKG_VERSION").to_owned(),
        convertible: true,
        conversion: treatment,
        warnings: [opened.warnings, outcome.warnings].concat(),
        source: opened.machine,
        storage: seen.storage,
        systems: seen.systems,
        concerns: guest.concerns.clone(),
        guest: Some(guest),
        steps: outcome.steps,
        changes: outcome.changes,
        caps: Some(outcome.caps),
        boot_entries: outcome.boot_entries,
        space: outcome.space,
        disks,
    })
}

fn impossible(
    job: &Conversion,
    opened: Opened,
    seen: Seen,
    blocker: Concern,
) -> Result<Inspection> {
    let mut disks = Vec::new();
    for disk in &opened.disks {
        disks.push(disk_bytes(disk.as_ref())?);
    }
    let others = match &seen.guest {
        Some(guest) => guest.concerns.clone(),
        None => crate::foreign::concerns(&seen.storage),
    };
    Ok(Inspection {
        schema: SCHEMA,
        v2v: env!("CARGO_PKG_VERSION").to_owned(),
        convertible: false,
        conversion: match job.unknown {
            Unknown::CopyAlways => Treatment::Copied,
            _ => Treatment::Converted,
        },
        warnings: opened.warnings,
        source: opened.machine,
        guest: seen.guest.or_else(|| only(&seen.systems)),
        storage: seen.storage,
        systems: seen.systems,
        steps: Vec::new(),
        changes: Vec::new(),
        concerns: std::iter::once(blocker).chain(others).collect(),
        caps: None,
        boot_entries: Vec::new(),
        space: Vec::new(),
        disks,
    })
}

fn only(systems: &[GuestInfo]) -> Option<GuestInfo> {
    match systems {
        [one] => Some(one.clone()),
        _ => None,
    }
}

fn disk_bytes(disk: &dyn BlockSource) -> Result<DiskBytes> {
    Ok(DiskBytes {
        virtual_size: disk.virtual_size(),
        data_bytes: data_bytes(disk)?,
    })
}

/// The blocker that this error is, if it is the guest that stops the conversion.
fn blocker(error: &Error, job: &Conversion) -> Option<Concern> {
    let fix = || {
        let hint = error.hint()?;
        (job.unknown != Unknown::CopyAlways).then(|| hint.to_owned())
    };
    error.is_of_guest().then(|| Concern {
        severity: Severity::Blocker,
        what: error.to_string(),
        fix: fix(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_with_the_guest_is_a_blocker() {
        let locked = Error::Locked {
            volumes: "/dev/sda2 (LUKS)".into(),
        };
        let asleep = Error::Appliance(appliance::Error::Refused("hibernated".into()));
        for error in [&locked, &asleep] {
            assert!(error.is_of_guest());
        }
        let dead = Error::Appliance(appliance::Error::NoImage { tried: "x".into() });
        assert!(!dead.is_of_guest() && !Error::Cancelled.is_of_guest());
    }
}
