//! kdump's own initramfs: host-only for the old hardware, so that it is made again at the next boot.

use crate::Result;
use crate::linux::convert::Context;
use crate::root::{Kind, join};

/// What makes it: RHEL's and SUSE's services look for the file at each start.
const MAKERS: [&str; 5] = [
    "/usr/bin/kdumpctl",
    "/usr/sbin/kdumpctl",
    "/sbin/mkdumprd",
    "/usr/sbin/mkdumprd",
    "/usr/lib/kdump/load.sh",
];

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let root = context.root;
    if !MAKERS.iter().any(|path| root.is_file(path)) {
        let reason = "no kdump that makes its own initramfs";
        context.recorder.not_needed(reason);
        return Ok(());
    }
    for dir in ["/boot", "/var/lib/kdump"] {
        for entry in root.list(dir)? {
            if entry.kind == Kind::File && is_kdump(&entry.name) {
                let why = "drives the old machine's disks only; kdump makes it again at its start";
                context.recorder.remove(&join(dir, &entry.name), why)?;
            }
        }
    }
    context
        .recorder
        .not_needed("kdump has not made its initramfs yet");
    Ok(())
}

/// `initramfs-KVERkdump.img` (RHEL), `initrd-KVER-kdump` (SUSE).
fn is_kdump(name: &str) -> bool {
    let stem = name.strip_suffix(".img").unwrap_or(name);
    (stem.starts_with("initramfs-") || stem.starts_with("initrd-")) && stem.ends_with("kdump")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kdumps_own_files_are_meant() {
        assert!(is_kdump("initramfs-5.14.0-427.el9.x86_64kdump.img"));
        assert!(is_kdump("initrd-6.4.0-150600.21-default-kdump"));
        for name in [
            "initramfs-5.14.0.img",
            "vmlinuz-kdump",
            "initrd-5.3-kdump.bak",
        ] {
            assert!(!is_kdump(name), "{name}");
        }
    }
}
