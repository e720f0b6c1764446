//! Items of a VirtualHardwareSection: which of them count, and their fields.
//!
//! An item's fields are those of CIM_ResourceAllocationSettingData; OVF 2 writes disks as `StorageItem` and
//! adapters as `EthernetPortItem`, with the same field names in namespaces of their own (DSP0243 2.1.1, 8.1).

use roxmltree::Node;

use super::xml;
use crate::error::{Error, Result, shown};

/// Values of `ResourceType` (DMTF CIM_ResourceAllocationSettingData, value map).
pub(crate) mod kind {
    /// "Other": VMware's own devices, told apart by `ResourceSubType`.
    pub(crate) const OTHER: u32 = 1;
    pub(crate) const PROCESSOR: u32 = 3;
    pub(crate) const MEMORY: u32 = 4;
    pub(crate) const IDE_CONTROLLER: u32 = 5;
    pub(crate) const SCSI_CONTROLLER: u32 = 6;
    pub(crate) const FC_HBA: u32 = 7;
    pub(crate) const ISCSI_HBA: u32 = 8;
    pub(crate) const ETHERNET: u32 = 10;
    pub(crate) const FLOPPY: u32 = 14;
    pub(crate) const CD: u32 = 15;
    pub(crate) const DVD: u32 = 16;
    pub(crate) const DISK: u32 = 17;
    /// "Other storage device": SATA, NVMe and virtio controllers.
    pub(crate) const OTHER_STORAGE: u32 = 20;
    pub(crate) const GRAPHICS: u32 = 24;
    /// Sound card, as VMware and VirtualBox write it.
    pub(crate) const SOUND: u32 = 35;
}

/// One virtual device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Item {
    pub(crate) kind: u32,
    /// Lower case; several when the descriptor offers a choice.
    pub(crate) sub_types: Vec<String>,
    pub(crate) instance: Option<String>,
    pub(crate) name: String,
    pub(crate) parent: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) address_on_parent: Option<u32>,
    pub(crate) host_resource: Option<String>,
    pub(crate) connection: Option<String>,
    pub(crate) quantity: Option<String>,
    pub(crate) units: Option<String>,
    pub(crate) cores_per_socket: Option<u32>,
}

impl Item {
    /// How messages call it: its name, else its instance, else its type.
    pub(crate) fn shown(&self) -> String {
        match &self.instance {
            _ if !self.name.is_empty() => format!("`{}`", shown(&self.name)),
            Some(instance) => format!("instance {}", shown(instance)),
            None => format!("of type {}", self.kind),
        }
    }

    /// True when one of the subtypes is this, in any case.
    pub(crate) fn has_sub_type(&self, name: &str) -> bool {
        self.sub_types.iter().any(|sub_type| sub_type == name)
    }

    /// VirtualQuantity as a whole number.
    pub(crate) fn quantity(&self) -> Result<Option<u64>> {
        let Some(text) = &self.quantity else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|_| {
            let item = self.shown();
            Error::corrupt(format!(
                "item {item}: expected a whole number as VirtualQuantity, found `{}`",
                shown(text)
            ))
        })
    }
}

/// The items of a section under the default deployment option, in document order. Left out are items with
/// `ovf:bound` of `min` or `max` (DSP0243 1.1.0, 8.4) and items of other options (9.8); where an option repeats an
/// InstanceID, its item stands in place of the general one.
pub(crate) fn collect(
    section: Node<'_, '_>,
    option: Option<&str>,
    warnings: &mut Vec<String>,
) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    for node in section.children() {
        if !["Item", "StorageItem", "EthernetPortItem"]
            .iter()
            .any(|name| is_item(node, name))
        {
            continue;
        }
        if xml::attribute(node, "bound").is_some_and(|bound| bound != "normal" && !bound.is_empty())
        {
            continue;
        }
        let options: Vec<&str> = xml::attribute(node, "configuration")
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let chosen = option.is_some_and(|option| options.contains(&option));
        if !options.is_empty() && !chosen {
            continue;
        }
        let Some(item) = read(node, warnings) else {
            continue;
        };
        let same = |other: &Item| other.instance.is_some() && other.instance == item.instance;
        match items.iter().position(same) {
            Some(index) if chosen => items[index] = item,
            _ => items.push(item),
        }
    }
    items
}

fn is_item(node: Node<'_, '_>, name: &str) -> bool {
    xml::is_ovf(node) && node.tag_name().name() == name
}

fn read(node: Node<'_, '_>, warnings: &mut Vec<String>) -> Option<Item> {
    let name = xml::cim_text(node, "ElementName")
        .or_else(|| xml::cim_text(node, "Caption"))
        .unwrap_or_default();
    let kind = xml::cim_text(node, "ResourceType");
    let Some(kind) = kind.as_deref().and_then(|kind| kind.parse().ok()) else {
        let found = kind.map_or_else(|| "none".to_owned(), |kind| format!("`{}`", shown(&kind)));
        warnings.push(format!(
            "ignoring item `{}`: expected a number as ResourceType, found {found}",
            shown(&name)
        ));
        return None;
    };
    let sub_types = xml::cim_text(node, "ResourceSubType")
        .unwrap_or_default()
        .to_lowercase();
    let split = |c: char| c == ',' || c.is_whitespace();
    let cores = node
        .children()
        .find(|child| xml::is_vmw(*child, "CoresPerSocket"))
        .map(xml::text);
    Some(Item {
        kind,
        sub_types: sub_types
            .split(split)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect(),
        instance: xml::cim_text(node, "InstanceID"),
        name,
        parent: xml::cim_text(node, "Parent"),
        address: xml::cim_text(node, "Address"),
        address_on_parent: xml::cim_text(node, "AddressOnParent")
            .and_then(|text| text.parse().ok()),
        host_resource: xml::cim_text(node, "HostResource"),
        connection: xml::cim_text(node, "Connection"),
        quantity: xml::cim_text(node, "VirtualQuantity"),
        units: xml::cim_text(node, "AllocationUnits"),
        cores_per_socket: cores.and_then(|text| text.parse().ok()),
    })
}
