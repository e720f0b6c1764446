//! What qemu-img makes, read by us.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use image::{BlockSource, extents};
use types::CancelToken;

use crate::support::{Random, has_qemu, open_path, run};

const MIB: u64 = 1 << 20;

/// A sparse raw file with runs of data at random places, and at both ends; where they are.
fn sparse_raw(path: &Path, size: u64, random: &mut Random) -> Vec<(u64, u64)> {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    let mut places: Vec<u64> = (0..12).map(|_| random.below(size.max(1))).collect();
    places.extend([0, size.saturating_sub(5000)]);
    let mut runs = Vec::new();
    for at in places {
        let at = at / 512 * 512;
        let len = (1 + random.below(400 << 10)).min(size.saturating_sub(at));
        let mut bytes = vec![0; len as usize];
        random.fill(&mut bytes);
        file.write_all_at(&bytes, at).unwrap();
        runs.push((at, len));
    }
    runs
}

/// Compares where either has data; elsewhere both are known to be zero.
fn compare(disk: &dyn BlockSource, raw: &Path, runs: &[(u64, u64)]) {
    let raw = File::open(raw).unwrap();
    let data = extents(disk, 0..disk.virtual_size())
        .map(|extent| extent.unwrap())
        .filter(|extent| !extent.kind.reads_zero())
        .map(|extent| (extent.offset, extent.len));
    let (mut ours, mut theirs) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for (start, len) in data.chain(runs.iter().copied()) {
        let mut at = start;
        while at < start + len {
            let part = (start + len - at).min(1 << 20);
            disk.read_at(&mut ours[..part as usize], at).unwrap();
            raw.read_exact_at(&mut theirs[..part as usize], at).unwrap();
            assert!(ours == theirs, "{at:#x}");
            at += part;
        }
    }
}

#[test]
fn images_of_qemu_read_the_same() {
    if !has_qemu() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut random = Random(77);
    let cases: &[(u64, &str, &str)] = &[
        (512, "1M", "dynamic"),
        (MIB, "1M", "fixed"),
        (3 * MIB + 512, "1M", "dynamic"),
        (40 * MIB + 4608, "8M", "dynamic"),
        (17 * MIB + 512, "16M", "fixed"),
        (5 << 30, "1M", "dynamic"),
        ((4 << 30) + (300 << 20) + 512, "256M", "dynamic"),
        ((4 << 30) + 512, "32M", "dynamic"),
    ];
    for (size, block_size, subformat) in cases {
        let raw = scratch.path().join("disk.raw");
        let image = scratch.path().join("disk.vhdx");
        let runs = sparse_raw(&raw, *size, &mut random);
        let options = format!("block_size={block_size},subformat={subformat}");
        run(
            "qemu-img",
            &[
                "convert",
                "-f",
                "raw",
                "-O",
                "vhdx",
                "-o",
                &options,
                raw.to_str().unwrap(),
                image.to_str().unwrap(),
            ],
        );
        let disk = open_path(&image).unwrap();
        assert_eq!(disk.virtual_size(), *size, "{options}");
        assert_eq!(disk.info().variant, *subformat);
        compare(disk.as_ref(), &raw, &runs);
        let check = disk.check_metadata(&CancelToken::new()).unwrap().unwrap();
        assert!(check.is_clean(), "{size} {options}: {:?}", check.findings);
    }
    // Nothing at all.
    let empty = scratch.path().join("empty.vhdx");
    run(
        "qemu-img",
        &["create", "-q", "-f", "vhdx", empty.to_str().unwrap(), "0"],
    );
    assert_eq!(open_path(&empty).unwrap().virtual_size(), 0);
}
