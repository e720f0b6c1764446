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

/// The step that makes another kernel the default one.
const DEFAULT_KERNEL_STEP: &str = "default-kernel";

/// Buses from which a kernel can start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drives {
    pub(crate) blk: bool,
    pub(crate) scsi: bool,
}

impl Drives {
    /// True for a bus that it drives; SATA and IDE are what the guest had, or close to it.
    pub(crate) fn on(self, bus: BlockBus) -> bool {
        match bus {
            BlockBus::VirtioBlk => self.blk,
            BlockBus::VirtioScsi => self.scsi,
            BlockBus::Sata | BlockBus::Ide => true,
        }
    }

    /// The wanted bus if it is driven, the other virtio bus otherwise.
    fn choose(self, wanted: BlockBus) -> Option<BlockBus> {
        let other = match wanted {
            BlockBus::VirtioBlk => BlockBus::VirtioScsi,
            _ => BlockBus::VirtioBlk,
        };
        [wanted, other].into_iter().find(|bus| self.on(*bus))
    }
}

/// The bus that the disks will be on, and the kernel that is to start from it.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) bus: BlockBus,
    kver: String,
    warning: Option<String>,
}

impl Choice {
    /// Writes it down for the steps.
    pub(crate) fn take(self, context: &mut Context<'_>) {
        context.block_bus = self.bus;
        context.start_kernel = self.kver;
        context.disk_prefix = match self.bus {
            BlockBus::VirtioBlk => "vd",
            _ => "sd",
        };
        if let Some(warning) = self.warning {
            context.recorder.warn(warning);
        }
    }
}

/// Chooses by what the default kernel drives; where it drives no virtio and another kernel does, by that one, which then
/// has to become the default.
pub(crate) fn choose_bus(context: &Context<'_>, drives: impl Fn(&str) -> Drives) -> Choice {
    let wanted = context.options.block_driver.unwrap_or(BlockBus::VirtioBlk);
    let first = context.guest.kernels.first();
    let first = first.map_or(String::new(), |kernel| kernel.version.clone());
    if matches!(wanted, BlockBus::Sata | BlockBus::Ide) {
        return Choice {
            bus: wanted,
            kver: first,
            warning: None,
        };
    }
    for kernel in &context.guest.kernels {
        let kver = kernel.version.clone();
        let Some(bus) = drives(&kver).choose(wanted) else {
            continue;
        };
        let instead = (bus != wanted).then(|| {
            format!("kernel {kver} cannot start from {wanted:?}: its disks will be {bus:?}")
        });
        let other = (kver != first).then(|| {
            format!("kernel {first}, the default, cannot start from virtio disks; {kver} can")
        });
        return Choice {
            bus,
            kver,
            warning: other.or(instead),
        };
    }
    Choice {
        bus: fallback(context, &first),
        kver: first,
        warning: None,
    }
}

/// The default kernel starts after all, from a bus that it drives.
pub(crate) fn stay(context: &mut Context<'_>, kver: &str) {
    let choice = Choice {
        bus: fallback(context, kver),
        kver: kver.to_owned(),
        warning: None,
    };
    choice.take(context);
}

/// Without virtio: what the chipset has.
fn fallback(context: &Context<'_>, kver: &str) -> BlockBus {
    match machine(context.guest.arch, is_modern(context, kver)) {
        MachineType::I440fx => BlockBus::Ide,
        _ => BlockBus::Sata,
    }
}

pub(crate) fn caps(context: &mut Context<'_>) -> GuestCaps {
    check_default(context);
    let default = context.start_kernel.clone();
    let has = |name: &str| {
        context
            .modules
            .get(&default)
            .is_some_and(|modules| modules.has(name))
    };
    let (virtio_rng, virtio_balloon) = (has("virtio_rng"), has("virtio_balloon"));
    let (virtio_serial, pvpanic) = (has("virtio_console"), has("pvpanic"));
    let virtio_net = has("virtio_net") && has("virtio_pci");
    let modern = is_modern(context, &default);
    let machine = machine(context.guest.arch, modern);
    let net_bus = match (virtio_net, machine) {
        (true, _) => NetBus::Virtio,
        (false, MachineType::I440fx) if !has("e1000") => NetBus::Rtl8139,
        (false, MachineType::I440fx) => NetBus::E1000,
        (false, _) => NetBus::E1000e,
    };
    let block_bus = block_bus(context, &default, machine);
    if !virtio_net && !default.is_empty() {
        context.recorder.warn(format!(
            "kernel {default} has no virtio_net: the adapters will be {net_bus:?}"
        ));
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

/// Where the kernel to start from is not the default one and no step made it that, the default one counts.
fn check_default(context: &mut Context<'_>) {
    let first = context.guest.kernels.first();
    let first = first.map_or(String::new(), |kernel| kernel.version.clone());
    let made = context
        .recorder
        .changes()
        .iter()
        .any(|change| change.step == DEFAULT_KERNEL_STEP);
    if context.start_kernel != first && !made {
        context.start_kernel = first;
    }
}

/// The bus after all is done, and what is to be said of kernels that cannot start from it.
fn block_bus(context: &mut Context<'_>, default: &str, machine: MachineType) -> BlockBus {
    let not_ready = |plan: &&crate::linux::steps::initramfs::Plan| {
        plan.primary && !plan.ready && plan.kver != default
    };
    let others: Vec<&str> = context
        .initramfs
        .iter()
        .filter(not_ready)
        .map(|plan| plan.kver.as_str())
        .collect();
    let others = others.join(", ");
    let bus = context.block_bus;
    let ready = context
        .initramfs
        .iter()
        .any(|plan| plan.primary && plan.kver == default && plan.ready);
    let is_virtio = matches!(bus, BlockBus::VirtioBlk | BlockBus::VirtioScsi);
    if is_virtio && ready {
        if !others.is_empty() {
            context.recorder.warn(format!(
                "these older kernels cannot start from virtio disks: {others}"
            ));
        }
        return bus;
    }
    let bus = match machine {
        _ if !is_virtio && context.options.block_driver == Some(bus) => return bus,
        MachineType::I440fx => BlockBus::Ide,
        _ => BlockBus::Sata,
    };
    let default = if default.is_empty() {
        "no kernel found".into()
    } else {
        format!("kernel {default}")
    };
    context.recorder.warn(format!(
        "the guest cannot start from virtio disks ({default}): its disks will be {bus:?}"
    ));
    bus
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
    let modules = context.modules.get(kver);
    if modules.is_some_and(|modules| modules.has("virtio_pci_modern_dev")) {
        return true;
    }
    let path = modules.and_then(|modules| modules.path("virtio_pci"));
    let content = path
        .and_then(|path| read_module(context.root, &path).ok())
        .unwrap_or_default();
    let needle = b"virtio_pci_modern";
    content.windows(needle.len()).any(|window| window == needle)
}

/// Third line of adjtime(5), or Debian's older UTC=no.
fn rtc_utc(context: &Context<'_>) -> bool {
    let adjtime = context.root.text("/etc/adjtime").unwrap_or_default();
    let rcs = context.root.text("/etc/default/rcS").unwrap_or_default();
    let local = adjtime
        .lines()
        .nth(2)
        .is_some_and(|line| line.trim() == "LOCAL");
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
    let bios_boot = storage.devices.iter().find(|device| {
        device
            .parttype
            .as_deref()
            .is_some_and(|kind| kind.eq_ignore_ascii_case(BIOS_BOOT_TYPE))
    });
    // /boot on LVM or md: what carries it.
    let carriers = ["LVM2_member", "linux_raid_member", "crypto_LUKS"];
    let carrier = || {
        storage
            .devices
            .iter()
            .find(|device| carriers.contains(&device.content.as_str()))
    };
    by_mount
        .or_else(|| bios_boot.and_then(of))
        .or_else(|| carrier().and_then(of))
}

/// By the boot loaders; `None` when the guest is made for both, so that the source's word counts.
fn firmware(context: &Context<'_>) -> Option<Firmware> {
    let has = |suffix: &str| {
        context
            .guest
            .boot_loaders
            .iter()
            .any(|loader| loader.kind.ends_with(suffix))
    };
    let uefi = has("-efi") || has("systemd-boot");
    let bios = has("-bios") || has("grub-legacy") || has("extlinux");
    match (uefi, bios) {
        (true, false) => Some(Firmware::Uefi),
        (false, true) => Some(Firmware::Bios),
        _ => None,
    }
}
