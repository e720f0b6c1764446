//! Who a disk is: vendor, model, serial number, world wide id, bus.

use std::path::Path;

use wire::inventory::Bus;

use super::Paths;
use super::block::{BlockDevice, Family};
use super::sysfs::{self, Udev, clean};

/// Page 0x80 of SCSI's vital product data (SPC-4, section 7.8.15) is at most 4 + 65535 bytes.
const MAX_VPD: usize = 4 + 65535;

/// What a disk says of itself; empty where it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) vendor: String,
    pub(crate) model: String,
    pub(crate) serial: String,
    pub(crate) wwid: String,
    pub(crate) bus: Bus,
}

/// Reads it from sysfs; udev's database fills what is missing there.
pub(crate) fn identity(paths: &Paths, device: &BlockDevice) -> Identity {
    let udev = Udev::read(&paths.run, &format!("b{}", device.number));
    let first = |attributes: &[&str]| attributes.iter().find_map(|a| device.text(a));
    let usb = usb_device(device);
    let from_usb = |attribute: &str| {
        usb.as_ref()
            .and_then(|dir| sysfs::text(dir.join(attribute)))
    };
    let serial = serial_page(device)
        .or_else(|| first(&["serial", "device/serial", "device/unique_id", "device/uid"]))
        .or_else(|| udev.get("ID_SCSI_SERIAL"))
        .or_else(|| udev.get("ID_SERIAL_SHORT"))
        .or_else(|| from_usb("serial"));
    let vendor = first(&["device/vendor"])
        // libata and virtio show a kind or a PCI number where a vendor is expected.
        .filter(|vendor| vendor != "ATA" && !vendor.starts_with("0x"));
    Identity {
        vendor: vendor.or_else(|| udev.get("ID_VENDOR")).unwrap_or_default(),
        model: first(&["device/model", "device/name"])
            .or_else(|| udev.get("ID_MODEL"))
            .unwrap_or_default(),
        serial: serial.unwrap_or_default(),
        wwid: first(&["wwid", "device/wwid", "device/cid"])
            .or_else(|| udev.get("ID_WWN_WITH_EXTENSION"))
            .or_else(|| udev.get("ID_WWN"))
            .unwrap_or_default(),
        bus: bus(paths, device),
    }
}

/// The unit serial number page, as the kernel keeps it.
fn serial_page(device: &BlockDevice) -> Option<String> {
    let page = sysfs::bytes(device.dir.join("device/vpd_pg80"), MAX_VPD)?;
    let len = usize::from(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]));
    let body = page.get(4..)?;
    clean(&String::from_utf8_lossy(body.get(..len).unwrap_or(body)))
}

/// Components of its place below /sys/devices.
fn components(device: &BlockDevice) -> impl Iterator<Item = &str> {
    device
        .real
        .components()
        .filter_map(|c| c.as_os_str().to_str())
}

/// The USB device that it hangs on: the one folder above it that has a `busnum`.
fn usb_device(device: &BlockDevice) -> Option<&Path> {
    device
        .real
        .ancestors()
        .find(|dir| dir.join("busnum").exists() && dir.join("bDeviceClass").exists())
}

/// A component `PREFIX` and digits.
fn is_numbered(component: &str, prefix: &str) -> bool {
    component
        .strip_prefix(prefix)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

/// By its place among the devices, then by its name.
pub(crate) fn bus(paths: &Paths, device: &BlockDevice) -> Bus {
    let has = |prefix: &str| components(device).any(|c| is_numbered(c, prefix));
    if has("usb") {
        return Bus::Usb;
    }
    match device.family {
        Family::Nvme => Bus::Nvme,
        Family::Mmc => Bus::Mmc,
        Family::Controller => Bus::RaidController,
        Family::Ide => Bus::Ide,
        Family::Virtio => Bus::VirtioBlk,
        Family::Scsi if has("virtio") => Bus::VirtioScsi,
        Family::Scsi => ata_port(device).map_or(Bus::Scsi, |port| ata(paths, device, port)),
        Family::Xen | Family::Dasd | Family::Pmem | Family::Md | Family::Dm => Bus::Unspecified,
    }
}

fn ata_port(device: &BlockDevice) -> Option<&str> {
    components(device).find(|c| is_numbered(c, "ata"))
}

/// libata drives both kinds. A driver for parallel ports says so by its name; ata_piix drives both and is asked for the
/// speed of the link, which only serial ones have.
fn ata(paths: &Paths, device: &BlockDevice, port: &str) -> Bus {
    let sys = paths.real_sys();
    let driver = device
        .real
        .ancestors()
        .filter(|dir| dir.starts_with(&sys))
        .filter(|dir| dir.join("vendor").exists() && dir.join("class").exists())
        .find_map(|dir| sysfs::link_name(dir.join("driver")));
    match driver.as_deref() {
        Some(name) if name.starts_with("pata_") => Bus::Ide,
        Some("ata_piix" | "ata_generic") => {
            let number = port.trim_start_matches("ata");
            let link = paths
                .sys
                .join(format!("class/ata_link/link{number}/sata_spd"));
            match sysfs::text(link) {
                Some(speed) if speed.contains("Gbps") => Bus::Sata,
                _ => Bus::Ide,
            }
        }
        _ => Bus::Sata,
    }
}
