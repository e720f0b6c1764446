//! Removes what the guest remembers of its old disks and would believe on the new ones.

use crate::Result;
use crate::linux::convert::Context;

/// LVM uses only the devices listed here, by the old disks' serial numbers and WWIDs (lvmdevices(8)); without the
/// file it looks at all (virt-v2v met this as RHBZ#2042280).
const LVM_DEVICES: &str = "/etc/lvm/devices/system.devices";
/// Caches of blkid (libblkid before 2.13) and LVM.
const CACHES: [&str; 6] = [
    "/etc/blkid/blkid.tab",
    "/etc/blkid.tab",
    "/etc/blkid.tab.old",
    "/etc/lvm/cache/.cache",
    "/etc/lvm/.cache",
    "/var/cache/blkid.tab",
];

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let recorder = &mut context.recorder;
    if context.root.is_file(LVM_DEVICES) {
        let why = "lists LVM's devices by the old disks' identifiers; kept under another name";
        recorder.rename(LVM_DEVICES, &format!("{LVM_DEVICES}.pre-v2v"), why)?;
    }
    for cache in CACHES {
        recorder.remove(cache, "a cache of the old disks' names")?;
    }
    for config in ["/etc/lvm/lvm.conf", "/etc/lvm/lvmlocal.conf"] {
        let text = context.root.text(config).unwrap_or_default();
        let filters = text.lines().map(str::trim).filter(|line| !line.starts_with('#') && line.contains("filter"));
        let named: Vec<&str> = filters.filter(|line| line.contains("/dev/sd") || line.contains("by-path")).collect();
        if let [first, ..] = named.as_slice() {
            recorder.warn(format!("{config} filters devices by their old names, LVM may not find its disks: {first}"));
        }
    }
    Ok(())
}
