//! Describes what is on the disks and chooses the operating system to convert.

use types::{DeviceKind, GuestInfo, OsType};

use super::launch::Running;
use super::prepare::Seen;
use crate::{Conversion, Error, Events, Result, RootChoice, Stage, foreign};

/// Fills in what is on the disks.
pub(crate) fn survey(
    job: &Conversion,
    running: &mut Running,
    seen: &mut Seen,
    events: &dyn Events,
) -> Result<()> {
    events.stage(Stage::Inspect, "inspecting the guest");
    let disks = running.overlays.len();
    (seen.storage, seen.systems) =
        running.ask(|appliance| appliance.inspect(disks, &job.keys, &|line| events.log(line)))?;
    Ok(())
}

/// The system to convert; one that cannot be is the error.
pub(crate) fn choose(job: &Conversion, seen: &Seen, events: &dyn Events) -> Result<GuestInfo> {
    if seen.systems.is_empty() {
        return Err(nothing_found(seen));
    }
    let guest = pick(&job.root, &seen.systems, events)?.clone();
    if !matches!(guest.os, OsType::Linux | OsType::Windows) {
        return Err(Error::UnsupportedGuest {
            root: guest.root,
            product: guest.product_name,
        });
    }
    events.log(&format!("guest: {} on {}", guest.product_name, guest.root));
    Ok(guest)
}

fn nothing_found(seen: &Seen) -> Error {
    let names: Vec<_> = seen
        .storage
        .devices
        .iter()
        .filter(|device| matches!(device.kind, DeviceKind::Disk { .. }))
        .map(|device| device.name.as_str())
        .collect();
    let disks = names.join(", ");
    if let Some(system) = foreign::identify(&seen.storage) {
        return Error::UnsupportedGuest {
            root: disks,
            product: system.to_owned(),
        };
    }
    let locked: Vec<_> = foreign::locked(&seen.storage)
        .into_iter()
        .map(|(name, kind)| format!("{name} ({kind})"))
        .collect();
    if !locked.is_empty() {
        return Error::Locked {
            volumes: locked.join(", "),
        };
    }
    Error::NoOperatingSystem { disks }
}

fn pick<'g>(
    choice: &RootChoice,
    guests: &'g [GuestInfo],
    events: &dyn Events,
) -> Result<&'g GuestInfo> {
    let several = || Error::SeveralRoots {
        roots: list(guests),
    };
    match (choice, guests) {
        (RootChoice::Device(wanted), _) => {
            let found = guests.iter().find(|guest| guest.root == *wanted);
            found.ok_or_else(|| Error::NoSuchRoot {
                wanted: wanted.clone(),
                found: list(guests),
            })
        }
        (RootChoice::First, [first, ..]) | (_, [first]) => Ok(first),
        (RootChoice::Ask, _) => events
            .choose_root(guests)
            .and_then(|index| guests.get(index))
            .ok_or_else(several),
        _ => Err(several()),
    }
}

fn list(guests: &[GuestInfo]) -> String {
    let items: Vec<_> = guests
        .iter()
        .map(|guest| format!("{} {}", guest.root, guest.product_name))
        .collect();
    items.join(", ")
}
