//! Describes what is on the disks and chooses the operating system to convert.

use types::{GuestInfo, OsType, StorageMap};

use super::launch::Running;
use crate::{Conversion, Error, Events, Result, RootChoice, Stage};

/// The chosen guest and the devices around it.
pub(crate) struct Inspected {
    pub(crate) guest: GuestInfo,
    pub(crate) storage: StorageMap,
}

pub(crate) fn run(
    job: &Conversion,
    running: &mut Running,
    events: &dyn Events,
) -> Result<Inspected> {
    events.stage(Stage::Inspect, "inspecting the guest");
    let disks = running.overlays.len();
    let (storage, guests) =
        running.ask(|appliance| appliance.inspect(disks, &job.keys, &|line| events.log(line)))?;
    let guest = choose(&job.root, guests, &storage, events)?;
    if guest.os != OsType::Linux {
        return Err(Error::UnsupportedGuest {
            root: guest.root,
            product: guest.product_name,
        });
    }
    events.log(&format!("guest: {} on {}", guest.product_name, guest.root));
    Ok(Inspected { guest, storage })
}

fn choose(
    choice: &RootChoice,
    mut guests: Vec<GuestInfo>,
    storage: &StorageMap,
    events: &dyn Events,
) -> Result<GuestInfo> {
    if guests.is_empty() {
        let disks: Vec<_> = storage
            .devices
            .iter()
            .filter(|device| matches!(device.kind, types::DeviceKind::Disk { .. }))
            .map(|device| device.name.as_str())
            .collect();
        return Err(Error::NoOperatingSystem {
            disks: disks.join(", "),
        });
    }
    let index = match choice {
        RootChoice::Device(wanted) => guests
            .iter()
            .position(|guest| guest.root == *wanted)
            .ok_or_else(|| Error::NoSuchRoot {
                wanted: wanted.clone(),
                found: list(&guests),
            })?,
        RootChoice::First => 0,
        _ if guests.len() == 1 => 0,
        RootChoice::Ask => events
            .choose_root(&guests)
            .filter(|index| *index < guests.len())
            .ok_or_else(|| Error::SeveralRoots {
                roots: list(&guests),
            })?,
        RootChoice::Single => {
            return Err(Error::SeveralRoots {
                roots: list(&guests),
            });
        }
    };
    Ok(guests.swap_remove(index))
}

fn list(guests: &[GuestInfo]) -> String {
    let items: Vec<_> = guests
        .iter()
        .map(|guest| format!("{} {}", guest.root, guest.product_name))
        .collect();
    items.join(", ")
}
