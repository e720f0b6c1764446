//! What the converted guest can drive: virtio where a driver was found, else what this version of Windows brings drivers
//! for.

use types::{BlockBus, Firmware, GuestCaps, MachineType, NetBus};

use crate::linux::mounts::disk_of;
use crate::windows::convert::Context;
use crate::windows::drivers::inf::Platform;
use crate::windows::drivers::{Plan, Role};

/// GPT type of the EFI system partition (UEFI 2.10, table 5.7).
const ESP_TYPE: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/// The panic device that QEMU puts on the ISA bus.
const ISA_PANIC: [&str; 2] = [r"ACPI\QEMU0001", r"ACPI\VEN_QEMU&DEV_0001"];
/// Windows 7 and Server 2008 R2: AHCI, PCI Express and MSI as q35 has them.
const SEVEN: (u32, u32) = (6, 1);
const VISTA: (u32, u32) = (6, 0);

/// The hardware that the drivers decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hardware {
    pub(crate) machine: MachineType,
    pub(crate) block: BlockBus,
    pub(crate) net: NetBus,
}

impl Hardware {
    /// For these drivers; `wish` is `--block-driver`.
    pub(crate) fn of(plan: &Plan, platform: Platform, wish: Option<BlockBus>) -> Self {
        let machine = machine(plan, platform);
        Self {
            machine,
            block: block(plan, machine, wish),
            net: net(plan, platform),
        }
    }
}

/// By the drivers that were found for it.
pub(crate) fn caps(context: &Context<'_>) -> GuestCaps {
    let plan = &context.drivers;
    let arch = context.guest.arch;
    let wish = context.options.block_driver;
    let platform = Platform::of(context.windows, arch);
    let hardware = platform.map(|platform| Hardware::of(plan, platform, wish));
    let hardware = hardware.unwrap_or(Hardware {
        machine: MachineType::Virt,
        block: BlockBus::Sata,
        net: NetBus::E1000e,
    });
    let has = |role| plan.role(role).is_some();
    let pvpanic = platform.is_some_and(|platform| {
        let mut packages = plan.packages.iter();
        packages.any(|package| package.drives(platform, &ISA_PANIC))
    });
    GuestCaps {
        block_bus: hardware.block,
        net_bus: hardware.net,
        virtio_rng: has(Role::Rng),
        virtio_balloon: has(Role::Balloon),
        virtio_serial: has(Role::Serial),
        pvpanic,
        machine: hardware.machine,
        arch,
        rtc_utc: context.windows.rtc_utc,
        boot_disk: boot_disk(context),
        firmware: firmware(context),
    }
}

/// Old systems know no PCI Express; a driver that knows virtio before 1.0 only needs the devices of a PCI bus.
fn machine(plan: &Plan, platform: Platform) -> MachineType {
    let legacy = [Role::Block, Role::Scsi, Role::Net]
        .into_iter()
        .filter_map(|role| plan.role(role))
        .any(|package| !package.is_modern(platform));
    match platform.arch {
        "x86" | "amd64" if legacy || platform.version() < SEVEN => MachineType::I440fx,
        "x86" | "amd64" => MachineType::Q35,
        _ => MachineType::Virt,
    }
}

/// The wanted bus if it is driven, else virtio-blk, else virtio-scsi, else what the chipset has.
fn block(plan: &Plan, machine: MachineType, wish: Option<BlockBus>) -> BlockBus {
    let driven = |bus: &BlockBus| match bus {
        BlockBus::VirtioBlk => plan.role(Role::Block).is_some(),
        BlockBus::VirtioScsi => plan.role(Role::Scsi).is_some(),
        // Q35 has no IDE; AHCI on i440fx would be an extra controller that XP has no driver for.
        BlockBus::Sata => machine != MachineType::I440fx,
        BlockBus::Ide => machine == MachineType::I440fx,
    };
    // Whoever asks for an emulated bus gets the one that the chipset has.
    let emulated = [BlockBus::Sata, BlockBus::Ide];
    let virtio = [BlockBus::VirtioBlk, BlockBus::VirtioScsi];
    let virtio = virtio
        .into_iter()
        .filter(|_| !wish.is_some_and(|wish| emulated.contains(&wish)));
    let order = wish.into_iter().chain(virtio).chain(emulated);
    order.into_iter().find(driven).unwrap_or(BlockBus::Sata)
}

/// Adapters for which this version of Windows has a driver of its own: 82574L (e1000e) from 7 on, 82540EM (e1000) in
/// Vista and in the 64-bit systems of 5.2, RTL8139 in the 32-bit ones before.
fn net(plan: &Plan, platform: Platform) -> NetBus {
    if plan.role(Role::Net).is_some() {
        return NetBus::Virtio;
    }
    match platform.version() {
        version if version >= SEVEN => NetBus::E1000e,
        version if version >= VISTA => NetBus::E1000,
        _ if platform.arch == "amd64" => NetBus::E1000,
        _ => NetBus::Rtl8139,
    }
}

/// The disk that Windows is on; where it has no ESP and the guest boots by UEFI, the only disk that has one.
fn boot_disk(context: &Context<'_>) -> Option<u32> {
    let mount = context
        .guest
        .mountpoints
        .iter()
        .find(|mount| mount.path == "/");
    let own = mount.and_then(|mount| disk_of(context.storage, &mount.device));
    if firmware(context) != Some(Firmware::Uefi) {
        return own;
    }
    let is_esp = |kind: &Option<String>| {
        let kind = kind.as_deref();
        kind.is_some_and(|kind| kind.eq_ignore_ascii_case(ESP_TYPE))
    };
    let mut esps: Vec<u32> = context
        .storage
        .devices
        .iter()
        .filter(|device| is_esp(&device.parttype))
        .filter_map(|device| disk_of(context.storage, &device.name))
        .collect();
    esps.dedup();
    match (own, esps.as_slice()) {
        (Some(own), disks) if disks.contains(&own) => Some(own),
        (_, [only]) => Some(*only),
        _ => own,
    }
}

/// By the boot loaders; `None` when there are those of both, so that the source's word counts.
fn firmware(context: &Context<'_>) -> Option<Firmware> {
    let has = |kind: &str| {
        let mut loaders = context.guest.boot_loaders.iter();
        loaders.any(|loader| loader.kind == kind)
    };
    match (has("windows-efi"), has("windows-bios")) {
        (true, false) => Some(Firmware::Uefi),
        (false, true) => Some(Firmware::Bios),
        _ => None,
    }
}

/// Name of a bus for people.
pub(crate) fn block_name(bus: BlockBus) -> &'static str {
    match bus {
        BlockBus::VirtioBlk => "virtio-blk",
        BlockBus::VirtioScsi => "virtio-scsi",
        BlockBus::Sata => "SATA",
        BlockBus::Ide => "IDE",
    }
}

/// Name of an adapter for people.
pub(crate) fn net_name(net: NetBus) -> &'static str {
    match net {
        NetBus::Virtio => "virtio-net",
        NetBus::E1000e => "e1000e",
        NetBus::E1000 => "e1000",
        NetBus::Rtl8139 => "rtl8139",
    }
}
