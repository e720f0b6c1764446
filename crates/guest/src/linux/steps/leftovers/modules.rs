//! Lists of modules to load, and modprobe.d(5): lines for hardware and tools of another hypervisor.

use crate::Result;
use crate::linux::convert::Context;
use crate::linux::steps::leftovers::text::drop_lines;
use crate::root::join;

/// Loaded by a list these fail, and with them the boot's module service. `-` and `_` are the same in a module's name.
const LOADED: [&str; 30] = [
    "vboxguest",
    "vboxsf",
    "vboxvideo",
    "vboxadd",
    "vboxvfs",
    "vmhgfs",
    "vmblock",
    "vmsync",
    "vmmemctl",
    "vmci",
    "vmxnet",
    "vmxnet3",
    "vmw_balloon",
    "vmw_pvscsi",
    "vmw_vmci",
    "vmw_vsock_vmci_transport",
    "vmwgfx",
    "vsock_vmci",
    "hv_vmbus",
    "hv_utils",
    "hv_netvsc",
    "hv_storvsc",
    "hv_balloon",
    "hyperv_fb",
    "xen_netfront",
    "xen_blkfront",
    "prl_tg",
    "prl_fs",
    "prl_eth",
    "ena",
];
/// Drivers that an alias or option may name besides.
const ALIASED: [&str; 7] = [
    "xennet", "xenblk", "xen_vnif", "xen_vbd", "pvscsi", "netvsc", "blkvsc",
];
const WHY: &str = "names a module for hardware of another hypervisor";

pub(super) fn apply(context: &mut Context<'_>) -> Result<()> {
    let root = context.root;
    let recorder = &mut context.recorder;
    let mut lists = vec!["/etc/modules".to_owned()];
    for dir in ["/etc/modules-load.d", "/etc/modules.d"] {
        lists.extend(root.names(dir).iter().map(|name| join(dir, name)));
    }
    for path in lists {
        drop_lines(recorder, &path, WHY, |line| {
            line.split_whitespace().next().is_some_and(is_loaded)
        })?;
    }
    for path in ["/etc/conf.d/modules", "/etc/rc.modules"] {
        let text = root.text(path).unwrap_or_default();
        let active = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'));
        let mut words = active.flat_map(|line| line.split(|c: char| !is_name(c)));
        if let Some(name) = words.find(|word| is_loaded(word)) {
            recorder.warn(format!(
                "{path} loads {name}, a module of another hypervisor; take it out"
            ));
        }
    }
    let mut files = vec![
        "/etc/modprobe.conf".to_owned(),
        "/etc/modules.conf".to_owned(),
    ];
    let names = root.names("/etc/modprobe.d");
    let read = |name: &&String| !name.contains(".pre-v2v") && !name.ends_with('~');
    files.extend(
        names
            .iter()
            .filter(read)
            .map(|name| join("/etc/modprobe.d", name)),
    );
    for path in files {
        drop_lines(recorder, &path, WHY, is_foreign)?;
    }
    Ok(())
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

fn is_loaded(name: &str) -> bool {
    LOADED.contains(&name.replace('-', "_").as_str())
}

/// `alias eth0 vmxnet3`, `options vmxnet …`, and `install pciehp …vmware…`. A blacklist harms nobody.
fn is_foreign(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let named = |name: &str| is_loaded(name) || ALIASED.contains(&name.replace('-', "_").as_str());
    match words.as_slice() {
        ["alias", _, module, ..] => named(module),
        ["options" | "install" | "softdep", module, rest @ ..] => {
            named(module) || rest.iter().any(|word| word.contains("/vmware-tools/"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_use_a_foreign_module_go() {
        for line in [
            "alias eth0 vmxnet3",
            "alias scsi_hostadapter xen-vbd",
            "options vmw_pvscsi cmd_per_lun=254",
            "install pciehp /usr/lib/vmware-tools/sbin/x",
        ] {
            assert!(is_foreign(line), "{line}");
        }
        for line in [
            "blacklist vmw_balloon",
            "alias eth0 e1000",
            "options e1000 x=1",
            "install usb-storage /bin/true",
            "alias",
        ] {
            assert!(!is_foreign(line), "{line}");
        }
    }
}
