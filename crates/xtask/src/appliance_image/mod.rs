//! Builds the appliance image from Debian packages, without root: the recipe is in appliance/, the result in
//! target/appliance/image:
//!
//! - `vmlinux`: the kernel as ELF with a PVH entry, which QEMU starts at once;
//! - `initramfs.cpio`: base archive (tools, libraries, modules), then an archive that holds only `/init`, applianced.
//!   The kernel unpacks both. Same inputs give the same bytes;
//! - `MANIFEST`: package, version and licences of all that is inside;
//! - `VERSION`: what it was made from. Written last: without it, the image is incomplete.
//!
//! The base is made once for each recipe and suite; after that only a changed applianced is packed again, without
//! network. Remove target/appliance to have newer packages.

mod apt;
mod cpio;
mod kernel;
mod lz4;
mod sources;
mod tree;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use apt::{Apt, Package};
use cpio::{Archive, Node};
use tree::{Picker, Tree};

/// Raised when this code makes another base from the same recipe.
const BASE_FORMAT: u32 = 3;

/// Directories that the image has beside those of its files.
const DIRECTORIES: &[&str] = &[
    "dev", "etc/lvm", "guest", "proc", "root", "run", "sys", "tmp",
];
/// The merged /usr, and the names under which kmod does its several jobs.
const SYMLINKS: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("sbin", "usr/sbin"),
    ("usr/sbin/modprobe", "../bin/kmod"),
    ("usr/sbin/depmod", "../bin/kmod"),
];

/// What to build, and where.
#[derive(Clone, Debug)]
pub(crate) struct BuildOptions {
    /// Root of the checkout.
    pub(crate) workspace: PathBuf,
    /// Cargo's target directory; the image goes to `appliance/image` in it.
    pub(crate) target_dir: PathBuf,
    /// The applianced program; `None` builds it.
    pub(crate) applianced: Option<PathBuf>,
    /// Build applianced with the release profile.
    pub(crate) release: bool,
    /// Debian suite (`$V2V_APPLIANCE_SUITE`); `None` for the newest that can be had.
    pub(crate) suite: Option<String>,
}

impl BuildOptions {
    /// The image of this checkout, with a development build of applianced.
    pub(crate) fn new(workspace: &Path) -> Self {
        let target_dir = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| workspace.join("target"), PathBuf::from);
        BuildOptions {
            workspace: workspace.to_owned(),
            target_dir,
            applianced: None,
            release: false,
            suite: std::env::var("V2V_APPLIANCE_SUITE").ok(),
        }
    }
}

/// Builds the image where it is missing or stale; gives its directory.
pub(crate) fn build(options: &BuildOptions) -> Result<PathBuf> {
    let work = options.target_dir.join("appliance");
    let recipe = Recipe::read(&options.workspace.join("appliance"))?;
    let base = build_base(&work, &recipe, options.suite.as_deref())
        .context("making the base of the appliance image")?;
    let applianced = match &options.applianced {
        Some(path) => path.clone(),
        None => build_applianced(options)?,
    };
    let program = stripped(&applianced, &work)?;
    pack(&work.join("image"), &base, &program)
}

/// The files of appliance/.
struct Recipe {
    /// Package and the files wanted of it.
    packages: Vec<(String, Vec<String>)>,
    modules: Vec<String>,
    lvm_conf: Vec<u8>,
    /// Over all of it.
    hash: String,
}

impl Recipe {
    fn read(dir: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).with_context(|| format!("reading {}", path.display()))
        };
        let (packages, modules, lvm_conf) = (
            read("packages.txt")?,
            read("modules.txt")?,
            read("lvm.conf")?,
        );
        let hash = hash(&[&BASE_FORMAT.to_le_bytes(), &packages, &modules, &lvm_conf]);
        let words = |text: &[u8]| -> Vec<Vec<String>> {
            String::from_utf8_lossy(text)
                .lines()
                .map(|line| line.split('#').next().unwrap_or_default())
                .map(|line| {
                    line.split_whitespace()
                        .map(str::to_owned)
                        .collect::<Vec<_>>()
                })
                .filter(|words| !words.is_empty())
                .collect()
        };
        let packages = words(&packages)
            .into_iter()
            .map(|mut words| {
                let files = words.split_off(1);
                (words.concat(), files)
            })
            .collect();
        Ok(Recipe {
            packages,
            modules: words(&modules).concat(),
            lvm_conf,
            hash,
        })
    }
}

/// Makes `WORK/base-HASH` (vmlinux, base.cpio, packages/, MANIFEST, VERSION) unless it is there.
fn build_base(work: &Path, recipe: &Recipe, suite: Option<&str>) -> Result<PathBuf> {
    let short = recipe.hash.get(..16).unwrap_or(&recipe.hash);
    let base = work.join(format!(
        "base-{}{short}",
        suite.map(|suite| format!("{suite}-")).unwrap_or_default()
    ));
    if base.join("VERSION").is_file() {
        return Ok(base);
    }
    say("appliance image: fetching packages");
    let apt = Apt::update(&work.join("apt"), suite)?;
    let names: Vec<String> = recipe
        .packages
        .iter()
        .map(|(name, _)| name.clone())
        .collect();
    let packages = apt.download(&names)?;

    let making = work.join("base.part");
    if making.exists() {
        std::fs::remove_dir_all(&making)
            .with_context(|| format!("removing {}", making.display()))?;
    }
    let unpacked = making.join("packages");
    for package in &packages {
        let root = unpacked.join(&package.name);
        std::fs::create_dir_all(&root)?;
        apt::run(
            Command::new("dpkg-deb")
                .arg("-x")
                .arg(&package.deb)
                .arg(&root),
        )?;
    }
    say("appliance image: packing the base");
    let mut picker = Picker::new(&unpacked);
    for program in recipe.packages.iter().flat_map(|(_, files)| files) {
        picker.program(program)?;
    }
    let (release, bzimage) = picker.modules(&recipe.modules, &making.join("depmod"))?;
    let Picker {
        mut tree,
        packages: used,
        ..
    } = picker;
    let lvm_conf = Node::File {
        mode: 0o644,
        data: recipe.lvm_conf.clone(),
    };
    tree.insert("etc/lvm/lvm.conf".into(), lvm_conf);
    write_archive(&making.join("base.cpio"), tree)?;
    let bzimage =
        std::fs::read(&bzimage).with_context(|| format!("reading {}", bzimage.display()))?;
    let vmlinux = kernel::vmlinux(&bzimage).context("unpacking the kernel")?;
    std::fs::write(making.join("vmlinux"), vmlinux)?;
    let used: Vec<&Package> = packages
        .iter()
        .filter(|package| used.contains(&package.name))
        .collect();
    std::fs::write(
        making.join("MANIFEST"),
        manifest(&used, &unpacked, apt.suite()),
    )?;
    std::fs::remove_dir_all(making.join("depmod"))?;
    let version = format!(
        "suite {}\nkernel {release}\nrecipe {}\n",
        apt.suite(),
        recipe.hash
    );
    std::fs::write(making.join("VERSION"), version)?;
    std::fs::rename(&making, &base).with_context(|| format!("renaming to {}", base.display()))?;
    Ok(base)
}

/// Writes directories, symlinks and files, parents first.
fn write_archive(path: &Path, mut tree: Tree) -> Result<()> {
    tree.insert(
        "dev/console".into(),
        Node::CharDevice { major: 5, minor: 1 },
    );
    for (name, to) in SYMLINKS {
        tree.insert((*name).into(), Node::Symlink((*to).into()));
    }
    let mut directories: BTreeSet<String> =
        DIRECTORIES.iter().map(|name| (*name).to_owned()).collect();
    for name in tree.keys().chain(&directories.clone()) {
        let parents = name.match_indices('/').map(|(at, _)| name[..at].to_owned());
        directories.extend(parents);
    }
    let file =
        std::fs::File::create(path).with_context(|| format!("creating {}", path.display()))?;
    let mut archive = Archive::new(std::io::BufWriter::new(file));
    for name in &directories {
        archive.add(name, &Node::Directory)?;
    }
    for (name, node) in &tree {
        archive.add(name, node)?;
    }
    archive.finish()?.flush()?;
    Ok(())
}

fn build_applianced(options: &BuildOptions) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(&options.workspace)
        .env("CARGO_TARGET_DIR", &options.target_dir);
    command.args(["build", "--quiet", "-p", "appliance", "--bin", "applianced"]);
    if options.release {
        command.arg("--release");
    }
    let status = command.status().context("running cargo")?;
    anyhow::ensure!(status.success(), "building applianced failed ({status})");
    let profile = if options.release { "release" } else { "debug" };
    Ok(options.target_dir.join(profile).join("applianced"))
}

/// The program without symbols, where binutils is installed; a development build is four times as large with them.
fn stripped(program: &Path, work: &Path) -> Result<Vec<u8>> {
    let copy = work.join("applianced.stripped");
    let result = Command::new("strip")
        .arg("-o")
        .arg(&copy)
        .arg(program)
        .output();
    let path = if result.is_ok_and(|output| output.status.success()) {
        copy.as_path()
    } else {
        program
    };
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// Puts the image together unless it holds just this base and program.
fn pack(image: &Path, base: &Path, program: &[u8]) -> Result<PathBuf> {
    let read = |name: &str| {
        std::fs::read(base.join(name)).with_context(|| format!("reading {name} of the base"))
    };
    let mut version = String::from_utf8_lossy(&read("VERSION")?).into_owned();
    let _ = writeln!(version, "applianced {}", hash(&[program]));
    let stamp = image.join("VERSION");
    if std::fs::read_to_string(&stamp).is_ok_and(|text| text == version) {
        return Ok(image.to_owned());
    }
    std::fs::create_dir_all(image).with_context(|| format!("creating {}", image.display()))?;
    if stamp.exists() {
        std::fs::remove_file(&stamp)?;
    }
    let mut picker = Picker::new(&base.join("packages"));
    picker
        .libraries(program)
        .context("libraries of applianced")?;
    let mut archive = Archive::new(Vec::new());
    for (path, node) in &picker.tree {
        archive.add(path, node)?;
    }
    archive.add(
        "init",
        &Node::File {
            mode: 0o755,
            data: program.to_vec(),
        },
    )?;
    let init = archive.finish()?;
    let initramfs = [read("base.cpio")?, init].concat();
    replace(&image.join("initramfs.cpio"), &initramfs)?;
    replace(&image.join("vmlinux"), &read("vmlinux")?)?;
    replace(&image.join("MANIFEST"), &read("MANIFEST")?)?;
    replace(&stamp, version.as_bytes())?;
    say(&format!(
        "appliance image: {} (initramfs {:.1} MiB, applianced {:.1} MiB)",
        image.display(),
        mib(initramfs.len()),
        mib(program.len())
    ));
    Ok(image.to_owned())
}

/// Under another name first: a running appliance keeps the file that it was started from.
fn replace(path: &Path, data: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    std::fs::write(&part, data).with_context(|| format!("writing {}", part.display()))?;
    std::fs::rename(&part, path).with_context(|| format!("renaming to {}", path.display()))
}

/// Package, version, and the licences that its copyright file names.
fn manifest(packages: &[&Package], unpacked: &Path, suite: &str) -> String {
    let mut text =
        format!("# Debian {suite}; sources: the packages' source packages of these versions\n");
    for package in packages {
        let copyright = copyright(unpacked, &package.name).unwrap_or_default();
        let mut licences: Vec<&str> = copyright
            .lines()
            .filter_map(|line| line.strip_prefix("License:"))
            .map(str::trim)
            .filter(|licence| !licence.is_empty())
            .collect();
        licences.sort_unstable();
        licences.dedup();
        let licences = if licences.is_empty() {
            "see the package".into()
        } else {
            licences.join(", ")
        };
        let _ = writeln!(text, "{}\t{}\t{licences}", package.name, package.version);
    }
    text.push_str("applianced\tthis project\tApache-2.0\n");
    text
}

/// A package's copyright file, or that of the package to whose documentation it links.
fn copyright(unpacked: &Path, package: &str) -> Option<String> {
    let file = |package: &str| {
        unpacked
            .join(package)
            .join("usr/share/doc")
            .join(package)
            .join("copyright")
    };
    let own = file(package);
    if let Ok(text) = std::fs::read_to_string(&own) {
        return Some(text);
    }
    let folder = own.parent()?;
    let link = std::fs::read_link(&own)
        .or_else(|_| std::fs::read_link(folder))
        .ok()?;
    // `../OTHER/copyright`, or `OTHER` for the folder.
    let other = link
        .iter()
        .find_map(|part| part.to_str().filter(|name| *name != ".."))?;
    std::fs::read_to_string(file(other)).ok()
}

fn hash(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher
        .finalize()
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mib(bytes: usize) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

#[expect(clippy::print_stderr, reason = "xtask talks to its user")]
fn say(text: &str) {
    eprintln!("{text}");
}
