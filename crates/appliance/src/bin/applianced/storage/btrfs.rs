//! btrfs on several devices: the kernel is told of all of them, and the file system is looked at once.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::{Storage, blkid};
use crate::tool::Tool;

const BTRFS: &str = "/usr/bin/btrfs";

/// Makes the kernel know the devices of each file system that has more than one, and hides all but the first.
pub(super) fn gather(storage: &mut Storage) -> Result<()> {
    let mut systems: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for device in &storage.map().devices {
        if device.content != "btrfs" {
            continue;
        }
        if let (Some(uuid), Some(kname)) = (&device.uuid, storage.node(&device.name)?.file_name()) {
            let kname = kname.to_string_lossy().into_owned();
            let parts = systems.entry(uuid.clone()).or_default();
            parts.push((device.name.clone(), kname));
        }
    }
    for parts in systems.values().filter(|parts| parts.len() > 1) {
        let probes = blkid::probe(parts.iter().map(|(_, kname)| kname.as_str()))?;
        let (mut seen, mut nodes) = (BTreeSet::new(), Vec::new());
        for (name, kname) in parts {
            let sub = probes.get(kname).and_then(|probe| probe.uuid_sub.clone());
            if seen.insert(sub) {
                nodes.push(format!("/dev/{kname}"));
            } else {
                // The kernel would take the copy for the disk itself that has moved.
                storage.warn(
                    format!("{name} is a copy of another disk's btrfs (same UUIDs); it is not looked into"),
                    Some("convert the copy by itself".to_owned()),
                );
            }
        }
        for (name, _) in parts.iter().skip(1) {
            storage.hide(name);
        }
        if nodes.len() > 1 {
            let outcome = Tool::new(BTRFS)
                .args(["device", "scan"])
                .args(nodes)
                .run()?;
            outcome.success()?;
        }
    }
    Ok(())
}
