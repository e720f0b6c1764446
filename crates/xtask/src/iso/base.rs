//! What the ISO is made of apart from the agent, made once for each recipe and suite: `WORK/base-HASH` with
//! `packages/` (unpacked), `tools/`, `base.cpio.zst`, `vmlinuz`, MANIFEST, EPOCH and, last, VERSION.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};

use super::recipe::Recipe;
use super::tools::Tools;
use super::{firmware, initrd};
use crate::debian::apt::{Apt, Package};
use crate::debian::cpio::Node;
use crate::debian::tree::Picker;
use crate::debian::{self, say};

/// Debian's component with firmware that has no source.
const FIRMWARE_COMPONENT: &str = "non-free-firmware";
/// Packages whose files are on the medium beside the initrd.
const ON_MEDIUM: &[&str] = &[
    "grub-efi-amd64-signed",
    "grub-pc-bin",
    "shim-helpers-amd64-signed",
    "shim-signed",
];
/// Programs that write images, and busybox, which is asked for its applets.
const PROGRAMS: &[&str] = &[
    "/usr/bin/busybox",
    "/usr/bin/grub-mkimage",
    "/usr/bin/mtools",
    "/usr/bin/xorriso",
];

/// Makes the base unless it is there; gives its directory.
pub(super) fn build(work: &Path, recipe: &Recipe, suite: Option<&str>) -> Result<PathBuf> {
    let short = recipe.hash.get(..16).unwrap_or(&recipe.hash);
    let base = work.join(format!(
        "base-{}{short}",
        suite.map(|suite| format!("{suite}-")).unwrap_or_default()
    ));
    if base.join("VERSION").is_file() {
        return Ok(base);
    }
    say("ISO: fetching packages");
    let apt = Apt::update(work, suite, Some(FIRMWARE_COMPONENT))?;
    let firmware = apt.known(&recipe.firmware)?;
    for name in &recipe.firmware {
        if !firmware.contains(name) {
            say(&format!(
                "ISO: without {name}, which {} does not have here",
                apt.suite()
            ));
        }
    }
    let mut names: Vec<String> = recipe
        .packages
        .iter()
        .map(|(name, _)| name)
        .cloned()
        .collect();
    names.extend(recipe.tools.iter().cloned());
    names.extend(firmware);
    names.dedup();
    let packages = apt.download(&names)?;

    let making = work.join("base.part");
    if making.exists() {
        std::fs::remove_dir_all(&making)
            .with_context(|| format!("removing {}", making.display()))?;
    }
    let unpacked = making.join("packages");
    debian::unpack(&packages, &unpacked)?;
    let release = fill(&making, recipe, &packages, apt.suite())?;
    let version = format!(
        "suite {}\nkernel {release}\nrecipe {}\n",
        apt.suite(),
        recipe.hash
    );
    std::fs::write(making.join("VERSION"), version)?;
    if base.exists() {
        std::fs::remove_dir_all(&base).with_context(|| format!("removing {}", base.display()))?;
    }
    std::fs::rename(&making, &base).with_context(|| format!("renaming to {}", base.display()))?;
    Ok(base)
}

/// Everything but VERSION; gives the kernel's release.
fn fill(making: &Path, recipe: &Recipe, packages: &[Package], suite: &str) -> Result<String> {
    let unpacked = making.join("packages");
    let tools = Tools::gather(&unpacked, PROGRAMS, &making.join("tools"))?;
    say("ISO: packing the initrd");
    let mut picker = Picker::new(&unpacked);
    for file in recipe.packages.iter().flat_map(|(_, files)| files) {
        picker.program(file)?;
    }
    let depmod = making.join("depmod");
    let (release, vmlinuz) = picker.modules(&recipe.modules, &depmod)?;
    std::fs::remove_dir_all(&depmod)?;
    firmware::add(&mut picker)?;
    let Picker {
        mut tree,
        packages: mut used,
        ..
    } = picker;
    for (path, node) in &recipe.root {
        tree.insert(path.clone(), node.clone());
    }
    initrd::add_links(&mut tree, &tools)?;
    say(&format!("ISO: {}", summary(&tree)));
    std::fs::write(making.join("base.cpio.zst"), initrd::base(tree)?)?;
    std::fs::copy(&vmlinuz, making.join("vmlinuz"))
        .with_context(|| format!("copying {}", vmlinuz.display()))?;
    let built = std::fs::metadata(&vmlinuz)?.modified()?;
    let epoch = built.duration_since(UNIX_EPOCH)?.as_secs();
    std::fs::write(making.join("EPOCH"), epoch.to_string())?;
    used.extend(ON_MEDIUM.iter().map(|name| (*name).to_owned()));
    let used: Vec<&Package> = packages
        .iter()
        .filter(|package| used.contains(&package.name))
        .collect();
    let manifest = debian::manifest(&used, &unpacked, suite);
    std::fs::write(
        making.join("MANIFEST"),
        manifest + "p2v-agent\tthis project\tApache-2.0\n",
    )?;
    Ok(release)
}

/// When the kernel package was made, in seconds; the clock of everything that is written.
pub(super) fn epoch(base: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(base.join("EPOCH")).context("reading EPOCH")?;
    text.parse().context("reading EPOCH")
}

fn summary(tree: &debian::tree::Tree) -> String {
    let sum = |start: &str| -> (usize, f64) {
        let sizes: Vec<usize> = tree
            .iter()
            .filter(|(path, _)| path.starts_with(start))
            .filter_map(|(_, node)| match node {
                Node::File { data, .. } => Some(data.len()),
                _ => None,
            })
            .collect();
        (sizes.len(), debian::mib(sizes.iter().sum()))
    };
    let (modules, firmware, all) = (sum("usr/lib/modules/"), sum("usr/lib/firmware/"), sum(""));
    format!(
        "{} files, {:.1} MiB unpacked ({} of modules with {:.1} MiB, {} of firmware with {:.1} MiB)",
        all.0, all.1, modules.0, modules.1, firmware.0, firmware.1
    )
}
