//! Which block devices are one disk: arrays of the machine's firmware, multipath maps, several paths without a map; and
//! what of the others is left out.
//!
//! Linux software arrays are sent as their members: the guest assembles them, as it always did. That also holds where
//! all members are whole disks without partitions: sending md0 itself would give the guest one disk with a file system,
//! but its boot loader and mdadm.conf know the members. Such an array is shown, left out, and sent if asked for by name.

use std::collections::BTreeMap;

use wire::inventory::DiskKind;

use super::block::{BlockDevice, Family, Slave};
use super::identity::Identity;

/// What a device is to the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) kind: DiskKind,
    /// Disks that it is made of.
    pub(crate) members: Vec<String>,
    /// Why it is not chosen; empty where it is.
    pub(crate) left_out: String,
}

/// The roles of all devices by name; a device without one is no disk.
pub(crate) fn roles(
    devices: &[BlockDevice],
    identities: &BTreeMap<String, Identity>,
) -> BTreeMap<String, Role> {
    let mut roles: BTreeMap<String, Role> = devices
        .iter()
        .filter_map(|device| Some((device.name.clone(), role(device)?)))
        .collect();
    let composed: Vec<(String, Role)> = roles
        .iter()
        .filter(|(_, role)| matches!(role.kind, DiskKind::FirmwareRaid | DiskKind::Multipath))
        .map(|(name, role)| (name.clone(), role.clone()))
        .collect();
    for (name, whole) in composed {
        let reason = match whole.kind {
            DiskKind::Multipath => format!("path of the multipath disk {name}"),
            _ => format!("member of the firmware array {name}"),
        };
        let spares = containers(devices, &name);
        for member in whole.members.iter().chain(&spares) {
            if let Some(role) = roles
                .get_mut(member)
                .filter(|role| role.left_out.is_empty())
            {
                role.left_out.clone_from(&reason);
            }
        }
    }
    same_disk_twice(devices, identities, &mut roles);
    roles
}

fn role(device: &BlockDevice) -> Option<Role> {
    let members = disks_of(&device.slaves);
    let composed = |kind| {
        Some(Role {
            kind,
            members: members.clone(),
            left_out: String::new(),
        })
    };
    match device.family {
        Family::Md if device.len == 0 => None,
        Family::Md if container_of(device).is_some() => composed(DiskKind::FirmwareRaid),
        Family::Md => {
            let is_whole =
                !device.slaves.is_empty() && device.slaves.iter().all(|slave| !slave.is_partition);
            let array = composed(DiskKind::Plain).filter(|_| is_whole && !is_container(device))?;
            let list = members.join(", ");
            Some(Role {
                left_out: format!("a software array: its members {list} are sent instead"),
                ..array
            })
        }
        Family::Dm => {
            let uuid = device.text("dm/uuid").unwrap_or_default();
            if uuid.starts_with("mpath-") {
                composed(DiskKind::Multipath)
            } else if uuid.starts_with("DMRAID-") && !is_partition_map(device) {
                composed(DiskKind::FirmwareRaid)
            } else {
                // LVM, crypt, partitions of maps: inside the disks that are sent.
                None
            }
        }
        _ => Some(Role {
            kind: DiskKind::Plain,
            members: Vec::new(),
            left_out: String::new(),
        }),
    }
}

/// Partitions that dmraid maps lie on the map of their array.
fn is_partition_map(device: &BlockDevice) -> bool {
    device
        .slaves
        .iter()
        .any(|slave| slave.disk.starts_with("dm-"))
}

/// `external:imsm`, `external:ddf`: a container, which holds disks but no data.
fn is_container(device: &BlockDevice) -> bool {
    let version = device.text("md/metadata_version").unwrap_or_default();
    version
        .strip_prefix("external:")
        .is_some_and(|rest| !rest.starts_with(['/', '-']))
}

/// `external:/md127/0`: a volume in the container md127; `-` instead of `/` while it is only read.
fn container_of(device: &BlockDevice) -> Option<String> {
    let version = device.text("md/metadata_version")?;
    let rest = version.strip_prefix("external:")?;
    let rest = rest.strip_prefix(['/', '-'])?;
    Some(rest.split('/').next()?.to_owned())
}

/// Disks of the container that an array lies in: spares belong to it, too.
fn containers(devices: &[BlockDevice], array: &str) -> Vec<String> {
    let find = |name: &str| devices.iter().find(|device| device.name == name);
    find(array)
        .and_then(container_of)
        .and_then(|container| find(&container))
        .map(|container| disks_of(&container.slaves))
        .unwrap_or_default()
}

fn disks_of(slaves: &[Slave]) -> Vec<String> {
    let mut disks: Vec<String> = Vec::new();
    for slave in slaves {
        if !disks.contains(&slave.disk) {
            disks.push(slave.disk.clone());
        }
    }
    disks
}

/// Without multipathd the paths of one disk are devices of their own with one world wide id. Cheap sticks and card
/// readers share ids, so that model, serial number and size have to be the same as well, and USB never counts.
fn same_disk_twice(
    devices: &[BlockDevice],
    identities: &BTreeMap<String, Identity>,
    roles: &mut BTreeMap<String, Role>,
) {
    let mut groups: BTreeMap<(&str, &str, &str, u64), Vec<&BlockDevice>> = BTreeMap::new();
    for device in devices {
        let is_free = roles
            .get(&device.name)
            .is_some_and(|role| role.kind == DiskKind::Plain && role.left_out.is_empty());
        let Some(id) = identities.get(&device.name).filter(|_| is_free) else {
            continue;
        };
        let may = matches!(device.family, Family::Scsi | Family::Nvme)
            && !id.wwid.is_empty()
            && !id.serial.is_empty()
            && id.bus != wire::inventory::Bus::Usb;
        if may {
            let key = (&*id.wwid, &*id.model, &*id.serial, device.len);
            groups.entry(key).or_default().push(device);
        }
    }
    for mut paths in groups.into_values().filter(|paths| paths.len() > 1) {
        paths.sort_by_key(|device| (!is_usable(device), device.order()));
        let names: Vec<String> = paths.iter().map(|device| device.name.clone()).collect();
        let Some((best, others)) = names.split_first() else {
            continue;
        };
        for other in others {
            if let Some(role) = roles.get_mut(other) {
                role.left_out = format!("another path to {best}");
            }
        }
        if let Some(role) = roles.get_mut(best) {
            role.kind = DiskKind::Multipath;
            role.members = names.clone();
        }
    }
}

/// A path that answers: running, and not the standby half of an array (ALUA).
fn is_usable(device: &BlockDevice) -> bool {
    let state = device.text("device/state");
    let access = device.text("device/access_state");
    !matches!(
        state.as_deref(),
        Some("offline" | "blocked" | "transport-offline")
    ) && !matches!(
        access.as_deref(),
        Some("standby" | "unavailable" | "offline")
    )
}
