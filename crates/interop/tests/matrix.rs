//! For each format that is written: random sparse disks of several sizes, empty to full, with unaligned ends, are
//! written, then read back by us, by qemu-img, and by the second readers on the cases that each handles.

use std::path::Path;

use image::BlockSource;
use image::copy::{CopyOptions, copy};
use image::formats::{self, Format, OpenOptions, OutputFormat, WriteOptions};
use interop::{Second, SparseDisk, compare};
use testkit::cmd;
use types::CancelToken;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Sizes of disks and bytes used on them.
const DISKS: &[(u64, u64)] = &[
    (512, 512),
    (64 * KIB, 0),
    (3 * MIB + 512, 3 * MIB + 512),
    (5 * MIB - 512, MIB),
    (33 * MIB + 7 * 512, 9 * MIB),
    (64 * MIB, 64 * MIB),
    (5 * GIB + 3 * 512, 20 * MIB),
];

/// A disk of a TiB, for formats whose tables stay small.
const VAST: (u64, u64) = (TIB + 512, 4 * MIB);
const TIB: u64 = 1 << 40;

type OpenSecond = fn(&Path, u64) -> anyhow::Result<Box<dyn Second>>;

/// One way to write a format, and who else can read it.
struct Variant {
    format: OutputFormat,
    compress: bool,
    options: &'static [(&'static str, &'static str)],
    /// Tried on disks up to this size.
    up_to: u64,
    seconds: &'static [(&'static str, OpenSecond)],
}

const IMAGO: (&str, OpenSecond) = ("imago", |path, _| interop::imago_qcow2(path));
const QCOW2_RS: (&str, OpenSecond) = ("qcow2-rs", |path, _| interop::qcow2_rs(path));
const VHDX: (&str, OpenSecond) = ("vhdx", |path, size| Ok(interop::vhdx_crate(path, size)));
const VHDX_CORE: (&str, OpenSecond) = ("vhdx-core", |path, _| interop::vhdx_core(path));
const VMDK_CORE: (&str, OpenSecond) = ("vmdk-core", |path, _| interop::vmdk_core(path));
/// The crate `vhdx` returns wrong bytes past 4 GiB.
const VHDX_LIMIT: u64 = 4 * GIB;

fn variant(
    format: OutputFormat,
    compress: bool,
    options: &'static [(&'static str, &'static str)],
    seconds: &'static [(&'static str, OpenSecond)],
) -> Variant {
    Variant {
        format,
        compress,
        options,
        up_to: u64::MAX,
        seconds,
    }
}

fn variants() -> Vec<Variant> {
    use OutputFormat::{Qcow2, Raw, Vhdx, Vmdk, Vpc};
    vec![
        variant(Raw, false, &[], &[]),
        variant(Qcow2, false, &[], &[IMAGO, QCOW2_RS]),
        Variant {
            up_to: 6 * GIB,
            ..variant(Qcow2, false, &[("cluster_size", "512")], &[IMAGO])
        },
        variant(Qcow2, false, &[("cluster_size", "2M")], &[IMAGO]),
        variant(Qcow2, false, &[("extended_l2", "on")], &[]),
        variant(Qcow2, false, &[("lazy_refcounts", "on")], &[IMAGO]),
        variant(Qcow2, true, &[], &[IMAGO]),
        variant(Qcow2, true, &[("compression_type", "zstd")], &[]),
        variant(Vmdk, false, &[], &[VMDK_CORE]),
        variant(Vpc, false, &[("force_size", "on")], &[]),
        variant(
            Vpc,
            false,
            &[("subformat", "fixed"), ("force_size", "on")],
            &[],
        ),
        variant(Vhdx, false, &[], &[VHDX, VHDX_CORE]),
        variant(Vhdx, false, &[("block_size", "1M")], &[VHDX, VHDX_CORE]),
        variant(Vhdx, false, &[("subformat", "fixed")], &[VHDX_CORE]),
    ]
}

#[test]
fn every_format_written_reads_back_everywhere() {
    if !testkit::require_tool("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut cases = 0;
    for variant in variants() {
        for (seed, &(size, used)) in DISKS.iter().enumerate() {
            if size <= variant.up_to {
                let disk = SparseDisk::random(size, used, seed as u64 + 1);
                check(&variant, &disk, folder.path());
                cases += 1;
            }
        }
    }
    for variant in variants()
        .iter()
        .filter(|variant| variant.format != OutputFormat::Vpc && variant.up_to > TIB)
    {
        let fixed = variant.options.contains(&("subformat", "fixed"));
        if !fixed {
            check(
                variant,
                &SparseDisk::random(VAST.0, VAST.1, 99),
                folder.path(),
            );
            cases += 1;
        }
    }
    println!("{cases} images written and read back");
}

fn check(variant: &Variant, disk: &SparseDisk, folder: &Path) {
    let size = disk.virtual_size();
    let what = format!(
        "{} {:?} -c {} of {size} bytes",
        variant.format, variant.options, variant.compress
    );
    let path = folder.join("image");
    let pairs: Vec<(String, String)> = variant
        .options
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let options = WriteOptions::parse(variant.format, variant.compress, &pairs).expect(&what);
    let sink = formats::create_with(&path, size, &options).expect(&what);
    copy(
        disk,
        sink.as_ref(),
        &CopyOptions::default(),
        &CancelToken::new(),
        &|_| {},
    )
    .expect(&what);
    sink.finish().expect(&what);

    let format: Format = variant.format.name().parse().expect(&what);
    // A raw disk is told by nothing, a fixed VHD by its end: those two must be named or found.
    let detected = formats::open(&path, &OpenOptions::default()).expect(&what);
    assert_eq!(detected.format(), format.name(), "{what}");
    let ours = formats::open(&path, &OpenOptions::with_format(Some(format))).expect(&what);
    compare(disk, ours.as_ref()).unwrap_or_else(|e| panic!("{what}: read by us: {e:#}"));
    let check = ours.check_metadata(&CancelToken::new()).expect(&what);
    assert!(
        check.as_ref().is_none_or(image::MetadataCheck::is_clean),
        "{what}: {check:?}"
    );
    drop((ours, detected));

    for (name, open) in variant.seconds {
        if *name == "vhdx" && size > VHDX_LIMIT {
            continue;
        }
        let mut second = open(&path, size).unwrap_or_else(|e| panic!("{what}: {name}: {e:#}"));
        second_agrees(disk, second.as_mut()).unwrap_or_else(|e| panic!("{what}: {name}: {e:#}"));
    }
    qemu_agrees(variant, disk, &path, folder, &what);
    std::fs::remove_file(&path).expect(&what);
}

fn second_agrees(disk: &SparseDisk, second: &mut dyn Second) -> anyhow::Result<()> {
    anyhow::ensure!(
        second.virtual_size() >= disk.virtual_size(),
        "size {}",
        second.virtual_size()
    );
    for (offset, len) in disk.interesting() {
        let (mut expected, mut found) = (vec![0; len], vec![0; len]);
        disk.read_at(&mut expected, offset)?;
        second.read_at(&mut found, offset)?;
        anyhow::ensure!(expected == found, "differs in {len} bytes from {offset:#x}");
    }
    Ok(())
}

/// qemu-img unpacks the image; its raw file is compared with the disk.
fn qemu_agrees(variant: &Variant, disk: &SparseDisk, path: &Path, folder: &Path, what: &str) {
    let name = variant.format.name();
    if variant.format == OutputFormat::Vhdx && disk.virtual_size() >= TIB {
        // qemu-img asks a VHDX for no extents: it would read all of a TiB of zeroes.
        return;
    }
    if matches!(variant.format, OutputFormat::Qcow2 | OutputFormat::Vhdx) {
        cmd::output(cmd::command("qemu-img", ["check", "-q", "-f", name]).arg(path)).expect(what);
    }
    let raw = folder.join("raw");
    cmd::output(
        cmd::command("qemu-img", ["convert", "-f", name, "-O", "raw"])
            .arg(path)
            .arg(&raw),
    )
    .expect(what);
    let theirs = formats::open(&raw, &OpenOptions::with_format(Some(Format::Raw))).expect(what);
    compare(disk, theirs.as_ref()).unwrap_or_else(|e| panic!("{what}: read by qemu-img: {e:#}"));
    std::fs::remove_file(&raw).expect(what);
}
