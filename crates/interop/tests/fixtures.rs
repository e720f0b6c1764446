//! Every disk image of ../shared/fixtures is read to its known hash, or equal to its raw twin, or, where there is no
//! twin, to what qemu-img makes of it. A file that is none of these fails the test.

#![expect(
    clippy::unwrap_used,
    reason = "tests run on 64 bits with small numbers; unwrap is how a test fails"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::formats::{self, OpenOptions};
use image::{BlockSource, ExtentKind, Files};
use sha2::{Digest, Sha256};
use testkit::cmd;

/// Hashes from the fixtures' README: SHA-256 of what the guest sees.
const HASHES: &[(&str, &str)] = &[
    (
        "ext2.raw",
        "a6c2f0e39afe6c6ab432ca5465349fcefe8dc944398e97b2d957d3f89dbb5d80",
    ),
    (
        "ext2.vhdx",
        "a6c2f0e39afe6c6ab432ca5465349fcefe8dc944398e97b2d957d3f89dbb5d80",
    ),
    (
        "ext2.vmdk",
        "a6c2f0e39afe6c6ab432ca5465349fcefe8dc944398e97b2d957d3f89dbb5d80",
    ),
    (
        "ntfs-fixed.vhd",
        "cd81fade3878f1b2957f1ece168201876bdf4e90c9b30f60c2f232eba5fea76c",
    ),
    (
        "ntfs-fixed.vhdx",
        "5237dd895f38052344e2ef35a207fe9df08cd18d17b6ea857a1b93cc475e1f2e",
    ),
    (
        "fat-parent.vhd",
        "bbdb657bc5aa2fde44e2456149f9257a862cb84f4668e338b90e357b0fbdf118",
    ),
    // The README says 79f1d5f8…, which takes sector 186 from the child though its bit in the bitmap is 0: the four
    // bits 184 to 187 read as one. By the specification (1.0, Differencing Disk Image) that sector is the parent's;
    // it is the content of WPSettings.dat, which would be zeroes otherwise.
    (
        "fat-differential.vhd",
        "f4b61a33ee2f7e8c19f737792a4107e46340026a9a829e4169b751901cc3ef02",
    ),
    (
        "fat-parent.vhdx",
        "2d1954fec68faefe81dd3687282a9b387bf8417f6d2cf0da3825fa1445b64cfb",
    ),
    (
        "fat-differential.vhdx",
        "a538161f34bc44c12bf9a542ce9218741c62728723ea18d0e4f6ea92e9f32e93",
    ),
    (
        "iotest-dynamic-1G.vhdx",
        "d3d112d8dab7fd360609f7d5a7b769904b7a2a7d7b6b8c535f65a23293c05478",
    ),
];

/// How a file is judged.
enum Proof {
    Hash(&'static str),
    /// A raw file beside it, or elsewhere in the pack.
    Twin(&'static str),
    /// Size in bytes, all of them zero.
    Zero(u64),
    QemuImg,
    /// Part of another file's image, or the twin itself.
    Part,
}

fn proof(name: &str) -> Option<Proof> {
    if let Some((_, hash)) = HASHES.iter().find(|(file, _)| *file == name) {
        return Some(Proof::Hash(hash));
    }
    Some(match name {
        "virtualpc-dynamic.vhd" => Proof::Zero(136_363_130_880),
        "iotest-version3.vmdk" => Proof::QemuImg,
        "{4664ba10-e748-4b86-b40c-92a5fb1fdff2}.vdi" => Proof::Twin("diff-sata0-merged.raw"),
        "{51d36d73-76c8-4123-a07a-6f59e6c324c0}.vmdk" => Proof::Twin("diff-sata1-merged.raw"),
        // Half-way through a chain: read as a whole by the two above.
        "{4dc67360-2fa6-42cb-93f8-61adbc1603e2}.vdi"
        | "{a2b914e8-ef45-4c24-a976-a3e9bbe2f3fa}.vmdk" => Proof::Part,
        name if name.ends_with(".raw")
            || name.contains("-split2g-s00")
            || name.ends_with("-flat.vmdk") =>
        {
            Proof::Part
        }
        name if name.starts_with("src4m-") => Proof::Twin("src4m.raw"),
        name if name.starts_with("src5g-") => Proof::QemuImg,
        name if is_image(name) => Proof::QemuImg,
        _ => return None,
    })
}

fn is_image(name: &str) -> bool {
    let extensions = ["vmdk", "vdi", "vhd", "vhdx", "qcow", "qed", "hdd", "raw"];
    name.rsplit_once('.')
        .is_some_and(|(_, extension)| extensions.contains(&extension))
}

#[test]
fn every_disk_of_the_fixtures_is_read_exactly() {
    if !testkit::require_tool("qemu-img") {
        return;
    }
    let (mut read, mut parts) = (0, 0);
    for pack in ["disks", "vbox-made"] {
        let Some(root) = testkit::fixture(pack).unwrap() else {
            testkit::skip("fixtures are absent: set V2V_FIXTURES");
            return;
        };
        // Parents lie in other folders of the pack.
        let files = Files::below(&root);
        let scratch = tempfile::tempdir().unwrap();
        for path in walk(&root) {
            let name = path.file_name().unwrap().to_str().unwrap();
            if !is_image(name) {
                continue;
            }
            let proof = proof(name).unwrap_or_else(|| panic!("{} has no proof", path.display()));
            if matches!(proof, Proof::Part) {
                parts += 1;
                continue;
            }
            let options = OpenOptions {
                files: Some(files.clone()),
                ..OpenOptions::default()
            };
            let disk = formats::open(&path, &options)
                .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            prove(&path, &disk, &proof, &root, scratch.path());
            read += 1;
        }
    }
    println!("{read} images read exactly, {parts} files are parts of them or their raw twins");
    assert!(read >= 58, "{read} images");
}

fn prove(path: &Path, disk: &Arc<dyn BlockSource>, proof: &Proof, root: &Path, scratch: &Path) {
    let what = path.display();
    match proof {
        Proof::Hash(hash) => assert_eq!(sha256(disk.as_ref()), *hash, "{what}"),
        Proof::Twin(twin) => {
            let twin = walk(root)
                .into_iter()
                .find(|file| file.ends_with(twin))
                .unwrap();
            same(disk.as_ref(), raw(&twin).as_ref(), path);
        }
        Proof::Zero(size) => {
            assert_eq!(disk.virtual_size(), *size, "{what}");
            for extent in image::extents(disk.as_ref(), 0..*size) {
                let extent = extent.unwrap();
                if extent.kind == ExtentKind::Data {
                    let mut bytes = vec![1; usize::try_from(extent.len).unwrap()];
                    disk.read_at(&mut bytes, extent.offset).unwrap();
                    assert!(image::is_zero(&bytes), "{what}: {extent:?}");
                }
            }
        }
        Proof::QemuImg => {
            let to = scratch.join("twin.raw");
            cmd::output(
                cmd::command("qemu-img", ["convert", "-O", "raw"])
                    .arg(path)
                    .arg(&to),
            )
            .unwrap();
            same(disk.as_ref(), raw(&to).as_ref(), path);
            fs::remove_file(&to).unwrap();
        }
        Proof::Part => {}
    }
}

fn raw(path: &Path) -> Arc<dyn BlockSource> {
    formats::open(path, &OpenOptions::with_format(Some(formats::Format::Raw))).unwrap()
}

/// Compares all that either has as data.
fn same(disk: &dyn BlockSource, twin: &dyn BlockSource, path: &Path) {
    assert_eq!(
        disk.virtual_size(),
        twin.virtual_size(),
        "{}",
        path.display()
    );
    for (a, b) in [(disk, twin), (twin, disk)] {
        for extent in image::extents(a, 0..a.virtual_size()) {
            let extent = extent.unwrap();
            if extent.kind != ExtentKind::Data {
                continue;
            }
            let mut at = extent.offset;
            while at < extent.offset + extent.len {
                let len = (extent.offset + extent.len - at).min(1 << 20) as usize;
                let (mut left, mut right) = (vec![0; len], vec![0; len]);
                a.read_at(&mut left, at).unwrap();
                b.read_at(&mut right, at).unwrap();
                assert!(
                    left == right,
                    "{}: differs in {len} bytes from {at:#x}",
                    path.display()
                );
                at += len as u64;
            }
        }
    }
}

fn sha256(disk: &dyn BlockSource) -> String {
    let mut hash = Sha256::new();
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    while at < disk.virtual_size() {
        let len = (disk.virtual_size() - at).min(1 << 20) as usize;
        disk.read_at(&mut buf[..len], at).unwrap();
        hash.update(&buf[..len]);
        at += len as u64;
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn walk(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}
