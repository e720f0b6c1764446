//! The appended archive, read back by our reader, by cpio, and by modprobe.

use std::fs;
use std::path::Path;
use std::process::Command;

use types::BlockBus;

use super::tree::{KVER, Packed, Tree, mac, options, pipe, run, tools};
use crate::linux::initrd;

const OLD: [&str; 3] = ["scsi_mod", "sd_mod", "vmw_pvscsi"];

/// Unpacks as the kernel does: every archive in turn over what is there.
fn unpack(initrd: &[u8], segments: &[initrd::Segment], to: &Path) {
    for (index, segment) in segments.iter().enumerate() {
        let start = usize::try_from(segment.offset).unwrap();
        assert_eq!(start % 4, 0, "segment {index} at {start}");
        let end = segments
            .get(index + 1)
            .map_or(initrd.len(), |next| usize::try_from(next.offset).unwrap());
        let part = &initrd[start..end];
        let cpio = match segment.compression {
            initrd::Compression::None => part.to_vec(),
            initrd::Compression::Gzip => {
                let mut out = Vec::new();
                std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(part), &mut out)
                    .unwrap();
                out
            }
            initrd::Compression::Xz => pipe(
                Command::new("xz").args(["-dc", "--single-stream"]),
                trimmed(part),
            ),
            initrd::Compression::Zstd => pipe(Command::new("zstd").args(["-dcq"]), trimmed(part)),
            other => panic!("{other:?} left in the file"),
        };
        pipe(
            Command::new("cpio")
                .current_dir(to)
                .args(["-idu", "--quiet"]),
            &cpio,
        );
    }
}

/// Without the zeroes of the alignment, which the programs do not accept and the kernel skips.
fn trimmed(part: &[u8]) -> &[u8] {
    let end = part
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |at| at + 1);
    &part[..end]
}

fn check(packed: Packed, pack: impl Fn(&[u8]) -> Vec<u8>) {
    let tree = Tree::debian();
    tree.add_kernel(KVER, packed);
    tree.add_initrd(KVER, &OLD, pack);
    let path = format!("/boot/initrd.img-{KVER}");
    let before = fs::read(tree.at(&path)).unwrap();
    assert!(!tree.inspect().kernels[0].initrd_has_virtio);
    let outcome = tree.convert(&options(&[mac(1)]));
    assert_eq!(
        outcome.caps.block_bus,
        BlockBus::VirtioBlk,
        "{:?}",
        outcome.warnings
    );
    assert!(tree.inspect().kernels[0].initrd_has_virtio);
    let kept = fs::read(tree.at(&format!("{path}.pre-v2v"))).unwrap();
    assert_eq!(kept, before);

    let after = fs::read(tree.at(&path)).unwrap();
    let root = tree.root();
    let contents = initrd::contents(&root, &path).unwrap();
    let to = tempfile::tempdir().unwrap();
    unpack(&after, &contents.segments, to.path());
    assert_eq!(
        fs::read_link(to.path().join("lib")).unwrap(),
        Path::new("usr/lib")
    );
    let shown = run(Command::new("modprobe").arg("-d").arg(to.path()).args([
        "-S",
        KVER,
        "--show-depends",
        "virtio_net",
    ]));
    let shown = String::from_utf8(shown).unwrap();
    for name in [
        "virtio.ko",
        "failover.ko",
        "net_failover.ko",
        "virtio_net.ko",
    ] {
        assert!(shown.contains(name), "{name} not in\n{shown}");
    }
    // By alias, as udev asks; and what was there before still resolves.
    for name in [
        "virtio:virtio_blk",
        "vmw_pvscsi",
        "virtio_pci",
        "virtio_scsi",
    ] {
        let shown = run(Command::new("modprobe").arg("-d").arg(to.path()).args([
            "-S",
            KVER,
            "--show-depends",
            name,
        ]));
        for line in String::from_utf8(shown).unwrap().lines() {
            let file = line.split_whitespace().nth(1).unwrap();
            assert!(Path::new(file).exists(), "{line}");
        }
    }
    let text = |path: &str| fs::read_to_string(to.path().join(path)).unwrap();
    assert_eq!(
        text("conf/modules"),
        "vmw_pvscsi\nvirtio_pci\nvirtio_blk\nvirtio_scsi\nsd_mod\n"
    );
    assert_eq!(
        text("conf/conf.d/resume"),
        format!("RESUME=UUID={}\n", super::tree::SWAP_UUID)
    );
    assert!(text("etc/systemd/network/10-v2v-ens192.link").contains("Name=ens192"));
}

#[test]
fn a_plain_archive_gets_virtio() {
    if tools(&["depmod", "modprobe", "cpio"]) {
        check(Packed::No, |cpio| cpio.to_vec());
    }
}

#[test]
fn microcode_in_front_and_gzip_of_odd_length_get_virtio() {
    if tools(&["depmod", "modprobe", "cpio", "gzip"]) {
        check(Packed::No, |cpio| {
            let mut early = initrd::cpio::Builder::default();
            early.file("kernel/x86/microcode/GenuineIntel.bin", b"microcode");
            let mut bytes = early.finish();
            bytes.resize(bytes.len().next_multiple_of(512), 0);
            bytes.extend(pipe(Command::new("gzip").arg("-nc"), cpio));
            // An odd length whatever gzip made.
            while bytes.len() % 4 != 1 {
                bytes.push(0);
            }
            bytes
        });
    }
}

#[test]
fn xz_with_packed_modules_gets_virtio() {
    if tools(&["depmod", "modprobe", "cpio", "xz"]) {
        check(Packed::Xz, |cpio| {
            pipe(Command::new("xz").args(["--check=crc32", "-c"]), cpio)
        });
    }
}

#[test]
fn zstd_with_packed_modules_gets_virtio() {
    if tools(&["depmod", "modprobe", "cpio", "zstd"]) {
        check(Packed::Zst, |cpio| {
            pipe(Command::new("zstd").args(["-qc"]), cpio)
        });
    }
}

#[test]
fn an_lz4_archive_is_repacked_because_nothing_may_follow_it() {
    if tools(&["depmod", "modprobe", "cpio", "lz4"]) {
        check(Packed::No, |cpio| {
            pipe(Command::new("lz4").args(["-l", "-c"]), cpio)
        });
    }
}

#[test]
fn what_cannot_be_read_is_left_alone_and_the_disks_fall_back() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = Tree::debian();
    tree.add_kernel(KVER, Packed::No);
    tree.add_initrd(KVER, &OLD, |cpio| {
        [b"\x89LZO\0\r\n\x1a\n".as_slice(), cpio].concat()
    });
    let path = format!("/boot/initrd.img-{KVER}");
    let before = fs::read(tree.at(&path)).unwrap();
    let outcome = tree.convert(&options(&[mac(1)]));
    assert_eq!(outcome.caps.block_bus, BlockBus::Sata);
    assert!(
        outcome
            .warnings
            .iter()
            .any(|warning| warning.contains("compressed by lzo")),
        "{:?}",
        outcome.warnings
    );
    assert_eq!(fs::read(tree.at(&path)).unwrap(), before);
}

#[test]
fn a_kernel_with_everything_built_in_needs_nothing() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = Tree::debian();
    tree.add_kernel(KVER, Packed::No);
    let builtin = [
        "virtio/virtio",
        "virtio/virtio_ring",
        "virtio/virtio_pci",
        "block/virtio_blk",
        "net/virtio_net",
    ];
    let list: String = builtin
        .iter()
        .map(|name| format!("kernel/drivers/{name}.ko\n"))
        .collect();
    tree.put(
        &format!("/usr/lib/modules/{KVER}/modules.builtin"),
        list.as_bytes(),
    );
    tree.add_initrd(KVER, &["sd_mod", "scsi_mod"], |cpio| cpio.to_vec());
    assert!(tree.inspect().kernels[0].initrd_has_virtio);
    let outcome = tree.convert(&options(&[]));
    assert_eq!(outcome.caps.block_bus, BlockBus::VirtioBlk);
    // The resume device in it is still renamed, but no module is added.
    let contents = initrd::contents(&tree.root(), &format!("/boot/initrd.img-{KVER}")).unwrap();
    assert!(!contents.modules_of(KVER).contains("virtio_blk"));
}
