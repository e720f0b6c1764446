//! Boot loaders in whole conversions: the default kernel, the fallback loader, the firmware's boot menu.

use std::fs;

use types::{BlockBus, BootEntry, StepOutcome};

use super::pe::program;
use super::tree::{ESP_UUID, Packed, ROOT_UUID, SWAP_UUID, Tree, mount, options, part, tools};
use crate::linux::boot::efi;

/// A kernel with these drivers built in, so that no tool is needed to make one.
fn kernel(tree: &Tree, version: &str, virtio: bool) {
    let builtin = if virtio {
        "kernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/block/virtio_blk.ko\nkernel/drivers/net/virtio_net.ko\n"
    } else {
        "kernel/fs/ext4/ext4.ko\n"
    };
    let dir = format!("/usr/lib/modules/{version}");
    tree.put(&format!("{dir}/modules.builtin"), builtin.as_bytes());
    tree.put(&format!("{dir}/modules.dep"), b"");
    tree.put(&format!("/boot/vmlinuz-{version}"), b"kernel");
}

fn uefi() -> Tree {
    let mut tree = Tree::debian();
    kernel(&tree, "6.1.0-18-amd64", true);
    let mut esp = part(0, 3, "vfat", Some(ESP_UUID));
    esp.parttype = Some(crate::linux::mounts::ESP_TYPE.into());
    tree.storage.devices.push(esp);
    tree.mounts.push(mount("/dev/sda3", "/boot/efi", "vfat"));
    fs::remove_dir_all(tree.at("/boot/grub/i386-pc")).unwrap();
    tree
}

fn shim() -> Vec<u8> {
    program(&[(".sbat", b"sbat,1\nshim,3,x\n")])
}

#[test]
fn a_default_kernel_for_xen_gives_way_to_one_with_virtio() {
    let tree = Tree::debian();
    kernel(&tree, "2.6.18-398.el5xen", false);
    kernel(&tree, "2.6.18-398.el5", true);
    fs::remove_dir_all(tree.at("/boot/grub")).unwrap();
    tree.put("/boot/grub/stage2", b"");
    let menu = "default=0\ntitle Xen\n\troot (hd0,0)\n\tkernel /boot/vmlinuz-2.6.18-398.el5xen ro root=/dev/sda1 console=xvc0\n\
                title Linux\n\troot (hd0,0)\n\tkernel /boot/vmlinuz-2.6.18-398.el5 ro root=/dev/sda1\n";
    tree.put("/boot/grub/menu.lst", menu.as_bytes());
    tree.put(
        "/etc/sysconfig/kernel",
        b"UPDATEDEFAULT=yes\nDEFAULTKERNEL=kernel-xen\n",
    );
    let outcome = tree.convert(&options(&[]));
    // No initramfs at all: the kernel itself must find its root.
    let want = menu
        .replace("default=0", "default=1")
        .replace("root=/dev/sda1", "root=PARTUUID=deadbeef-01")
        .replace("console=xvc0", "console=ttyS0");
    assert_eq!(tree.text("/boot/grub/menu.lst"), want);
    assert!(
        tree.text("/etc/sysconfig/kernel")
            .ends_with("DEFAULTKERNEL=kernel\n")
    );
    assert_eq!(outcome.caps.block_bus, BlockBus::VirtioBlk);
    assert!(
        outcome
            .warnings
            .iter()
            .any(|warning| warning.contains("runs under Xen only; 2.6.18-398.el5 starts")),
        "{:?}",
        outcome.warnings
    );
    assert_eq!(tree.convert(&options(&[])).changes, []);
}

#[test]
fn a_default_kernel_that_runs_on_kvm_stays() {
    let tree = Tree::debian();
    kernel(&tree, "6.1.0-18-amd64", true);
    kernel(&tree, "6.1.0-17-amd64", true);
    let outcome = tree.convert(&options(&[]));
    let step = outcome
        .steps
        .iter()
        .find(|step| step.name == "default-kernel")
        .unwrap();
    assert_eq!(step.outcome, StepOutcome::NotNeeded);
}

#[test]
fn a_default_kernel_whose_initramfs_is_not_read_gives_way() {
    if !tools(&["depmod"]) {
        return;
    }
    let tree = Tree::debian();
    tree.add_kernel("6.1.0-18-amd64", Packed::No);
    kernel(&tree, "6.1.0-17-amd64", true);
    tree.put("/boot/initrd.img-6.1.0-18-amd64", b"no archive of any kind");
    let cfg = tree.text("/boot/grub/grub.cfg");
    let older = "menuentry 'Older' $menuentry_id_option 'older' {\n\tlinux /boot/vmlinuz-6.1.0-17-amd64 root=/dev/sda1\n}\n";
    tree.put("/boot/grub/grub.cfg", format!("{cfg}{older}").as_bytes());
    tree.convert(&options(&[]));
    assert!(
        tree.text("/boot/grub/grub.cfg")
            .contains("set default=\"older\"\n")
    );
    assert!(
        tree.text("/etc/default/grub")
            .contains("GRUB_DEFAULT=\"older\"\n")
    );
    assert_eq!(tree.convert(&options(&[])).changes, []);
}

#[test]
fn arguments_are_edited_wherever_they_are() {
    let tree = Tree::debian();
    kernel(&tree, "6.1.0-18-amd64", true);
    tree.put(
        "/boot/initrd.img-6.1.0-18-amd64",
        &crate::linux::initrd::cpio::Builder::default().finish(),
    );
    let files = [
        (
            "/boot/loader/entries/x.conf",
            "title x\nlinux /vmlinuz\ninitrd /i\noptions root=/dev/sda1 resume=/dev/sda2\n",
        ),
        (
            "/etc/kernel/cmdline",
            "root=/dev/sda1 rd.lvm.lv=vg/root rd.luks.uuid=luks-1 net.ifnames=0\n",
        ),
        (
            "/etc/default/grub.d/50-cloud.cfg",
            "# root=/dev/sda1\nGRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX resume=/dev/sda2 nomodeset\"\n",
        ),
        (
            "/etc/dracut.conf.d/x.conf",
            "kernel_cmdline=\"root=/dev/sda1\"\n",
        ),
        (
            "/boot/extlinux/extlinux.conf",
            "label a\n kernel ../vmlinuz\n append initrd=../i root=/dev/sda1 cryptdevice=/dev/sda2:crypt\n",
        ),
        (
            "/etc/update-extlinux.conf",
            "default_kernel_opts=\"quiet resume=/dev/sda2\"\nroot=/dev/sda1\n",
        ),
        ("/etc/default/grub_installdevice", "/dev/sda\nactivate\n"),
    ];
    for (path, text) in files {
        tree.put(path, text.as_bytes());
    }
    tree.convert(&options(&[]));
    let (root, swap) = (format!("UUID={ROOT_UUID}"), format!("UUID={SWAP_UUID}"));
    for (path, text) in files {
        let want = match path {
            "/etc/default/grub_installdevice" => text.replace("sda", "vda"),
            "/etc/default/grub.d/50-cloud.cfg" => text.replace("/dev/sda2", &swap),
            _ => text.replace("/dev/sda1", &root).replace("/dev/sda2", &swap),
        };
        assert_eq!(tree.text(path), want, "{path}");
    }
    assert_eq!(tree.convert(&options(&[])).changes, []);
}

#[test]
fn a_unified_image_that_names_a_device_is_said() {
    let tree = uefi();
    tree.put("/boot/efi/EFI/systemd/systemd-bootx64.efi", b"x");
    let image = program(&[(".cmdline", b"root=/dev/sda1 ro"), (".linux", b"x")]);
    tree.put("/boot/efi/EFI/Linux/debian.efi", &image);
    let outcome = tree.convert(&options(&[]));
    assert!(
        outcome
            .warnings
            .iter()
            .any(|warning| warning.contains("cannot be edited")
                && warning.contains("root=/dev/sda1")),
        "{:?}",
        outcome.warnings
    );
    assert_eq!(
        fs::read(tree.at("/boot/efi/EFI/Linux/debian.efi")).unwrap(),
        image
    );
    assert_eq!(
        outcome.boot_entries[0].path,
        r"\EFI\systemd\systemd-bootx64.efi"
    );
}

#[test]
fn boot_entries_carry_the_vendors_words_and_windows_comes_after() {
    let tree = uefi();
    tree.put("/boot/efi/EFI/Microsoft/Boot/bootmgfw.efi", b"windows");
    tree.put("/boot/efi/EFI/BOOT/BOOTX64.EFI", b"windows");
    tree.put("/boot/efi/EFI/debian/shimx64.efi", &shim());
    tree.put("/boot/efi/EFI/debian/grubx64.efi", b"grub");
    tree.put(
        "/boot/efi/EFI/debian/BOOTX64.CSV",
        &efi::csv("shimx64.efi", "debian"),
    );
    let outcome = tree.convert(&options(&[]));
    let entry = |description: &str, path: &str| BootEntry {
        description: description.into(),
        disk: 0,
        partition: 3,
        path: path.into(),
        arguments: None,
    };
    assert_eq!(
        outcome.boot_entries,
        [
            entry("debian", r"\EFI\debian\shimx64.efi"),
            entry("Windows Boot Manager", r"\EFI\Microsoft\Boot\bootmgfw.efi"),
        ]
    );
    assert!(
        outcome
            .warnings
            .iter()
            .any(|warning| warning.contains("starts Windows")),
        "{:?}",
        outcome.warnings
    );
    assert_eq!(
        tree.convert(&options(&[])).boot_entries,
        outcome.boot_entries
    );
}

#[test]
fn a_fallback_shim_gets_what_it_starts() {
    // Without fbx64.efi it needs GRUB beside it.
    let tree = uefi();
    tree.put("/boot/efi/EFI/BOOT/BOOTX64.EFI", &shim());
    tree.put("/boot/efi/EFI/debian/shimx64.efi", &shim());
    tree.put("/boot/efi/EFI/debian/grubx64.efi", b"grub");
    tree.put("/boot/efi/EFI/debian/mmx64.efi", b"mm");
    tree.put("/boot/efi/EFI/debian/fbx64.efi", b"fb");
    tree.convert(&options(&[]));
    assert_eq!(tree.text("/boot/efi/EFI/BOOT/grubx64.efi"), "grub");
    assert_eq!(tree.text("/boot/efi/EFI/BOOT/mmx64.efi"), "mm");
    assert!(!tree.at("/boot/efi/EFI/BOOT/fbx64.efi").exists());
    assert_eq!(tree.convert(&options(&[])).changes, []);
    // With it, a CSV that leads to the vendor's shim.
    let tree = uefi();
    tree.put("/boot/efi/EFI/BOOT/BOOTX64.EFI", &shim());
    tree.put("/boot/efi/EFI/BOOT/fbx64.efi", b"fb");
    tree.put("/boot/efi/EFI/debian/shimx64.efi", &shim());
    tree.put("/boot/efi/EFI/debian/grubx64.efi", b"grub");
    let outcome = tree.convert(&options(&[]));
    let lines = efi::boot_csv(&tree.root(), "/boot/efi/EFI/debian", "X64");
    assert_eq!(lines[0].file, "shimx64.efi");
    assert_eq!(lines[0].label, "Debian GNU/Linux 12 (bookworm)");
    assert!(!tree.at("/boot/efi/EFI/BOOT/grubx64.efi").exists());
    assert_eq!(
        outcome.boot_entries[0].description,
        "Debian GNU/Linux 12 (bookworm)"
    );
    assert_eq!(tree.convert(&options(&[])).changes, []);
}

#[test]
fn suses_names_without_suffix_are_understood() {
    let tree = uefi();
    for (name, content) in [
        ("shim.efi", shim()),
        ("grub.efi", b"grub".to_vec()),
        ("MokManager.efi", b"mm".to_vec()),
    ] {
        tree.put(&format!("/boot/efi/EFI/opensuse/{name}"), &content);
    }
    tree.put(
        "/boot/efi/EFI/opensuse/grub.cfg",
        b"set prefix=($root)/boot/grub2\n",
    );
    tree.convert(&options(&[]));
    assert_eq!(
        fs::read(tree.at("/boot/efi/EFI/BOOT/BOOTX64.EFI")).unwrap(),
        shim()
    );
    assert_eq!(tree.text("/boot/efi/EFI/BOOT/grub.efi"), "grub");
    assert_eq!(tree.text("/boot/efi/EFI/BOOT/MokManager.efi"), "mm");
    assert!(
        tree.text("/boot/efi/EFI/BOOT/grub.cfg")
            .contains("configfile /EFI/opensuse/grub.cfg")
    );
    assert!(!tree.at("/boot/efi/EFI/BOOT/BOOTIA32.EFI").exists());
}

#[test]
fn a_kernel_that_only_the_firmware_named_gets_an_entry_with_arguments() {
    let tree = uefi();
    fs::remove_dir_all(tree.at("/boot/grub")).unwrap();
    let mut kernel = program(&[]);
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    fs::create_dir_all(tree.at("/boot/efi/EFI/arch")).unwrap();
    tree.put("/boot/efi/EFI/arch/vmlinuz-linux.efi", &kernel);
    tree.put("/boot/efi/EFI/arch/initramfs-linux.img", b"i");
    let outcome = tree.convert(&options(&[]));
    let arguments = format!(r"root=UUID={ROOT_UUID} rw initrd=\EFI\arch\initramfs-linux.img");
    assert_eq!(
        outcome.boot_entries[0].arguments.as_deref(),
        Some(arguments.as_str())
    );
    assert_eq!(outcome.boot_entries[0].path, r"\EFI\arch\vmlinuz-linux.efi");
    assert_eq!(
        tree.text("/boot/efi/startup.nsh"),
        format!("\\EFI\\arch\\vmlinuz-linux.efi {arguments}\n")
    );
    assert!(
        tree.inspect()
            .boot_loaders
            .iter()
            .any(|loader| loader.kind == "efistub-efi")
    );
    assert_eq!(tree.convert(&options(&[])).changes, []);
}
