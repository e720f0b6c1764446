//! Each concern on a tree that has it, and none of them on one that has not.

use types::{Concern, Severity};

use super::concerns;
use crate::tests::tree::{KVER, Packed, ROOT_UUID, Tree, tools};

fn of(tree: &Tree) -> Vec<Concern> {
    let guest = tree.inspect();
    concerns(&tree.root(), &tree.storage, &guest)
}

fn has(concerns: &[Concern], severity: Severity, words: &str) -> bool {
    concerns
        .iter()
        .any(|concern| concern.severity == severity && concern.what.contains(words))
}

/// Writes `files` into a Debian and expects one concern with these words more than the Debian has.
fn expect(files: &[(&str, &str)], severity: Severity, words: &str) {
    let tree = Tree::debian();
    assert!(
        !has(&of(&tree), severity, words),
        "there without it: {words}"
    );
    for (path, content) in files {
        tree.put(path, content.as_bytes());
    }
    let found = of(&tree);
    assert!(has(&found, severity, words), "{words}: {found:#?}");
}

#[test]
fn mounts_that_block_the_start_are_told() {
    let fstab = |line: &str| format!("UUID={ROOT_UUID} / ext4 defaults 0 1\n{line}\n");
    let gone = fstab("UUID=11111111-2222-3333-4444-555555555555 /data xfs defaults 0 2");
    expect(
        &[("/etc/fstab", &gone)],
        Severity::Warning,
        "emergency shell",
    );
    let swap = fstab("UUID=11111111-2222-3333-4444-555555555555 none swap sw 0 0");
    expect(
        &[("/etc/fstab", &swap)],
        Severity::Warning,
        "waits for it 90 seconds",
    );
    let nfs = fstab("filer:/vol/home /home nfs4 rw,hard 0 0");
    expect(
        &[("/etc/fstab", &nfs)],
        Severity::Info,
        "/home (nfs4 of filer:/vol/home)",
    );
    let shared = fstab(".host:/ /mnt/hgfs fuse.vmhgfs-fuse defaults 0 0");
    expect(
        &[("/etc/fstab", &shared)],
        Severity::Warning,
        "folder of the old host",
    );
    // With nofail the start goes on.
    let tree = Tree::debian();
    tree.put(
        "/etc/fstab",
        fstab("UUID=11111111-2222-3333-4444-555555555555 /data xfs nofail 0 2").as_bytes(),
    );
    assert!(!has(&of(&tree), Severity::Warning, "emergency shell"));
}

#[test]
fn keys_in_a_tpm_are_told() {
    expect(
        &[(
            "/etc/crypttab",
            "root UUID=1-2 none luks,tpm2-device=auto\n",
        )],
        Severity::Warning,
        "does not unseal",
    );
    expect(
        &[(
            "/etc/crypttab",
            "data UUID=1-2 /keyfile:UUID=ABCD-1234 luks\n",
        )],
        Severity::Warning,
        "on another device",
    );
}

#[test]
fn what_notices_changed_files_is_told() {
    expect(
        &[(
            "/etc/default/grub",
            "GRUB_CMDLINE_LINUX=\"quiet ima_appraise=enforce\"\n",
        )],
        Severity::Warning,
        "IMA",
    );
    expect(
        &[("/etc/kernel/cmdline", "root=UUID=1 fips=1\n")],
        Severity::Info,
        "FIPS",
    );
    expect(
        &[("/boot/efi/EFI/Linux/debian.efi", "MZ")],
        Severity::Warning,
        "unified kernel images",
    );
    expect(
        &[("/etc/kernel/cmdline", "usrhash=00ff ro\n")],
        Severity::Warning,
        "dm-verity",
    );
}

#[test]
fn software_that_knows_its_machine_is_told() {
    expect(
        &[("/etc/corosync/corosync.conf", "totem {}\n")],
        Severity::Warning,
        "cluster node",
    );
    expect(
        &[("/etc/sysconfig/sbd", "SBD_DEVICE=\"/dev/disk/by-id/x\"\n")],
        Severity::Warning,
        "SBD",
    );
    expect(&[("/etc/hostid", "abcd")], Severity::Info, "fixed host id");
    expect(&[("/usr/local/flexlm/lmgrd", "")], Severity::Info, "FlexLM");
    expect(&[("/usr/bin/nvidia-smi", "")], Severity::Info, "NVIDIA");
    expect(
        &[("/etc/libvirt/qemu/inner.xml", "<domain/>")],
        Severity::Info,
        "inside of this guest",
    );
    expect(
        &[("/etc/shadow", "root:!:19000:0:99999:7:::\n")],
        Severity::Info,
        "no account has a password",
    );
}

#[test]
fn the_time_and_the_console_are_looked_for() {
    let tree = Tree::debian();
    let before = of(&tree);
    assert!(has(&before, Severity::Info, "nothing keeps the time"));
    std::fs::create_dir_all(tree.at("/etc/systemd/system/sysinit.target.wants")).unwrap();
    std::os::unix::fs::symlink(
        "/lib/systemd/system/systemd-timesyncd.service",
        tree.at("/etc/systemd/system/sysinit.target.wants/systemd-timesyncd.service"),
    )
    .unwrap();
    assert!(!has(&of(&tree), Severity::Info, "nothing keeps the time"));
    assert!(!has(&before, Severity::Info, "virsh console"));
    tree.put(
        "/boot/grub/grub.cfg",
        b"linux /vmlinuz quiet console=tty0\n",
    );
    tree.put("/etc/default/grub", b"GRUB_CMDLINE_LINUX=\"\"\n");
    assert!(has(&of(&tree), Severity::Info, "virsh console"));
    tree.put(
        "/etc/default/grub",
        b"GRUB_CMDLINE_LINUX='console=ttyS0,115200'\n",
    );
    assert!(!has(&of(&tree), Severity::Info, "virsh console"));
}

#[test]
fn modules_of_third_parties_are_named() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = Tree::debian();
    tree.add_kernel(KVER, Packed::No);
    tree.put(
        &format!("/lib/modules/{KVER}/updates/dkms/smartpqi.ko.xz"),
        b"",
    );
    assert!(has(&of(&tree), Severity::Info, "smartpqi"));
}

#[test]
fn systems_from_images_say_what_is_lost() {
    expect(
        &[("/etc/os-release", "ID=nixos\nPRETTY_NAME=NixOS\n")],
        Severity::Warning,
        "NixOS",
    );
    expect(
        &[(
            "/boot/loader/entries/ostree-1.conf",
            "title x\noptions root=UUID=1 ostree=/ostree/boot.1/fedora/0/0\n",
        )],
        Severity::Warning,
        "ostree",
    );
    expect(
        &[("/etc/overlayroot.conf", "overlayroot=\"tmpfs\"\n")],
        Severity::Info,
        "overlayroot",
    );
}

#[test]
fn the_worst_comes_first() {
    let tree = Tree::debian();
    tree.put("/etc/corosync/corosync.conf", b"");
    let severities: Vec<_> = of(&tree).iter().map(|concern| concern.severity).collect();
    assert!(
        severities.len() > 1 && severities.is_sorted_by(|a, b| a >= b),
        "{severities:?}"
    );
}
