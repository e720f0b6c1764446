//! The media registry of a machine: which file a UUID is, and which images hang below which.
//!
//! ```xml
//! <MediaRegistry><HardDisks>
//!   <HardDisk uuid="{…}" location="/vms/base.vdi" format="VDI" type="Normal">
//!     <HardDisk uuid="{…}" location="Snapshots/{…}.vdi" format="VDI"/>     differencing: its parent is around it
//! ```
//!
//! Schema `VirtualBox-settings.xsd`, `MediaRegistry`; a location is relative to the folder of the `.vbox`.

use std::collections::HashMap;

use roxmltree::Node;

use crate::error::{Error, Result, shown};
use crate::{ids, xmldoc};

/// Parents above one image. VirtualBox itself becomes unusable long before.
const MAX_CHAIN: usize = 256;

/// One hard disk image.
#[derive(Clone, Debug)]
pub(super) struct Medium {
    /// File as the registry writes it.
    pub(super) location: String,
    /// Format in VirtualBox's word.
    pub(super) format: String,
    /// Its own or an ancestor's contents are encrypted.
    encrypted: bool,
}

/// Hard disk images by UUID.
#[derive(Debug, Default)]
pub(super) struct Media(HashMap<String, Medium>);

impl Media {
    /// Reads the registry of the machine.
    pub(super) fn read(machine: Node<'_, '_>) -> Result<Self> {
        let mut media = HashMap::new();
        let Some(disks) = xmldoc::child(machine, "MediaRegistry")
            .and_then(|registry| xmldoc::child(registry, "HardDisks"))
        else {
            return Ok(Self(media));
        };
        let mut pending: Vec<(Node<'_, '_>, bool, usize)> = xmldoc::children(disks, "HardDisk")
            .map(|disk| (disk, false, 0))
            .collect();
        while let Some((disk, above_encrypted, depth)) = pending.pop() {
            let text = disk.attribute("uuid").unwrap_or_default();
            let id = ids::uuid(text).ok_or_else(|| {
                Error::corrupt(format!(
                    "media registry: expected a UUID, found `{}`",
                    shown(text)
                ))
            })?;
            if depth == MAX_CHAIN {
                return Err(Error::corrupt(format!(
                    "media registry: expected chains of at most {MAX_CHAIN} images"
                )));
            }
            let encrypted = above_encrypted || is_encrypted(disk);
            pending.extend(
                xmldoc::children(disk, "HardDisk").map(|child| (child, encrypted, depth + 1)),
            );
            let medium = Medium {
                location: disk.attribute("location").unwrap_or_default().to_owned(),
                format: disk.attribute("format").unwrap_or_default().to_owned(),
                encrypted,
            };
            if media.insert(id, medium).is_some() {
                return Err(Error::corrupt(format!(
                    "media registry: expected different UUIDs, found `{}` twice",
                    shown(text)
                )));
            }
        }
        Ok(Self(media))
    }

    /// The image of this UUID, which must be readable.
    pub(super) fn get(&self, id: &str) -> Result<&Medium> {
        let medium = self.0.get(id).ok_or_else(|| {
            Error::corrupt(format!(
                "hard disk {{{id}}} is not in the media registry of the machine (VirtualBox before 4.0 keeps it elsewhere); \
                 hint: give its image with -i disk"
            ))
        })?;
        if medium.encrypted {
            return Err(Error::unsupported(format!(
                "hard disk `{}` is encrypted, which is not supported; hint: remove the encryption in VirtualBox",
                shown(&medium.location)
            )));
        }
        Ok(medium)
    }

    /// Locations by UUID, for formats that name a parent by UUID only.
    pub(super) fn locations(&self) -> HashMap<String, String> {
        self.0
            .iter()
            .map(|(id, medium)| (id.clone(), medium.location.clone()))
            .collect()
    }
}

/// The key store is a property of the base image.
fn is_encrypted(disk: Node<'_, '_>) -> bool {
    xmldoc::children(disk, "Property").any(|property| {
        let name = property.attribute("name").unwrap_or_default();
        name.starts_with("CRYPT/") || name.to_ascii_uppercase().contains("ENCRYPTION")
    })
}
