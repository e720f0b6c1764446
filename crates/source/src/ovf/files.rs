//! The way from a disk item to its content: HostResource, DiskSection, References.

use roxmltree::Node;
use types::DiskBus;

use super::items::Item;
use super::storage::{DiskFile, FileRef};
use super::{units, xml};
use crate::error::{Error, ErrorKind, Result, shown};

/// Longest chain of `ovf:parentRef`: VMware allows 32 snapshots.
const MAX_PARENTS: usize = 32;

/// What an item's HostResource names.
pub(super) struct Target<'a, 'i> {
    envelope: Node<'a, 'i>,
    /// The item, for messages.
    what: String,
    kind: Kind<'a, 'i>,
}

enum Kind<'a, 'i> {
    Disk(Node<'a, 'i>),
    /// A file without a disk, as DSP0243 1.1.0, 8.4 allows it.
    File(String),
}

impl<'a, 'i> Target<'a, 'i> {
    /// Follows HostResource: `ovf:/disk/ID`, `/disk/ID`, `disk/ID`, `ovf:/file/ID`, and oVirt's `GROUP/ID`.
    pub(super) fn of(envelope: Node<'a, 'i>, item: &Item) -> Result<Self> {
        let what = format!("hard disk {}", item.shown());
        let Some(resource) = item.host_resource.as_deref() else {
            return Err(Error::new(
                ErrorKind::Missing,
                format!("{what}: expected a HostResource that names its disk, found none"),
            ));
        };
        let path = resource
            .strip_prefix("ovf:")
            .unwrap_or(resource)
            .trim_start_matches('/');
        let kind = if let Some(id) = path.strip_prefix("file/") {
            Kind::File(id.to_owned())
        } else if let Some(id) = path.strip_prefix("disk/") {
            Kind::Disk(disk(envelope, id)?.ok_or_else(|| {
                let message = format!("{what}: the DiskSection has no disk `{}`", shown(id));
                Error::new(ErrorKind::Missing, message)
            })?)
        } else {
            let id = path.rsplit('/').next().unwrap_or(path);
            Kind::Disk(disk(envelope, id)?.ok_or_else(|| {
                Error::corrupt(format!(
                    "{what}: expected a HostResource such as `ovf:/disk/ID`, found `{}`",
                    shown(resource)
                ))
            })?)
        };
        Ok(Self {
            envelope,
            what,
            kind,
        })
    }

    /// The bus that oVirt writes beside the disk instead of a controller.
    pub(super) fn interface(&self) -> Option<DiskBus> {
        let Kind::Disk(disk) = &self.kind else {
            return None;
        };
        match xml::attribute(*disk, "disk-interface")? {
            "VirtIO" => Some(DiskBus::VirtioBlk),
            "VirtIO_SCSI" | "SPAPR_VSCSI" => Some(DiskBus::VirtioScsi),
            "IDE" => Some(DiskBus::Ide),
            "SATA" => Some(DiskBus::Sata),
            _ => None,
        }
    }

    /// Follows it to its file, and those of its parents. `used` gets the ids of disks.
    pub(super) fn resolve(
        self,
        used: &mut Vec<String>,
        warnings: &mut Vec<String>,
    ) -> Result<DiskFile> {
        let disk = match self.kind {
            Kind::Disk(disk) => disk,
            Kind::File(id) => {
                let file = referenced_file(self.envelope, &id, &self.what)?;
                return Ok(DiskFile {
                    label: file.href.clone(),
                    file: Some(file),
                    capacity: None,
                    raw: false,
                    parent: None,
                });
            }
        };
        // From the disk to its oldest ancestor, and back.
        let mut chain = Vec::new();
        let mut next = Some(disk);
        while let Some(disk) = next {
            if chain.len() == MAX_PARENTS {
                let message = format!(
                    "{}: expected at most {MAX_PARENTS} parents (ovf:parentRef), found more or a loop",
                    self.what
                );
                return Err(Error::new(ErrorKind::Limit, message));
            }
            chain.push(disk);
            next = self.parent(disk)?;
        }
        let mut found: Option<DiskFile> = None;
        for disk in chain.into_iter().rev() {
            let id = xml::attribute(disk, "diskId").unwrap_or_default();
            used.push(id.to_owned());
            found = Some(self.one(disk, id, found.take(), warnings)?);
        }
        found.ok_or_else(|| Error::corrupt(format!("{}: no disk", self.what)))
    }

    fn parent(&self, disk: Node<'a, 'i>) -> Result<Option<Node<'a, 'i>>> {
        let Some(id) = xml::attribute(disk, "parentRef").filter(|id| !id.is_empty()) else {
            return Ok(None);
        };
        let parent = self::disk(self.envelope, id)?.ok_or_else(|| {
            let message = format!(
                "{}: the DiskSection has no disk `{}`, which is the parent (ovf:parentRef) of `{}`",
                self.what,
                shown(id),
                shown(xml::attribute(disk, "diskId").unwrap_or_default())
            );
            Error::new(ErrorKind::Missing, message)
        })?;
        Ok(Some(parent))
    }

    fn one(
        &self,
        disk: Node<'_, '_>,
        id: &str,
        parent: Option<DiskFile>,
        warnings: &mut Vec<String>,
    ) -> Result<DiskFile> {
        let capacity = capacity(disk, id, warnings);
        let file = xml::attribute(disk, "fileRef")
            .filter(|file| !file.is_empty())
            .map(|file| referenced_file(self.envelope, file, &self.what))
            .transpose()?;
        if file.is_none() && capacity.is_none() {
            let message = format!(
                "{}: disk `{}` has neither a file nor a capacity that can be read",
                self.what,
                shown(id)
            );
            return Err(Error::unsupported(message));
        }
        let label = match &file {
            Some(file) => file.href.clone(),
            None => format!("blank disk {id}"),
        };
        Ok(DiskFile {
            label,
            file,
            capacity,
            raw: is_raw(disk),
            parent: parent.map(Box::new),
        })
    }
}

/// oVirt says `RAW` or `COW`; others put a URI into `ovf:format`, which content contradicts too often to be believed.
fn is_raw(disk: Node<'_, '_>) -> bool {
    xml::attribute(disk, "volume-format").is_some_and(|format| format.eq_ignore_ascii_case("raw"))
}

/// The disk of this id.
fn disk<'a, 'i>(envelope: Node<'a, 'i>, id: &str) -> Result<Option<Node<'a, 'i>>> {
    let mut matching = xml::sections(envelope, "DiskSection")
        .flat_map(|section| xml::children(section, "Disk"))
        .filter(|disk| xml::attribute(*disk, "diskId") == Some(id));
    let found = matching.next();
    if matching.next().is_some() {
        return Err(Error::corrupt(format!(
            "the DiskSection has two disks `{}`",
            shown(id)
        )));
    }
    Ok(found)
}

/// Capacity in bytes (DSP0243 1.1.0, 9.1); the image itself knows better, so trouble is only a warning.
fn capacity(disk: Node<'_, '_>, id: &str, warnings: &mut Vec<String>) -> Option<u64> {
    // oVirt writes `ovf:size` in GiB instead.
    let (text, default) = match xml::attribute(disk, "capacity") {
        Some(text) => (text, "byte"),
        None => match xml::attribute(disk, "size") {
            Some(text) => (text, "byte * 2^30"),
            None => ("", "byte"),
        },
    };
    let unit = xml::attribute(disk, "capacityAllocationUnits")
        .filter(|unit| !unit.is_empty())
        .unwrap_or(default);
    let property = text
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'));
    let number = match property {
        Some(key) => property_value(disk, key).and_then(|value| value.parse::<u64>().ok()),
        None => text.parse().ok(),
    };
    let capacity = number
        .zip(units::bytes_per_unit(unit))
        .and_then(|(number, unit)| number.checked_mul(unit));
    if capacity.is_none() {
        let (id, text, unit) = (shown(id), shown(text), shown(unit));
        warnings.push(format!(
            "disk `{id}`: cannot read its capacity `{text}` in units of `{unit}`"
        ));
    }
    capacity
}

/// The value that the descriptor itself gives to a property (DSP0243 1.1.0, 9.1 and 9.5: `${KEY}` as a capacity);
/// `None` also when properties of that key differ.
fn property_value<'a>(node: Node<'a, '_>, key: &str) -> Option<&'a str> {
    let root = node.document().root_element();
    let mut values = root
        .descendants()
        .filter(|node| xml::is_ovf(*node) && node.tag_name().name() == "Property")
        .filter(|node| xml::attribute(*node, "key") == Some(key))
        .filter_map(|node| xml::attribute(node, "value"));
    let value = values.next()?;
    values.all(|other| other == value).then_some(value)
}

/// The file of this id in References.
fn referenced_file(envelope: Node<'_, '_>, id: &str, what: &str) -> Result<FileRef> {
    let mut matching = xml::children(envelope, "References")
        .flat_map(|references| xml::children(references, "File"))
        .filter(|file| xml::attribute(*file, "id") == Some(id));
    let Some(file) = matching.next() else {
        let message = format!("{what}: References have no file `{}`", shown(id));
        return Err(Error::new(ErrorKind::Missing, message));
    };
    if matching.next().is_some() {
        return Err(Error::corrupt(format!(
            "References have two files `{}`",
            shown(id)
        )));
    }
    let href = xml::attribute(file, "href").unwrap_or_default().to_owned();
    let gzip = match xml::attribute(file, "compression") {
        None | Some("" | "identity") => false,
        Some("gzip") => true,
        Some(other) => {
            let message = format!(
                "{what}: `{}` has ovf:compression=\"{}\", which is not supported",
                shown(&href),
                shown(other)
            );
            return Err(Error::unsupported(message));
        }
    };
    let chunk_size = match xml::attribute(file, "chunkSize").filter(|chunk| !chunk.is_empty()) {
        None => None,
        Some(text) => Some(text.parse().ok().filter(|size| *size > 0).ok_or_else(|| {
            Error::corrupt(format!(
                "{what}: `{}`: expected a number of bytes as ovf:chunkSize, found `{}`",
                shown(&href),
                shown(text)
            ))
        })?),
    };
    let size = xml::attribute(file, "size").and_then(|size| size.parse().ok());
    Ok(FileRef {
        href,
        size,
        gzip,
        chunk_size,
    })
}
