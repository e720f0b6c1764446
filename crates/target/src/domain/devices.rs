//! `<devices>` of a domain.

use std::path::Path;

use image::Preallocation;
use types::{
    BlockBus, Display, Firmware, Machine, MachineType, NetBus, Nic, NicNetwork, SectorSizes,
};

use crate::domain::DomainSpec;
use crate::domain::platform::{Drives, Platform, SATA_PORTS, Slot};
use crate::domain::xml::{Element, element};
use crate::{Error, ErrorKind, Result};

/// Longest serial number that virtio-blk can show (virtio 1.2, section 5.2.6.1).
const MAX_SERIAL_BYTES: usize = 20;
/// First build of Windows 11.
const WINDOWS_11: u32 = 22000;
/// Largest sector that every QEMU's disks can have, in bytes.
const MAX_SECTOR_SIZE: u32 = 32768;

pub(crate) fn devices(
    spec: &DomainSpec<'_>,
    platform: Platform,
    drives: &Drives,
    notes: &mut Vec<String>,
) -> Result<Element> {
    if spec.disks.len() != drives.disks.len() {
        return Err(Error::new(
            ErrorKind::Usage,
            format!(
                "expected {} disk paths, found {}",
                drives.disks.len(),
                spec.disks.len()
            ),
        ));
    }
    let mut all = Vec::new();
    for (index, slot) in drives.disks.iter().enumerate() {
        all.push(disk(spec, index, slot, notes)?);
    }
    all.extend(drives.cdroms.iter().map(cdrom));
    if drives.floppies > 0 {
        all.push(floppy());
    }
    if drives
        .disks
        .iter()
        .chain(&drives.cdroms)
        .any(|slot| slot.bus == BlockBus::VirtioScsi)
    {
        all.push(
            element("controller")
                .attr("type", "scsi")
                .attr("index", "0")
                .attr("model", "virtio-scsi"),
        );
    }
    all.extend(
        spec.machine
            .nics
            .iter()
            .map(|nic| interface(nic, spec.caps.net_bus)),
    );
    all.extend(consoles(spec));
    all.extend(screen(spec, platform, notes));
    all.extend(extras(spec, platform, notes));
    Ok(element("devices").children(all))
}

fn disk(
    spec: &DomainSpec<'_>,
    index: usize,
    slot: &Slot,
    notes: &mut Vec<String>,
) -> Result<Element> {
    let path = spec.disks.get(index).map(|path| utf8(path)).transpose()?;
    let driver = element("driver")
        .attr("name", "qemu")
        .attr("type", spec.format.name());
    let driver = match spec.preallocation {
        Preallocation::Sparse => driver.attr("discard", "unmap"),
        Preallocation::Falloc => driver,
    };
    let serial = spec
        .machine
        .disks
        .get(index)
        .and_then(|disk| disk.serial.as_deref())
        .filter(|s| plain_serial(s));
    Ok(element("disk")
        .attr("type", "file")
        .attr("device", "disk")
        .child(driver)
        .children(path.map(|path| element("source").attr("file", path)))
        .child(target(slot))
        .children(sector_sizes(spec.machine, index, slot, notes).map(blockio))
        .children(serial.map(|serial| element("serial").text(serial)))
        .children(
            slot.boot_order
                .map(|order| element("boot").attr("order", order.to_string())),
        )
        .children(address(slot)))
}

/// Sector sizes of a disk, where they are not 512 bytes. QEMU's IDE and SATA disks have logical sectors of 512 bytes only.
pub(crate) fn sector_sizes(
    machine: &Machine,
    index: usize,
    slot: &Slot,
    notes: &mut Vec<String>,
) -> Option<SectorSizes> {
    let mut sizes = *machine.details.sector_sizes.get(index)?;
    if matches!(slot.bus, BlockBus::Sata | BlockBus::Ide) && sizes.logical != 512 {
        notes.push(format!(
            "disk {} had sectors of {} bytes, which its bus cannot show: its partitions will not be found; the guest \
             needs virtio drivers",
            slot.dev, sizes.logical
        ));
        sizes.logical = 512;
    }
    let is_shown = |size: u32| size.is_power_of_two() && (512..=MAX_SECTOR_SIZE).contains(&size);
    let is_valid = is_shown(sizes.logical) && is_shown(sizes.physical);
    (is_valid && sizes != SectorSizes::default()).then_some(sizes)
}

fn blockio(sizes: SectorSizes) -> Element {
    element("blockio")
        .attr("logical_block_size", sizes.logical.to_string())
        .attr("physical_block_size", sizes.physical.to_string())
}

pub(crate) fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Error::new(
            ErrorKind::Usage,
            format!(
                "the path {} is not UTF-8, which domain XML needs",
                path.display()
            ),
        )
    })
}

/// A serial that libvirt accepts and every bus can show whole; others are left out.
pub(crate) fn plain_serial(serial: &str) -> bool {
    (1..=MAX_SERIAL_BYTES).contains(&serial.len())
        && serial
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn target(slot: &Slot) -> Element {
    let bus = match slot.bus {
        BlockBus::VirtioBlk => "virtio",
        BlockBus::VirtioScsi => "scsi",
        BlockBus::Sata => "sata",
        BlockBus::Ide => "ide",
    };
    element("target").attr("dev", &slot.dev).attr("bus", bus)
}

/// The place on the controller. One virtio-scsi controller has 256 targets; left alone, libvirt counts units of
/// narrow SCSI by the letter and adds controllers of another model. IDE follows from the letter.
fn address(slot: &Slot) -> Option<Element> {
    let (controller, target, unit) = match slot.bus {
        BlockBus::VirtioScsi => (0, slot.unit, 0),
        BlockBus::Sata => (slot.unit / SATA_PORTS, 0, slot.unit % SATA_PORTS),
        BlockBus::VirtioBlk | BlockBus::Ide => return None,
    };
    Some(
        element("address")
            .attr("type", "drive")
            .attr("controller", controller.to_string())
            .attr("bus", "0")
            .attr("target", target.to_string())
            .attr("unit", unit.to_string()),
    )
}

fn cdrom(slot: &Slot) -> Element {
    element("disk")
        .attr("type", "file")
        .attr("device", "cdrom")
        .child(element("driver").attr("name", "qemu").attr("type", "raw"))
        .child(target(slot))
        .child(element("readonly"))
        .children(address(slot))
}

fn floppy() -> Element {
    element("disk")
        .attr("type", "file")
        .attr("device", "floppy")
        .child(element("driver").attr("name", "qemu").attr("type", "raw"))
        .child(element("target").attr("dev", "fda").attr("bus", "fdc"))
}

/// Name of a NIC model in libvirt.
pub(crate) fn net_model(bus: NetBus) -> &'static str {
    match bus {
        NetBus::Virtio => "virtio",
        NetBus::E1000e => "e1000e",
        NetBus::E1000 => "e1000",
        NetBus::Rtl8139 => "rtl8139",
    }
}

fn interface(nic: &Nic, bus: NetBus) -> Element {
    let (kind, source) = match &nic.network {
        NicNetwork::Network(name) => ("network", element("source").attr("network", name)),
        NicNetwork::Bridge(name) => ("bridge", element("source").attr("bridge", name)),
    };
    element("interface")
        .attr("type", kind)
        .children(
            nic.mac
                .map(|mac| element("mac").attr("address", mac.to_string())),
        )
        .child(source)
        .child(element("model").attr("type", net_model(bus)))
}

fn consoles(spec: &DomainSpec<'_>) -> Vec<Element> {
    let mut all = vec![
        element("serial")
            .attr("type", "pty")
            .child(element("target").attr("port", "0")),
        element("console")
            .attr("type", "pty")
            .child(element("target").attr("type", "serial").attr("port", "0")),
    ];
    if spec.caps.virtio_serial {
        all.push(
            element("channel").attr("type", "unix").child(
                element("target")
                    .attr("type", "virtio")
                    .attr("name", "org.qemu.guest_agent.0"),
            ),
        );
    }
    all
}

/// Plain VGA is the one adapter that every guest can drive from firmware to desktop; VNC the one protocol that
/// every QEMU has. Both listen where libvirt's configuration says (by default on the loopback address).
fn screen(spec: &DomainSpec<'_>, platform: Platform, notes: &mut Vec<String>) -> Vec<Element> {
    if spec.machine.display == Some(Display::Spice) {
        notes.push(
            "the source had SPICE graphics: the domain has VNC, which every host offers".to_owned(),
        );
    }
    let model = if platform.machine == MachineType::Virt {
        element("model").attr("type", "virtio").attr("heads", "1")
    } else {
        element("model")
            .attr("type", "vga")
            .attr("vram", "16384")
            .attr("heads", "1")
    };
    let mut all = Vec::new();
    if platform.machine == MachineType::Virt {
        all.push(element("input").attr("type", "keyboard").attr("bus", "usb"));
    }
    all.push(element("input").attr("type", "tablet").attr("bus", "usb"));
    all.push(
        element("graphics")
            .attr("type", "vnc")
            .attr("port", "-1")
            .attr("autoport", "yes"),
    );
    all.push(element("video").child(model));
    all
}

fn extras(spec: &DomainSpec<'_>, platform: Platform, notes: &mut Vec<String>) -> Vec<Element> {
    let x86 = platform.arch == "x86_64";
    let mut all = Vec::new();
    if spec.machine.sound {
        let model = if platform.machine == MachineType::I440fx {
            "ich6"
        } else {
            "ich9"
        };
        all.push(element("sound").attr("model", model));
    }
    all.extend(tpm(spec, platform, notes));
    let balloon = if spec.caps.virtio_balloon {
        "virtio"
    } else {
        "none"
    };
    all.push(element("memballoon").attr("model", balloon));
    if spec.caps.virtio_rng {
        all.push(
            element("rng").attr("model", "virtio").child(
                element("backend")
                    .attr("model", "random")
                    .text("/dev/urandom"),
            ),
        );
    }
    if spec.caps.pvpanic && x86 {
        all.push(element("panic").attr("model", "isa"));
    }
    all
}

/// The new TPM is empty: what the old one held never leaves it.
fn tpm(spec: &DomainSpec<'_>, platform: Platform, notes: &mut Vec<String>) -> Option<Element> {
    if !spec.machine.tpm {
        return tpm_of_windows_11(spec, platform, notes);
    }
    let lost = "the guest loses the keys that its old TPM held";
    if !spec.tpm_emulator {
        notes.push(format!(
            "the machine had a TPM, but the host has no swtpm: the domain has no TPM, and {lost}"
        ));
        return None;
    }
    notes.push(format!(
        "the machine had a TPM: the domain gets an empty one (swtpm), and {lost}"
    ));
    Some(emulated_tpm(platform))
}

/// Windows 11 wants one (Microsoft: Windows 11 requirements), had its old machine one or not.
fn tpm_of_windows_11(
    spec: &DomainSpec<'_>,
    platform: Platform,
    notes: &mut Vec<String>,
) -> Option<Element> {
    let windows = spec.guest?.windows.as_ref()?;
    let is_11 = windows.build >= WINDOWS_11 && windows.product_type.eq_ignore_ascii_case("WinNT");
    if !is_11 || platform.firmware != Firmware::Uefi {
        return None;
    }
    if !spec.tpm_emulator {
        notes.push(
            "Windows 11 expects a TPM for its upgrades, but the host has no swtpm: the domain has none".to_owned(),
        );
        return None;
    }
    notes.push("Windows 11 expects a TPM: the domain gets an empty one (swtpm)".to_owned());
    Some(emulated_tpm(platform))
}

fn emulated_tpm(platform: Platform) -> Element {
    // CRB exists on q35; older systems know TIS.
    let model = if platform.machine == MachineType::Q35 {
        "tpm-crb"
    } else {
        "tpm-tis"
    };
    let backend = element("backend")
        .attr("type", "emulator")
        .attr("version", "2.0");
    element("tpm").attr("model", model).child(backend)
}
