//! Chains of three, of odd block sizes, with every way to name a parent.

use std::path::Path;

use image::formats::{OpenOptions, open};
use image::{ErrorKind, Files};

use crate::builder::{Layer, Vdi, Vhd, parallels};
use crate::support::{Rng, assert_holds, opened, refusal};

/// A base and two layers over it: each changes stretches of sectors. `unit` sectors are changed as one.
fn layers(rng: &mut Rng, size: usize, unit: usize) -> Vec<Layer> {
    let sectors = size / 512;
    let mut disk = vec![0; size];
    let mut layers = Vec::new();
    for _ in 0..3 {
        let mut own = vec![false; sectors];
        let mut at = 0;
        while at < sectors {
            let end = (at + unit * (1 + rng.index(40)))
                .next_multiple_of(unit)
                .min(sectors);
            if rng.below(3) == 0 {
                own[at..end].fill(true);
                let bytes = &mut disk[at * 512..end * 512];
                // A sector that a child zeroed must not show the parent's.
                if rng.below(4) == 0 {
                    bytes.fill(0);
                } else {
                    rng.fill(bytes);
                }
            }
            at = end;
        }
        layers.push(Layer {
            disk: disk.clone(),
            own,
        });
    }
    layers
}

fn units(text: &str, big: bool) -> Vec<u8> {
    let order = |unit: u16| {
        if big {
            unit.to_be_bytes()
        } else {
            unit.to_le_bytes()
        }
    };
    text.encode_utf16().flat_map(order).collect()
}

#[test]
fn vhd_chains_of_three_are_read_sector_by_sector() {
    let mut rng = Rng::new(1);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for (size, block_sizes) in [
        (1_000_448, [512, 4096, 65536]),
        (5 << 20, [2 << 20, 512 << 10, 2 << 20]),
        (9_437_696, [8 << 20, 1 << 20, 4 << 20]),
    ] {
        let layers = layers(&mut rng, size, 1);
        let base = Vhd::dynamic(block_sizes[0], 1);
        let mut middle = Vhd::child(block_sizes[1], 2, 1, "");
        middle.locators = vec![(*b"W2ru", units(r".\base.vhd", false))];
        let leaf = Vhd::child(block_sizes[2], 3, 2, r"D:\VMs\middle.vhd");
        for (vhd, layer, name) in [
            (&base, &layers[0], "base.vhd"),
            (&middle, &layers[1], "middle.vhd"),
            (&leaf, &layers[2], "leaf.vhd"),
        ] {
            std::fs::write(path(name), vhd.build(layer)).unwrap();
            let source = opened(&path(name));
            assert_holds(&*source, &layer.disk);
        }
        let leaf = opened(&path("leaf.vhd"));
        assert_eq!(
            leaf.info().parent_name.as_deref(),
            Some(r"D:\VMs\middle.vhd")
        );
        assert!(leaf.parent().unwrap().parent().unwrap().parent().is_none());
    }
}

#[test]
fn a_child_may_be_longer_than_its_parent() {
    let mut rng = Rng::new(2);
    let dir = tempfile::tempdir().unwrap();
    let mut layers = layers(&mut rng, 3 << 20, 1);
    let short = Layer {
        disk: layers[0].disk[..1 << 20].to_vec(),
        own: layers[0].own[..2048].to_vec(),
    };
    let long = layers.swap_remove(1);
    let mut expected = vec![0; 3 << 20];
    for (sector, own) in long.own.iter().enumerate() {
        let bytes = sector * 512..sector * 512 + 512;
        if *own {
            expected[bytes.clone()].copy_from_slice(&long.disk[bytes]);
        } else if sector < 2048 {
            expected[bytes.clone()].copy_from_slice(&short.disk[bytes]);
        }
    }
    std::fs::write(
        dir.path().join("a.vhd"),
        Vhd::dynamic(2 << 20, 1).build(&short),
    )
    .unwrap();
    let child = Vhd::child(2 << 20, 2, 1, "a.vhd").build(&long);
    std::fs::write(dir.path().join("b.vhd"), child).unwrap();
    assert_holds(&*opened(&dir.path().join("b.vhd")), &expected);
}

#[test]
fn every_locator_leads_to_the_parent() {
    let mut rng = Rng::new(3);
    let dir = tempfile::tempdir().unwrap();
    let layers = layers(&mut rng, 64 << 10, 1);
    let base = Vhd::dynamic(4096, 1).build(&layers[0]);
    std::fs::write(dir.path().join("the base.vhd"), base).unwrap();
    let child = dir.path().join("child.vhd");
    let elsewhere = (*b"W2ru", units(r"..\gone.vhd", false));
    for locators in [
        vec![(*b"W2ru", units(r".\the base.vhd", false))],
        vec![(*b"W2ru", units(r".\the base.vhd", true))],
        vec![
            (*b"W2ku", units(r"C:\old\the base.vhd", false)),
            elsewhere.clone(),
        ],
        vec![(*b"Wi2r", b".\\the base.vhd\0".to_vec()), elsewhere.clone()],
        vec![(*b"Wi2k", b"E:\\the base.vhd".to_vec())],
        vec![
            (*b"Mac ", vec![1; 100]),
            (
                *b"MacX",
                b"file://localhost/Users/me/the%20base.vhd".to_vec(),
            ),
        ],
    ] {
        let mut vhd = Vhd::child(4096, 2, 1, "");
        vhd.locators = locators.clone();
        std::fs::write(&child, vhd.build(&layers[1])).unwrap();
        assert_holds(&*opened(&child), &layers[1].disk);
        vhd.parent_id = 9;
        std::fs::write(&child, vhd.build(&layers[1])).unwrap();
        let error = refusal(&child);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{locators:?}: {error}");
    }
    let nameless = Vhd::child(4096, 2, 1, "").build(&layers[1]);
    std::fs::write(&child, nameless).unwrap();
    assert!(refusal(&child).to_string().contains("name its parent"));
    let own_parent = Vhd::child(4096, 2, 2, "child.vhd").build(&layers[1]);
    std::fs::write(&child, own_parent).unwrap();
    assert!(refusal(&child).to_string().contains("loop"));
}

fn write_vdis(dir: &Path, rng: &mut Rng, size: usize, shape: (u32, u32)) -> Vec<Layer> {
    let (block_size, block_extra) = shape;
    let unit = (block_size / 512) as usize;
    let mut layers = layers(rng, size, unit);
    for (number, image_type) in [(0, 1), (1, 4), (2, 4)] {
        let blocks = size.div_ceil(block_size as usize);
        // Every third block that is not own is zeroed, whatever the parents hold.
        let zeroes: Vec<bool> = (0..blocks).map(|block| block % 3 == number).collect();
        for block in (0..blocks).filter(|block| zeroes[*block]) {
            for later in number..3 {
                if layers[number..=later]
                    .iter()
                    .any(|layer| layer.own[block * unit])
                {
                    break;
                }
                let end = ((block + 1) * block_size as usize).min(size);
                layers[later].disk[block * block_size as usize..end].fill(0);
            }
        }
        let vdi = Vdi {
            block_size,
            block_extra,
            image_type,
            id: number as u8 + 1,
            parent_id: number as u8,
        };
        let file = vdi.build(&layers[number], &zeroes);
        std::fs::write(dir.join(format!("{number}.vdi")), file).unwrap();
    }
    layers
}

#[test]
fn vdi_chains_of_three_tell_free_from_zero() {
    let mut rng = Rng::new(4);
    for (size, shape) in [
        (3 << 20, (65536, 0)),
        (1_000_448, (4096, 512)),
        (700_416, (1536, 7)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let layers = write_vdis(dir.path(), &mut rng, size, shape);
        for (number, layer) in layers.iter().enumerate() {
            let source = opened(&dir.path().join(format!("{number}.vdi")));
            assert_holds(&*source, &layer.disk);
        }
        let options = OpenOptions {
            files: Some(Files::none()),
            ..OpenOptions::default()
        };
        assert!(open(&dir.path().join("0.vdi"), &options).is_ok());
        let error = open(&dir.path().join("2.vdi"), &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
    }
}

#[test]
fn parallels_clusters_of_any_size_are_read() {
    let mut rng = Rng::new(5);
    let dir = tempfile::tempdir().unwrap();
    for (sectors, ext) in [
        (63, false),
        (504, false),
        (2048, false),
        (2048, true),
        (1, true),
        (63, true),
    ] {
        let disk = rng.disk(3_000_320, 40);
        let path = dir.path().join("image.hdd");
        std::fs::write(&path, parallels(&disk, sectors, ext)).unwrap();
        assert_holds(&*opened(&path), &disk);
    }
}
