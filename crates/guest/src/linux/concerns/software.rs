//! Kernels, drivers, and software that knows the machine it runs on.

use types::Arch;

use crate::linux::kernels::major_minor;
use crate::root::{Kind, join};

use super::{Found, Look};
use crate::words::list;

/// More kernels than this fill /boot and make the conversion longer.
const KERNELS_MANY: usize = 5;
/// Folders of /lib/modules/KVER for modules that did not come with the kernel (depmod.d(5), `search`).
const THIRD_PARTY: [&str; 4] = ["extra", "updates", "weak-updates", "misc"];
/// Folders and files of a tree that are looked at.
const TREE_MAX: usize = 4096;
/// Virtio 1.0 is in Linux since 4.0, and Red Hat's 3.10 has it too.
const VIRTIO_1_SINCE: (u64, u64) = (3, 10);

/// Modules that did not come with the kernel: drivers of the old machine's devices, or of its disks.
pub(super) fn modules(look: &Look<'_>, found: &mut Found) {
    let Some(kernel) = look.guest.kernels.first() else {
        return;
    };
    let mut names = Vec::new();
    let mut left = TREE_MAX;
    for folder in THIRD_PARTY {
        let dir = format!("/lib/modules/{}/{folder}", kernel.version);
        walk(look, &dir, 0, &mut left, &mut names);
    }
    names.sort();
    names.dedup();
    if names.is_empty() {
        return;
    }
    let dkms = !look.root.names("/var/lib/dkms").is_empty();
    found.info(
        format!("kernel modules of third parties are installed{}: {}", if dkms { " (DKMS)" } else { "" }, list(&names)),
        Some("those that drive the old machine's hardware have nothing to do any more; remove them in the new machine"),
    );
}

fn walk(look: &Look<'_>, dir: &str, depth: usize, left: &mut usize, names: &mut Vec<String>) {
    for entry in look.root.list(dir).unwrap_or_default() {
        if *left == 0 || depth > 4 {
            return;
        }
        *left -= 1;
        match entry.kind {
            Kind::Dir => walk(look, &join(dir, &entry.name), depth + 1, left, names),
            _ => names.extend(
                entry
                    .name
                    .split_once(".ko")
                    .map(|(name, _)| name.to_owned()),
            ),
        }
    }
}

/// Many kernels, none, or one that is too old for what new machines are made of.
pub(super) fn kernels(look: &Look<'_>, found: &mut Found) {
    let kernels = &look.guest.kernels;
    if kernels.len() > KERNELS_MANY {
        found.info(
            format!(
                "{} kernels are installed; each one's initramfs gets virtio",
                kernels.len()
            ),
            Some("remove those that are not started any more"),
        );
    }
    let Some(default) = kernels.first() else {
        found.warning(
            "no kernel was found: this may be a container's file system, or the kernel comes from elsewhere",
            Some("if the machine starts from another disk or by PXE, give that disk as source, too"),
        );
        return;
    };
    if !default.has_virtio_blk && !default.has_virtio_scsi {
        found.warning(
            format!(
                "kernel {} has no virtio drivers: the disks will be emulated, which is slower",
                default.version
            ),
            Some("install a kernel of this distribution with virtio before the conversion"),
        );
    }
    let x86 = matches!(look.guest.arch, Arch::X86_64 | Arch::I686);
    if x86 && default.has_virtio_blk && major_minor(&default.version) < VIRTIO_1_SINCE {
        found.info(
            format!(
                "kernel {} is older than virtio 1.0: the machine gets the old chipset (pc, i440fx)",
                default.version
            ),
            None,
        );
    }
}

/// Where the guest cannot rebuild its initramfs by a way known here, an update may lose virtio.
pub(super) fn initramfs(look: &Look<'_>, found: &mut Found) {
    let has_one = look
        .guest
        .kernels
        .iter()
        .any(|kernel| kernel.initrd.is_some());
    if has_one && look.guest.initramfs_generator.is_empty() {
        found.warning(
            "what builds the initramfs is unknown: the present ones get virtio, but it cannot be configured for later ones",
            Some("after a kernel update, see to it that the new initramfs has virtio_blk, virtio_scsi, virtio_pci and virtio_net"),
        );
    }
}

/// `virsh console` needs a getty and kernel messages on a serial port.
pub(super) fn console(look: &Look<'_>, found: &mut Found) {
    let serial = look.kargs.iter().any(|karg| {
        ["console=ttyS", "console=ttyAMA", "console=hvc"]
            .iter()
            .any(|start| karg.starts_with(start))
    });
    if !serial {
        found.info(
            "no serial console is configured: `virsh console` shows nothing",
            Some("add console=tty0 console=ttyS0 to the kernel's arguments"),
        );
    }
}

/// A cluster fences its nodes through the old hypervisor and by disks that all of them see.
pub(super) fn cluster(look: &Look<'_>, found: &mut Found) {
    let pacemaker = look.any_file(&[
        "/etc/corosync/corosync.conf",
        "/etc/cluster/cluster.conf",
        "/var/lib/pacemaker/cib/cib.xml",
    ]);
    let sbd = ["/etc/sysconfig/sbd", "/etc/default/sbd"]
        .iter()
        .filter_map(|file| look.root.text(file))
        .any(|text| {
            text.lines().any(|line| {
                line.trim()
                    .strip_prefix("SBD_DEVICE=")
                    .is_some_and(|value| !value.trim_matches('"').is_empty())
            })
        });
    if pacemaker || sbd {
        let what = if sbd {
            "a cluster node (Pacemaker, with SBD on a shared disk)"
        } else {
            "a cluster node (Corosync, Pacemaker)"
        };
        found.warning(
            format!("this is {what}: fencing through the old hypervisor and shared disks do not come along"),
            Some("put the cluster into maintenance mode, and configure fencing for the new host (fence_virt, fence_xvm) before the node joins"),
        );
    }
}

/// Licences that are bound to the machine.
pub(super) fn licences(look: &Look<'_>, found: &mut Found) {
    let mut what = Vec::new();
    if look.any_file(&[
        "/usr/local/flexlm/lmgrd",
        "/opt/flexlm/lmgrd",
        "/usr/bin/lmgrd",
        "/usr/local/bin/lmgrd",
        "/opt/flexnet/lmgrd",
    ]) || [
        "/usr/local/flexlm",
        "/opt/flexlm",
        "/usr/local/share/macrovision",
        "/opt/FNPLicensingService",
        "/usr/tmp/.flexlm",
        "/var/tmp/.flexlm",
    ]
    .iter()
    .any(|dir| look.root.is_dir(dir))
    {
        what.push("FlexLM".to_owned());
    }
    if look.any_file(&["/etc/hostid"]) {
        what.push("a fixed host id (/etc/hostid)".to_owned());
    }
    if look.any_file(&["/opt/rlm/rlm", "/usr/local/rlm/rlm"]) {
        what.push("RLM".to_owned());
    }
    if look.any_file(&["/usr/sbin/hasplmd", "/usr/sbin/hasplmd_x86_64"]) {
        what.push("Sentinel HASP (perhaps with a USB key)".to_owned());
    }
    if look.any_file(&["/usr/sbin/aksusbd", "/usr/sbin/aksusbd_x86_64"]) {
        what.push("a USB licence key (aksusbd)".to_owned());
    }
    if !what.is_empty() {
        found.info(
            format!("software with licences that may be bound to the machine: {}", list(&what)),
            Some("MAC addresses stay as they are; --keep-uuid and --keep-smbios carry UUID and serial numbers over"),
        );
    }
}

/// A guest whose clock was kept by the old hypervisor's tools drifts.
pub(super) fn time(look: &Look<'_>, found: &mut Found) {
    let services = [
        "chronyd",
        "chrony",
        "ntpd",
        "ntp",
        "ntpsec",
        "openntpd",
        "systemd-timesyncd",
        "busybox-ntpd",
        "sntp",
    ];
    if !look.starts(&services) {
        found.info(
            "nothing keeps the time: the old hypervisor's tools may have done it",
            Some("switch on chrony or systemd-timesyncd in the new machine"),
        );
    }
}

/// Devices of the old machine that were handed through.
pub(super) fn passthrough(look: &Look<'_>, found: &mut Found) {
    let mut what = Vec::new();
    if look.any_file(&[
        "/usr/bin/nvidia-smi",
        "/etc/modprobe.d/nvidia.conf",
        "/etc/vulkan/icd.d/nvidia_icd.json",
    ]) {
        what.push("NVIDIA graphics".to_owned());
    }
    if look.any_file(&["/opt/rocm/bin/rocminfo", "/usr/bin/rocminfo"]) {
        what.push("AMD ROCm".to_owned());
    }
    if look.any_file(&["/etc/modprobe.d/mlx5.conf", "/usr/bin/ofed_info"]) {
        what.push("Mellanox OFED".to_owned());
    }
    if !what.is_empty() {
        found.info(
            format!(
                "drivers of hardware that the old machine may have handed through: {}",
                list(&what)
            ),
            Some("hand it through in the domain, too (hostdev), if the guest needs it"),
        );
    }
}

/// Virtual machines inside.
pub(super) fn nested(look: &Look<'_>, found: &mut Found) {
    let domains = look
        .root
        .names("/etc/libvirt/qemu")
        .iter()
        .any(|name| name.ends_with(".xml"));
    if domains
        || look.any_file(&[
            "/etc/vmware/bootstrap",
            "/etc/pve/.version",
            "/usr/bin/pveversion",
        ])
    {
        found.info(
            "virtual machines run inside of this guest",
            Some("the new host must offer nested virtualisation (kvm_intel.nested=1 or kvm_amd.nested=1, CPU mode host-passthrough)"),
        );
    }
}
