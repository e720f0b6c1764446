//! COWD and seSparse extents as ESX makes them, built here, compared with what was put in and with qemu-img.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use image::formats::vmdk::Reader;
use image::{BlockSource, ErrorKind, ExtentKind, FileRange, Files, extents};
use types::CancelToken;

use crate::compare::{assert_reader_same, assert_same_as_qemu, bytes_of};
use crate::support::{Random, has_qemu};

const SECTOR: usize = 512;

/// The state of a grain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grain {
    Data(u8),
    Zero,
    Unmapped,
}

fn fill(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 3) as u8 ^ seed | 1).collect()
}

/// A COWD extent with grains of so many sectors; tables and grains in order of first use.
pub(crate) fn cowd(sectors: u32, grain_sectors: u32, grains: &[(u32, u8)]) -> Vec<u8> {
    let tables = sectors.div_ceil(grain_sectors).div_ceil(4096);
    let mut bytes = vec![0; 2048];
    for (at, value) in [
        (0, u32::from_le_bytes(*b"COWD")),
        (4, 1),
        (8, 3),
        (12, sectors),
        (16, grain_sectors),
        (20, 4),
        (24, tables),
    ] {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    bytes.resize((2048 + tables as usize * 4).next_multiple_of(SECTOR), 0);
    let mut places = BTreeMap::new();
    for (grain, seed) in grains {
        let (table, slot) = ((grain / 4096) as usize, (grain % 4096) as usize);
        let place = *places.entry(table).or_insert_with(|| {
            let place = bytes.len();
            let entry = 2048 + table * 4;
            bytes[entry..entry + 4].copy_from_slice(&((place / SECTOR) as u32).to_le_bytes());
            bytes.resize(place + 4096 * 4, 0);
            place
        });
        let sector = ((bytes.len() / SECTOR) as u32).to_le_bytes();
        bytes[place + slot * 4..place + slot * 4 + 4].copy_from_slice(&sector);
        bytes.extend(fill(*seed, grain_sectors as usize * SECTOR));
    }
    let free = ((bytes.len() / SECTOR) as u32).to_le_bytes();
    bytes[28..32].copy_from_slice(&free);
    bytes
}

/// A seSparse extent; grains of data are put into the file in reverse order.
pub(crate) fn sesparse(sectors: u64, grains: &[(u64, Grain)]) -> Vec<u8> {
    let tables = sectors.div_ceil(8).div_ceil(4096);
    let directory_sectors = (tables * 8).div_ceil(512);
    let (directory, table_area) = (32, 32 + directory_sectors);
    let bitmap = table_area + tables * 64;
    let data = bitmap + 16;
    let stored = grains
        .iter()
        .filter(|(_, grain)| matches!(grain, Grain::Data(_)))
        .count();
    let mut bytes = vec![0; (data as usize + stored * 8) * SECTOR];
    let words = [
        0xcafe_babe,
        0x2_0000_0001,
        sectors,
        8,
        64,
        0,
        0,
        0,
        0,
        0,
        1,
        1,
        2,
        2,
        4,
        28,
        directory,
        directory_sectors,
        table_area,
        tables * 64,
        bitmap,
        8,
        bitmap + 8,
        8,
        data,
        stored as u64 * 8,
    ];
    let mut put = |at: usize, word: u64| bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
    for (index, word) in words.into_iter().enumerate() {
        put(index * 8, word);
    }
    put(SECTOR, 0xcafe_cafe);
    // The tables of a real file are handed out in order of first use; here from the end.
    for table in 0..tables {
        let used = grains.iter().any(|(grain, _)| grain / 4096 == table);
        let entry = if used {
            0x1000_0000_0000_0000 | (tables - 1 - table)
        } else {
            0
        };
        put(directory as usize * SECTOR + table as usize * 8, entry);
    }
    let mut next = stored as u64;
    let mut contents = Vec::new();
    for (grain, state) in grains {
        let table = tables - 1 - grain / 4096;
        let at = (table_area + table * 64) as usize * SECTOR + (grain % 4096) as usize * 8;
        put(
            at,
            match state {
                Grain::Unmapped => 0x1000_0000_0000_0000,
                Grain::Zero => 0x2000_0000_0000_0000,
                Grain::Data(seed) => {
                    next -= 1;
                    contents.push((next as usize, *seed));
                    0x3000_0000_0000_0000 | (next & 0xfff) << 48 | next >> 12
                }
            },
        );
    }
    for (index, seed) in contents {
        let at = data as usize * SECTOR + index * 4096;
        bytes[at..at + 4096].copy_from_slice(&fill(seed, 4096));
    }
    bytes
}

/// Writes the descriptor `NAME.vmdk` of one extent beside the extent's file. QEMU takes an extent twice that follows
/// an empty line.
pub(crate) fn describe(
    folder: &Path,
    name: &str,
    create_type: &str,
    extent: &str,
    parent: &str,
) -> PathBuf {
    let path = folder.join(format!("{name}.vmdk"));
    let parent = if parent.is_empty() {
        "parentCID=ffffffff"
    } else {
        parent
    };
    let text = format!(
        "# Disk DescriptorFile\nversion=1\nCID=00000007\n{parent}\ncreateType=\"{create_type}\"\n\n# Extent description\n{extent}\n\n\
         ddb.adapterType = \"lsilogic\"\nddb.virtualHWVersion = \"13\"\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn open(path: &Path) -> image::Result<Reader> {
    Reader::open(FileRange::open(path).unwrap(), Files::beside(path))
}

/// A base of 40 MiB and a bit, in grains of a pattern.
fn base(folder: &Path, sectors: u64) -> Vec<u8> {
    let mut random = Random(99);
    let mut bytes = vec![0; usize::try_from(sectors).unwrap() * SECTOR];
    random.fill(&mut bytes);
    std::fs::write(folder.join("vm-flat.vmdk"), &bytes).unwrap();
    describe(
        folder,
        "vm",
        "vmfs",
        &format!("RW {sectors} VMFS \"vm-flat.vmdk\""),
        "",
    );
    bytes
}

const DELTA: &str = "parentCID=00000007\nparentFileNameHint=\"vm.vmdk\"";

/// Compares with the content that was put together by hand, and with qemu-img.
fn assert_content(path: &Path, content: &[u8]) -> Reader {
    let folder = path.parent().unwrap();
    let raw = folder.join("expected.raw");
    std::fs::write(&raw, content).unwrap();
    let reader = open(path).unwrap();
    assert_reader_same(&reader, &raw);
    if has_qemu() {
        assert_same_as_qemu(path, folder);
    }
    reader
}

#[test]
fn a_cowd_snapshot_reads_over_its_parent() {
    for (grain_sectors, grains) in [
        (
            1_u32,
            vec![
                (0, 1),
                (1, 2),
                (2, 3),
                (9000, 4),
                (4095, 5),
                (4096, 6),
                (81_929, 7),
            ],
        ),
        (8, vec![(700, 1), (3, 2), (10_241, 3)]),
        (128, vec![(640, 9), (0, 1)]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let sectors = 81_930_u32;
        let mut content = base(folder.path(), u64::from(sectors));
        let last = (sectors - 1) / grain_sectors;
        let grains: Vec<(u32, u8)> = grains
            .into_iter()
            .filter(|(grain, _)| *grain <= last)
            .collect();
        let bytes = cowd(sectors, grain_sectors, &grains);
        std::fs::write(folder.path().join("vm-000001-delta.vmdk"), &bytes).unwrap();
        let extent = format!("RW {sectors} VMFSSPARSE \"vm-000001-delta.vmdk\"");
        let delta = describe(folder.path(), "vm-000001", "vmfsSparse", &extent, DELTA);
        let len = grain_sectors as usize * SECTOR;
        for (grain, seed) in &grains {
            let at = *grain as usize * len;
            let end = (at + len).min(content.len());
            content[at..end].copy_from_slice(&fill(*seed, len)[..end - at]);
        }
        let reader = assert_content(&delta, &content);
        assert!(reader.parent().is_some());
        let info = reader.info();
        assert_eq!(info.variant, "vmfsSparse");
        assert_eq!(info.cluster_size, Some(len as u64));
        assert!(
            reader
                .check_metadata(&CancelToken::new())
                .unwrap()
                .unwrap()
                .is_clean()
        );
        // Alone, the data file is refused and leads to its descriptor.
        let error = open(&folder.path().join("vm-000001-delta.vmdk")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(
            error
                .to_string()
                .contains("open its descriptor, vm-000001.vmdk"),
            "{error}"
        );
    }
}

#[test]
fn a_sesparse_snapshot_reads_over_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let sectors = 81_925_u64;
    let mut content = base(folder.path(), sectors);
    let mut grains: Vec<(u64, Grain)> = (0..5000).map(|i| (i + 17, Grain::Data(i as u8))).collect();
    grains.extend([
        (0, Grain::Zero),
        (2, Grain::Unmapped),
        (9000, Grain::Data(200)),
        (10_240, Grain::Data(201)),
    ]);
    let bytes = sesparse(sectors, &grains);
    let file = folder.path().join("vm-000001-sesparse.vmdk");
    std::fs::write(&file, &bytes).unwrap();
    let extent = format!("RW {sectors} SESPARSE \"vm-000001-sesparse.vmdk\"");
    let delta = describe(folder.path(), "vm-000001", "seSparse", &extent, DELTA);
    for (grain, state) in &grains {
        let at = usize::try_from(*grain).unwrap() * 4096;
        let end = (at + 4096).min(content.len());
        let data = match state {
            Grain::Data(seed) => fill(*seed, 4096),
            _ => vec![0; 4096],
        };
        content[at..end].copy_from_slice(&data[..end - at]);
    }
    let reader = assert_content(&delta, &content);
    assert_eq!(bytes_of(&reader, ExtentKind::Zero), 8192);
    assert!(
        reader
            .check_metadata(&CancelToken::new())
            .unwrap()
            .unwrap()
            .is_clean()
    );

    let refused = |at: usize, word: u64, kind: ErrorKind, text: &str| {
        let mut bad = bytes.clone();
        bad[at..at + 8].copy_from_slice(&word.to_le_bytes());
        std::fs::write(&file, &bad).unwrap();
        let result = open(&delta).and_then(|reader| {
            let mut buf = vec![0; 1 << 20];
            (0..40).try_for_each(|mib| reader.read_at(&mut buf, mib << 20))
        });
        let error = result.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    };
    refused(
        512 + 24,
        1,
        ErrorKind::Unsupported,
        "journal must be replayed",
    );
    refused(512, 1, ErrorKind::Corrupt, "0xcafecafe");
    refused(
        8,
        0x3_0000_0000,
        ErrorKind::Unsupported,
        "version 0x300000000",
    );
    refused(
        32 * SECTOR,
        0x2000_0000_0000_0000,
        ErrorKind::Corrupt,
        "grain tables, found 0x2000000000000000",
    );
    refused(
        32 * SECTOR,
        0x1000_0000_0000_0003,
        ErrorKind::Corrupt,
        "one of 3 grain tables",
    );
    refused(
        33 * SECTOR + 64 * SECTOR * 2 + 8,
        5,
        ErrorKind::Corrupt,
        "type 0 to 3",
    );
    refused(16, 1 << 50, ErrorKind::Limit, "grain tables");
    let cut = &bytes[..bytes.len() - 4096];
    std::fs::write(&file, cut).unwrap();
    let reader = open(&delta).unwrap();
    let error = reader.read_at(&mut vec![0; 1 << 20], 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
}

#[test]
fn a_large_sesparse_snapshot_is_walked_at_once() {
    use std::io::{Seek, SeekFrom, Write};
    let folder = tempfile::tempdir().unwrap();
    // 20 TiB: more grains than 32 bits count.
    let sectors = 20_u64 << 31;
    let tables = sectors.div_ceil(8).div_ceil(4096);
    let directory_sectors = (tables * 8).div_ceil(512);
    let mut file = std::fs::File::create(folder.path().join("big-sesparse.vmdk")).unwrap();
    let area = 32 + directory_sectors;
    let data = area + tables * 64;
    let words = [
        0xcafe_babe,
        0x2_0000_0001,
        sectors,
        8,
        64,
        0,
        0,
        0,
        0,
        0,
        1,
        1,
        2,
        2,
        4,
        28,
        32,
        directory_sectors,
        area,
        tables * 64,
        20,
        1,
        21,
        1,
        data,
        8,
    ];
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|word: &u64| word.to_le_bytes())
        .collect();
    let mut put = |at: u64, bytes: &[u8]| {
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(bytes).unwrap();
    };
    put(0, &bytes);
    put(512, &0xcafe_cafe_u64.to_le_bytes());
    put(
        32 * 512 + (tables - 1) * 8,
        &0x1000_0000_0000_0000_u64.to_le_bytes(),
    );
    put(
        area * 512 + 4095 * 8,
        &0x3000_0000_0000_0000_u64.to_le_bytes(),
    );
    put(data * 512, &[0x77; 4096]);
    let extent = format!("RW {sectors} SESPARSE \"big-sesparse.vmdk\"");
    let path = describe(folder.path(), "big", "seSparse", &extent, "");
    let start = std::time::Instant::now();
    let reader = open(&path).unwrap();
    let found: Vec<_> = extents(&reader, 0..reader.virtual_size())
        .map(Result::unwrap)
        .collect();
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
    assert_eq!(found.len(), 2);
    assert_eq!(
        (found[1].offset, found[1].len),
        (sectors * 512 - 4096, 4096)
    );
    let mut buf = [0; 4096];
    reader.read_at(&mut buf, sectors * 512 - 4096).unwrap();
    assert_eq!(buf, [0x77; 4096]);
}

#[test]
fn damaged_esx_extents_end_in_an_error_or_in_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    base(path, 8192);
    let cowd_bytes = cowd(8192, 1, &[(0, 1), (5000, 2), (8191, 3)]);
    let se_bytes = sesparse(
        8192,
        &[
            (0, Grain::Data(1)),
            (5, Grain::Zero),
            (1023, Grain::Data(2)),
        ],
    );
    let one = describe(
        path,
        "c",
        "vmfsSparse",
        "RW 8192 VMFSSPARSE \"c-delta.vmdk\"",
        DELTA,
    );
    let two = describe(
        path,
        "s",
        "seSparse",
        "RW 8192 SESPARSE \"s-sesparse.vmdk\"",
        DELTA,
    );
    let mut survived = 0;
    for seed in 1..=2000_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (mut bytes, file, descriptor, hot) = if seed % 2 == 0 {
            (cowd_bytes.clone(), "c-delta.vmdk", &one, 2048 + 16)
        } else {
            (se_bytes.clone(), "s-sesparse.vmdk", &two, 34 * SECTOR)
        };
        for _ in 0..=random.below(3) {
            let at = usize::try_from(random.below(hot as u64)).unwrap();
            match random.below(3) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.next() as u8,
                _ => bytes[at..at + 4].copy_from_slice(&[0xff; 4]),
            }
        }
        if random.below(8) == 0 {
            bytes.truncate(usize::try_from(random.below(bytes.len() as u64)).unwrap());
        }
        std::fs::write(path.join(file), &bytes).unwrap();
        let Ok(reader) = open(descriptor) else {
            continue;
        };
        let size = reader.virtual_size();
        let walked = extents(&reader, 0..size)
            .take(20_000)
            .all(|extent| extent.is_ok());
        let mut buf = vec![0; 1 << 20];
        let read = (0..4).all(|mib| reader.read_at(&mut buf, mib << 20).is_ok());
        let _ = reader.check_metadata(&CancelToken::new());
        survived += u64::from(walked && read);
    }
    assert!(survived > 0 && survived < 2000, "{survived}");
}
