//! What the converted guest can drive.

use types::{Arch, BlockBus, DeviceKind, Firmware, GuestCaps, MachineType, NetBus};

use crate::linux::convert::Context;
use crate::linux::initrd::compress::read_module;
use crate::linux::kernels::major_minor;
use crate::linux::mounts::{disk_of, mount_of};

/// GPT type of the partition into which GRUB puts its core image for BIOS (GRUB manual 2.06, section 3.4).
const BIOS_BOOT_TYPE: &str = "21686148-6449-6e6f-744e-656564454649";
/// Virtio 1.0 is in Linux since 4.0; a PCI Express slot of q35 offers a virtio device in that form only.
const VIRTIO_1_SINCE: (u64, u64) = (4, 0);

pub(crate) fn caps(context: &mut Context<'_>) -> GuestCaps {
    let default = context.guest.kernels.first().map(|kernel| kernel.version.clone()).unwrap_or_default();
    let has = |name: &str| context.modules.get(&default).is_some_and(|modules| modules.has(name));
    let ready = |kver: &str| context.initramfs.iter().any(|plan| plan.kver == kver && plan.ready);
    let (virtio_rng, virtio_balloon) = (has("virtio_rng"), has("virtio_balloon"));
    let (virtio_serial, pvpanic) = (has("virtio_console"), has("pvpanic"));
    let virtio_net = has("virtio_net") && has("virtio_pci");
    let (block_ready, modern) = (ready(&default), is_modern(context, &default));
    let not_ready: Vec<String> = context
        .guest
        .kernels
        .iter()
        .filter(|kernel| kernel.version != default && !ready(&kernel.version))
        .map(|kernel| kernel.version.clone())
        .collect();
    let machine = machine(context.guest.arch, modern);
    let block_bus = match (block_ready, machine) {
        (true, _) => BlockBus::VirtioBlk,
        (false, MachineType::I440fx) => BlockBus::Ide,
        (false, _) => BlockBus::Sata,
    };
    if !block_ready {
        let default = if default.is_empty() { "no kernel found".into() } else { format!("kernel {default}") };
        context.recorder.warn(format!("the guest cannot start from virtio disks ({default}): its disks will be {block_bus:?}"));
    } else if !not_ready.is_empty() {
        let list = not_ready.join(", ");
        context.recorder.warn(format!("these older kernels cannot start from virtio disks: {list}"));
    }
    let net_bus = match (virtio_net, machine) {
        (true, _) => NetBus::Virtio,
        (false, MachineType::I440fx) if !has("e1000") => NetBus::Rtl8139,
        (false, MachineType::I440fx) => NetBus::E1000,
        (false, _) => NetBus::E1000e,
    };
    if !virtio_net && !default.is_empty() {
        context.recorder.warn(format!("kernel {default} has no virtio_net: the adapters will be {net_bus:?}"));
    }
    GuestCaps {
        block_bus,
        net_bus,
        virtio_rng,
        virtio_balloon,
        virtio_serial,
        pvpanic,
        machine,
        arch: context.guest.arch,
        rtc_utc: rtc_utc(context),
        boot_disk: boot_disk(context),
        firmware: firmware(context),
    }
}

fn machine(arch: Arch, modern: bool) -> MachineType {
    match arch {
        Arch::X86_64 | Arch::I686 if modern => MachineType::Q35,
        Arch::X86_64 | Arch::I686 => MachineType::I440fx,
        _ => MachineType::Virt,
    }
}

/// True when the kernel drives virtio 1.0. Red Hat brought it to 3.10, so an older kernel's module is asked: its modern
/// half is a file `virtio_pci_modern.c`, whose symbols carry that name.
fn is_modern(context: &Context<'_>, kver: &str) -> bool {
    if kver.is_empty() || major_minor(kver) >= VIRTIO_1_SINCE {
        return true;
    }
    let path = context.modules.get(kver).and_then(|modules| modules.path("virtio_pci"));
    let content = path.and_then(|path| read_module(context.root, &path).ok()).unwrap_or_default();
    let needle = b"virtio_pci_modern";
    content.windows(needle.len()).any(|window| window == needle)
}

/// Third line of adjtime(5), or Debian's older UTC=no.
fn rtc_utc(context: &Context<'_>) -> bool {
    let adjtime = context.root.text("/etc/adjtime").unwrap_or_default();
    let rcs = context.root.text("/etc/default/rcS").unwrap_or_default();
    let local = adjtime.lines().nth(2).is_some_and(|line| line.trim() == "LOCAL");
    !local && !rcs.lines().any(|line| line.trim() == "UTC=no")
}

/// The disk whose boot loader the firmware starts: that of the ESP, else of /boot, else of the root, else the one
/// that looks it.
fn boot_disk(context: &Context<'_>) -> Option<u32> {
    let storage = context.devices.storage();
    let mounts = &context.guest.mountpoints;
    let esp = context.esp();
    let by_mount = [esp.as_deref(), Some("/boot"), Some("/")]
        .into_iter()
        .flatten()
        .filter_map(|path| mount_of(mounts, path))
        .find_map(|mount| disk_of(storage, &mount.device));
    let of = |device: &types::BlockDevice| match device.kind {
        DeviceKind::Partition { disk, .. } | DeviceKind::Disk { disk, .. } => Some(disk),
        _ => None,
    };
    let bios_boot = storage
        .devices
        .iter()
        .find(|device| device.parttype.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case(BIOS_BOOT_TYPE)));
    // /boot on LVM or md: what carries it.
    let carriers = ["LVM2_member", "linux_raid_member", "crypto_LUKS"];
    let carrier = || storage.devices.iter().find(|device| carriers.contains(&device.content.as_str()));
    by_mount.or_else(|| bios_boot.and_then(of)).or_else(|| carrier().and_then(of))
}

/// By the boot loaders; `None` when the guest is made for both, so that the source's word counts.
fn firmware(context: &Context<'_>) -> Option<Firmware> {
    let has = |suffix: &str| context.guest.boot_loaders.iter().any(|loader| loader.kind.ends_with(suffix));
    let uefi = has("-efi") || has("systemd-boot");
    let bios = has("-bios") || has("grub-legacy") || has("extlinux");
    match (uefi, bios) {
        (true, false) => Some(Firmware::Uefi),
        (false, true) => Some(Firmware::Bios),
        _ => None,
    }
}
