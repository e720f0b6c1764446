//! OVF descriptors (DMTF DSP0243): 1.x, 2.x, and the draft 0.9 that old VMware and VirtualBox write.
//!
//! Reads one virtual system, of several the one that the user names: name, processors, memory, firmware, disks, drives,
//! adapters, and the extensions of VMware, VirtualBox, XenServer and oVirt that tell more of these. Refuses by name: document
//! type declarations, encrypted parts, remote references, compression other than gzip. The default deployment option is
//! taken; texts in other languages, and files with such texts, are left alone.

mod files;
mod items;
mod platform;
mod storage;
mod units;
mod xml;

use roxmltree::Node;
use types::{Display, Machine};

use crate::error::{Error, ErrorKind, Result, shown};

use platform::System;
pub(crate) use storage::{DiskFile, FileRef};

/// Virtual systems named in a message.
const MAX_LISTED: usize = 10;

/// What a descriptor says.
#[derive(Clone, Debug)]
pub(crate) struct Descriptor {
    /// The machine; labels of its disks are references, sizes are what the descriptor claims.
    pub(crate) machine: Machine,
    /// Files in the order of the machine's disks.
    pub(crate) files: Vec<DiskFile>,
    /// What the administrator should know.
    pub(crate) warnings: Vec<String>,
}

/// Reads a descriptor; `fallback_name` is for a machine that has none.
/// `wanted` chooses among several machines by `ovf:id` or name.
pub(crate) fn parse(text: &str, fallback_name: &str, wanted: Option<&str>) -> Result<Descriptor> {
    let document = xml::parse(text)?;
    let envelope = document.root_element();
    if !xml::is_envelope(envelope) {
        let tag = envelope.tag_name();
        let (name, uri) = (
            shown(tag.name()),
            shown(tag.namespace().unwrap_or("no namespace")),
        );
        return Err(Error::corrupt(format!(
            "expected an OVF Envelope, found `{name}` of {uri}"
        )));
    }
    refuse_encrypted(envelope)?;
    let node = choose_system(envelope, wanted)?;
    let mut warnings = Vec::new();
    not_understood(envelope, node, &mut warnings);
    let hardware = hardware(node, &mut warnings)?;
    let option = default_option(envelope, &mut warnings);
    let items = items::collect(hardware, option, &mut warnings);
    let system = System { node, hardware };

    let disks = storage::disks(envelope, &items, &mut warnings)?;
    if disks.is_empty() {
        return Err(Error::corrupt(
            "expected a machine with a hard disk, found none",
        ));
    }
    let (disks, files) = disks.into_iter().unzip();
    let (vcpus, topology) = platform::cpus(&items, &mut warnings)?;
    let has = |kind| items.iter().any(|item| item.kind == kind);
    let machine = Machine {
        name: name(node).unwrap_or_else(|| fallback_name.to_owned()),
        hypervisor: system.hypervisor(),
        memory_bytes: platform::memory(&items, &mut warnings)?,
        vcpus,
        topology,
        cpu: types::CpuModel::default(),
        genid: None,
        firmware: system.firmware(&mut warnings),
        secure_boot: system.secure_boot(),
        tpm: system.tpm(&items),
        uuid: system.uuid(),
        os_hint: system.os_hint(),
        disks,
        removables: storage::removables(&items),
        nics: system.nics(&items, &mut warnings),
        display: has(items::kind::GRAPHICS).then_some(Display::Vnc),
        sound: has(items::kind::SOUND),
        details: types::Details::default(),
    };
    Ok(Descriptor {
        machine,
        files,
        warnings,
    })
}

/// The virtual system that is meant; they may stand in collections, which may be nested (DSP0243 1.1.0, 9.9). Of ids and
/// names ids go first, because they are unique.
fn choose_system<'a, 'i>(envelope: Node<'a, 'i>, wanted: Option<&str>) -> Result<Node<'a, 'i>> {
    let systems: Vec<Node<'_, '_>> = envelope
        .descendants()
        .filter(|node| xml::is_kind(*node, "Content", "VirtualSystem"))
        .collect();
    if systems.is_empty() {
        return Err(Error::corrupt("expected a VirtualSystem, found none"));
    }
    let Some(wanted) = wanted else {
        return match systems.as_slice() {
            [one] => Ok(*one),
            many => Err(Error::unsupported(format!(
                "the descriptor holds {} machines, expected one: {}; hint: choose one by --vm NAME",
                many.len(),
                listed(many)
            ))),
        };
    };
    let by_id = |node: &&Node<'_, '_>| xml::attribute(**node, "id") == Some(wanted);
    if let Some(found) = systems.iter().find(by_id) {
        return Ok(*found);
    }
    let mut named = systems
        .iter()
        .filter(|node| name(**node).as_deref() == Some(wanted));
    match (named.next(), named.next()) {
        (Some(found), None) => Ok(*found),
        (None, _) => Err(Error::new(
            ErrorKind::Usage,
            format!(
                "the descriptor has no machine `{}`, only {}",
                shown(wanted),
                listed(&systems)
            ),
        )),
        (Some(_), Some(_)) => {
            let same: Vec<Node<'_, '_>> = systems
                .iter()
                .filter(|node| name(**node).as_deref() == Some(wanted))
                .copied()
                .collect();
            let ids: Vec<String> = same
                .iter()
                .take(MAX_LISTED)
                .map(|node| {
                    format!(
                        "`{}`",
                        shown(xml::attribute(*node, "id").unwrap_or_default())
                    )
                })
                .collect();
            Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "the descriptor has {} machines `{}`; hint: give --vm one of the ids {}",
                    same.len(),
                    shown(wanted),
                    ids.join(", ")
                ),
            ))
        }
    }
}

/// Machines by name for a message.
fn listed(systems: &[Node<'_, '_>]) -> String {
    let label = |node: &Node<'_, '_>| name(*node).unwrap_or_else(|| "unnamed".to_owned());
    let listed: Vec<String> = systems
        .iter()
        .take(MAX_LISTED)
        .map(|node| format!("`{}`", shown(&label(node))))
        .collect();
    let more = match systems.len() - listed.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", listed.join(", "))
}

/// Refuses what needs a key (DSP0243 2.1.1, 9.17 and 10: XML Encryption).
fn refuse_encrypted(envelope: Node<'_, '_>) -> Result<()> {
    let encrypted = |node: &Node<'_, '_>| {
        xml::is_encryption(*node) || xml::is_kind(*node, "Section", "EncryptionSection")
    };
    match envelope.descendants().find(encrypted) {
        None => Ok(()),
        Some(node) => Err(Error::unsupported(format!(
            "the package is encrypted (`{}`), which is not supported",
            shown(node.tag_name().name())
        ))),
    }
}

/// Warns of sections that the exporter wants understood (`ovf:required`, DSP0243 1.1.0, 6.3: true where it is absent) and
/// that are not DSP0243's own.
fn not_understood(envelope: Node<'_, '_>, system: Node<'_, '_>, warnings: &mut Vec<String>) {
    let required =
        |node: Node<'_, '_>| !matches!(xml::attribute(node, "required"), Some("false" | "0"));
    let mut names: Vec<String> = Vec::new();
    for node in envelope.children().chain(system.children()) {
        if node.is_element() && !xml::is_ovf(node) && required(node) {
            let name = format!("`{}`", shown(node.tag_name().name()));
            if !names.contains(&name) && names.len() < MAX_LISTED {
                names.push(name);
            }
        }
    }
    if !names.is_empty() {
        warnings.push(format!(
            "the descriptor has sections that it calls required and that are not known here: {}",
            names.join(", ")
        ));
    }
}

/// Name, else `ovf:id`.
fn name(system: Node<'_, '_>) -> Option<String> {
    let id = || xml::attribute(system, "id").map(str::to_owned);
    let name = xml::child(system, "Name")
        .map(xml::text)
        .filter(|name| !name.is_empty());
    name.or_else(id).filter(|name| !name.is_empty())
}

/// The hardware; of several alternatives (DSP0243 1.1.0, 8.1) the first.
fn hardware<'a, 'i>(system: Node<'a, 'i>, warnings: &mut Vec<String>) -> Result<Node<'a, 'i>> {
    let mut sections = xml::sections(system, "VirtualHardwareSection");
    let Some(first) = sections.next() else {
        return Err(Error::corrupt(
            "expected a VirtualHardwareSection, found none",
        ));
    };
    if sections.next().is_some() {
        warnings.push(
            "the descriptor offers several VirtualHardwareSections; taking the first".to_owned(),
        );
    }
    Ok(first)
}

/// Id of the default deployment option (DSP0243 1.1.0, 9.8): the marked one, else the first.
fn default_option<'a>(envelope: Node<'a, '_>, warnings: &mut Vec<String>) -> Option<&'a str> {
    let section = xml::sections(envelope, "DeploymentOptionSection").next()?;
    let options: Vec<Node<'_, '_>> = xml::children(section, "Configuration").collect();
    let marked =
        |node: &&Node<'_, '_>| matches!(xml::attribute(**node, "default"), Some("true" | "1"));
    let chosen = options.iter().find(marked).or_else(|| options.first())?;
    let id = xml::attribute(*chosen, "id")?;
    if options.len() > 1 {
        warnings.push(format!(
            "the descriptor has {} deployment options; taking `{}`",
            options.len(),
            shown(id)
        ));
    }
    Some(id)
}

#[cfg(test)]
mod tests;
