//! From the opened source to disks that are ready to be copied: converted, or left as they are where the guest is not
//! converted (`--compat`, `--on-unknown=copy`).
//!
//! ```text
//!  launch ─> survey ─> choose ──┬─> convert ─> trim ──┬─> ready
//!              │          │     └─> (--compat) trim ──┤
//!              │          └─ unknown system ─> trim ──┤   where --on-unknown=copy or --compat
//!              └─ refused: hibernated, damaged ───────┘   with --compat only, on fresh overlays
//! ```

use std::path::Path;
use std::sync::Arc;

use image::Overlay;
use source::Opened;
use types::{
    Arch, BlockBus, CancelToken, Concern, ConvertOutcome, DeviceKind, GuestCaps, GuestInfo,
    MachineType, NetBus, OsType, StepOutcome, StepReport, StorageMap,
};

use super::check::Host;
use super::{convert, inspect, launch, trim};
use crate::report::Treatment;
use crate::{Conversion, Error, Events, Result, Trim, Unknown, foreign};

/// What was seen on the disks, however far it went.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) storage: StorageMap,
    pub(crate) systems: Vec<GuestInfo>,
    /// The one to convert.
    pub(crate) guest: Option<GuestInfo>,
}

/// What the copy and the report need.
pub(crate) struct Prepared {
    pub(crate) overlays: Vec<Arc<Overlay>>,
    pub(crate) guest: GuestInfo,
    pub(crate) outcome: ConvertOutcome,
    pub(crate) treatment: Treatment,
}

pub(crate) fn run(
    job: &Conversion,
    host: &Host,
    opened: &Opened,
    scratch: &Path,
    seen: &mut Seen,
    events: &dyn Events,
    cancel: &CancelToken,
) -> Result<Prepared> {
    if job.unknown == Unknown::CopyAlways && job.trim == Trim::Nothing {
        // Nothing to look for.
        return untouched(job, opened, scratch, seen, None, events);
    }
    let mut running = launch::run(job, host, &opened.disks, scratch, events, cancel)?;
    let chosen = inspect::survey(job, &mut running, seen, events)
        .and_then(|()| inspect::choose(job, seen, events));
    match chosen {
        Ok(guest) if job.unknown != Unknown::CopyAlways => {
            let guest = with_concerns(guest, &seen.storage, events);
            seen.guest = Some(guest.clone());
            let outcome = convert::run(job, &mut running, &guest, &opened.machine, events)?;
            Ok(Prepared {
                overlays: trim::run(job, running, &guest.root, events)?,
                guest,
                outcome,
                treatment: Treatment::Converted,
            })
        }
        Ok(guest) => {
            let guest = with_concerns(guest, &seen.storage, events);
            seen.guest = Some(guest.clone());
            let overlays = trim::run(job, running, &guest.root, events)?;
            copied(job, opened, overlays, guest, &seen.storage, None, events)
        }
        Err(reason) if is_copied(job.unknown, &reason) => match &reason {
            // What it was refused for may be that its disks are in use by a sleeping system, or broken: whatever the
            // appliance has written on the way is thrown away.
            Error::Appliance(_) => {
                drop(running);
                untouched(job, opened, scratch, seen, Some(&reason), events)
            }
            _ => {
                let guest = with_concerns(unknown_guest(seen), &seen.storage, events);
                let overlays = trim::run(job, running, &guest.root, events)?;
                seen.guest = Some(guest.clone());
                copied(
                    job,
                    opened,
                    overlays,
                    guest,
                    &seen.storage,
                    Some(&reason),
                    events,
                )
            }
        },
        Err(error) => Err(error),
    }
}

/// Whether a guest that was refused for this reason is copied.
fn is_copied(unknown: Unknown, reason: &Error) -> bool {
    match reason {
        Error::NoOperatingSystem { .. } | Error::UnsupportedGuest { .. } => {
            unknown != Unknown::Refuse
        }
        Error::SeveralRoots { .. }
        | Error::Locked { .. }
        | Error::Appliance(appliance::Error::Refused(_)) => unknown == Unknown::CopyAlways,
        _ => false,
    }
}

fn untouched(
    job: &Conversion,
    opened: &Opened,
    scratch: &Path,
    seen: &mut Seen,
    reason: Option<&Error>,
    events: &dyn Events,
) -> Result<Prepared> {
    let mut overlays = Vec::new();
    for disk in &opened.disks {
        overlays.push(Arc::new(Overlay::new(Arc::clone(disk), scratch)?));
    }
    let guest = unknown_guest(seen);
    seen.guest = Some(guest.clone());
    copied(job, opened, overlays, guest, &seen.storage, reason, events)
}

fn copied(
    job: &Conversion,
    opened: &Opened,
    overlays: Vec<Arc<Overlay>>,
    guest: GuestInfo,
    storage: &StorageMap,
    reason: Option<&Error>,
    events: &dyn Events,
) -> Result<Prepared> {
    let why = match (reason, job.unknown) {
        (Some(reason), Unknown::Copy) => format!("--on-unknown=copy: {reason}"),
        (Some(reason), _) => format!("--compat: {reason}"),
        (None, _) => "--compat".to_owned(),
    };
    let mut warnings = vec![format!(
        "nothing was changed in the guest ({why}): it gets SATA disks and e1000e adapters, and whatever it has \
         configured by the old machine's devices is for its administrator to change"
    )];
    if !job.customise.is_empty() || job.qemu_ga.is_some() || !job.static_ips.is_empty() {
        warnings.push(
            "what was to be set in the guest (addresses, agent, customisation) was not: its disks are copied only"
                .to_owned(),
        );
    }
    for warning in &warnings {
        events.warning(warning);
    }
    Ok(Prepared {
        overlays,
        treatment: Treatment::Copied,
        outcome: ConvertOutcome {
            caps: plain_caps(&guest, opened, storage),
            changes: Vec::new(),
            warnings,
            steps: vec![StepReport {
                name: "convert".into(),
                outcome: StepOutcome::Skipped,
                reason: why,
            }],
            boot_entries: Vec::new(),
            space: Vec::new(),
        },
        guest,
    })
}

/// Devices that every system of the last twenty years drives by itself.
fn plain_caps(guest: &GuestInfo, opened: &Opened, storage: &StorageMap) -> GuestCaps {
    let arch = match guest.arch {
        Arch::Other => Arch::X86_64,
        known => known,
    };
    let by_disks = foreign::is_for_uefi(storage).then_some(types::Firmware::Uefi);
    GuestCaps {
        block_bus: BlockBus::Sata,
        net_bus: NetBus::E1000e,
        virtio_rng: false,
        virtio_balloon: false,
        virtio_serial: false,
        pvpanic: false,
        machine: match arch {
            Arch::X86_64 | Arch::I686 => MachineType::Q35,
            _ => MachineType::Virt,
        },
        arch,
        rtc_utc: guest.os != OsType::Windows,
        boot_disk: None,
        firmware: opened.machine.firmware.or(by_disks),
    }
}

/// What can be said of a guest that was not inspected: the system found, or the name that its partitions tell.
fn unknown_guest(seen: &Seen) -> GuestInfo {
    if let [one] = seen.systems.as_slice() {
        return one.clone();
    }
    let disk = seen
        .storage
        .devices
        .iter()
        .find(|device| matches!(device.kind, DeviceKind::Disk { .. }));
    GuestInfo {
        root: disk.map_or_else(|| "/dev/sda".to_owned(), |disk| disk.name.clone()),
        distro: "unknown".into(),
        product_name: foreign::identify(&seen.storage)
            .unwrap_or("unknown system")
            .to_owned(),
        ..GuestInfo::default()
    }
}

/// Adds what the disks tell, and says what should be heeded.
fn with_concerns(mut guest: GuestInfo, storage: &StorageMap, events: &dyn Events) -> GuestInfo {
    guest.concerns.extend(foreign::concerns(storage));
    guest
        .concerns
        .sort_by_key(|concern| std::cmp::Reverse(concern.severity));
    for concern in &guest.concerns {
        match concern.severity {
            types::Severity::Info => events.log(&sentence(concern)),
            _ => events.warning(&sentence(concern)),
        }
    }
    guest
}

/// A concern on one line.
fn sentence(concern: &Concern) -> String {
    match &concern.fix {
        Some(fix) => format!("{}; {fix}", concern.what),
        None => concern.what.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeping_guest_is_copied_by_compat_only() {
        let asleep = Error::Appliance(appliance::Error::Refused("hibernated".into()));
        let foreign = Error::UnsupportedGuest {
            root: "/dev/sda1".into(),
            product: "FreeBSD".into(),
        };
        for (unknown, sleeping, unsupported) in [
            (Unknown::Refuse, false, false),
            (Unknown::Copy, false, true),
            (Unknown::CopyAlways, true, true),
        ] {
            assert_eq!(is_copied(unknown, &asleep), sleeping);
            assert_eq!(is_copied(unknown, &foreign), unsupported);
            assert!(!is_copied(unknown, &Error::Cancelled));
        }
    }
}
