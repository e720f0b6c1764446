//! What a target begins with: its files in crates/fuzz/{seeds,findings}, small or cut real files of the fixtures, and tiny images
//! of qemu-img. What is absent on this machine is left out with a word.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use testkit::cmd;

/// Longest input that libFuzzer makes, in bytes; longer seeds are cut. A VHDX, whose structures are a MiB apart, is
/// given as pages (`v2v_fuzz::paged`).
pub(super) const MAX_LEN: u64 = 256 << 10;
/// Seeds of one target from the fixtures; more of a kind teach nothing.
const MAX_FIXTURES: usize = 60;
/// Size of the disks that qemu-img makes.
const DISK_SIZE: usize = 192 << 10;

/// Where the seeds of a target are.
struct Sources {
    target: &'static str,
    /// Packs of the fixtures, and the extension of the files in them.
    fixtures: &'static [(&'static str, &'static str)],
    /// Format and options of qemu-img.
    images: &'static [(&'static str, &'static str)],
}

const fn sources(
    target: &'static str,
    fixtures: &'static [(&'static str, &'static str)],
    images: &'static [(&'static str, &'static str)],
) -> Sources {
    Sources {
        target,
        fixtures,
        images,
    }
}

/// Bytes of a page of `v2v_fuzz::paged`.
const PAGE: usize = 4096;
/// Bytes of a file that its page numbers reach.
const PAGED_LEN: u64 = 16 << 20;

/// The input of `v2v_fuzz::paged` that means this file: each page that is not empty behind its number.
fn pages(file: &[u8]) -> Vec<u8> {
    let mut input = Vec::new();
    for (number, page) in (0u16..).zip(file.chunks(PAGE)) {
        if page.iter().any(|&byte| byte != 0) {
            input.extend(number.to_le_bytes());
            input.extend(page);
            input.resize(input.len() + PAGE - page.len(), 0);
        }
    }
    input.truncate(usize::try_from(MAX_LEN).unwrap_or(usize::MAX));
    input
}

/// Small streams and archives that other programs pack.
fn packed(target: &str, corpus: &Path) -> Result<()> {
    let dir = tempfile::tempdir().context("making a folder")?;
    let mut disk = vec![0; DISK_SIZE / 2];
    for (place, byte) in disk.iter_mut().enumerate() {
        if (place >> 12) % 2 == 0 {
            *byte = u8::try_from(place % 251).unwrap_or(0);
        }
    }
    fs::write(dir.path().join("disk"), &disk).context("writing a disk")?;
    fs::write(dir.path().join("vm.ovf"), "<Envelope/>").context("writing a descriptor")?;
    let script = match target {
        "packed" => {
            "gzip -k disk; xz -k disk; xz -k --block-size=16384 -c disk > blocks.xz; zstd -q -k disk; \
             head -c 30000 disk | zstd -q --check > two.zst; zstd -q -c disk >> two.zst; gzip -c vm.ovf > two.gz; \
             gzip -c disk >> two.gz"
        }
        _ => {
            "zip -q deflated.zip disk vm.ovf; zip -q -0 stored.zip disk vm.ovf; zip -q -fd -fz streamed.zip - < disk"
        }
    };
    let mut shell = cmd::command("sh", ["-ec", script]);
    cmd::output(shell.current_dir(dir.path()))?;
    for name in ["disk", "vm.ovf"] {
        fs::remove_file(dir.path().join(name)).context("removing a packed file")?;
    }
    for file in files(dir.path())? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        fs::copy(&file, corpus.join(format!("seed-{name}"))).context("copying a seed")?;
    }
    Ok(())
}

/// Targets that are not here begin with crates/fuzz/seeds alone.
const SOURCES: &[Sources] = &[
    sources(
        "vmdk",
        &[("disks", "vmdk"), ("vbox-made", "vmdk")],
        &[
            ("vmdk", "subformat=monolithicSparse"),
            ("vmdk", "subformat=streamOptimized"),
        ],
    ),
    sources(
        "vmdk_descriptor",
        &[("vbox-made", "vmdk")],
        &[
            ("vmdk", "subformat=monolithicFlat"),
            ("vmdk", "subformat=twoGbMaxExtentSparse"),
        ],
    ),
    sources(
        "qcow2",
        &[],
        &[
            ("qcow2", "compat=0.10"),
            ("qcow2", "cluster_size=512"),
            ("qcow2", "cluster_size=4k,refcount_bits=1"),
            ("qcow2", "cluster_size=16k,extended_l2=on"),
            ("qcow2", "lazy_refcounts=on"),
        ],
    ),
    sources("qcow1", &[("vbox-made", "qcow")], &[("qcow", "")]),
    sources(
        "qed",
        &[("vbox-made", "qed")],
        &[("qed", "cluster_size=4k")],
    ),
    sources(
        "vhdx",
        &[("disks", "vhdx")],
        &[("vhdx", "log_size=1M,block_size=1M")],
    ),
    sources(
        "vhd",
        &[("disks", "vhd"), ("vbox-made", "vhd")],
        &[("vpc", "subformat=dynamic"), ("vpc", "subformat=fixed")],
    ),
    sources(
        "vdi",
        &[("vbox-made", "vdi")],
        &[("vdi", ""), ("vdi", "static=on")],
    ),
    sources(
        "parallels",
        &[("vbox-made", "hdd")],
        &[("parallels", "cluster_size=4k")],
    ),
    sources("ovf", &[("ovf", "ovf"), ("vbox-made", "ovf")], &[]),
    sources("manifest", &[("vbox-made", "mf")], &[]),
    sources("tar", &[("vbox-made", "ova")], &[]),
    sources("vbox", &[("vbox-made", "vbox")], &[]),
    sources("nvram", &[("vbox-made", "nvram")], &[]),
];

/// Fills the corpus of a target.
pub(super) fn fill(target: &str, corpus: &Path) -> Result<()> {
    let own = testkit::repo().join("crates/fuzz");
    for kind in ["seeds", "findings"] {
        for file in files(&own.join(kind).join(target))? {
            put(&file, corpus)?;
        }
    }
    if ["packed", "zip"].contains(&target) {
        return packed(target, corpus);
    }
    let Some(sources) = SOURCES.iter().find(|sources| sources.target == target) else {
        return Ok(());
    };
    for (pack, extension) in sources.fixtures {
        match testkit::fixture(pack)? {
            Some(folder) => from_pack(&folder, extension, corpus)?,
            None => testkit::skip("fixtures are absent: set V2V_FIXTURES"),
        }
    }
    if !sources.images.is_empty() && testkit::require_tool("qemu-img") {
        for (number, (format, options)) in sources.images.iter().enumerate() {
            image(format, options, number, corpus)
                .with_context(|| format!("making a seed with qemu-img -O {format} -o {options}"))?;
        }
    }
    Ok(())
}

/// Files in a folder and below; none where there is no folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry
                .with_context(|| format!("listing {}", folder.display()))?
                .path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The smallest files of this extension, and of each the beginning.
fn from_pack(folder: &Path, extension: &str, corpus: &Path) -> Result<()> {
    let mut found = Vec::new();
    for file in files(folder)? {
        if file.extension().is_some_and(|other| other == extension) {
            let len = fs::metadata(&file)
                .with_context(|| format!("looking at {}", file.display()))?
                .len();
            found.push((len, file));
        }
    }
    found.sort();
    for (_, file) in found.iter().take(MAX_FIXTURES) {
        put(file, corpus)?;
    }
    Ok(())
}

/// Copies the first [`MAX_LEN`] bytes to the corpus, under a name made of the path.
fn put(file: &Path, corpus: &Path) -> Result<()> {
    let name: String = file
        .to_string_lossy()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect();
    let start = name.len().saturating_sub(150);
    let to = corpus.join(format!("seed-{}", name.get(start..).unwrap_or_default()));
    if to.exists() {
        return Ok(());
    }
    let is_vhdx = file
        .extension()
        .is_some_and(|extension| extension == "vhdx");
    let mut bytes = Vec::new();
    fs::File::open(file)
        .with_context(|| format!("opening {}", file.display()))?
        .take(if is_vhdx { PAGED_LEN } else { MAX_LEN })
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading {}", file.display()))?;
    if is_vhdx {
        bytes = pages(&bytes);
    }
    fs::write(&to, bytes).with_context(|| format!("writing {}", to.display()))
}

/// A tiny image of patches, holes and zeroes. A format or option that this qemu-img does not write is left out.
#[expect(clippy::print_stderr, reason = "xtask talks to a developer")]
fn image(format: &str, options: &str, number: usize, corpus: &Path) -> Result<()> {
    let dir = tempfile::tempdir().context("making a folder")?;
    let raw = dir.path().join("disk.raw");
    let mut disk = vec![0u8; DISK_SIZE];
    for (place, byte) in disk.iter_mut().enumerate() {
        if (place >> 13) % 3 == 0 {
            *byte = u8::try_from(place % 251).unwrap_or(0);
        }
    }
    fs::write(&raw, &disk).with_context(|| format!("writing {}", raw.display()))?;
    let name = format!("qemu-{number}.{format}");
    let mut command = cmd::command("qemu-img", ["convert", "-q", "-f", "raw", "-O", format]);
    if !options.is_empty() {
        command.args(["-o", options]);
    }
    command.arg(&raw).arg(dir.path().join(&name));
    if let Err(error) = cmd::output(&mut command) {
        eprintln!("no seed by qemu-img -O {format} -o {options}: {error:#}");
        return Ok(());
    }
    fs::remove_file(&raw).with_context(|| format!("removing {}", raw.display()))?;
    for file in files(dir.path())? {
        let short = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        if format == "vhdx" {
            bytes = pages(&bytes);
        }
        let len = usize::try_from(MAX_LEN)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let to = corpus.join(format!("seed-{number}-{short}"));
        fs::write(&to, bytes.get(..len).unwrap_or_default())
            .with_context(|| format!("writing {}", to.display()))?;
    }
    Ok(())
}
