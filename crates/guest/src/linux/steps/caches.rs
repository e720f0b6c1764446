//! Removes what the guest remembers of its old disks and would believe on the new ones.

use crate::Result;
use crate::linux::convert::Context;
use crate::linux::steps::leftovers::text::set_aside;

/// LVM uses only the devices listed here, by the old disks' serial numbers and WWIDs (lvmdevices(8)); without the
/// file it looks at all (virt-v2v met this as RHBZ#2042280).
const LVM_DEVICES: &str = "/etc/lvm/devices/system.devices";
/// Caches of blkid (libblkid before 2.13) and LVM, and locks of rpm's Berkeley DB, which belong to processes of the
/// old machine.
const CACHES: [&str; 12] = [
    "/etc/blkid/blkid.tab",
    "/etc/blkid/blkid.tab.old",
    "/etc/blkid.tab",
    "/etc/blkid.tab.old",
    "/etc/lvm/cache/.cache",
    "/etc/lvm/.cache",
    "/var/cache/blkid.tab",
    "/var/lib/rpm/__db.001",
    "/var/lib/rpm/__db.002",
    "/var/lib/rpm/__db.003",
    "/var/lib/rpm/__db.004",
    "/var/lib/rpm/__db.005",
];

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let recorder = &mut context.recorder;
    let why = "lists LVM's devices by the old disks' identifiers; kept under another name";
    set_aside(recorder, LVM_DEVICES, why)?;
    for cache in CACHES {
        recorder.remove(cache, "a cache of the old machine")?;
    }
    recorder.not_needed("there are no caches of the old machine's disks");
    Ok(())
}
