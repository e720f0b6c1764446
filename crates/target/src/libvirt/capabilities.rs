//! What QEMU behind libvirt must be able to do for the domain: virtualisation, firmware, TPM. Asked before any work,
//! because `define`, which would refuse it, comes after the copy.

use roxmltree::{Document, Node};
use types::Firmware;

use crate::libvirt::virsh::Virsh;
use crate::{DomainType, Error, ErrorKind, Plan, Result};

/// What the host has to offer beyond what was required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offers {
    /// It can emulate a TPM 2.0 (swtpm is installed).
    pub(crate) tpm: bool,
}

/// Refuses when the host cannot run domains of this type, or has no firmware for a UEFI guest.
pub(crate) fn check(virsh: &Virsh, plan: &Plan<'_>, domain_type: DomainType) -> Result<Offers> {
    if virsh.uri().driver != "qemu" {
        return Ok(Offers { tpm: true });
    }
    let kind = match domain_type {
        DomainType::Kvm => "kvm",
        DomainType::Qemu => "qemu",
    };
    let ask = |more: &[&str]| {
        let virttype = format!("--virttype={kind}");
        virsh
            .run(&[&["domcapabilities", &virttype], more].concat())
            .map_err(|error| {
                let what = format!(
                    "libvirt at {} cannot run domains of type `{kind}`",
                    virsh.label()
                );
                Error::new(ErrorKind::Unsupported, what).caused_by(error)
            })
    };
    let mut text = ask(&[])?;
    // Without a word libvirt describes i440fx; the machine of a UEFI guest is q35.
    let x86 = text.contains("<arch>x86_64</arch>");
    let uefi = firmware(plan) == Some(Firmware::Uefi);
    if x86 && uefi {
        text = ask(&["--machine=q35"])?;
    }
    read(
        &text,
        uefi,
        uefi && x86 && plan.machine.secure_boot,
        virsh.label(),
    )
}

/// The guest's own firmware, once it is known, wins over what the source says.
fn firmware(plan: &Plan<'_>) -> Option<Firmware> {
    plan.caps
        .and_then(|caps| caps.firmware)
        .or(plan.machine.firmware)
}

/// Reads `<domainCapabilities>` (<https://libvirt.org/formatdomaincaps.html>).
fn read(xml: &str, uefi: bool, secure_boot: bool, label: &str) -> Result<Offers> {
    let doc = Document::parse(xml).map_err(|e| {
        Error::new(ErrorKind::Command, "the domain capabilities are not XML").caused_by(e)
    })?;
    let missing = if uefi && !offers(&doc, "os", "firmware", "efi") {
        "no UEFI firmware"
    } else if secure_boot && !offers(&doc, "os", "secure", "yes") {
        "no UEFI firmware with Secure Boot"
    } else {
        // Without swtpm libvirt offers the passthrough of a TPM of the host only.
        return Ok(Offers {
            tpm: offers(&doc, "tpm", "backendModel", "emulator"),
        });
    };
    Err(Error::new(
        ErrorKind::NotFound,
        format!("the guest needs UEFI, and libvirt at {label} has {missing}"),
    )
    .with_hint("install the package ovmf (Debian) or edk2-ovmf (Fedora) there"))
}

/// Whether `<enum name='NAME'>` below `<part>` lists the value.
fn offers(doc: &Document<'_>, part: &str, name: &str, value: &str) -> bool {
    let below = |n: &Node<'_, '_>| n.ancestors().any(|up| up.has_tag_name(part));
    let lists = |n: Node<'_, '_>| {
        n.children()
            .any(|v| v.has_tag_name("value") && v.text() == Some(value))
    };
    doc.descendants()
        .filter(|n| n.has_tag_name("enum") && n.attribute("name") == Some(name))
        .any(|n| below(&n) && lists(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(firmware: &str, secure: &str, tpm: &str) -> String {
        format!(
            "<domainCapabilities><arch>x86_64</arch><os supported='yes'><enum name='firmware'>{firmware}</enum>\
             <loader supported='yes'><enum name='secure'><value>no</value>{secure}</enum></loader></os>\
             <devices><disk><enum name='firmware'><value>efi</value></enum></disk>\
             <tpm><enum name='backendModel'><value>passthrough</value>{tpm}</enum></tpm></devices></domainCapabilities>"
        )
    }

    const EFI: &str = "<value>bios</value><value>efi</value>";

    #[test]
    fn firmware_is_read_from_the_os_part_and_only_when_needed() {
        read(&caps(EFI, "", ""), true, false, "x").unwrap();
        read(&caps(EFI, "<value>yes</value>", ""), true, true, "x").unwrap();
        read(&caps("", "", ""), false, false, "x").unwrap();
        let error = read(&caps(EFI, "", ""), true, true, "x").unwrap_err();
        assert!(error.to_string().contains("Secure Boot"), "{error}");
        assert_eq!(
            read(&caps("", "", ""), true, false, "x")
                .unwrap_err()
                .kind(),
            ErrorKind::NotFound
        );
        assert_eq!(
            read("<x", true, false, "x").unwrap_err().kind(),
            ErrorKind::Command
        );
    }

    #[test]
    fn a_tpm_needs_the_emulator() {
        assert_eq!(
            read(&caps("", "", ""), false, false, "x").unwrap(),
            Offers { tpm: false }
        );
        let emulator = "<value>emulator</value>";
        assert_eq!(
            read(&caps("", "", emulator), false, false, "x").unwrap(),
            Offers { tpm: true }
        );
    }

    #[test]
    fn the_guests_firmware_wins_once_it_is_known() {
        let mut sample = crate::domain::samples::bios();
        sample.machine.firmware = None;
        sample.caps.firmware = Some(Firmware::Uefi);
        let plan = |caps| Plan {
            machine: &sample.machine,
            caps,
            estimated_bytes: vec![],
        };
        assert_eq!(firmware(&plan(None)), None);
        assert_eq!(firmware(&plan(Some(&sample.caps))), Some(Firmware::Uefi));
    }
}
