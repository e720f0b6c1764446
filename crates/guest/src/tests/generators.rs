//! Every generator's initramfs in every packing: unpacked again by cpio and asked by modprobe.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use types::{BlockBus, ConvertOptions};

use super::tree::{KVER, Packed, Tree, options, pipe, run, tools};
use crate::linux::initrd;
use crate::linux::kmod_index::KmodIndex;
use crate::linux::modules::Modules;
use crate::linux::steps::initramfs::is_copy;
use crate::linux::steps::initramfs::lists::Lists;

const TOOLS: [&str; 9] = [
    "depmod", "modprobe", "cpio", "gzip", "xz", "zstd", "lz4", "lzma", "bzip2",
];
const OLD: [&str; 3] = ["scsi_mod", "sd_mod", "vmw_pvscsi"];

/// What a generator puts into an initramfs beside modules.
#[derive(Clone, Copy)]
struct Shape {
    files: &'static [(&'static str, &'static str)],
    /// Directory of the modules where they lie flat.
    flat: Option<&'static str>,
    /// A file that the archive must change or add, and what must be in it.
    loads: &'static [(&'static str, &'static str)],
}

const DRACUT: Shape = Shape {
    files: &[
        ("init", "#!/bin/sh\n"),
        ("usr/lib/dracut/hostonly-files", "etc/machine-id\n"),
        ("usr/lib/dracut/dracut-050", ""),
        (
            "usr/lib/udev/rules.d/80-drivers.rules",
            "ENV{MODALIAS}==\"?*\", RUN{builtin}+=\"kmod load $env{MODALIAS}\"\n",
        ),
        ("usr/lib/systemd/systemd-udevd", "elf"),
        ("usr/lib/systemd/systemd-modules-load", "elf"),
        (
            "etc/cmdline.d/95root-dev.conf",
            " root=/dev/sda1 rootflags=rw\n",
        ),
    ],
    flat: None,
    loads: &[
        (
            "etc/cmdline.d/99-v2v-virtio.conf",
            "rd.driver.pre=virtio_pci rd.driver.pre=virtio_blk rd.driver.pre=virtio_scsi rd.driver.pre=sd_mod\n",
        ),
        ("etc/modules-load.d/v2v-virtio.conf", "virtio_blk\n"),
        ("etc/cmdline.d/95root-dev.conf", " root=UUID=11111111-"),
    ],
};

const SHAPES: [(&str, Shape); 8] = [
    ("dracut", DRACUT),
    (
        "mkinitcpio",
        Shape {
            files: &[
                ("init", "#!/usr/bin/ash\n"),
                ("init_functions", "#!/usr/bin/ash\n"),
                ("buildconfig", "HOOKS=(base udev)\n"),
                (
                    "config",
                    "EARLYHOOKS=\"udev\"\nHOOKS=\"udev\"\nMODULES=\"vmw_pvscsi\"\n",
                ),
            ],
            flat: None,
            loads: &[(
                "config",
                "MODULES=\"vmw_pvscsi virtio_pci virtio_blk virtio_scsi sd_mod\"\n",
            )],
        },
    ),
    (
        "mkinitcpio with systemd",
        Shape {
            files: &[
                ("init", "elf"),
                ("buildconfig", "HOOKS=(systemd)\n"),
                ("usr/lib/systemd/systemd-modules-load", "elf"),
            ],
            flat: None,
            loads: &[(
                "etc/modules-load.d/v2v-virtio.conf",
                "virtio_pci\nvirtio_blk\nvirtio_scsi\nsd_mod\n",
            )],
        },
    ),
    (
        "mkinitfs",
        Shape {
            files: &[
                ("init", "#!/bin/sh\n"),
                ("sbin/nlplug-findfs", "elf"),
                ("etc/modules", "af_packet"),
            ],
            flat: None,
            loads: &[("etc/modules", "af_packet\nvirtio_pci\nvirtio_blk\n")],
        },
    ),
    (
        "mkinitrd of SUSE",
        Shape {
            files: &[
                ("init", "#!/bin/bash\n"),
                (
                    "config/start.sh",
                    "build_day='20150509'\nRESOLVED_INITRD_MODULES='vmw_pvscsi jbd ext3'\n",
                ),
                (
                    "run_all.sh",
                    "[ \"$RESOLVED_INITRD_MODULES\" ] || RESOLVED_INITRD_MODULES='vmw_pvscsi jbd ext3'\n",
                ),
            ],
            flat: None,
            loads: &[
                (
                    "config/start.sh",
                    "='virtio_pci virtio_blk virtio_scsi sd_mod vmw_pvscsi jbd ext3'\n",
                ),
                (
                    "run_all.sh",
                    "='virtio_pci virtio_blk virtio_scsi sd_mod vmw_pvscsi jbd ext3'\n",
                ),
            ],
        },
    ),
    (
        "genkernel",
        Shape {
            files: &[
                ("init", "#!/bin/sh\n"),
                ("etc/initrd.scripts", "modules_scan() { :; }\n"),
                ("etc/modules/scsi", "sd_mod\nvmw_pvscsi\n"),
            ],
            flat: None,
            loads: &[
                (
                    "etc/modules/scsi",
                    "sd_mod\nvmw_pvscsi\nvirtio_pci\nvirtio_blk\nvirtio_scsi\n",
                ),
                ("etc/modules/virtio", "virtio_pci\nvirtio_blk\n"),
            ],
        },
    ),
    (
        "nash",
        Shape {
            files: &[(
                "init",
                "#!/bin/nash\nmount -t proc /proc /proc\nmkblkdevs\ninsmod /lib/scsi_mod.ko \ninsmod /lib/sd_mod.ko \n\
                 stabilized --hash --interval 250 /proc/scsi/scsi\nmkblkdevs\nmkrootdev -t ext3 -o defaults,ro sda1\nmount /sysroot\n",
            )],
            flat: Some("lib"),
            loads: &[
                (
                    "init",
                    "insmod /lib/virtio_pci.ko\necho \"Loading virtio_blk.ko module\"\ninsmod /lib/virtio_blk.ko\n",
                ),
                ("init", "mkrootdev -t ext3 -o defaults,ro vda1\n"),
            ],
        },
    ),
    (
        "booster",
        Shape {
            files: &[
                ("init", "elf"),
                (
                    "etc/booster.init.yaml",
                    "moduledependencies:\n    sd_mod:\n        - scsi_mod\nkernel: 6.1.0-18-amd64\n",
                ),
                ("usr/lib/modules/booster.alias", "scsi:t-0x00* sd_mod\n"),
            ],
            flat: Some("usr/lib/modules"),
            loads: &[
                (
                    "etc/booster.init.yaml",
                    "    virtio_blk: [virtio, virtio_ring]\n",
                ),
                (
                    "etc/booster.init.yaml",
                    "modulesforceload:\n- virtio_pci\n- virtio_blk\n",
                ),
                ("usr/lib/modules/booster.alias", "* sd_mod\nvirtio:"),
            ],
        },
    ),
];

/// How the main archive is packed; the last two may be followed by nothing.
const PACKINGS: [(&str, &[&str]); 9] = [
    ("plain", &[]),
    ("gzip", &["gzip", "-nc"]),
    ("xz", &["xz", "--check=crc32", "-c"]),
    (
        "xz with BCJ",
        &["xz", "--check=crc32", "--x86", "--lzma2=dict=1MiB", "-c"],
    ),
    ("zstd", &["zstd", "-19", "-qc"]),
    ("zstd --long", &["zstd", "--long=27", "-qc"]),
    ("bzip2", &["bzip2", "-c"]),
    ("lz4", &["lz4", "-l", "-c"]),
    ("lzma", &["lzma", "-c"]),
];

/// Makes the archive as the generator would; returns it unpacked.
fn archive(tree: &Tree, shape: Shape, modules: &[&str]) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let inside = scratch.path();
    for (path, text) in shape.files {
        fs::create_dir_all(inside.join(path).parent().unwrap()).unwrap();
        fs::write(inside.join(path), text).unwrap();
    }
    if shape.flat.is_none() {
        fs::create_dir_all(inside.join("usr/lib")).unwrap();
        symlink("usr/lib", inside.join("lib")).unwrap();
    }
    let source = tree.at(&format!("/usr/lib/modules/{KVER}"));
    let all = run(Command::new("find").arg(&source).args(["-name", "*.ko*"]));
    for path in String::from_utf8(all).unwrap().lines().map(Path::new) {
        let file = path.file_name().unwrap().to_str().unwrap();
        let name = file.split('.').next().unwrap();
        if !modules.contains(&name) {
            continue;
        }
        let to = match shape.flat {
            Some(dir) => inside.join(dir).join(format!("{name}.ko")),
            None => inside
                .join(format!("usr/lib/modules/{KVER}"))
                .join(path.strip_prefix(&source).unwrap()),
        };
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(path, to).unwrap();
    }
    if shape.flat.is_none() {
        run(Command::new("depmod").arg("-b").arg(inside).arg(KVER));
    }
    let list = run(Command::new("find")
        .current_dir(inside)
        .args([".", "-mindepth", "1"]));
    let mut names: Vec<String> = String::from_utf8(list)
        .unwrap()
        .lines()
        .map(Into::into)
        .collect();
    names.sort();
    let mut cpio = Command::new("cpio");
    pipe(
        cpio.current_dir(inside).args(["-o", "-H", "newc"]),
        names.join("\n").as_bytes(),
    )
}

fn packed(cpio: &[u8], by: &[&str]) -> Vec<u8> {
    match by {
        [] => cpio.to_vec(),
        [program, args @ ..] => pipe(Command::new(program).args(args), cpio),
    }
}

fn early() -> Vec<u8> {
    let mut early = initrd::cpio::Builder::default();
    early.file("kernel/x86/microcode/GenuineIntel.bin", &[7; 3000]);
    let mut bytes = early.finish();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn cpio_into(archive: &[u8], to: &Path) {
    let mut cpio = Command::new("cpio");
    pipe(cpio.current_dir(to).args(["-idu", "--quiet"]), archive);
}

/// Unpacks a packed archive by the program for its magic.
fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    let program = match bytes {
        // Its length at the end may end in zeroes; gzip itself passes over those that follow.
        [0x1f, 0x8b, ..] => return pipe(Command::new("gzip").arg("-dc"), bytes),
        [0xfd, b'7', ..] => "xz",
        [0x28, 0xb5, ..] => "zstd",
        [b'0', ..] => return bytes.to_vec(),
        other => panic!("{:02x?}", &other[..6]),
    };
    pipe(Command::new(program).args(["-dc"]), &bytes[..end])
}

fn modprobe(to: &Path, what: &str) -> String {
    let mut modprobe = Command::new("modprobe");
    modprobe
        .arg("-d")
        .arg(to)
        .args(["-n", "-S", KVER, "--show-depends", what]);
    String::from_utf8(run(&mut modprobe)).unwrap()
}

/// What the lists say: lines, and names with values. Not their priorities, which without a modules.order are the order of a
/// directory.
fn listed(dir: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with("modules.") {
            continue;
        }
        let content = fs::read(&path).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let lines = match KmodIndex::read(&content) {
            None => text(&content).lines().map(Into::into).collect(),
            Some(index) => {
                let one = |(key, values): (&[u8], &[(u32, Vec<u8>)])| {
                    let values: Vec<String> = values.iter().map(|(_, value)| text(value)).collect();
                    format!("{} = {}", text(key), values.join(", "))
                };
                index.entries().map(one).collect()
            }
        };
        all.insert(name, lines);
    }
    all
}

/// The lists in an unpacked initramfs are those that depmod makes of its modules.
fn compare_with_depmod(what: &str, to: &Path) {
    let dir = to.join("usr/lib/modules").join(KVER);
    let ours = listed(&dir);
    run(Command::new("depmod").arg("-b").arg(to).arg(KVER));
    for (name, theirs) in listed(&dir) {
        assert_eq!(ours[&name], theirs, "{what}: {name}");
    }
}

fn check(name: &str, shape: Shape, packing: (&str, &[&str]), modules: Packed) {
    let what = format!("{name}, {}", packing.0);
    let tree = Tree::debian();
    tree.add_kernel(KVER, modules);
    let cpio = archive(&tree, shape, &OLD);
    let mut file = [early(), packed(&cpio, packing.1)].concat();
    // Padded as loaders and generators do, or not at all.
    let padded = !matches!(packing.0, "lz4" | "lzma" | "xz");
    if padded {
        file.resize(file.len().next_multiple_of(512) + 1024, 0);
    }
    let path = format!("/boot/initrd.img-{KVER}");
    tree.put(&path, &file);
    let outcome = tree.convert(&options(&[]));
    assert_eq!(
        outcome.caps.block_bus,
        BlockBus::VirtioBlk,
        "{what}: {:?}",
        outcome.warnings
    );
    let after = fs::read(tree.at(&path)).unwrap();
    let to = tempfile::tempdir().unwrap();
    let to = to.path();
    cpio_into(&cpio, to);
    if packing.0.starts_with("lz") {
        // Packed anew: the last part that our reader tells of is the archive.
        let contents = initrd::contents(&tree.root(), &path).unwrap();
        let last = usize::try_from(contents.segments.last().unwrap().offset).unwrap();
        assert_eq!(last % 4, 0, "{what}");
        cpio_into(&unpacked(&after[last..]), to);
        let main = usize::try_from(contents.segments[1].offset).unwrap();
        assert_eq!(unpacked(&after[main..last]), cpio, "{what}");
    } else {
        assert!(after.starts_with(&file), "{what}");
        let start = file.len().next_multiple_of(4);
        assert!(after[file.len()..start].iter().all(|&byte| byte == 0));
        cpio_into(&unpacked(&after[start..]), to);
    }
    for (path, part) in shape.loads {
        let text = fs::read_to_string(to.join(path)).unwrap_or_default();
        assert!(
            text.contains(part),
            "{what}: {path}: expected {part:?} in\n{text}"
        );
    }
    match shape.flat {
        Some(dir) => {
            for name in [
                "virtio",
                "virtio_ring",
                "virtio_pci",
                "virtio_blk",
                "virtio_scsi",
            ] {
                let module = fs::read(to.join(dir).join(format!("{name}.ko")));
                let module = module.unwrap_or_else(|error| panic!("{what}: {name}: {error}"));
                assert!(module.starts_with(b"\x7fELF"), "{what}: {name}");
            }
        }
        None => {
            for alias in [
                "virtio:virtio_blk",
                "virtio:virtio_scsi",
                "virtio_pci",
                "vmw_pvscsi",
            ] {
                for line in modprobe(to, alias).lines() {
                    let file = line.split_whitespace().nth(1).unwrap();
                    assert!(Path::new(file).exists(), "{what}: {line}");
                }
            }
            // Debian's depmod cannot read those of gzip.
            if modules != Packed::Gz {
                compare_with_depmod(&what, to);
            }
        }
    }
    assert_eq!(
        tree.convert(&options(&[])).changes,
        [],
        "{what}: a second time"
    );
}

fn check_all(index: usize) {
    if !tools(&TOOLS) {
        return;
    }
    let (name, shape) = SHAPES[index];
    let packs = [Packed::No, Packed::Gz, Packed::Xz, Packed::Zst];
    for (at, packing) in PACKINGS.into_iter().enumerate() {
        check(name, shape, packing, packs[(index + at) % packs.len()]);
    }
}

#[test]
fn dracut_in_every_packing() {
    check_all(0);
}

#[test]
fn mkinitcpio_in_every_packing() {
    check_all(1);
}

#[test]
fn mkinitcpio_with_systemd_in_every_packing() {
    check_all(2);
}

#[test]
fn mkinitfs_in_every_packing() {
    check_all(3);
}

#[test]
fn mkinitrd_of_suse_in_every_packing() {
    check_all(4);
}

#[test]
fn genkernel_in_every_packing() {
    check_all(5);
}

#[test]
fn nash_in_every_packing() {
    check_all(6);
}

#[test]
fn booster_in_every_packing() {
    check_all(7);
}

#[test]
fn whole_lists_are_extended_and_others_are_left_to_depmod() {
    if !tools(&TOOLS) {
        return;
    }
    let tree = Tree::debian();
    tree.add_kernel(KVER, Packed::No);
    let path = format!("/boot/initrd.img-{KVER}");
    tree.put(&path, &archive(&tree, DRACUT, &OLD));
    let root = tree.root();
    let modules = Modules::read(&root, KVER);
    let contents = initrd::contents(&root, &path).unwrap();
    let added = modules.closure(&root, &["virtio_pci", "virtio_blk"]);
    let extended = |contents: &initrd::Contents, added: &[String]| {
        let lists = Lists {
            root: &root,
            modules: &modules,
            contents,
            kver: KVER,
            added,
        };
        lists.with_added()
    };
    let new = extended(&contents, &added).unwrap();
    let dep = KmodIndex::read(&new["modules.dep.bin"]).unwrap();
    assert!(dep.get("virtio_blk").is_some() && dep.get("vmw_pvscsi").is_some());
    // A module whose need is neither there nor added.
    assert!(extended(&contents, &["virtio_blk".to_owned()]).is_none());
    for name in ["modules.dep.bin", "modules.alias.bin"] {
        let list = format!("usr/lib/modules/{KVER}/{name}");
        let mut cut = contents.clone();
        cut.lists.get_mut(&list).unwrap().truncate(40);
        assert!(extended(&cut, &added).is_none(), "{name}");
        cut.lists.remove(&list);
        assert!(extended(&cut, &added).is_none(), "{name}");
    }
    let mut more = contents;
    let have = more.modules.get_mut(KVER).unwrap();
    have.insert("not_listed".to_owned());
    assert!(extended(&more, &added).is_none());
}

/// A guest with a dracut image, and another one by `path`.
fn with_second(path: &str, modules: &[&str]) -> Tree {
    let tree = Tree::debian();
    tree.add_kernel(KVER, Packed::No);
    let main = archive(&tree, DRACUT, &OLD);
    tree.put(&format!("/boot/initramfs-{KVER}.img"), &main);
    tree.put(
        path,
        &packed(&archive(&tree, DRACUT, modules), &["gzip", "-nc"]),
    );
    tree
}

#[test]
fn a_rescue_image_gets_virtio_and_one_of_kdump_does_not() {
    if !tools(&TOOLS) {
        return;
    }
    let rescue = "/boot/initramfs-0-rescue-0123456789abcdef0123456789abcdef.img";
    let tree = with_second(rescue, &["scsi_mod"]);
    let kdump = format!("/boot/initramfs-{KVER}kdump.img");
    tree.put(&kdump, &archive(&tree, DRACUT, &OLD));
    let before = fs::read(tree.at(&kdump)).unwrap();
    tree.convert(&options(&[]));
    let contents = initrd::contents(&tree.root(), rescue).unwrap();
    let have = contents.modules_of(KVER);
    assert!(
        have.contains("virtio_blk") && have.contains("sd_mod"),
        "{have:?}"
    );
    assert_eq!(fs::read(tree.at(&kdump)).unwrap(), before);
}

#[test]
fn a_copy_becomes_what_its_original_becomes() {
    if !tools(&TOOLS) {
        return;
    }
    let copy = format!("/boot/efi/debian/{KVER}/initrd.img-{KVER}");
    let other = format!("/boot/efi/debian/{KVER}/initrd-other.img");
    let tree = with_second("/boot/initramfs-fallback.img", &OLD);
    let path = format!("/boot/initramfs-{KVER}.img");
    let before = fs::read(tree.at(&path)).unwrap();
    tree.put(&copy, &before);
    // As long, but another archive: the script in it is.
    let mut changed = before.clone();
    let at = changed.windows(7).position(|part| part == b"/bin/sh");
    changed[at.unwrap() + 6] = b'H';
    tree.put(&other, &changed);
    let root = tree.root();
    assert!(is_copy(&root, &path, &copy).unwrap());
    assert!(!is_copy(&root, &path, &other).unwrap());
    tree.convert(&options(&[]));
    let after = fs::read(tree.at(&path)).unwrap();
    assert!(after.len() > before.len());
    assert_eq!(fs::read(tree.at(&copy)).unwrap(), after);
    let changed_after = fs::read(tree.at(&other)).unwrap();
    assert_eq!(changed_after.len(), after.len());
    assert!(changed_after.starts_with(&changed));
}

#[test]
fn virtio_scsi_is_taken_when_asked_for_and_when_it_is_all_there_is() {
    if !tools(&TOOLS) {
        return;
    }
    let other = "/boot/initramfs-fallback.img";
    let asked = ConvertOptions {
        block_driver: Some(BlockBus::VirtioScsi),
        ..options(&[])
    };
    let outcome = with_second(other, &OLD).convert(&asked);
    assert_eq!(outcome.caps.block_bus, BlockBus::VirtioScsi);
    let without = |name: &str| {
        let tree = with_second(other, &OLD);
        let dir = tree.at(&format!("/usr/lib/modules/{KVER}"));
        run(Command::new("find")
            .arg(&dir)
            .args(["-name", &format!("{name}.ko"), "-delete"]));
        run(Command::new("depmod").arg("-b").arg(tree.at("/")).arg(KVER));
        tree
    };
    let outcome = without("virtio_blk").convert(&options(&[]));
    assert_eq!(
        outcome.caps.block_bus,
        BlockBus::VirtioScsi,
        "{:?}",
        outcome.warnings
    );
    let outcome = without("virtio_scsi").convert(&asked);
    assert_eq!(outcome.caps.block_bus, BlockBus::VirtioBlk);
    let said = "cannot start from VirtioScsi: its disks will be VirtioBlk";
    assert!(
        outcome
            .warnings
            .iter()
            .any(|warning| warning.contains(said)),
        "{:?}",
        outcome.warnings
    );
    let outcome = without("virtio_pci").convert(&options(&[]));
    assert_eq!(outcome.caps.block_bus, BlockBus::Sata);
}

#[test]
fn nothing_is_packed_that_the_kernel_cannot_read() {
    if !tools(&TOOLS) {
        return;
    }
    let tree = Tree::debian();
    tree.add_kernel(KVER, Packed::No);
    tree.put(
        &format!("/boot/config-{KVER}"),
        b"CONFIG_RD_LZ4=y\n# CONFIG_RD_GZIP is not set\n",
    );
    let cpio = archive(&tree, DRACUT, &OLD);
    let path = format!("/boot/initrd.img-{KVER}");
    tree.put(&path, &packed(&cpio, &["lz4", "-l", "-c"]));
    tree.convert(&options(&[]));
    let contents = initrd::contents(&tree.root(), &path).unwrap();
    let kinds: Vec<_> = contents
        .segments
        .iter()
        .map(|segment| segment.compression)
        .collect();
    assert_eq!(kinds, [initrd::Compression::None; 2]);
}

#[test]
fn a_boot_configuration_at_the_end_stays_there() {
    if !tools(&TOOLS) {
        return;
    }
    let tree = Tree::debian();
    tree.add_kernel(KVER, Packed::No);
    let path = format!("/boot/initrd.img-{KVER}");
    let file = [
        archive(&tree, DRACUT, &OLD),
        b"kernel.x=1\n\0\x0c\0\0\0\x01\0\0\0#BOOTCONFIG\n".to_vec(),
    ]
    .concat();
    tree.put(&path, &file);
    let outcome = tree.convert(&options(&[]));
    assert_eq!(fs::read(tree.at(&path)).unwrap(), file);
    assert!(
        outcome
            .warnings
            .iter()
            .any(|warning| warning.contains("boot configuration"))
    );
    assert_eq!(outcome.caps.block_bus, BlockBus::Sata);
}

#[test]
fn every_generator_is_told_to_keep_virtio() {
    if !tools(&TOOLS) {
        return;
    }
    let tree = with_second("/boot/initramfs-fallback.img", &OLD);
    for (path, text) in [
        ("/usr/bin/dracut", "elf"),
        ("/usr/bin/mkinitcpio", "#!/bin/bash\n"),
        ("/etc/mkinitcpio.conf", "MODULES=()\n"),
        (
            "/etc/mkinitcpio.d/linux.preset",
            "ALL_kver=\"/boot/vmlinuz-linux\"\ndefault_config=\"/etc/mkinitcpio-own.conf\"\n",
        ),
        ("/etc/mkinitcpio-own.conf", "MODULES=(ext4)\nHOOKS=(base)\n"),
        ("/usr/sbin/mkinitfs", "#!/bin/sh\n"),
        (
            "/etc/mkinitfs/mkinitfs.conf",
            "features=\"ata base scsi ext4\"\n",
        ),
        ("/usr/sbin/mkinitrd", "#!/bin/sh\n"),
        (
            "/etc/sysconfig/kernel",
            "## Type: string\nINITRD_MODULES=\"mptspi ext3\"\n",
        ),
        ("/usr/bin/booster", "elf"),
        ("/usr/sbin/make-initrd", "#!/bin/sh\n"),
        ("/etc/initrd.mk", "AUTODETECT = all\n"),
        (
            "/etc/modprobe.conf",
            "alias eth0 e1000\nalias scsi_hostadapter mptspi\n",
        ),
        ("/etc/modprobe.d/mine.conf", "blacklist virtio_net\n"),
    ] {
        tree.put(path, text.as_bytes());
    }
    let outcome = tree.convert(&options(&[]));
    let names = "virtio_pci virtio_blk virtio_scsi virtio_net";
    assert_eq!(
        tree.text("/etc/initramfs-tools/modules"),
        format!("# list\nvmw_pvscsi\n{}\n", names.replace(' ', "\n"))
    );
    let dracut = tree.text("/etc/dracut.conf.d/v2v-virtio.conf");
    assert!(
        dracut.ends_with(&format!("\nadd_drivers+=\" {names} \"\n")),
        "{dracut}"
    );
    assert_eq!(
        tree.text("/etc/mkinitcpio.conf"),
        format!("MODULES=({names})\n")
    );
    let own = format!("MODULES=(ext4 {names})\nHOOKS=(base)\n");
    assert_eq!(tree.text("/etc/mkinitcpio-own.conf"), own);
    assert_eq!(
        tree.text("/etc/mkinitfs/mkinitfs.conf"),
        "features=\"ata base scsi ext4 v2v\"\n"
    );
    let feature = tree.text("/etc/mkinitfs/features.d/v2v.modules");
    assert!(
        feature.contains("kernel/drivers/block/virtio_blk.ko*\n"),
        "{feature}"
    );
    let suse = format!("## Type: string\nINITRD_MODULES=\"mptspi ext3 {names}\"\n");
    assert_eq!(tree.text("/etc/sysconfig/kernel"), suse);
    let booster = format!("modules_force_load: {}\n", names.replace(' ', ","));
    assert_eq!(tree.text("/etc/booster.yaml"), booster);
    assert_eq!(
        tree.text("/etc/initrd.mk"),
        format!("AUTODETECT = all\nMODULES_ADD += {names}\n")
    );
    assert_eq!(
        tree.text("/etc/modprobe.conf"),
        "alias eth0 virtio_net\nalias scsi_hostadapter virtio_pci\nalias scsi_hostadapter1 virtio_blk\nalias scsi_hostadapter2 virtio_scsi\n"
    );
    let said = "/etc/modprobe.d/mine.conf keeps virtio_net from being loaded";
    assert!(
        outcome
            .warnings
            .iter()
            .any(|warning| warning.starts_with(said)),
        "{:?}",
        outcome.warnings
    );
    assert_eq!(tree.convert(&options(&[])).changes, []);
}
