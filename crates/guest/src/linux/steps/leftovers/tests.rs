//! Each family in a tree: what is there before and after, and nothing more the second time.

use std::fs;
use std::os::unix::fs::symlink;

use crate::tests::tree::{KVER, Packed, Tree, mac, options, part, tools};

/// A Debian with these files and links (`path -> target`), and these packages.
fn guest(files: &[(&str, &str)], links: &[(&str, &str)], packages: &[&str]) -> Tree {
    let tree = Tree::debian();
    tree.add_kernel(KVER, Packed::No);
    tree.add_initrd(KVER, &["sd_mod"], |cpio| cpio.to_vec());
    for (path, text) in files {
        tree.put(path, text.as_bytes());
    }
    for (path, target) in links {
        fs::create_dir_all(tree.at(path).parent().unwrap()).unwrap();
        symlink(target, tree.at(path)).unwrap();
    }
    let status = |name: &&str| format!("Package: {name}\nStatus: install ok installed\n\n");
    let all: String = packages
        .iter()
        .chain(&["qemu-guest-agent"])
        .map(status)
        .collect();
    tree.put("/var/lib/dpkg/status", all.as_bytes());
    tree
}

/// Converts, and says what the steps of this part changed; converting again changes nothing.
fn converted(tree: &Tree) -> (Vec<String>, Vec<String>) {
    let outcome = tree.convert(&options(&[mac(1)]));
    let ours = [
        "hypervisor-tools",
        "cloud-init",
        "storage-config",
        "kdump",
        "first-boot",
    ];
    let mut lines = Vec::new();
    for change in &outcome.changes {
        if ours.contains(&change.step.as_str()) {
            let sign = match (&change.before, &change.after) {
                (None, Some(_)) => "+",
                (Some(_), None) => "-",
                _ => "~",
            };
            lines.push(format!("{sign} {}", change.path));
        }
    }
    let after = tree.fingerprint();
    assert_eq!(tree.convert(&options(&[mac(1)])).changes, []);
    assert_eq!(tree.fingerprint(), after);
    (lines, outcome.warnings)
}

fn script(tree: &Tree, name: &str) -> String {
    tree.text(&format!("/var/lib/v2v/firstboot/scripts/{name}"))
}

const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";

#[test]
fn vmware_tools_from_the_archive_and_open_vm_tools_go() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = guest(
        &[
            ("/usr/bin/vmware-uninstall-tools.pl", "#!/usr/bin/perl\n"),
            (
                "/etc/modprobe.d/vmware-tools.conf",
                "install pciehp /usr/lib/vmware-tools/x\nalias eth0 vmxnet3\n# c\n",
            ),
            ("/etc/modules", "loop\nvmhgfs\n"),
            (
                "/etc/X11/xorg.conf",
                "Section \"Device\"\n\tDriver \"vmware\"\n\tBusID \"PCI:0:15:0\"\nEndSection\n",
            ),
            ("/usr/lib/xorg/modules/drivers/modesetting_drv.so", ""),
            (
                "/etc/xdg/autostart/vmware-user.desktop",
                "[Desktop Entry]\nExec=vmware-user\n",
            ),
            (
                "/etc/fstab",
                "/dev/sda1 / ext4 defaults 0 1\n.host:/ /mnt/hgfs fuse.vmhgfs-fuse allow_other 0 0\n",
            ),
            (
                "/etc/yum.repos.d/vmware-tools.repo",
                "[x]\nbaseurl=http://packages.vmware.com/tools/esx/x\nenabled = 1\n",
            ),
            ("/usr/lib/systemd/system/x.target.wants/vgauthd.service", ""),
        ],
        &[
            (
                "/etc/systemd/system/multi-user.target.wants/open-vm-tools.service",
                "/lib/systemd/system/open-vm-tools.service",
            ),
            (
                "/etc/systemd/system/multi-user.target.wants/cron.service",
                "/lib/systemd/system/cron.service",
            ),
            (
                "/etc/systemd/system/vmtoolsd.service",
                "/lib/systemd/system/open-vm-tools.service",
            ),
            ("/etc/rc3.d/S03vmware-tools", "../init.d/vmware-tools"),
            ("/etc/rc0.d/K08vmware-tools", "../init.d/vmware-tools"),
        ],
        &[
            "open-vm-tools",
            "open-vm-tools-desktop",
            "vmware-workstation",
            "bash",
        ],
    );
    let (changes, _) = converted(&tree);
    for change in [
        "- /etc/systemd/system/multi-user.target.wants/open-vm-tools.service",
        "- /etc/systemd/system/vmtoolsd.service",
        "+ /etc/systemd/system/vgauthd.service",
        "- /etc/rc3.d/S03vmware-tools",
        "+ /etc/rc3.d/K97vmware-tools",
        "~ /etc/modprobe.d/vmware-tools.conf",
        "~ /etc/modules",
        "~ /etc/X11/xorg.conf",
        "+ /etc/X11/xorg.conf.pre-v2v",
        "~ /etc/xdg/autostart/vmware-user.desktop",
        "~ /etc/fstab",
        "~ /etc/yum.repos.d/vmware-tools.repo",
    ] {
        assert!(
            changes.iter().any(|have| have == change),
            "{change}: {changes:#?}"
        );
    }
    assert!(tree.at(&format!("{WANTS}/cron.service")).is_symlink());
    assert!(tree.at("/etc/rc0.d/K08vmware-tools").is_symlink());
    assert_eq!(tree.text("/etc/modules"), "loop\n# v2v: vmhgfs\n");
    assert!(
        tree.text("/etc/fstab")
            .contains("\n# v2v: .host:/ /mnt/hgfs")
    );
    assert!(
        tree.text("/etc/yum.repos.d/vmware-tools.repo")
            .contains("enabled=0")
    );
    assert!(script(&tree, "001-uninstall-vmware").contains("'/usr/bin/vmware-uninstall-tools.pl'"));
    let removal = script(&tree, "002-remove-tools.again");
    assert!(
        removal.contains("packages='open-vm-tools open-vm-tools-desktop'\n"),
        "{removal}"
    );
    assert!(removal.contains("dpkg --purge \"$@\""));
    assert!(
        tree.at("/etc/systemd/system/multi-user.target.wants/v2v-firstboot.service")
            .is_symlink()
    );
}

#[test]
fn each_other_family_is_disabled() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    type Case = (
        &'static str,
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static str,
    );
    let cases: [Case; 8] = [
        (
            "vboxadd-service",
            "",
            &[
                ("/opt/VBoxGuestAdditions-7.0.12/uninstall.sh", ""),
                ("/etc/modules-load.d/vbox.conf", "vboxguest\n"),
            ],
            "+ /var/lib/v2v/firstboot/scripts/001-uninstall-virtualbox",
        ),
        (
            "hv-kvp-daemon",
            "hyperv-daemons",
            &[],
            "+ /var/lib/v2v/firstboot/scripts/001-remove-tools.again",
        ),
        (
            "xe-linux-distribution",
            "xe-guest-utilities",
            &[(
                "/etc/fstab",
                "xenfs /proc/xen xenfs defaults 0 0\n/dev/sda1 / ext4 x 0 0\n",
            )],
            "~ /etc/fstab",
        ),
        (
            "prltoolsd",
            "",
            &[("/usr/lib/parallels-tools/version", "1")],
            "",
        ),
        (
            "ngt_guest_agent",
            "",
            &[("/usr/local/nutanix/ngt/x", "")],
            "",
        ),
        (
            "walinuxagent",
            "walinuxagent",
            &[("/etc/udev/rules.d/66-azure-storage.rules", "x")],
            "+ /etc/udev/rules.d/66-azure-storage.rules.pre-v2v",
        ),
        (
            "google-startup-scripts",
            "google-guest-agent",
            &[(
                "/etc/nsswitch.conf",
                "passwd: files cache_oslogin oslogin\n",
            )],
            "~ /etc/nsswitch.conf",
        ),
        (
            "hibinit-agent",
            "ec2-net-utils",
            &[("/usr/lib/udev/rules.d/53-ec2-network-interfaces.rules", "x")],
            "+ /etc/udev/rules.d/53-ec2-network-interfaces.rules",
        ),
    ];
    for (service, package, files, change) in cases {
        let link = format!("{WANTS}/{service}.service");
        let unit = format!("/usr/lib/systemd/system/{service}.service");
        let packages: Vec<&str> = Some(package)
            .into_iter()
            .filter(|name| !name.is_empty())
            .collect();
        let tree = guest(files, &[(&link, &unit)], &packages);
        tree.put(&unit, b"[Unit]\n");
        let (changes, warnings) = converted(&tree);
        assert!(
            changes.contains(&format!("- {link}")),
            "{service}: {changes:#?}"
        );
        assert!(
            change.is_empty() || changes.iter().any(|have| have == change),
            "{service}: {changes:#?}"
        );
        assert!(
            !change.is_empty()
                || warnings
                    .iter()
                    .any(|said| said.contains("disabled, not removed")),
            "{service}: {warnings:#?}"
        );
    }
}

#[test]
fn other_inits_lose_the_services_too() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = guest(
        &[
            ("/etc/init/vmware-tools.conf", "start on x\n"),
            ("/sbin/initctl", ""),
        ],
        &[
            (
                "/etc/runlevels/boot/open-vm-tools",
                "/etc/init.d/open-vm-tools",
            ),
            ("/etc/runit/runsvdir/default/vmtoolsd", "/etc/sv/vmtoolsd"),
        ],
        &["open-vm-tools"],
    );
    fs::remove_file(tree.at("/usr/sbin/init")).unwrap();
    tree.put("/usr/sbin/init", b"upstart");
    let (changes, _) = converted(&tree);
    for change in [
        "- /etc/runlevels/boot/open-vm-tools",
        "- /etc/runit/runsvdir/default/vmtoolsd",
        "+ /etc/init/vmware-tools.override",
        "+ /etc/init/v2v-firstboot.conf",
    ] {
        assert!(
            changes.iter().any(|have| have == change),
            "{change}: {changes:#?}"
        );
    }
}

#[test]
fn a_guest_of_kvm_is_left_alone() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = guest(&[], &[], &["bash"]);
    let (changes, _) = converted(&tree);
    assert_eq!(changes, Vec::<String>::new());
}

#[test]
fn a_manager_registered_for_other_places_stays() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let link = format!("{WANTS}/amazon-ssm-agent.service");
    for (key, stays) in [
        ("/var/lib/amazon/ssm/Vault/Store/RegistrationKey", true),
        ("/etc/x", false),
    ] {
        let tree = guest(
            &[(key, "x")],
            &[(&link, "/x/amazon-ssm-agent.service")],
            &["amazon-ssm-agent"],
        );
        converted(&tree);
        assert_eq!(tree.at(&link).is_symlink(), stays);
        let script = tree.at("/var/lib/v2v/firstboot/scripts/001-remove-tools.again");
        assert_eq!(!script.exists(), stays);
    }
}

#[test]
fn names_from_a_hostile_database_never_reach_the_shell() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = guest(
        &[],
        &[],
        &[
            "open-vm-tools';reboot;'",
            "open-vm-tools-$(id)",
            "open-vm-tools-x",
        ],
    );
    converted(&tree);
    let removal = script(&tree, "001-remove-tools.again");
    assert!(
        removal.contains("packages='open-vm-tools-x'\n"),
        "{removal}"
    );
}

/// The removal script with a package manager that refuses what is needed and is busy at first.
#[test]
fn packages_that_others_need_stay_and_the_rest_goes() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = guest(
        &[],
        &[],
        &["open-vm-tools", "open-vm-tools-desktop", "walinuxagent"],
    );
    converted(&tree);
    let scratch = tempfile::tempdir().unwrap();
    let bin = scratch.path().join("dpkg");
    let fake = "#!/bin/sh\nshift\n[ $# -eq 1 ] || exit 1\n[ \"$1\" = open-vm-tools ] && { echo needed; exit 1; }\necho \"gone $1\"\n";
    fs::write(&bin, fake).unwrap();
    crate::tests::tree::run(std::process::Command::new("chmod").arg("+x").arg(&bin));
    let path = format!(
        "{}:{}",
        scratch.path().display(),
        std::env::var("PATH").unwrap()
    );
    let said = crate::tests::tree::run(
        std::process::Command::new("/bin/sh")
            .arg(tree.at("/var/lib/v2v/firstboot/scripts/001-remove-tools.again"))
            .env("PATH", path),
    );
    let said = String::from_utf8(said).unwrap();
    assert!(
        said.contains("gone open-vm-tools-desktop") && said.contains("gone walinuxagent"),
        "{said}"
    );
    assert!(
        said.contains("left, as other packages need them: open-vm-tools\n"),
        "{said}"
    );
}

#[test]
fn a_filter_of_lvm_that_hides_its_disks_becomes_a_comment() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let conf = "devices {\n\tfilter = [ \"a|/dev/sda2|\",\n\t\t\"r|.*|\" ]\n\tscan_lvs = 0\n}\n";
    let mut tree = guest(&[("/etc/lvm/lvm.conf", conf)], &[], &[]);
    let pv = part(0, 3, "LVM2_member", Some("abc-def"));
    tree.storage.devices.push(pv);
    let (changes, _) = converted(&tree);
    assert_eq!(
        changes,
        ["+ /etc/lvm/lvm.conf.pre-v2v", "~ /etc/lvm/lvm.conf"]
    );
    assert_eq!(tree.text("/etc/lvm/lvm.conf.pre-v2v"), conf);
    assert_eq!(
        tree.text("/etc/lvm/lvm.conf"),
        "devices {\n# v2v: \tfilter = [ \"a|/dev/sda2|\",\n# v2v: \t\t\"r|.*|\" ]\n\tscan_lvs = 0\n}\n"
    );
}

#[test]
fn storage_configuration_and_kdump_lose_the_old_names() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = guest(
        &[
            (
                "/etc/mdadm/mdadm.conf",
                "DEVICE /dev/sda*\nARRAY /dev/md0 UUID=1:2\n",
            ),
            ("/usr/bin/kdumpctl", ""),
            ("/boot/initramfs-5.14.0kdump.img", "old"),
            ("/etc/cloud/cloud.cfg", "datasource_list: [ Ec2, None ]\n"),
        ],
        &[],
        &[],
    );
    let (changes, warnings) = converted(&tree);
    assert_eq!(
        changes,
        [
            "+ /etc/cloud/cloud.cfg.d/99_v2v.cfg",
            "+ /etc/mdadm/mdadm.conf.pre-v2v",
            "~ /etc/mdadm/mdadm.conf",
            "- /boot/initramfs-5.14.0kdump.img",
        ]
    );
    assert!(
        warnings
            .iter()
            .any(|said| said.contains("told to ask Ec2 only"))
    );
}
