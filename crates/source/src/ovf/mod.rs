//! OVF descriptors (DMTF DSP0243): 1.x, 2.x, and the draft 0.9 that old VMware and VirtualBox write.
//!
//! Reads one virtual system: name, processors, memory, firmware, disks, drives, adapters, and the extensions of VMware and
//! VirtualBox that tell more of these. Refuses by name: document type declarations, several virtual systems,
//! blank, delta, compressed and chunked disks, remote references. The default deployment option is taken.

mod items;
mod platform;
mod storage;
mod units;
mod xml;

use roxmltree::Node;
use types::{Display, Machine};

use crate::error::{Error, Result, shown};

use platform::System;
pub(crate) use storage::DiskFile;

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
pub(crate) fn parse(text: &str, fallback_name: &str) -> Result<Descriptor> {
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
    let node = only_system(envelope)?;
    let mut warnings = Vec::new();
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

/// The one virtual system, which may stand in a collection.
fn only_system<'a, 'i>(envelope: Node<'a, 'i>) -> Result<Node<'a, 'i>> {
    let systems: Vec<Node<'_, '_>> = envelope
        .descendants()
        .filter(|node| xml::is_kind(*node, "Content", "VirtualSystem"))
        .collect();
    match systems.as_slice() {
        [one] => Ok(*one),
        [] => Err(Error::corrupt("expected a VirtualSystem, found none")),
        many => {
            let label = |node: &Node<'_, '_>| name(*node).unwrap_or_else(|| "unnamed".to_owned());
            let listed: Vec<String> = many
                .iter()
                .take(MAX_LISTED)
                .map(|node| format!("`{}`", shown(&label(node))))
                .collect();
            let more = match many.len() - listed.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let message = format!(
                "the descriptor holds {} machines, expected one: {}{more}",
                many.len(),
                listed.join(", ")
            );
            Err(Error::unsupported(message))
        }
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
