//! Delta disks over chains of every mix, and disks of several extents of mixed kinds.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use image::formats::vmdk::Reader;
use image::formats::{self, OpenOptions};
use image::{BlockSource, ErrorKind, ExtentKind, Fact, FileRange, Files};

use crate::builder::{descriptor, hosted};
use crate::compare::{assert_reader_same, assert_same_as_qemu, bytes_of};
use crate::esx::{Grain, cowd, describe, sesparse};
use crate::support::{Random, has_qemu, run};

fn open(path: &Path) -> image::Result<Reader> {
    Reader::open(FileRange::open(path).unwrap(), Files::beside(path))
}

#[track_caller]
fn assert_refused(path: &Path, kind: ErrorKind, texts: &[&str]) {
    let error = open(path).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    for text in texts {
        assert!(error.to_string().contains(text), "{error} lacks {text}");
    }
}

fn random_bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Random(seed).fill(&mut bytes);
    bytes
}

#[test]
fn chains_that_qemu_makes_read_the_same() {
    if !has_qemu() {
        return;
    }
    for subformat in [
        "monolithicSparse",
        "monolithicFlat",
        "twoGbMaxExtentSparse",
        "streamOptimized",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let raw = path("base.raw");
        fs::write(&raw, random_bytes(8 << 20, 5)).unwrap();
        let option = format!("subformat={subformat}");
        let base = path("vm.vmdk");
        run(
            "qemu-img",
            &[
                "convert", "-f", "raw", "-O", "vmdk", "-o", &option, &raw, &base,
            ],
        );
        let mut parent = base;
        for (number, writes) in [
            ["write -P 1 100k 200k", "write -P 2 7M 1M"],
            ["write -P 3 150k 10k", "write -z 1M 256k"],
            ["write -P 4 0 64k", "write -P 5 9M 1000k"],
        ]
        .iter()
        .enumerate()
        {
            let child = path(&format!("vm-{:06}.vmdk", number + 1));
            // The last one is bigger than its parent.
            let size = if number == 2 { "10M" } else { "8M" };
            let options = "zeroed_grain=on,compat6";
            run(
                "qemu-img",
                &[
                    "create", "-q", "-f", "vmdk", "-o", options, "-b", &parent, "-F", "vmdk",
                    &child, size,
                ],
            );
            run(
                "qemu-io",
                &["-f", "vmdk", "-c", writes[0], "-c", writes[1], &child],
            );
            let reader = assert_same_as_qemu(Path::new(&child), folder.path());
            let (info, parent_name) = (reader.info(), parent.clone());
            assert_eq!(info.parent_name, Some(parent_name));
            parent = child;
        }
        let mut depth = 0;
        let mut next = BlockSource::parent(&open(Path::new(&parent)).unwrap());
        while let Some(source) = next {
            depth += 1;
            next = source.parent();
        }
        assert_eq!(depth, 3);
    }
}

#[test]
fn a_chain_of_every_kind_reads_through() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let sectors = 8192_u64;
    let mut content = random_bytes(8192 * 512, 77);
    fs::write(path.join("vm-flat.vmdk"), &content).unwrap();
    describe(path, "vm", "vmfs", "RW 8192 VMFS \"vm-flat.vmdk\"", "");
    // A COWD snapshot, a seSparse snapshot on it, a hosted delta on that.
    fs::write(
        path.join("vm-000001-delta.vmdk"),
        cowd(8192, 1, &[(7, 3), (8000, 4)]),
    )
    .unwrap();
    let parent = "parentCID=7\nparentFileNameHint=\"vm.vmdk\"";
    describe(
        path,
        "vm-000001",
        "vmfsSparse",
        "RW 8192 VMFSSPARSE \"vm-000001-delta.vmdk\"",
        parent,
    );
    let grains = [(0, Grain::Data(9)), (1000, Grain::Zero)];
    fs::write(
        path.join("vm-000002-sesparse.vmdk"),
        sesparse(sectors, &grains),
    )
    .unwrap();
    let parent = "parentCID=00000007\nparentFileNameHint=\"vm-000001.vmdk\"";
    describe(
        path,
        "vm-000002",
        "seSparse",
        "RW 8192 SESPARSE \"vm-000002-sesparse.vmdk\"",
        parent,
    );
    let delta = hosted(sectors, &[20]);
    fs::write(path.join("vm-000003-s001.vmdk"), &delta.bytes).unwrap();
    let parent = "parentCID=00000007\nparentFileNameHint=\"C:\\VMs\\vm-000002.vmdk\"";
    let top = describe(
        path,
        "vm-000003",
        "custom",
        "RW 8192 SPARSE \"vm-000003-s001.vmdk\"",
        parent,
    );

    let layer = open(&path.join("vm-000001.vmdk")).unwrap();
    for (offset, len) in [(7 * 512, 512), (8000 * 512, 512)] {
        layer
            .read_at(&mut content[offset..offset + len], offset as u64)
            .unwrap();
    }
    assert_ne!(
        content[7 * 512..8 * 512],
        random_bytes(8192 * 512, 77)[7 * 512..8 * 512]
    );
    let layer = open(&path.join("vm-000002.vmdk")).unwrap();
    layer.read_at(&mut content[..4096], 0).unwrap();
    content[1000 * 4096..1001 * 4096].fill(0);
    let grain = crate::builder::grain_content(20);
    content[20 * 65536..21 * 65536].copy_from_slice(&grain);
    let raw = path.join("expected.raw");
    fs::write(&raw, &content).unwrap();
    let reader = open(&top).unwrap();
    assert_reader_same(&reader, &raw);
    assert_eq!(bytes_of(&reader, ExtentKind::Zero), 4096);
    if has_qemu() {
        // QEMU knows no `custom`.
        assert_same_as_qemu(&path.join("vm-000002.vmdk"), path);
    }
}

#[test]
fn a_wrong_or_missing_parent_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let delta = |parent: &str| describe(path, "vm-000001", "custom", "RW 100 ZERO", parent);
    let hint = "parentFileNameHint=\"vm.vmdk\"";
    assert_refused(
        &delta(&format!("parentCID=00000007\n{hint}")),
        ErrorKind::Missing,
        &["vm.vmdk"],
    );
    describe(path, "vm", "custom", "RW 100 ZERO", "");
    open(&delta(&format!("parentCID=00000007\n{hint}"))).unwrap();
    assert_refused(
        &delta(&format!("parentCID=00000008\n{hint}")),
        ErrorKind::Corrupt,
        &[
            "content id 00000008, found 00000007",
            "vm.vmdk",
            "vm-000001.vmdk was made",
        ],
    );
    assert_refused(
        &delta(&format!("parentCID=ffffffff\n{hint}")),
        ErrorKind::Corrupt,
        &["parentCID"],
    );
    assert_refused(
        &delta("parentCID=00000007"),
        ErrorKind::Missing,
        &["00000007"],
    );
    // A linked clone with the name of its parent.
    assert_refused(
        &delta("parentCID=00000007\nparentFileNameHint=\"/vmfs/volumes/x/base/vm-000001.vmdk\""),
        ErrorKind::Missing,
        &["the image itself"],
    );
    // A loop of two.
    describe(
        path,
        "a",
        "custom",
        "RW 9 ZERO",
        "parentCID=7\nparentFileNameHint=\"b.vmdk\"",
    );
    let b = describe(
        path,
        "b",
        "custom",
        "RW 9 ZERO",
        "parentCID=7\nparentFileNameHint=\"a.vmdk\"",
    );
    assert_refused(&b, ErrorKind::Corrupt, &["loop"]);
    let raw = path.join("raw.vmdk");
    fs::write(&raw, [0x55; 4096]).unwrap();
    assert_refused(
        &delta("parentCID=7\nparentFileNameHint=\"raw.vmdk\""),
        ErrorKind::Corrupt,
        &["raw.vmdk", "KDMV"],
    );
}

#[test]
fn extents_of_mixed_kinds_make_one_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let flat = random_bytes(300 * 512, 3);
    fs::write(path.join("a \"quoted\" name.vmdk"), &flat).unwrap();
    let sparse = hosted(1000, &[1]);
    fs::write(path.join("part-s002.vmdk"), &sparse.bytes).unwrap();
    let lines = "RW 100 FLAT \"a \"quoted\" name.vmdk\" 200\nRDONLY 1000 SPARSE \"part-s002.vmdk\"\n\
                 NOACCESS 50 ZERO\nrw 17 flat \"a \"quoted\" name.vmdk\" 0\nRW 33 ZERO";
    let disk = describe(path, "disk", "custom", lines, "");
    let mut content = flat[200 * 512..].to_vec();
    let mut part = vec![0; 1000 * 512];
    part[65536..131_072].copy_from_slice(&crate::builder::grain_content(1));
    content.extend(part);
    content.resize(content.len() + 50 * 512, 0);
    content.extend(&flat[..17 * 512]);
    content.resize(content.len() + 33 * 512, 0);
    let raw = path.join("expected.raw");
    fs::write(&raw, &content).unwrap();
    let reader = open(&disk).unwrap();
    assert_reader_same(&reader, &raw);
    let info = reader.info();
    assert_eq!(info.variant, "custom");
    assert_eq!(info.files.len(), 2);
    let (_, extents) = info
        .facts
        .iter()
        .find(|(name, _)| *name == "extents")
        .unwrap();
    let Fact::List(extents) = extents else {
        panic!("{extents:?}")
    };
    assert_eq!(extents.len(), 5);
    let Fact::Group(first) = &extents[0] else {
        panic!("{extents:?}")
    };
    assert!(
        first.contains(&("offset", Fact::Number(200 * 512))),
        "{first:?}"
    );
}

#[test]
fn bad_extents_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("short-flat.vmdk"), vec![1; 99 * 512]).unwrap();
    fs::write(path.join("small.vmdk"), hosted(100, &[0]).bytes).unwrap();
    fs::write(path.join("lun-rdm.vmdk"), vec![7; 512]).unwrap();
    let disk = |lines: &str| describe(path, "disk", "custom", lines, "");
    let cases: &[(&str, ErrorKind, &[&str])] = &[
        (
            "RW 100 FLAT \"short-flat.vmdk\" 0",
            ErrorKind::Truncated,
            &["short-flat.vmdk: at 0xc600", "51200 bytes"],
        ),
        (
            "RW 90 FLAT \"short-flat.vmdk\" 10",
            ErrorKind::Truncated,
            &["from 0x1400"],
        ),
        (
            "RW 9 FLAT \"short-flat.vmdk\" 18446744073709551615",
            ErrorKind::Corrupt,
            &["within a file"],
        ),
        (
            "RW 101 SPARSE \"small.vmdk\"",
            ErrorKind::Corrupt,
            &["101 sectors", "found 100"],
        ),
        (
            "RW 9 SPARSE \"short-flat.vmdk\"",
            ErrorKind::Corrupt,
            &["no magic"],
        ),
        (
            "RW 9 SPARSE \"disk.vmdk\"",
            ErrorKind::Corrupt,
            &["another descriptor"],
        ),
        (
            "RW 9 FLAT \"absent-flat.vmdk\" 0",
            ErrorKind::Missing,
            &["absent-flat.vmdk"],
        ),
        (
            "RW 9 VMFSRDM \"absent-rdm.vmdk\"",
            ErrorKind::Unsupported,
            &["raw device mapping (VMFSRDM)", "absent-rdm"],
        ),
        (
            "RW 9 VMFSRAW \"/vmfs/devices/disks/naa.60\"",
            ErrorKind::Unsupported,
            &["LUN"],
        ),
        (
            "NOACCESS 9 FLAT \"short-flat.vmdk\" 0",
            ErrorKind::Unsupported,
            &["NOACCESS 9 FLAT"],
        ),
        (
            "RW 9 VSANSPARSE \"vsan://x\"",
            ErrorKind::Unsupported,
            &["VSANSPARSE"],
        ),
        (
            "RW 36028797018963968 ZERO",
            ErrorKind::Limit,
            &["beyond any disk"],
        ),
        ("RW 9 FLAT", ErrorKind::Corrupt, &["the file of an extent"]),
        ("", ErrorKind::Corrupt, &["at least one extent"]),
        (
            "RW 9 FLAT \"../outside.vmdk\" 0",
            ErrorKind::Missing,
            &["outside.vmdk"],
        ),
    ];
    for (lines, kind, texts) in cases {
        assert_refused(&disk(lines), *kind, texts);
    }
    open(&disk("RW 1 VMFSRDM \"lun-rdm.vmdk\"")).unwrap();
    assert_refused(
        &path.join("short-flat.vmdk"),
        ErrorKind::Unsupported,
        &["descriptor, short.vmdk"],
    );
}

#[test]
fn a_flat_file_given_itself_leads_to_its_descriptor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm-flat.vmdk");
    fs::write(&path, [0; 4096]).unwrap();
    let error = formats::open(&path, &OpenOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("descriptor, vm.vmdk"), "{error}");
    let raw = OpenOptions::with_format(Some(formats::Format::Raw));
    assert_eq!(formats::open(&path, &raw).unwrap().virtual_size(), 4096);
}

#[test]
fn names_in_other_character_sets_are_found() {
    // The name as it is written, its set, and the name of the file on this host.
    let cases: &[(&[u8], &str, &[u8])] = &[
        (
            b"d\xe9j\xe0 vu-flat.vmdk",
            "windows-1252",
            "d\u{e9}j\u{e0} vu-flat.vmdk".as_bytes(),
        ),
        (
            b"\x83\x5c\x83\x74\x83\x67-flat.vmdk",
            "Shift_JIS",
            "ソフト-flat.vmdk".as_bytes(),
        ),
        (
            "größe-flat.vmdk".as_bytes(),
            "UTF-8",
            "größe-flat.vmdk".as_bytes(),
        ),
        (
            "größe-flat.vmdk".as_bytes(),
            "windows-1252",
            "größe-flat.vmdk".as_bytes(),
        ),
        (
            b"\xc4\xe8\xf1\xea-flat.vmdk",
            "windows-1251",
            "Диск-flat.vmdk".as_bytes(),
        ),
        (
            b"\xb4\xc5\xc5\xcc-flat.vmdk",
            "GBK",
            "磁盘-flat.vmdk".as_bytes(),
        ),
        (b"raw\xff-flat.vmdk", "UTF-8", b"raw\xff-flat.vmdk"),
    ];
    for (written, set, name) in cases {
        let folder = tempfile::tempdir().unwrap();
        let content = random_bytes(512 * 9, 1);
        fs::write(
            folder.path().join(std::ffi::OsStr::from_bytes(name)),
            &content,
        )
        .unwrap();
        let mut text =
            format!("# Disk DescriptorFile\r\nversion=1\r\nencoding=\"{set}\"\r\nCID=1\r\n")
                .into_bytes();
        text.extend(b"parentCID=ffffffff\r\ncreateType=\"vmfs\"\r\nRW 9 VMFS \"");
        text.extend(*written);
        text.extend(b"\"\r\n");
        let path = folder.path().join("disk.vmdk");
        fs::write(&path, text).unwrap();
        let mut buf = vec![0; 512 * 9];
        open(&path).unwrap().read_at(&mut buf, 0).unwrap();
        assert_eq!(buf, content, "{set}");
    }
}

#[test]
fn a_check_finds_what_is_wrong() {
    let cancel = types::CancelToken::new();
    let check = |bytes: &[u8]| {
        let reader = crate::support::open_bytes(bytes).unwrap();
        reader.check_metadata(&cancel).unwrap().unwrap()
    };
    let mut image = hosted(200 * 1024, &[0, 1, 600]);
    assert!(check(&image.bytes).is_clean());
    // A grain of another table on the first one: the third is lost.
    let first = (image.grains[&0] / 512) as u32;
    image.put_u32(image.entry_at(600), first);
    let found = check(&image.bytes);
    assert_eq!((found.corruptions, found.leaks), (1, 0), "{found:?}");
    assert!(found.findings[0].message.contains("grain 600"), "{found:?}");
    image.put_u32(image.entry_at(600), 0);
    let found = check(&image.bytes);
    assert_eq!((found.corruptions, found.leaks), (0, 1), "{found:?}");
    if has_qemu() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.vmdk");
        run(
            "qemu-img",
            &["create", "-q", "-f", "vmdk", path.to_str().unwrap(), "64M"],
        );
        run(
            "qemu-io",
            &["-f", "vmdk", "-c", "write 0 1M", path.to_str().unwrap()],
        );
        let mut bytes = fs::read(&path).unwrap();
        assert!(check(&bytes).is_clean(), "{:?}", check(&bytes));
        let copy = u64::from_le_bytes(bytes[48..56].try_into().unwrap()) as usize * 512;
        let table = u32::from_le_bytes(bytes[copy..copy + 4].try_into().unwrap()) as usize * 512;
        bytes[table] ^= 1;
        let found = check(&bytes);
        assert_eq!(found.corruptions, 1, "{found:?}");
        assert!(found.findings[0].message.contains("its copy"), "{found:?}");
    }
}

#[test]
fn an_embedded_delta_finds_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let base = hosted(8192, &[1]);
    fs::write(path.join("base.vmdk"), &base.bytes).unwrap();
    let mut delta = hosted(8192, &[2]);
    let text = descriptor("monolithicSparse", 8192).replace(
        "parentCID=ffffffff",
        "parentCID=12345678\nparentFileNameHint=\"base.vmdk\"",
    );
    delta.put(512, text.as_bytes());
    let child = path.join("delta.vmdk");
    fs::write(&child, &delta.bytes).unwrap();
    let reader = open(&child).unwrap();
    let mut buf = vec![0; 65536];
    for grain in [1_u64, 2] {
        reader.read_at(&mut buf, grain * 65536).unwrap();
        assert!(buf == crate::builder::grain_content(grain as u32));
    }
    assert_eq!(bytes_of(&reader, ExtentKind::Data), 131_072);
}
