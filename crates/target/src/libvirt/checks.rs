//! What libvirt must have for the domain: a free name, the networks, QEMU with the right virtualisation and
//! firmware. All of it is asked before any work.

use std::path::Path;

use types::{Firmware, Machine, NicNetwork};

use crate::libvirt::virsh::Virsh;
use crate::{DomainType, Error, ErrorKind, Result};

/// Refuses a name that a domain of this connection has.
pub(crate) fn refuse_taken_domain(virsh: &Virsh, name: &str) -> Result<()> {
    if !virsh.names(&["list", "--all", "--name"])?.iter().any(|domain| domain == name) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::NameTaken, format!("libvirt at {} has a domain `{name}` already", virsh.label()))
        .with_hint("give the result another name with -on NAME, or undefine that domain first"))
}

/// Refuses networks and bridges that do not exist. Gives notes on those that are not ready.
pub(crate) fn networks(virsh: &Virsh, machine: &Machine) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let mut seen = Vec::new();
    let mut lists: Option<(Vec<String>, Vec<String>)> = None;
    for nic in machine.nics.iter().filter(|nic| {
        let new = !seen.contains(&&nic.network);
        seen.push(&nic.network);
        new
    }) {
        match &nic.network {
            NicNetwork::Network(name) => {
                let (all, active) = match &mut lists {
                    Some(lists) => lists,
                    none => none.insert((
                        virsh.names(&["net-list", "--all", "--name"])?,
                        virsh.names(&["net-list", "--name"])?,
                    )),
                };
                if !all.contains(name) {
                    return Err(no_network(virsh, name, all));
                }
                if !active.contains(name) {
                    notes.push(format!("the network `{name}` is not active: virsh net-start {name}"));
                }
            }
            NicNetwork::Bridge(name) if virsh.uri().remote => {
                notes.push(format!("whether {} has the bridge `{name}` was not looked up", virsh.label()));
            }
            NicNetwork::Bridge(name) => refuse_absent_bridge(Path::new("/sys/class/net"), name)?,
        }
    }
    Ok(notes)
}

fn no_network(virsh: &Virsh, name: &str, known: &[String]) -> Error {
    let known = if known.is_empty() { "there is none".to_owned() } else { format!("there is {}", known.join(", ")) };
    Error::new(ErrorKind::NotFound, format!("libvirt at {} has no network `{name}`: {known}", virsh.label()))
        .with_hint("map the networks of the source with -n SOURCE:NETWORK or -b SOURCE:BRIDGE")
}

fn refuse_absent_bridge(interfaces: &Path, name: &str) -> Result<()> {
    if !name.is_empty() && !name.contains('/') && interfaces.join(name).exists() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::NotFound, format!("this host has no bridge `{name}`"))
        .with_hint("create it, or map the networks of the source with -n or -b"))
}

/// Refuses when the host cannot run domains of this type, or has no firmware for a UEFI guest.
pub(crate) fn capabilities(virsh: &Virsh, machine: &Machine, domain_type: DomainType) -> Result<()> {
    if virsh.uri().driver != "qemu" {
        return Ok(());
    }
    let kind = match domain_type {
        DomainType::Kvm => "kvm",
        DomainType::Qemu => "qemu",
    };
    let ask = |more: &[&str]| {
        let virttype = format!("--virttype={kind}");
        virsh.run(&[&["domcapabilities", &virttype], more].concat()).map_err(|error| {
            Error::new(
                ErrorKind::Unsupported,
                format!("libvirt at {} cannot run domains of type `{kind}`", virsh.label()),
            )
            .caused_by(error)
        })
    };
    let text = ask(&[])?;
    if machine.firmware != Some(Firmware::Uefi) {
        return Ok(());
    }
    // The machine of a UEFI guest is q35 on x86; without a word libvirt describes i440fx.
    let x86 = text.contains("<arch>x86_64</arch>");
    let text = if x86 { ask(&["--machine=q35"])? } else { text };
    refuse_absent_firmware(&text, machine.secure_boot && x86, virsh.label())
}

/// Reads `<domainCapabilities>` (<https://libvirt.org/formatdomaincaps.html>).
fn refuse_absent_firmware(xml: &str, secure_boot: bool, label: &str) -> Result<()> {
    let doc = roxmltree::Document::parse(xml)
        .map_err(|e| Error::new(ErrorKind::Command, "the domain capabilities are not XML").caused_by(e))?;
    let offers = |name: &str, value: &str| {
        let in_os = |n: &roxmltree::Node<'_, '_>| n.ancestors().any(|up| up.has_tag_name("os"));
        let lists = |n: roxmltree::Node<'_, '_>| n.children().any(|v| v.has_tag_name("value") && v.text() == Some(value));
        doc.descendants().filter(|n| n.has_tag_name("enum") && n.attribute("name") == Some(name)).any(|n| in_os(&n) && lists(n))
    };
    let missing = if !offers("firmware", "efi") {
        "no UEFI firmware"
    } else if secure_boot && !offers("secure", "yes") {
        "no UEFI firmware with Secure Boot"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::NotFound, format!("the guest needs UEFI, and libvirt at {label} has {missing}"))
        .with_hint("install the package ovmf (Debian) or edk2-ovmf (Fedora) there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_is_an_interface_of_this_host() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("br0")).unwrap();
        refuse_absent_bridge(dir.path(), "br0").unwrap();
        for name in ["br1", "", "../", "br0/../br0"] {
            assert_eq!(refuse_absent_bridge(dir.path(), name).unwrap_err().kind(), ErrorKind::NotFound, "{name}");
        }
    }

    #[test]
    fn firmware_is_read_from_the_os_part_of_the_capabilities() {
        let caps = |firmware: &str, secure: &str| {
            format!(
                "<domainCapabilities><arch>x86_64</arch><os supported='yes'><enum name='firmware'>{firmware}</enum>\
                 <loader supported='yes'><enum name='secure'><value>no</value>{secure}</enum></loader></os>\
                 <devices><enum name='firmware'><value>efi</value></enum></devices></domainCapabilities>"
            )
        };
        let (efi, yes) = ("<value>bios</value><value>efi</value>", "<value>yes</value>");
        refuse_absent_firmware(&caps(efi, ""), false, "x").unwrap();
        refuse_absent_firmware(&caps(efi, yes), true, "x").unwrap();
        let error = refuse_absent_firmware(&caps(efi, ""), true, "x").unwrap_err();
        assert!(error.to_string().contains("Secure Boot"));
        assert_eq!(refuse_absent_firmware(&caps("", ""), false, "x").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(refuse_absent_firmware("<x", false, "x").unwrap_err().kind(), ErrorKind::Command);
    }
}
