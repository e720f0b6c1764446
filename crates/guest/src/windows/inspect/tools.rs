//! Programs of hypervisors and clouds, with what uninstalls them; and the guest agent of QEMU.

use types::{Guid, WindowsProgram};

use super::reader::{Keys, Reader};

const UNINSTALL: [&str; 2] = [
    "Microsoft\\Windows\\CurrentVersion\\Uninstall",
    "Wow6432Node\\Microsoft\\Windows\\CurrentVersion\\Uninstall",
];
/// More than any guest has.
const TOOLS_MAX: usize = 64;

/// Kind of tools by the words that their DisplayName holds, in lower case; the first match decides.
const KINDS: &[(&str, &[&str])] = &[
    ("vmware", &["vmware tools"]),
    ("virtualbox", &["virtualbox guest additions"]),
    (
        "hyperv",
        &[
            "hyper-v integration",
            "hyper-v guest components",
            "virtual machine additions",
            "microsoft hyper-v guest",
        ],
    ),
    (
        "xen",
        &[
            "xentools",
            "xenserver tools",
            "xenserver windows",
            "citrix hypervisor pv tools",
            "citrix vm tools",
            "xenserver vm tools",
            "xcp-ng windows",
            "xcp-ng guest",
            "xen pv drivers",
            "xen windows",
            "xen guest agent",
            "gpl pv drivers",
            "citrix tools for virtual machines",
            "citrix xen windows",
            "oracle vm windows pv drivers",
            "novell pv",
            "suse vmdp",
            "virtual machine driver pack",
        ],
    ),
    ("parallels", &["parallels tools"]),
    (
        "virtuozzo",
        &[
            "virtuozzo guest tools",
            "virtuozzo tools",
            "virtuozzo hypervisor",
        ],
    ),
    (
        "nutanix",
        &[
            "nutanix guest tools",
            "nutanix guest agent",
            "nutanix virtio",
        ],
    ),
    (
        "aws",
        &[
            "aws pv drivers",
            "amazon ssm agent",
            "ec2configservice",
            "ec2launch",
            "aws nvme",
            "amazon ec2launch",
            "aws-ena",
            "amazon elastic network adapter",
            "aws ena",
        ],
    ),
    (
        "azure",
        &[
            "windows azure vm agent",
            "azure vm agent",
            "azure guest agent",
        ],
    ),
    ("google", &["google compute engine", "google cloud"]),
    (
        "kvm",
        &[
            "qemu guest agent",
            "virtio-win",
            "rhev-",
            "ovirt",
            "spice guest tools",
            "spice agent",
            "cloudbase-init",
        ],
    ),
];

/// Tools of hypervisors that are installed.
pub(super) fn tools(reader: &Reader<'_>) -> Vec<WindowsProgram> {
    let software = reader.software();
    let mut found: Vec<WindowsProgram> = Vec::new();
    for list in UNINSTALL {
        for key in software.all_keys(list) {
            let path = format!("{list}\\{key}");
            let Some(name) = software.text(&path, "DisplayName") else {
                continue;
            };
            let Some(kind) = kind(&name) else {
                continue;
            };
            let program = program(&software, &path, &key, kind, name);
            if found.len() < TOOLS_MAX && !found.contains(&program) {
                found.push(program);
            }
        }
    }
    found.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
    found
}

fn kind(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let mut kinds = KINDS.iter();
    kinds
        .find(|(_, words)| words.iter().any(|word| name.contains(word)))
        .map(|(kind, _)| *kind)
}

fn program(software: &Keys<'_>, path: &str, key: &str, kind: &str, name: String) -> WindowsProgram {
    // Windows Installer calls the key by the product code (Microsoft, "Uninstall Registry Key").
    let by_installer = software.is_set(path, "WindowsInstaller");
    WindowsProgram {
        kind: kind.to_owned(),
        name,
        uninstall: software
            .text(path, "UninstallString")
            .or_else(|| software.text(path, "QuietUninstallString")),
        product_code: (by_installer && Guid::is_braced(key)).then(|| key.to_owned()),
    }
}

/// A service of the guest agent's name, as every installer of it makes.
pub(super) fn has_guest_agent(reader: &Reader<'_>) -> bool {
    let control = reader.control();
    ["QEMU-GA", "qemu-ga"]
        .iter()
        .any(|name| control.has(&format!("Services\\{name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_hypervisor() {
        for (name, want) in [
            ("VMware Tools", Some("vmware")),
            (
                "Oracle VM VirtualBox Guest Additions 5.0.26",
                Some("virtualbox"),
            ),
            ("Citrix Hypervisor PV Tools", Some("xen")),
            ("QEMU guest agent", Some("kvm")),
            ("VMware vSphere Client 6.0", None),
            ("Oracle VM VirtualBox 7.0", None),
        ] {
            assert_eq!(kind(name), want, "{name}");
        }
    }
}
