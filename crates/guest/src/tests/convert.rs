//! Whole conversions: what is changed, that it is recorded, and that doing it twice changes nothing.

use std::fs;
use std::os::unix::fs::symlink;

use types::{DeviceKind, Firmware, MachineType, NetBus, StaticIp};

use super::tree::{ESP_UUID, KVER, Packed, Tree, device, disk, mac, mount, options, part, tools};
use crate::ErrorKind;

const OLD: [&str; 3] = ["scsi_mod", "sd_mod", "vmw_pvscsi"];

fn debian() -> Tree {
    let tree = Tree::debian();
    tree.add_kernel(KVER, Packed::No);
    tree.add_initrd(KVER, &OLD, |cpio| cpio.to_vec());
    let wants = "/etc/systemd/system/multi-user.target.wants";
    fs::create_dir_all(tree.at(wants)).unwrap();
    symlink(
        "/lib/systemd/system/open-vm-tools.service",
        tree.at(&format!("{wants}/open-vm-tools.service")),
    )
    .unwrap();
    symlink(
        "/lib/systemd/system/ssh.service",
        tree.at(&format!("{wants}/ssh.service")),
    )
    .unwrap();
    symlink(
        "/lib/systemd/system/open-vm-tools.service",
        tree.at("/etc/systemd/system/vmtoolsd.service"),
    )
    .unwrap();
    tree.put(
        "/lib/systemd/system/qemu-guest-agent.service",
        b"[Unit]\n[Service]\n[Install]\nWantedBy=dev-virtio\\x2dports-org.qemu.guest_agent.0.device\n",
    );
    tree.put(
        "/etc/lvm/devices/system.devices",
        b"IDTYPE=sys_wwid IDNAME=naa.6000c29\n",
    );
    tree.put(
        "/var/cache/debconf/config.dat",
        b"Name: grub-pc/install_devices\nTemplate: x\nValue: /dev/disk/by-id/scsi-36000c29\nOwners: grub-pc\n\n\
          Name: other/question\nValue: /dev/sda\n",
    );
    tree
}

#[test]
fn a_debian_by_device_names_becomes_one_by_uuids_once() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = debian();
    let outcome = tree.convert(&options(&[mac(1)]));
    let mut report = String::new();
    for change in &outcome.changes {
        let state = match (&change.before, &change.after) {
            (None, Some(_)) => "new",
            (Some(_), None) => "removed",
            _ => "changed",
        };
        report += &format!("{} {state} {}: {}\n", change.step, change.path, change.why);
    }
    report += &format!("warnings: {:#?}\n", outcome.warnings);
    for path in [
        "/etc/fstab",
        "/etc/default/grub",
        "/boot/grub/grub.cfg",
        "/boot/grub/device.map",
        "/etc/initramfs-tools/modules",
        "/etc/initramfs-tools/conf.d/resume",
        "/etc/systemd/network/10-v2v-ens192.link",
        "/var/cache/debconf/config.dat",
    ] {
        report += &format!("=== {path}\n{}", tree.text(path));
    }
    insta::assert_snapshot!(report);
    insta::assert_debug_snapshot!(outcome.caps);

    let after = tree.fingerprint();
    let again = tree.convert(&options(&[mac(1)]));
    assert_eq!(again.changes, []);
    assert_eq!(tree.fingerprint(), after);
    assert_eq!(again.caps, outcome.caps);
}

#[test]
fn hashes_in_the_report_are_those_of_the_files() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = debian();
    let outcome = tree.convert(&options(&[mac(1)]));
    let root = tree.root();
    let recorder = crate::Recorder::new(&root);
    let mut checked = 0;
    for change in outcome
        .changes
        .iter()
        .filter(|change| root.is_file(&change.path))
    {
        let last = outcome
            .changes
            .iter()
            .rfind(|other| other.path == change.path)
            .unwrap();
        let is_link = root
            .link_meta(&change.path)
            .is_ok_and(|meta| meta.kind == crate::Kind::Symlink);
        if !is_link {
            assert_eq!(
                last.after.as_deref(),
                Some(recorder.hash(&change.path).unwrap().as_str()),
                "{}",
                change.path
            );
            checked += 1;
        }
    }
    assert!(checked > 8, "only {checked} files were compared");
}

#[test]
fn a_vendor_loader_alone_becomes_the_fallback_too() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    for shim in [false, true] {
        let mut tree = debian();
        let mut esp = part(0, 3, "vfat", Some(ESP_UUID));
        esp.parttype = Some(crate::linux::mounts::ESP_TYPE.into());
        tree.storage.devices.push(esp);
        tree.mounts.push(mount("/dev/sda3", "/boot/efi", "vfat"));
        fs::remove_dir_all(tree.at("/boot/grub/i386-pc")).unwrap();
        tree.put("/boot/efi/EFI/Microsoft/Boot/bootmgfw.efi", b"windows");
        tree.put("/boot/efi/EFI/debian/GRUBX64.EFI", b"grub");
        tree.put("/boot/efi/EFI/debian/grub.cfg", b"search.fs_uuid x root\n");
        if shim {
            tree.put("/boot/efi/EFI/debian/shimx64.efi", b"shim");
            tree.put("/boot/efi/EFI/debian/mmx64.efi", b"mm");
        }
        let outcome = tree.convert(&options(&[mac(1)]));
        assert_eq!(outcome.caps.firmware, Some(Firmware::Uefi));
        assert_eq!(outcome.caps.boot_disk, Some(0));
        assert_eq!(
            tree.text("/boot/efi/EFI/BOOT/BOOTX64.EFI"),
            if shim { "shim" } else { "grub" }
        );
        assert_eq!(tree.at("/boot/efi/EFI/BOOT/grubx64.efi").exists(), shim);
        let stub = tree.text("/boot/efi/EFI/BOOT/grub.cfg");
        assert!(stub.contains("configfile /EFI/debian/grub.cfg"), "{stub}");
        assert_eq!(tree.convert(&options(&[mac(1)])).changes, []);
    }
}

#[test]
fn a_fallback_loader_that_is_there_is_left_alone() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let mut tree = debian();
    tree.mounts.push(mount("/dev/sda3", "/boot/efi", "vfat"));
    tree.put("/boot/efi/efi/boot/bootx64.efi", b"own");
    tree.put("/boot/efi/efi/debian/grubx64.efi", b"grub");
    let outcome = tree.convert(&options(&[]));
    assert!(
        !outcome
            .changes
            .iter()
            .any(|change| change.step == "uefi-fallback"),
        "{:?}",
        outcome.changes
    );
    // i386-pc and an ESP: made for both, so the source decides.
    assert_eq!(outcome.caps.firmware, None);
}

#[test]
fn lvm_md_and_crypt_names_stay_and_what_is_below_them_does_not() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let mut tree = debian();
    let luks = part(
        1,
        1,
        "crypto_LUKS",
        Some("33333333-2222-4333-8444-555555555555"),
    );
    let crypt = device(
        "/dev/mapper/data",
        DeviceKind::Crypt {
            parent: "/dev/sdb1".into(),
        },
        "ext4",
        Some("44444444"),
    );
    let raw = part(1, 2, "", None);
    let mut bare = part(1, 3, "ext4", None);
    bare.partuuid = None;
    tree.storage
        .devices
        .extend([disk(1, "gpt"), luks, raw, bare, crypt]);
    tree.put("/etc/crypttab", b"data /dev/sdb1 none luks\nswap /dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0-part2 /dev/urandom swap\n");
    tree.put(
        "/etc/fstab",
        b"/dev/sda1 / ext4 defaults 0 1\n/dev/mapper/data /data ext4 defaults 0 2\n/dev/md0 /md xfs nofail 0 0\n\
          /dev/sdb3 /bare ext4 defaults 0 2\n/dev/sdq1 /gone ext4 defaults 0 2\n",
    );
    let outcome = tree.convert(&options(&[]));
    assert_eq!(
        tree.text("/etc/crypttab"),
        "data UUID=33333333-2222-4333-8444-555555555555 none luks\nswap /dev/disk/by-partuuid/deadbeef-02 /dev/urandom swap\n"
    );
    let fstab = tree.text("/etc/fstab");
    assert!(
        fstab.contains("/dev/mapper/data /data") && fstab.contains("/dev/md0 /md"),
        "{fstab}"
    );
    assert!(
        fstab.contains("/dev/vdb3 /bare") && fstab.contains("/dev/sdq1 /gone"),
        "{fstab}"
    );
    assert!(
        outcome
            .warnings
            .iter()
            .any(|warning| warning.contains("/dev/sdq1 for /gone")),
        "{:?}",
        outcome.warnings
    );
    assert_eq!(tree.convert(&options(&[])).changes, []);
}

#[test]
fn a_hibernated_guest_is_refused_untouched() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let mut tree = debian();
    let before = tree.fingerprint();
    tree.storage.devices[2].content = "swsuspend".into();
    let error = tree.try_convert(&options(&[])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(
        error.to_string().contains("/dev/sda2") && error.to_string().contains("shut it down"),
        "{error}"
    );
    tree.storage.devices[2].content = "swap".into();
    let mut page = vec![0u8; 8192];
    page[4086..4095].copy_from_slice(b"S1SUSPEND");
    tree.put("/swapfile", &page);
    let fstab = tree.text("/etc/fstab");
    tree.put(
        "/etc/fstab",
        format!("{fstab}/swapfile none swap sw 0 0\n").as_bytes(),
    );
    let error = tree.try_convert(&options(&[])).unwrap_err();
    assert!(error.to_string().contains("/swapfile"), "{error}");
    fs::remove_file(tree.at("/swapfile")).unwrap();
    tree.put("/etc/fstab", fstab.as_bytes());
    assert_eq!(tree.fingerprint(), before);
}

#[test]
fn a_kernel_without_virtio_falls_back() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = Tree::debian();
    tree.put("/lib/modules/2.6.18-6/modules.dep", b"kernel/ext3.ko:\n");
    tree.put("/lib/modules/2.6.18-6/kernel/ext3.ko", b"");
    tree.put("/boot/vmlinuz-2.6.18-6", b"");
    tree.put(
        "/boot/initrd.img-2.6.18-6",
        &crate::linux::initrd::cpio::Builder::default().finish(),
    );
    let outcome = tree.convert(&options(&[mac(1)]));
    assert_eq!(
        (outcome.caps.machine, outcome.caps.net_bus),
        (MachineType::I440fx, NetBus::Rtl8139)
    );
    assert_eq!(outcome.caps.block_bus, types::BlockBus::Ide);
    assert!(
        outcome
            .warnings
            .iter()
            .any(|warning| warning.contains("no virtio drivers")),
        "{:?}",
        outcome.warnings
    );
}

#[test]
fn an_old_guest_without_link_files_gets_rules() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = debian();
    fs::remove_file(tree.at("/usr/lib/udev/rules.d/80-net-setup-link.rules")).unwrap();
    tree.put(
        "/etc/network/interfaces",
        b"auto eth0\niface eth0 inet dhcp\n",
    );
    tree.put(
        "/etc/udev/rules.d/70-persistent-net.rules",
        b"# old\nSUBSYSTEM==\"net\", ATTR{address}==\"00:0c:29:11:22:33\", NAME=\"eth0\"\n",
    );
    tree.convert(&options(&[mac(1)]));
    let rules = tree.text("/etc/udev/rules.d/70-persistent-net.rules");
    assert!(
        !rules.contains("00:0c:29") && rules.contains("ATTR{address}==\"00:50:56:00:00:01\""),
        "{rules}"
    );
    assert!(rules.contains("NAME=\"eth0\""), "{rules}");
    assert!(!tree.at("/etc/systemd/network").exists());
    assert_eq!(tree.convert(&options(&[mac(1)])).changes, []);
}

#[test]
fn stale_macs_in_configuration_are_replaced() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = debian();
    tree.put("/etc/network/interfaces", b"");
    tree.put(
        "/etc/netplan/01.yaml",
        b"network:\n  ethernets:\n    nic0:\n      match:\n        macaddress: 00:0C:29:AA:BB:CC\n      set-name: ens160\n",
    );
    tree.put(
        "/etc/NetworkManager/system-connections/a.nmconnection",
        b"[connection]\ntype=ethernet\ninterface-name=ens161\n[ethernet]\nmac-address=00:0C:29:AA:BB:CD\n",
    );
    let outcome = tree.convert(&options(&[mac(1), mac(2)]));
    assert!(
        tree.text("/etc/netplan/01.yaml")
            .contains("macaddress: 00:50:56:00:00:01"),
        "{:?}",
        outcome.warnings
    );
    let keyfile = tree.text("/etc/NetworkManager/system-connections/a.nmconnection");
    assert!(
        keyfile.contains("mac-address=00:50:56:00:00:02"),
        "{keyfile}"
    );
    assert!(
        tree.text("/etc/systemd/network/10-v2v-ens161.link")
            .contains("00:50:56:00:00:02")
    );
    assert_eq!(tree.convert(&options(&[mac(1), mac(2)])).changes, []);
}

#[test]
fn a_static_address_replaces_the_old_stanza() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = debian();
    tree.put("/usr/sbin/ifup", b"");
    let mut options = options(&[mac(1)]);
    options.static_ips.push(StaticIp {
        mac: mac(1),
        address: "192.0.2.5".parse().unwrap(),
        gateway: None,
        prefix_len: Some(24),
        nameservers: Vec::new(),
    });
    tree.convert(&options);
    let text = tree.text("/etc/network/interfaces");
    assert!(
        text.contains("# v2v: \taddress 10.0.2.77/24") && text.contains("\n\taddress 192.0.2.5/24"),
        "{text}"
    );
    assert_eq!(tree.convert(&options).changes, []);
}

#[test]
fn selinux_without_labels_asks_for_a_relabel() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = debian();
    tree.put("/etc/selinux/config", b"SELINUX=enforcing\n");
    let outcome = tree.convert(&options(&[mac(1)]));
    let labelled = tree.root().has_label("/etc");
    assert_eq!(tree.at("/.autorelabel").exists(), !labelled);
    assert_eq!(
        outcome
            .changes
            .iter()
            .any(|change| change.step == "selinux"),
        !labelled
    );
    assert_eq!(tree.convert(&options(&[mac(1)])).changes, []);
}

#[test]
fn a_step_that_is_not_essential_fails_as_a_warning() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = debian();
    // A directory where the console step expects a file.
    fs::create_dir_all(tree.at("/etc/inittab")).unwrap();
    let outcome = tree.convert(&options(&[mac(1)]));
    let said = |warning: &String| warning.contains("step console was not finished: /etc/inittab");
    assert!(outcome.warnings.iter().any(said), "{:?}", outcome.warnings);
    assert!(outcome.changes.iter().any(|change| change.step == "caches"));
}
