//! Chains from the independent builder, compared with a model in memory.

use std::path::Path;

use image::{ErrorKind, extents};

use crate::builder::{Disk, MIB, braced};
use crate::support::{Random, assert_reads, open_bytes, open_path};

/// Gives every block of the disk a random state, and does the same to the model of what its parent shows.
fn scribble(disk: &mut Disk, model: &mut Vec<u8>, random: &mut Random) {
    let differencing = disk.locator.is_some();
    model.resize(disk.virtual_size as usize, 0);
    let blocks = disk.virtual_size.div_ceil(disk.block_size as u64);
    for block in 0..blocks {
        let start = block as usize * disk.block_size;
        let end = (start + disk.block_size).min(model.len());
        let states: &[u64] = if differencing {
            &[0, 0, 1, 2, 3, 6, 7, 7, 7]
        } else {
            &[0, 1, 2, 3, 6, 6]
        };
        let state = states[random.below(states.len() as u64) as usize];
        let mut bytes = vec![0; disk.block_size];
        random.fill(&mut bytes);
        match state {
            1..=3 => model[start..end].fill(0),
            6 => model[start..end].copy_from_slice(&bytes[..end - start]),
            7 => {
                // Runs of present and absent sectors, short and long.
                let mut at = start;
                while at < start + disk.block_size {
                    let limit = [1, 9, 300][random.below(3) as usize];
                    let run = (1 + random.below(limit) as usize) * disk.sector;
                    let stop = (at + run).min(start + disk.block_size);
                    if random.below(2) == 0 {
                        disk.present
                            .extend((at / disk.sector) as u64..(stop / disk.sector) as u64);
                        let seen = stop.min(end);
                        if at < seen {
                            model[at..seen].copy_from_slice(&bytes[at - start..seen - start]);
                        }
                    }
                    at = stop;
                }
            }
            _ => {}
        }
        disk.blocks.insert(block, (state, bytes));
    }
}

fn save(directory: &Path, name: &str, disk: &Disk) {
    std::fs::write(directory.join(name), disk.build()).unwrap();
}

#[test]
fn chains_of_three_read_as_their_model() {
    let mut random = Random(0x5eed);
    for (turn, (sector, block)) in [(512, MIB), (512, 2 * MIB), (4096, MIB), (4096, 4 * MIB)]
        .into_iter()
        .cycle()
        .take(8)
        .enumerate()
    {
        let scratch = tempfile::tempdir().unwrap();
        let mut model = Vec::new();
        let size = |random: &mut Random| (4 * MIB as u64 + random.below(2000) * 4096) / 4096 * 4096;
        let mut base = Disk::new(block, sector, size(&mut random));
        base.identity = 0xaaaa;
        scribble(&mut base, &mut model, &mut random);
        save(scratch.path(), "base.vhdx", &base);
        // Blocks of another size, and a disk that is longer or shorter than its parent.
        let mut middle =
            Disk::new(MIB, sector, size(&mut random)).child_of(r"..\vms\base.vhdx", 0xaaaa);
        middle.identity = 0xbbbb;
        scribble(&mut middle, &mut model, &mut random);
        save(scratch.path(), "middle.avhdx", &middle);
        let mut leaf =
            Disk::new(block, sector, size(&mut random)).child_of(r".\middle.avhdx", 0xbbbb);
        scribble(&mut leaf, &mut model, &mut random);
        save(scratch.path(), "leaf.avhdx", &leaf);
        let disk = open_path(&scratch.path().join("leaf.avhdx")).unwrap();
        assert_eq!(disk.logical_sector_size() as usize, sector);
        eprintln!("chain {turn}");
        assert_reads(disk.as_ref(), &model, &mut random);
        assert!(disk.parent().unwrap().parent().is_some());
    }
}

#[test]
fn blocks_of_later_chunks_are_found() {
    // Chunk ratio 4096 and 32768: the interleaved bitmap entries, with data past 4 GiB.
    let mut random = Random(11);
    for (sector, blocks) in [
        (512, [0u64, 4095, 4096, 8191, 8192, 12_000]),
        (4096, [0, 32_767, 32_768, 33_000, 65_536, 70_000]),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let size = 72_000 * MIB as u64 + 4096;
        let mut parent = Disk::new(MIB, sector, size);
        let mut child = Disk::new(MIB, sector, size).child_of("p.vhdx", parent.identity);
        for block in blocks {
            let mut bytes = vec![0; MIB];
            random.fill(&mut bytes);
            parent.blocks.insert(block, (6, bytes.clone()));
            random.fill(&mut bytes);
            child.blocks.insert(block, (7, bytes));
            let first = block * (MIB / sector) as u64;
            child.present.extend(first + 8..first + 16);
        }
        save(scratch.path(), "p.vhdx", &parent);
        save(scratch.path(), "c.vhdx", &child);
        let disk = open_path(&scratch.path().join("c.vhdx")).unwrap();
        let mut data = 0;
        for extent in extents(disk.as_ref(), 0..size) {
            let extent = extent.unwrap();
            data += if extent.kind.reads_zero() {
                0
            } else {
                extent.len
            };
        }
        assert_eq!(data, 6 * MIB as u64);
        for block in blocks {
            let mut buf = vec![0; MIB];
            disk.read_at(&mut buf, block * MIB as u64).unwrap();
            let mut expected = parent.blocks[&block].1.clone();
            let own = 8 * sector..16 * sector;
            expected[own.clone()].copy_from_slice(&child.blocks[&block].1[own]);
            assert!(buf == expected, "block {block}, sector {sector}");
        }
    }
}

#[test]
fn the_parent_is_the_file_with_the_right_identity() {
    let scratch = tempfile::tempdir().unwrap();
    let mut right = Disk::new(MIB, 512, MIB as u64);
    right.identity = 0xaaaa;
    right.blocks.insert(0, (6, vec![7; MIB]));
    let mut wrong = right.clone();
    wrong.identity = 0xcccc;
    save(scratch.path(), "stale.vhdx", &wrong);
    save(scratch.path(), "moved.vhdx", &right);
    let mut child = Disk::new(MIB, 512, MIB as u64);
    child.locator = Some(vec![
        ("absolute_win32_path", r"D:\vms\moved.vhdx".to_owned()),
        ("relative_path", r".\stale.vhdx".to_owned()),
        ("volume_path", r"\\?\Volume{0}\gone.vhdx".to_owned()),
        ("parent_linkage", braced(0x9999)),
        ("parent_linkage2", braced(0xaaaa)),
    ]);
    save(scratch.path(), "child.vhdx", &child);
    let open = || open_path(&scratch.path().join("child.vhdx"));
    let mut byte = [0];
    open().unwrap().read_at(&mut byte, 12345).unwrap();
    assert_eq!(byte, [7]);
    // Only the stale one is left: both identities are named.
    std::fs::remove_file(scratch.path().join("moved.vhdx")).unwrap();
    let error = open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let text = error.to_string();
    for digits in [0x9999, 0xaaaa, 0xcccc] {
        let guid = braced(digits);
        assert!(text.contains(guid.trim_matches(['{', '}'])), "{text}");
    }
    std::fs::remove_file(scratch.path().join("stale.vhdx")).unwrap();
    assert_eq!(open().unwrap_err().kind(), ErrorKind::Missing);
    std::fs::write(scratch.path().join("stale.vhdx"), b"conectix").unwrap();
    assert!(open().unwrap_err().to_string().contains("another format"));
    // Its own parent.
    let own = Disk::new(MIB, 512, MIB as u64).child_of("own.vhdx", 0x1111);
    save(scratch.path(), "own.vhdx", &own);
    let error = open_path(&scratch.path().join("own.vhdx")).unwrap_err();
    assert!(error.to_string().contains("loop"), "{error}");
    // Nowhere to look.
    assert_eq!(
        open_bytes(child.build()).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}

#[test]
fn what_the_guest_gave_up_is_not_the_parents() {
    let scratch = tempfile::tempdir().unwrap();
    let mut parent = Disk::new(MIB, 512, 4 * MIB as u64);
    let mut child = Disk::new(MIB, 512, 6 * MIB as u64).child_of("p.vhdx", parent.identity);
    for block in 0..4 {
        parent.blocks.insert(block, (6, vec![9; MIB]));
        child.blocks.insert(block, (block, Vec::new()));
    }
    save(scratch.path(), "p.vhdx", &parent);
    save(scratch.path(), "c.vhdx", &child);
    let disk = open_path(&scratch.path().join("c.vhdx")).unwrap();
    let mut model = vec![0; 6 * MIB];
    model[..MIB].fill(9);
    assert_reads(disk.as_ref(), &model, &mut Random(3));
}
