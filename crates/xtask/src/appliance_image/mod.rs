//! Builds the appliance image from Debian packages, without root: the recipe is in appliance/, the result in
//! target/appliance/image:
//!
//! - `vmlinux`: the kernel as ELF with a PVH entry, which QEMU starts at once;
//! - `initramfs.cpio`: base archive (tools, libraries, modules), then an archive that holds only `/init`, applianced, and
//!   the programs for Windows guests. The kernel unpacks both. Same inputs give the same bytes;
//! - `MANIFEST`: package, version and licences of all that is inside;
//! - `VERSION`: what it was made from. Written last: without it, the image is incomplete.
//!
//! The base is made once for each recipe and suite; after that only a changed applianced is packed again, without
//! network. Remove target/appliance to have newer packages.

mod kernel;
mod lz4;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use testkit::firstboot::WindowsArch;

use crate::debian::apt::{Apt, Package};
use crate::debian::cpio::{Archive, Node};
use crate::debian::tree::Picker;
use crate::debian::{self, hash, mib, replace, say};

/// Raised when this code makes another base from the same recipe.
const BASE_FORMAT: u32 = 3;

/// Directories that the image has beside those of its files.
const DIRECTORIES: &[&str] = &[
    "dev", "etc/lvm", "guest", "proc", "root", "run", "sys", "tmp",
];

/// Where applianced finds the programs for Windows guests, parent first.
const WINDOWS_FOLDERS: [&str; 2] = ["usr/lib/v2v", "usr/lib/v2v/windows"];

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
    let program = debian::stripped(&applianced, &work.join("applianced.stripped"))?;
    let windows = windows_programs(&work.join("windows"))?;
    pack(&work.join("image"), &base, &program, &windows)
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
        Ok(Recipe {
            packages: debian::package_lines(&packages),
            modules: debian::words(&modules).concat(),
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
    let apt = Apt::update(work, suite, None)?;
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
    debian::unpack(&packages, &unpacked)?;
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
    let archive = debian::write_archive(Vec::new(), tree, DIRECTORIES)?;
    std::fs::write(making.join("base.cpio"), archive).context("writing base.cpio")?;
    let bzimage =
        std::fs::read(&bzimage).with_context(|| format!("reading {}", bzimage.display()))?;
    let vmlinux = kernel::vmlinux(&bzimage).context("unpacking the kernel")?;
    std::fs::write(making.join("vmlinux"), vmlinux)?;
    let used: Vec<&Package> = packages
        .iter()
        .filter(|package| used.contains(&package.name))
        .collect();
    let manifest = debian::manifest(&used, &unpacked, apt.suite());
    std::fs::write(
        making.join("MANIFEST"),
        manifest + "applianced, v2v-firstboot\tthis project\tApache-2.0\n",
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

/// Compiles the programs that go into Windows guests; gives name and content of each.
fn windows_programs(dir: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let built = WindowsArch::ALL.map(|arch| -> Result<_> {
        let path = testkit::firstboot::build(arch, dir)?;
        let data = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok((arch.file(), data))
    });
    built.into_iter().collect()
}

/// Puts the image together unless it holds just this base and these programs.
fn pack(image: &Path, base: &Path, program: &[u8], windows: &[(&str, Vec<u8>)]) -> Result<PathBuf> {
    let read = |name: &str| {
        std::fs::read(base.join(name)).with_context(|| format!("reading {name} of the base"))
    };
    let mut version = String::from_utf8_lossy(&read("VERSION")?).into_owned();
    let _ = writeln!(version, "applianced {}", hash(&[program]));
    for (name, data) in windows {
        let _ = writeln!(version, "{name} {}", hash(&[data]));
    }
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
    for folder in WINDOWS_FOLDERS {
        archive.add(folder, &Node::Directory)?;
    }
    for (name, data) in windows {
        let (mode, data) = (0o644, data.clone());
        let path = format!("{}/{name}", WINDOWS_FOLDERS[1]);
        archive.add(&path, &Node::File { mode, data })?;
    }
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
