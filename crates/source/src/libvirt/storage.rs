//! Disks and drives of a libvirt domain (<https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms>).

use std::path::PathBuf;

use image::formats::Format;
use roxmltree::Node;
use types::{Disk, DiskBus, Removable, RemovableKind};

use super::domain::{attribute, child, children, path, path_text};
use crate::error::{Error, ErrorKind, Result, shown};

/// Disks of one machine.
const MAX_DISKS: usize = 1024;
/// Positions on one controller of SCSI, by libvirt's own numbering of `sdX`.
const LETTERS: u32 = 26;

/// A hard disk and where its bytes are.
#[derive(Clone, Debug)]
pub(crate) struct DomainDisk {
    pub(crate) disk: Disk,
    /// `vda`, for messages.
    pub(crate) target: String,
    pub(crate) place: Place,
    /// `<slice type='storage'>`: offset and length in bytes of the image in its file.
    pub(crate) slice: Option<(u64, u64)>,
    pub(crate) format: Option<Format>,
}

/// Where a disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A file or block device.
    Path(PathBuf),
    /// An NBD export, as a URI.
    Nbd(String),
    /// A volume of a storage pool; libvirt knows its path.
    Volume { pool: String, volume: String },
}

/// What hangs on the machine's buses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Storage {
    pub(crate) disks: Vec<DomainDisk>,
    pub(crate) removables: Vec<Removable>,
}

/// Reads all of it.
pub(crate) fn storage(root: Node<'_, '_>, warnings: &mut Vec<String>) -> Result<Storage> {
    let mut found = Storage::default();
    let Some(devices) = path(root, &["devices"]) else {
        return Err(Error::corrupt("expected a domain with devices, found none"));
    };
    let virtio_scsi = children(devices, "controller").any(|node| {
        node.attribute("type") == Some("scsi")
            && node
                .attribute("model")
                .is_some_and(|model| model.starts_with("virtio"))
    });
    for node in children(devices, "disk") {
        let target = attribute(node, "target", "dev").unwrap_or_default();
        let bus = bus(node, target, virtio_scsi);
        let kind = match node.attribute("device").unwrap_or("disk") {
            "disk" | "lun" => None,
            "cdrom" => Some(RemovableKind::Cdrom),
            "floppy" => Some(RemovableKind::Floppy),
            other => {
                let (target, other) = (shown(target), shown(other));
                warnings.push(format!("{target}: left out, as it is a `{other}`"));
                continue;
            }
        };
        if let Some(kind) = kind {
            let slot = letters(target);
            found.removables.push(Removable { kind, bus, slot });
            continue;
        }
        if found.disks.len() == MAX_DISKS {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("expected at most {MAX_DISKS} disks, found more"),
            ));
        }
        found.disks.push(disk(node, target, bus, warnings)?);
    }
    if found.disks.is_empty() {
        return Err(Error::corrupt(
            "expected a domain with a hard disk, found none",
        ));
    }
    sort_within_buses(&mut found.disks);
    Ok(found)
}

/// Disks of one bus by their target names, as libvirt keeps them in the domains that it stores; between buses the
/// order of the document stands.
fn sort_within_buses(disks: &mut [DomainDisk]) {
    let rank = |disk: &DomainDisk| (disk.disk.bus, disk.disk.unit);
    let buses: Vec<DiskBus> = disks.iter().map(|disk| disk.disk.bus).collect();
    let mut sorted = disks.to_vec();
    sorted.sort_by_key(rank);
    for (slot, bus) in disks.iter_mut().zip(buses) {
        if let Some(index) = sorted.iter().position(|disk| disk.disk.bus == bus) {
            *slot = sorted.remove(index);
        }
    }
}

fn bus(node: Node<'_, '_>, target: &str, virtio_scsi: bool) -> DiskBus {
    let stated = attribute(node, "target", "bus");
    match (stated, target.get(..2)) {
        (Some("virtio"), _) | (None, Some("vd")) => DiskBus::VirtioBlk,
        (Some("scsi"), _) | (None, Some("sd")) if virtio_scsi => DiskBus::VirtioScsi,
        (Some("scsi"), _) | (None, Some("sd")) => DiskBus::Scsi,
        (Some("sata"), _) => DiskBus::Sata,
        (Some("ide"), _) | (None, Some("hd")) => DiskBus::Ide,
        (Some("nvme"), _) => DiskBus::Nvme,
        _ => DiskBus::Unknown,
    }
}

/// The number that the letters of `sdaa` stand for, from 0.
fn letters(target: &str) -> Option<u32> {
    /// `zzz`; libvirt itself goes no further than some hundreds.
    const MAX_LETTERS: usize = 3;
    let name = ["xvd", "ubd", "sd", "hd", "vd", "fd"]
        .iter()
        .find_map(|front| target.strip_prefix(front))?;
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if !(1..=MAX_LETTERS).contains(&name.len()) || !name.bytes().all(|b| b.is_ascii_lowercase()) {
        return None;
    }
    let number = name
        .bytes()
        .fold(0, |sum, b| sum * LETTERS + u32::from(b - b'a') + 1);
    Some(number - 1)
}

fn disk(
    node: Node<'_, '_>,
    target: &str,
    bus: DiskBus,
    warnings: &mut Vec<String>,
) -> Result<DomainDisk> {
    let at = |e: Error| e.in_file(format!("disk {}", shown(target)));
    let refuse = |what: &str| Err(at(Error::unsupported(what)));
    let Some(source) = child(node, "source") else {
        return Err(at(Error::corrupt(
            "expected the source of the disk, found none",
        )));
    };
    if child(node, "encryption").is_some() || child(source, "encryption").is_some() {
        return refuse("the disk is encrypted by libvirt or QEMU (<encryption>)");
    }
    if child(node, "shareable").is_some() {
        warnings.push(format!(
            "disk {}: the disk is shared with other machines; the copy is a disk of its own, and is whole only if all \
             of them are shut down",
            shown(target)
        ));
    }
    let place = place(node, source).map_err(at)?;
    let address = |key: &str| {
        let value = attribute(node, "address", key)?;
        value
            .parse::<u32>()
            .ok()
            .filter(|_| attribute(node, "address", "type") == Some("drive"))
    };
    Ok(DomainDisk {
        disk: Disk {
            label: String::new(),
            bus,
            controller: address("controller").unwrap_or(0),
            unit: letters(target).unwrap_or(u32::MAX),
            virtual_size: 0,
            serial: path_text(node, &["serial"]),
        },
        target: target.to_owned(),
        place,
        slice: slice(source).map_err(at)?,
        format: format(node).map_err(at)?,
    })
}

/// The format that libvirt opens it as: that of the driver.
fn format(node: Node<'_, '_>) -> Result<Option<Format>> {
    match attribute(node, "driver", "type") {
        None | Some("") => Ok(None),
        Some("aio" | "host_device" | "iso") => Ok(Some(Format::Raw)),
        Some(name) => name.parse().map(Some).map_err(|_| {
            let name = shown(name);
            Error::unsupported(format!(
                "the disk has the format `{name}`, which is not supported"
            ))
        }),
    }
}

fn slice(source: Node<'_, '_>) -> Result<Option<(u64, u64)>> {
    let Some(slices) = child(source, "slices") else {
        return Ok(None);
    };
    let Some(slice) = children(slices, "slice").find(|s| s.attribute("type") == Some("storage"))
    else {
        return Ok(None);
    };
    let number = |key: &str| slice.attribute(key)?.parse().ok();
    match (number("offset"), number("size")) {
        (Some(offset), Some(size)) => Ok(Some((offset, size))),
        _ => Err(Error::corrupt(
            "expected a slice with offset and size in bytes",
        )),
    }
}

fn place(node: Node<'_, '_>, source: Node<'_, '_>) -> Result<Place> {
    let get = |key: &str| {
        source
            .attribute(key)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .ok_or_else(|| Error::corrupt(format!("expected a source with `{key}`, found none")))
    };
    match node.attribute("type").unwrap_or("file") {
        "file" => Ok(Place::Path(get("file")?.into())),
        "block" => Ok(Place::Path(get("dev")?.into())),
        "volume" => Ok(Place::Volume {
            pool: get("pool")?,
            volume: get("volume")?,
        }),
        "network" => match get("protocol")?.as_str() {
            "nbd" => nbd(source).map(Place::Nbd),
            other => {
                let other = shown(other);
                Err(Error::unsupported(format!(
                    "network disks of the protocol `{other}` are not supported; supported: nbd; hint: export it with \
                     qemu-nbd and use nbd"
                )))
            }
        },
        other => {
            let other = shown(other);
            Err(Error::unsupported(format!(
                "disks of the type `{other}` are not supported; supported: file, block, network (nbd), volume"
            )))
        }
    }
}

/// The export as the NBD project writes URIs ("NBD Uniform Resource Indicator").
fn nbd(source: Node<'_, '_>) -> Result<String> {
    /// What NBD servers listen on by IANA's register.
    const PORT: &str = "10809";
    if source.attribute("tls") == Some("yes") {
        return Err(Error::unsupported("NBD with TLS is not supported"));
    }
    let export = escaped(source.attribute("name").unwrap_or_default(), "/");
    let Some(host) = child(source, "host") else {
        return Err(Error::corrupt(
            "expected the host of the NBD server, found none",
        ));
    };
    match host.attribute("transport").unwrap_or("tcp") {
        "tcp" => {
            let name = host.attribute("name").unwrap_or("localhost");
            let name = if name.contains(':') && !name.starts_with('[') {
                format!("[{name}]")
            } else {
                name.to_owned()
            };
            let port = host.attribute("port").unwrap_or(PORT);
            Ok(format!("nbd://{name}:{port}/{export}"))
        }
        "unix" => {
            let socket = host.attribute("socket").unwrap_or_default();
            Ok(format!(
                "nbd+unix:///{export}?socket={}",
                escaped(socket, "/")
            ))
        }
        other => {
            let other = shown(other);
            Err(Error::unsupported(format!(
                "NBD by the transport `{other}` is not supported; supported: tcp, unix"
            )))
        }
    }
}

/// Percent-encoded (RFC 3986, 2.1), except letters, digits, `-._~` and what is `plain`.
fn escaped(text: &str, plain: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric()
            || b"-._~".contains(&byte)
            || plain.as_bytes().contains(&byte)
        {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
